"""Growth: weights of a larger network that computes what a trained smaller one does (Net2Net, arXiv 1511.05641).

A large network is dear to train and its first thousand updates only find what a small one knows already. The smaller
one's channels become the first of the larger one's, its blocks are spread over the larger one's. Nothing new reaches
what is old: those weights are zero. What leads to them is not, so that they have a gradient from the first update.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from duovsr_vs.errors import ModelError
from duovsr_vs.model.config import ModelConfig
from duovsr_vs.model.family import generator_of
from training.families import config_of
from training.lora import shapes

_BLOCK = "network.blocks.{}.{}"


def can_grow(weights: Mapping[str, Tensor], model: str) -> bool:
    """Whether weights are those of the preset with fewer channels or blocks, and without attention.

    Names and shapes do not tell latent spaces apart: all presets with a fixed codec but those of tests share one.
    """
    config, features = config_of(model), weights.get("network.features.weight")
    if not isinstance(config, ModelConfig) or config.codec != "fixed" or features is None:
        return False
    channels, count = features.shape[0], blocks_of(weights)
    if (channels, count) == (config.channels, config.blocks) or channels > config.channels or count > config.blocks:
        return False
    try:
        smaller = config.with_values(channels=channels, blocks=count, attention_every=0, heads=1)
    except ModelError:
        return False
    with torch.device("meta"):
        return shapes(weights) == shapes(generator_of(smaller).state_dict())


def blocks_of(weights: Mapping[str, Tensor]) -> int:
    """Residual blocks of a network."""
    return sum(name.startswith("network.blocks.") and name.endswith(".first.weight") for name in weights)


def grown(weights: Mapping[str, Tensor], model: str, seed: int = 0) -> dict[str, Tensor]:
    """Weights of the preset that make of any input what `weights`, of which `can_grow` holds, make of it.

    seed: of the new weights that are not zero; stages that shall be mixed by weight must be grown with the same.
    """
    config = config_of(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = {name: t.detach().clone() for name, t in generator_of(config).state_dict().items()}
    channels, count = weights["network.features.weight"].shape[0], blocks_of(weights)
    for name in ("network.features.weight", "network.features.bias", "network.latent.weight"):
        new[name][:channels] = weights[name]
    for name in ("network.out.weight", "network.kappa.weight"):
        new[name][:, :channels] = weights[name]
    for name in ("kappa.bias", "embedding.quality", "embedding.inner.weight", "embedding.inner.bias"):
        new[f"network.{name}"].copy_(weights[f"network.{name}"])
    places = [n * config.blocks // count for n in range(count)]
    for n in range(config.blocks):
        _put_block(new, n, weights, places.index(n) if n in places else None, channels)
    for part in ("weight", "bias"):
        name = f"network.embedding.outer.{part}"
        whole, old = (x.unflatten(0, (n, -1)) for x, n in ((new[name], config.blocks), (weights[name], count)))
        whole[places, :channels] = old
    return new


def _put_block(new: dict[str, Tensor], n: int, weights: Mapping[str, Tensor], old: int | None, channels: int) -> None:
    """Block n of the larger network: the old one in its first channels, which hear nothing of the others."""
    first, second, bias = (new[_BLOCK.format(n, part)] for part in ("first.weight", "second.weight", "second.bias"))
    second[:channels] = 0
    if old is None:
        return
    first[:channels] = 0
    first[:channels, :channels] = weights[_BLOCK.format(old, "first.weight")]
    second[:channels, :channels] = weights[_BLOCK.format(old, "second.weight")]
    bias[:channels] = weights[_BLOCK.format(old, "second.bias")]
