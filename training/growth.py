"""Growth: weights of a larger network that computes what a trained smaller one does (Net2Net, arXiv 1511.05641).

A large network is dear to train and its first thousand updates only find what a small one knows already. The smaller
one's channels become the first of the larger one's, its blocks are spread over the larger one's. Nothing new reaches
what is old: those weights are zero. What leads to them is not, so that they have a gradient from the first update.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from duovsr_vs.model.config import ModelConfig
from duovsr_vs.model.family import generator_of
from training.families import config_of

_BLOCK = "network.blocks.{}.{}"


def can_grow(weights: Mapping[str, Tensor], model: str) -> bool:
    """Whether weights are of a network without attention or learned codec that fits into the preset's."""
    config, features = config_of(model), weights.get("network.features.weight")
    if not isinstance(config, ModelConfig) or config.codec != "fixed" or features is None or features.ndim != 4:
        return False
    plain = not any(name.startswith(("network.attention.", "codec.")) for name in weights)
    sizes = (features.shape[0], blocks_of(weights))
    larger = (config.channels, config.blocks)
    classes = weights.get("network.embedding.quality", torch.empty(0)).shape[:1]
    return (
        plain
        and sizes[1] > 0
        and sizes != larger
        and all(have <= want for have, want in zip(sizes, larger, strict=True))
        and classes == (config.quality_classes,)
    )


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
