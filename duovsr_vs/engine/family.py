"""Which family a model belongs to, and so what it takes and how it is run: the one place of the engine that knows."""

from __future__ import annotations

from typing import Any

import torch

from ..model.checkpoint import LoadedModel
from ..model.generator import Generator
from . import fit
from .memory import Demand
from .options import Options
from .plan import BLENDED, EXACT, SEAMS
from .renderer import Renderer
from .residual import ResidualRenderer
from .wan import WanRenderer
from .wan_memory import WanDemand


def demand(
    model: LoadedModel, options: Options, width: int, height: int, dtype: torch.dtype, on_cpu: bool
) -> fit.Demand:
    """What a run takes for frames of width x height; dtype: of the network."""
    out_width, out_height = options.output_size(width, height)
    sizes = {"width": width, "height": height, "out_width": out_width, "out_height": out_height}
    if isinstance(model.generator, Generator):
        return Demand(
            config=model.generator.config, item=dtype.itemsize, on_cpu=on_cpu, exact_base=options.strength == 0,
            parameters=sum(weight.numel() for weight in model.generator.parameters()), **sizes,
        )  # fmt: skip
    return WanDemand(config=model.generator.config, item=dtype.itemsize, on_cpu=on_cpu, **sizes)


def renderer(
    model: LoadedModel, options: Options, width: int, height: int, dtype: torch.dtype, device: torch.device,
    level: fit.Level,
) -> Renderer[Any]:  # fmt: skip
    """What runs the model on frames of width x height, cut up as `level` says."""
    generator = model.generator
    if not isinstance(generator, Generator):
        return WanRenderer(generator, device, dtype, width, height, level, options.seed)
    generator = generator.to(device)
    with torch.inference_mode():
        return ResidualRenderer(generator, dtype, width, height, level, options.seed)


def kind_of_tiles(model: LoadedModel, level: fit.Level) -> str:
    """What tiles of a level do to the pixels."""
    if not isinstance(model.generator, Generator):
        return BLENDED
    return EXACT if level.overlap >= model.config.receptive_field else SEAMS
