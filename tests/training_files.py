"""What the trainer's tests share: tiny batches, weights whose every path matters, a recipe, and who got a gradient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import random_weights
from data_clips import film, save_video
from torch import Tensor, nn

from duovsr_vs.model.config import PRESETS
from duovsr_vs.model.generator import Generator
from training.batch import Batch, prepare
from training.data.pack import pack
from training.presets import SMOKE
from training.recipes import Recipe
from training.stages import CLASSES
from training.stages.base import Stage, Weights, build

PATCH = 16


@cache
def arrays(seed: int, count: int = 2, patch: int = PATCH) -> dict[str, Any]:
    """What `PackedClips.batch` gives: pictures that glide 3 HR pixels to the left and 1 up, the first of a clean LR."""
    clips = [film(4, 4 * patch, 4 * patch, seed=100 * seed + n) for n in range(count)]
    flow = np.broadcast_to(np.array([-3, -1], np.float32)[:, None, None], (count, 1, 2, 4 * patch, 4 * patch))
    return {
        "lr": np.stack([c.reshape(4, patch, 4, patch, 4, 3).mean((2, 4)).round().astype(np.uint8) for c in clips]),
        "hr": np.stack([c[1:3] for c in clips]),
        "flow": np.ascontiguousarray(flow),
        "mask": np.ones((count, 1, 4 * patch, 4 * patch), np.uint8),
        "kind": np.arange(count) % 3,
        "soft": np.zeros(count, bool),
    }


def batches(generator: Generator, first: int = 0, soft: float = 0.0, drop: float = 0.0) -> Iterator[Batch]:
    """Batches first, first + 1, …"""
    while True:
        yield prepare(generator, arrays(first), 0, first, soft, drop)
        first += 1


def one_batch(seed: int = 0) -> Batch:
    """A batch of two samples with the best quality class."""
    return next(batches(build(SMOKE), seed))


def recipe(bf16: bool = False, general: Mapping[str, Any] | None = None, **changes: Mapping[str, Any]) -> Recipe:
    """The smoke recipe in float32, with changed fields per stage: recipe(teacher={"shift": 3.0}), and of its own."""
    stages = {name: replace(SMOKE.stage(name), **values) for name, values in changes.items()}
    return replace(SMOKE, bf16=bf16, **(general or {}), **stages)  # type: ignore[arg-type]


def weights(seed: int) -> Weights:
    """Weights of the tiny preset, nothing of them zero."""
    return random_weights(PRESETS["tiny"], seed)


def stage(name: str, chosen: Recipe | None = None) -> Stage:
    """A stage that starts from different random weights for each stage that it needs."""
    cls, chosen = CLASSES[name], chosen or recipe()
    return cls(chosen, {needed: weights(n) for n, needed in enumerate(cls.needs_of(chosen), 1)})


def run(work: Stage, first: int, last: int) -> None:
    """Updates first … last − 1 with the batches that belong to them."""
    source = batches(work.student, first * work.batches_per_step, work.soft, work.drop)
    for step in range(first, last):
        work.update(step, source)


def copy_of(tensors: Mapping[str, Tensor]) -> Weights:
    """Values that later updates leave alone."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Bit-equal under the same names."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def count_gradients(networks: Mapping[str, nn.Module]) -> Counter[str]:
    """From now on counts how often a gradient arrives at a parameter, by network: the most of any of its parameters."""
    arrivals: Counter[str] = Counter()

    def watch(name: str, parameter: nn.Parameter) -> None:
        own = 0

        def arrived(_: Tensor) -> None:
            nonlocal own
            own += 1
            arrivals[name] = max(arrivals[name], own)

        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(arrived)

    for name, network in networks.items():
        for parameter in network.parameters():
            watch(name, parameter)
    return arrivals


def listen(module: nn.Module, hear: Callable[[tuple[Any, ...]], None]) -> None:
    """Calls hear(arguments) whenever the module runs."""
    module.register_forward_pre_hook(lambda _, given: hear(given))


def times_of(generator: Generator) -> list[Tensor]:
    """From now on collects the t that a network is given, one (b,) per call."""
    found: list[Tensor] = []
    listen(generator.network.embedding, lambda given: found.append(given[0].detach().clone()))
    return found


def make_pack(folder: Path) -> Path:
    """Three small films, packed: two to train on, one to validate on."""
    for n, name in enumerate(("park", "river", "tower")):
        save_video(folder / f"{name}.mp4", film(3, 96, 192, seed=n))
    pack(folder, folder / "pack", jobs=1, val_share=0.4, say=lambda _: None)
    return folder / "pack"
