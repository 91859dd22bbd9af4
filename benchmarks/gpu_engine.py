"""The engine as hosts call it, float frames in the host's memory to float frames there, with random weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from duovsr_vs.engine.options import Options
from duovsr_vs.engine.upscaler import Upscaler
from duovsr_vs.model.checkpoint import LoadedModel
from duovsr_vs.model.config import SCALE, ModelConfig
from duovsr_vs.model.family import generator_of

SECONDS = 2.0
"""That the frames which are timed should take."""

MOST = {"cuda": 128, "cpu": 16}
"""How many those are at most."""


def random_model(config: Any, device: torch.device) -> LoadedModel:
    """As a file would have given it, on the CPU; the weights are drawn on the device, which is quicker."""
    torch.manual_seed(0)
    if isinstance(config, ModelConfig):
        generator: Any = generator_of(config)
    else:
        with device:
            generator = generator_of(config)
        generator = generator.to("cpu", torch.bfloat16)
        generator.set_constants()
    return LoadedModel(generator.eval().requires_grad_(False), config, "random", 1.0, {})


def frames_per_second(config: Any, width: int, height: int, device: torch.device) -> float:
    """Between frames at the same place of the grid of windows, after two strides that are not timed."""
    lr_width, lr_height = width // SCALE, height // SCALE
    options = Options(device=str(device), precision="bfloat16", scene_cut=False)
    upscaler = Upscaler(options, lr_width, lr_height, random_model(config, device))
    film = [torch.rand(3, lr_height, lr_width) for _ in range(4)]

    def endless() -> Iterator[Tensor]:
        while True:
            yield from film

    out = upscaler.stream(endless())

    def stride(count: int = 1) -> float:
        start = time.perf_counter()
        for _ in range(count * config.stride):
            next(out)
        return time.perf_counter() - start

    stride()
    count = max(1, min(int(SECONDS / stride()), MOST[device.type] // config.stride))
    return count * config.stride / stride(count)
