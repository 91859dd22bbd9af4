"""What the trainer's tests of the `base` family share: a recipe, batches, and weights in which every path matters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from data_clips import film

from duovsr_vs.model.family import PRESETS, generator_of
from training.batch import Batch, prepare
from training.lora import adapted, own_state
from training.presets import PAPER
from training.recipes import Recipe
from training.stages import CLASSES
from training.stages.base import START, Stage, Weights

PATCH, FRAMES = 16, 5
_SMALL: dict[str, Any] = {"steps": 4, "batch": 2, "micro_batch": 0, "patch": PATCH, "frames": FRAMES, "warmup": 1}


def recipe(general: Mapping[str, Any] | None = None, **changes: Mapping[str, Any]) -> Recipe:
    """The recipe `paper` at reduced width, in float32 on the CPU, with changed fields per stage and of its own."""
    own: dict[str, dict[str, Any]] = {
        "progressive": {"steps": 2, "start_steps": 8},
        "dual_stream": {"aux_per_student": 2},
        "preference": {"pairs": 3, "candidates": 2, "truth_share": 1.0, "rank_model": 0.0},
    }
    stages = {
        name: replace(PAPER.stage(name), **_SMALL | own.get(name, {}) | dict(changes.get(name, {})))
        for name in PAPER.stages
    }
    general = {"model": "base-tiny", "device": "cpu", "bf16": False, "log_every": 1, "save_every": 2} | dict(
        general or {}
    )
    return replace(PAPER, **general, **stages)  # type: ignore[arg-type]


@cache
def arrays(seed: int, count: int = 2, patch: int = PATCH, frames: int = FRAMES) -> dict[str, Any]:
    """What `PackedClips.batch` gives."""
    clips = [film(frames + 2, 4 * patch, 4 * patch, seed=100 * seed + n) for n in range(count)]
    lr = [c.reshape(frames + 2, patch, 4, patch, 4, 3).mean((2, 4)).round().astype(np.uint8) for c in clips]
    return {
        "lr": np.stack(lr),
        "hr": np.stack([c[1:-1] for c in clips]),
        "flow": np.zeros((count, frames - 1, 2, 4 * patch, 4 * patch), np.float32),
        "mask": np.ones((count, frames - 1, 4 * patch, 4 * patch), np.uint8),
        "kind": np.arange(count) % 3,
        "soft": np.zeros(count, bool),
    }


@cache
def weights(seed: int, model: str = "base-tiny") -> Weights:
    """Of a whole model; what begins as zero does not."""
    torch.manual_seed(seed)
    generator = generator_of(PRESETS[model])
    for parameter in generator.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return {name: tensor.detach().clone() for name, tensor in generator.state_dict().items()}


def adapters(seed: int, rank: int, model: str = "base-tiny") -> Weights:
    """Of a network on `weights(0)`, none of them zero."""
    base = generator_of(PRESETS[model]).requires_grad_(False)
    base.load_state_dict(weights(0, model))
    torch.manual_seed(seed)
    own = {name: tensor.detach().clone() for name, tensor in own_state(adapted(base, rank))}
    return {name: 0.02 * torch.randn_like(t) if name.endswith(".up") else t for name, t in own.items()}


def stage(name: str, chosen: Recipe) -> Stage:
    """A stage that starts from different weights for each stage that it needs."""
    cls, rank = CLASSES[name], chosen.adapters
    handed = {
        needed: adapters(n, rank, chosen.model) if rank else weights(n, chosen.model)
        for n, needed in enumerate(cls.needs_of(chosen), 1)
    }
    return cls(chosen, {START: weights(0, chosen.model), **handed})


def batches(work: Stage, first: int = 0) -> Iterator[Batch]:
    """Batches first, first + 1, … in the parts that the stage takes them in."""
    while True:
        for part in range(work.parts):
            slots = work.world.slots(work.common.batch, work.parts, part)
            own = {name: array[slots.start : slots.stop] for name, array in arrays(first, work.common.batch).items()}
            yield prepare(work.encoder, own, 0, first, work.soft, work.drop, slots.start)
        first += 1


def run(work: Stage, first: int, last: int) -> list[dict[str, float]]:
    """Figures of updates first … last − 1 with the batches that belong to them."""
    source = batches(work, first * work.batches_per_step)
    return [work.update(step, source) for step in range(first, last)]
