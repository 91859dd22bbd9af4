"""What each of two processes does in the test of adapters; it has a file of its own, since it is started by name."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import save_file
from wan_training import adapters, batches, recipe, weights

from training.distributed import ALONE, World, joined
from training.stages import CLASSES
from training.stages.base import START, Weights

RANK = 3


def trained(name: str, world: World = ALONE) -> Weights:
    """What a stage hands on after two updates with adapters that nothing clips."""
    chosen = recipe({"adapters": RANK, "gather": "float32"}, **{name: {"clip": 1e9}})
    cls = CLASSES[name]
    handed = {needed: adapters(n, RANK) for n, needed in enumerate(cls.needs_of(chosen), 1)}
    stage = cls(chosen, {START: weights(0), **handed}, world)
    source = batches(stage)
    for step in range(2):
        stage.update(step, source)
    return stage.result()


def work(rank: int, size: int, folder: Path) -> None:
    """Rank 0 writes what was found."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": (folder / "port").read_text()}
    torch.set_num_threads(1)
    with joined("cpu") as world:
        found = trained("dual_stream", world)
        if world.is_first:
            save_file(found, folder / "found.safetensors")
