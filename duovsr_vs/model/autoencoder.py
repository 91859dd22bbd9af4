"""A learned codec on top of the fixed one: few latent channels for many coefficients, with the LR frames at hand.

Both directions see the features of the LR frames, so that latents need to hold only what those do not tell. Both start
as the plainest codec there is, the coefficients that carry most energy, and learn what to add to it. The decoder also
gives κ of the consistency step: whoever makes the coefficients knows how far the LR is to be trusted.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import COEFFICIENTS, LATENT_PER_PIXEL, ModelConfig
from .convolution import convolve_with
from .features import FEATURE_CHANNELS
from .network import Block, soft_switch


def strongest(config: ModelConfig) -> list[int]:
    """Numbers of the `latent_channels` coefficients of greatest deviation; of equal ones the lowest frequencies."""

    def rank(n: int) -> tuple[float, int, int]:
        return -config.latent_std[n % LATENT_PER_PIXEL], n % LATENT_PER_PIXEL, n

    return sorted(range(COEFFICIENTS), key=rank)[: config.latent_channels]


class Map(nn.Module):
    """keep(x) + out(ReLU(blocks(enter(x) + look(features)))): mixes neighbours in space, never frames."""

    def __init__(self, inputs: int, outputs: int, config: ModelConfig, ops: ModuleType | Any = nn):
        super().__init__()
        c = config.codec_channels
        self.enter = ops.Conv2d(inputs, c, 1, bias=False)
        self.look = ops.Conv2d(FEATURE_CHANNELS, c, 3, padding=1)
        self.blocks = nn.ModuleList(Block(c, ops) for _ in range(config.codec_blocks))
        self.keep = ops.Conv2d(inputs, outputs, 1, bias=False)
        self.out = ops.Conv2d(c, outputs, 3, padding=1, bias=False)
        nn.init.zeros_(self.keep.weight)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """x: (n inputs h w), features: (n 37 h w). Returns (n outputs h w) and what it was made from, (n c h w)."""
        h = convolve_with(self.look, features).add_(convolve_with(self.enter, x))
        for block in self.blocks:
            h = block(h, None)
        h = F.relu(h)
        return convolve_with(self.out, h).add_(convolve_with(self.keep, x)), h


class Normalisation(nn.Module):
    """z = (raw − mean)/deviation per channel, measured once at the end of training: the same numbers at run time."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("deviation", torch.ones(channels, 1, 1))

    def forward(self, raw: Tensor) -> Tensor:
        """(n c h w) -> (n c h w) of about mean 0 and deviation 1."""
        return (raw - self.mean) / self.deviation

    def undo(self, z: Tensor) -> Tensor:
        """Inverse of `forward`."""
        return z * self.deviation + self.mean


class LearnedCodec(nn.Module):
    """Normalised coefficients (n 96 h w) <-> latents (n c h w), each given the features of the LR frames (n 37 h w).

    `ops` is the namespace that layers come from, as in `FlowNetwork`.
    """

    def __init__(self, config: ModelConfig, ops: ModuleType | Any = nn):
        super().__init__()
        self.encoder = Map(COEFFICIENTS, config.latent_channels, config, ops)
        self.normalisation = Normalisation(config.latent_channels)
        self.decoder = Map(config.latent_channels, COEFFICIENTS, config, ops)
        self.kappa = ops.Conv2d(config.codec_channels, 1, 1)
        with torch.no_grad():
            for channel, coefficient in enumerate(strongest(config)):
                self.encoder.keep.weight[channel, coefficient] = 1
                self.decoder.keep.weight[coefficient, channel] = 1
        nn.init.zeros_(self.kappa.weight)
        nn.init.constant_(self.kappa.bias, 0.25)

    def forward(self, y: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """There and back: latents of normalised coefficients, and what `decode` makes of them."""
        z = self.encode(y, features)
        return z, *self.decode(z, features)

    def encode(self, y: Tensor, features: Tensor) -> Tensor:
        """Latents of normalised coefficients."""
        z: Tensor = self.normalisation(self.encoder(y, features)[0].float())
        return z

    def decode(self, z: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised coefficients in the type of `z`, and κ of the consistency step, (n 1 h w) float32 in [0, 1]."""
        y, h = self.decoder(self.normalisation.undo(z), features)
        return y, soft_switch(convolve_with(self.kappa, h).float())
