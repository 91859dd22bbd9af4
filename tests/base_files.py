"""Tiny models of the `base` family in files, with random weights of which every path matters."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from duovsr_vs.model.checkpoint import DETAILED, save
from duovsr_vs.model.wan.config import PRESETS, BaseConfig
from duovsr_vs.model.wan.generator import WanGenerator

KINDS = ("base-tiny", "base-tiny-light")
"""With the video autoencoder, and with the light pair."""


def base_weights(config: BaseConfig, seed: int = 0) -> dict[str, Tensor]:
    """Norms about 1, products of deviation 1, and frames that add detail of a few percent to the LR's picture."""
    torch.manual_seed(seed)
    generator = WanGenerator(config)
    for name, weight in generator.named_parameters():
        with torch.no_grad():
            if "gamma" in name or ("norm" in name and name.endswith("weight")):
                weight.copy_(1 + 0.2 * torch.randn_like(weight))
            elif name.endswith("bias"):
                weight.copy_(0.1 * torch.randn_like(weight))
            else:
                weight.copy_(torch.randn_like(weight) * (1.0 / max(weight[0].numel(), 1)) ** 0.5)
            if name.startswith(("autoencoder.decoder.head.2", "light_decoder.out")):
                weight.mul_(0.2)
    return {name: tensor.detach().clone() for name, tensor in generator.state_dict().items()}


def write_base(path: Path, kind: str, seed: int = 0, **changes: object) -> Path:
    """A model file of a kind, with some fields of its configuration replaced."""
    config = PRESETS[kind].with_values(**changes)
    save(path, config, {DETAILED: base_weights(config, seed)}, {"stages": ["random weights"]})
    return path
