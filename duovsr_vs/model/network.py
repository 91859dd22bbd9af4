"""The flow network: residual convolutions on the latent grid, with windowed space-time attention in larger models."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention import WindowAttention
from .config import ModelConfig
from .convolution import convolve_with
from .features import FEATURE_CHANNELS

TIME_FREQUENCIES = 16


class Embedding(nn.Module):
    """(time, quality class) -> one bias vector per block."""

    def __init__(self, config: ModelConfig, ops: ModuleType | Any = nn):
        super().__init__()
        width = 2 * TIME_FREQUENCIES
        self.quality = nn.Parameter(torch.randn(config.quality_classes, width) * 0.1)
        self.inner = ops.Linear(2 * TIME_FREQUENCIES, width)
        self.outer = ops.Linear(width, config.blocks * config.channels)
        self.blocks = config.blocks
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, t: Tensor, quality: Tensor) -> Tensor:
        """t: (b,) in [0, 1]; quality: (b,) class numbers. Returns (blocks b c) float32."""
        octaves = torch.arange(TIME_FREQUENCIES, device=t.device, dtype=torch.float32)
        angle = t.float()[:, None] * torch.exp(octaves * (math.log(50.0) / (TIME_FREQUENCIES - 1)))
        waves = torch.cat((torch.cos(angle), torch.sin(angle)), dim=1)
        hidden = F.relu(self.inner(waves) + self.quality[quality])
        biases: Tensor = rearrange(self.outer(hidden), "b (n c) -> n b c", n=self.blocks)
        return biases


class Block(nn.Module):
    """h + conv(ReLU(conv(ReLU(h)) + bias of time and quality)): mixes 5x5 latent positions of one frame."""

    def __init__(self, channels: int, ops: ModuleType | Any = nn):
        super().__init__()
        self.first = ops.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = ops.Conv2d(channels, channels, 3, padding=1)
        nn.init.normal_(self.second.weight, std=0.1 / math.sqrt(9 * channels))
        nn.init.zeros_(self.second.bias)

    def forward(self, h: Tensor, bias: Tensor | None) -> Tensor:
        """h: (n c h w), bias: (n c 1 1) or (1 c 1 1), None once `fold_bias` has put it into the convolution."""
        inner = convolve_with(self.first, F.relu(h))
        if bias is not None:
            inner = inner.add_(bias)
        return convolve_with(self.second, inner.relu_()).add_(h)

    def fold_bias(self, bias: Tensor) -> None:
        """Make (c,) the bias of the first convolution: at run time neither time nor quality class ever changes."""
        self.first.bias = nn.Parameter(bias.to(self.first.weight), requires_grad=False)


class FlowNetwork(nn.Module):
    """Predicts F of the preconditioned flow and the weight κ of the consistency step, from z_t and the condition.

    z: latent channels, 96 with the fixed codec; c: width. `ops` is the namespace that layers come from (torch.nn, or a
    host's own with managed weights).
    """

    def __init__(self, config: ModelConfig, ops: ModuleType | Any = nn):
        super().__init__()
        self.config = config
        self.recompute = False
        """Training only: activations of a block are computed again in the backward pass instead of kept."""
        c = config.channels
        self.embedding = Embedding(config, ops)
        self.features = ops.Conv2d(FEATURE_CHANNELS, c, 3, padding=1)
        self.latent = ops.Conv2d(config.latent_channels, c, 1, bias=False)
        self.blocks = nn.ModuleList(Block(c, ops) for _ in range(config.blocks))
        every, count = config.attention_every, 0
        layers: dict[str, nn.Module] = {}
        for n in range(config.blocks):
            if every and (n + 1) % every == 0:
                layers[str(n)] = WindowAttention(c, config.heads, config.attention_window, count % 2 == 1, ops)
                count += 1
        self.attention = nn.ModuleDict(layers)
        self.out = ops.Conv2d(c, config.latent_channels, 3, padding=1, bias=False)
        self.kappa = ops.Conv2d(c, 1, 1) if config.codec == "fixed" else None
        # Noise and features that mean nothing yet must not reach the output: the quickest way to undo them is to push
        # every ReLU below zero, from where nothing comes back.
        nn.init.zeros_(self.latent.weight)
        nn.init.zeros_(self.out.weight)
        if self.kappa is not None:
            nn.init.zeros_(self.kappa.weight)
            nn.init.constant_(self.kappa.bias, 0.25)

    def lift(self, scaled: Tensor) -> Tensor:
        """First layer of the latent: c_in·z_t (n z h w) -> (n c h w). At one step from noise it is a constant map."""
        return convolve_with(self.latent, scaled)

    def forward(
        self, features: Tensor, lifted: Tensor, bias: Tensor | None, frames: int, taps: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """features: (b·t 37 h w); lifted: of `lift`; bias: of `Embedding`, (blocks b c) with b = 1 or the batch, None
        if it has been folded into the blocks.

        `taps` collects the activations after each block, for a discriminator. Returns F (b·t z h w) and κ in
        [0, 1], (b·t 1 h w), or None where the codec is learned: its decoder gives κ.
        """
        h = convolve_with(self.features, features).add_(lifted)
        if bias is not None:
            bias = bias.to(h.dtype).repeat_interleave(frames if bias.shape[1] > 1 else 1, dim=1)[..., None, None]
        for n, block in enumerate(self.blocks):
            own = None if bias is None else bias[n]
            h = checkpoint(block, h, own, use_reentrant=False) if self.recompute else block(h, own)
            if str(n) in self.attention:
                layer = self.attention[str(n)]
                h = rearrange(layer(rearrange(h, "(b t) c h w -> b t c h w", t=frames)), "b t c h w -> (b t) c h w")
            if taps is not None:
                taps.append(h)
        h = h.relu() if taps is not None else h.relu_()  # taps keep what came before
        predicted = convolve_with(self.out, h)
        return predicted, None if self.kappa is None else soft_switch(convolve_with(self.kappa, h).float())


def soft_switch(x: Tensor) -> Tensor:
    """[0, 1] from the real line: ½ + 0.6·u/(1 + |u|), u = 8x, held in range, so that 0 and 1 can be reached.

    A sigmoid of exactly rounded operations.
    """
    u = x * 8
    return (0.5 + 0.6 * u / (1 + u.abs())).clamp(0, 1)
