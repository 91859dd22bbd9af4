"""Whether weights are those of a preset, told by names and shapes; nothing is allocated."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from duovsr_vs.model.family import generator_of
from training.checkpoints import TrainingError
from training.families import config_of
from training.lora import adapted, own_state, rank_of, shapes


def check_architecture(weights: Mapping[str, Tensor], model: str, path: Path, adapters: int = 0) -> None:
    """TrainingError: the weights are not those of the preset, or no adapters of that rank on it; the first difference
    is named."""
    rank = rank_of(weights)
    if rank != adapters:
        have = f"adapters of rank {rank}" if rank else "a whole network"
        need = f"adapters of rank {adapters} are" if adapters else "a whole network is"
        raise TrainingError(f"{path} holds {have}, and {need} needed; give --adapters {rank}, or another file")
    wanted, found = wanted_shapes(model, adapters), shapes(weights)
    if wanted == found:
        return
    name = sorted(set(wanted.items()) ^ set(found.items()))[0][0]
    raise TrainingError(
        f"{path} holds weights of another architecture than {model}: {name} is {found.get(name, 'missing')} there and "
        f"{wanted.get(name, 'unknown')} in {model}; give a file of that preset, or another --model"
    )


@cache
def wanted_shapes(model: str, adapters: int) -> dict[str, tuple[int, ...]]:
    """Of what a stage hands on, by name; nothing is allocated."""
    with torch.device("meta"):
        network = generator_of(config_of(model))
        return shapes(dict(own_state(adapted(network, adapters) if adapters else network)))
