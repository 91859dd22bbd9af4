"""What each process of the distributed tests does; `torch.multiprocessing` starts it, so it has a file of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from training_files import arrays, recipe, weights

from training.batch import Batch, prepare
from training.checkpoints import Checkpoints
from training.distributed import World, joined, whole
from training.stages import CLASSES
from training.stages.base import Stage

COUNT = 4
"""Samples of the global batch."""
STEPS = 10
SAVED = 5
FIELDS: dict[str, Any] = {"batch": COUNT, "clip": 1e9, "temporal": 0.15, "consistency": 0.5, "learning_rate": 1e-4}
NAMES = ("teacher", "dual_stream")


def make(name: str, world: World, **general: Any) -> Stage:
    """A stage in float32 that nothing clips, so that gradients can be read off."""
    chosen = recipe(bool(general.pop("bf16", False)), general, **{name: FIELDS})
    cls = CLASSES[name]
    return cls(chosen, {needed: weights(n) for n, needed in enumerate(cls.needs_of(chosen), 1)}, world)


def batches(stage: Stage, world: World, first: int) -> Iterator[Batch]:
    """This rank's part of global batches first, first + 1, …"""
    slots = world.share(COUNT)
    while True:
        own = {name: array[slots.start : slots.stop] for name, array in arrays(first, COUNT).items()}
        yield prepare(stage.student, own, 0, first, stage.soft, stage.drop, slots.start)
        first += 1


def train(stage: Stage, world: World, first: int, last: int, folder: Path | None = None) -> dict[str, Tensor]:
    """Updates first … last − 1, a checkpoint after SAVED. Losses, the first gradient, the weights at the end."""
    source = batches(stage, world, first * stage.batches_per_step)
    losses, gradient = [], {}

    def look(*_: object) -> None:
        for key, parameter in stage.learners["student"].parameters.items():
            if key not in gradient and parameter.grad is not None:
                gradient[key] = whole(parameter.grad)

    stage.learners["student"].optimizer.register_step_pre_hook(look)
    for step in range(first, last):
        figures = world.mean(stage.update(step, source))
        losses.append(torch.tensor([figures[name] for name in sorted(figures) if name != "ratio"]))
        if step + 1 == SAVED and folder is not None:
            Checkpoints(folder, world).save(SAVED, stage.state(), {"recipe": "test"})
    end = {f"end.{key}": tensor for key, tensor in stage.result().items()}
    return {"losses": torch.stack(losses), **{f"gradient.{key}": t for key, t in gradient.items()}, **end}


def resumed(name: str, world: World, folder: Path) -> dict[str, Tensor]:
    """From the checkpoint in `folder` to the end."""
    stage = make(name, world)
    Checkpoints(folder, world).load(stage.state())
    return train(stage, world, SAVED, STEPS)


def work(rank: int, size: int, folder: Path) -> None:
    """Everything that needs several processes; rank 0 writes what was found."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": (folder / "port").read_text()}
    torch.set_num_threads(1)
    with joined("cpu") as world:
        found: dict[str, Any] = {}
        for name in NAMES:
            found[f"{name} straight"] = train(make(name, world), world, 0, STEPS, folder / f"{name}-two")
            found[f"{name} resumed"] = resumed(name, world, folder / f"{name}-two")
            found[f"{name} from one"] = resumed(name, world, folder / f"{name}-one")
            found[f"{name} recomputed"] = train(make(name, world, recompute=True), world, 0, 1)
            found[f"{name} bfloat16"] = train(make(name, world, bf16=True, gather="bfloat16"), world, 0, 1)
        if world.is_first:
            save_file(
                {f"{case}/{key}": t for case, part in found.items() for key, t in part.items()},
                folder / "found.safetensors",
            )
