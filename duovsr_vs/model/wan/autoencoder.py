"""The video autoencoder of Wan2.1 (arXiv 2503.20314): 4n + 1 frames <-> n + 1 latents of an eighth of the size.

Causal in time and worked on in parts, 1, 4, 4, … frames, so that memory does not grow with the clip. Modules have the
names of the original files.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from ...errors import FormatError
from .blocks import Cache, CausalConv, Enlarge, FrameAttention, Residual, ScaledNorm, Shrink, run
from .config import LATENT_CHANNELS, SPACE, TIME, AutoencoderConfig


def _middle(channels: int) -> nn.Sequential:
    return nn.Sequential(Residual(channels, channels), FrameAttention(channels), Residual(channels, channels))


class Encoder(nn.Module):
    """Frames to mean and log variance."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        widths = [config.width * factor for factor in (1, *config.factors)]
        self.conv1 = CausalConv(3, widths[0], 3)
        layers: list[nn.Module] = []
        for level, (inputs, outputs) in enumerate(pairwise(widths)):
            layers += [Residual(inputs if n == 0 else outputs, outputs) for n in range(config.blocks)]
            if level + 1 < len(config.factors):
                layers.append(Shrink(outputs, time=level > 0))
        self.downsamples = nn.Sequential(*layers)
        self.middle = _middle(widths[-1])
        self.head = nn.Sequential(ScaledNorm(widths[-1]), nn.SiLU(), CausalConv(widths[-1], 2 * LATENT_CHANNELS, 3))

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        x = run(self.downsamples, self.conv1(x, cache), cache)
        return run(self.head, run(self.middle, x, cache), cache)


class Decoder(nn.Module):
    """Latents to frames."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        widths = [config.width * factor for factor in (config.factors[-1], *reversed(config.factors))]
        self.conv1 = CausalConv(LATENT_CHANNELS, widths[0], 3)
        self.middle = _middle(widths[0])
        layers: list[nn.Module] = []
        for level, (inputs, outputs) in enumerate(pairwise(widths)):
            came = inputs // 2 if level else inputs  # enlarging halves the channels
            layers += [Residual(came if n == 0 else outputs, outputs) for n in range(config.blocks + 1)]
            if level + 1 < len(config.factors):
                layers.append(Enlarge(outputs, time=level + 2 < len(config.factors)))
        self.upsamples = nn.Sequential(*layers)
        self.head = nn.Sequential(ScaledNorm(widths[-1]), nn.SiLU(), CausalConv(widths[-1], 3, 3))

    def forward(self, z: Tensor, cache: Cache) -> Tensor:
        x = run(self.middle, self.conv1(z, cache), cache)
        return run(self.head, run(self.upsamples, x, cache), cache)


class WanAutoencoder(nn.Module):
    """Frames (b 3 t h w) in [−1, 1] <-> normalised latents (b 16 1+(t−1)/4 h/8 w/8)."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.conv1 = CausalConv(2 * LATENT_CHANNELS, 2 * LATENT_CHANNELS, 1)
        self.conv2 = CausalConv(LATENT_CHANNELS, LATENT_CHANNELS, 1)
        self.config = config
        self.set_constants()

    def set_constants(self) -> None:
        """Mean and deviation of the latents, from the configuration; a model built without memory has them not."""
        for name, values in (("mean", self.config.latent_mean), ("std", self.config.latent_std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1, 1), persistent=False)

    def encode(self, frames: Tensor) -> Tensor:
        """(posterior mean − mean) / std. FormatError unless t = 4n + 1 and h, w are multiples of 8."""
        t, h, w = frames.shape[2:]
        if t % TIME != 1 or h % SPACE or w % SPACE:
            raise FormatError(
                f"{t} frames of {w}x{h}: 4n + 1 frames with sides that are multiples of {SPACE} are needed"
            )
        cache = Cache()
        parts = [frames[:, :, :1], *(frames[:, :, n : n + TIME] for n in range(1, t, TIME))]
        encoded = torch.cat([self.encoder(part, cache) for part in parts], 2)
        posterior: Tensor = self.conv1(encoded)[:, :LATENT_CHANNELS]
        return (posterior - self.mean.to(posterior)) / self.std.to(posterior)

    def decode(self, latents: Tensor, at_once: int = 1) -> Tensor:
        """Frames, not clamped; `at_once` latents after the first are worked on together and change nothing."""
        return torch.cat(list(self.decoded(latents, at_once)), 2)

    def decoded(self, latents: Tensor, at_once: int = 1) -> Iterator[Tensor]:
        """The frames of `decode` part by part: 1, then 4·at_once at a time."""
        z = self.conv2(latents * self.std.to(latents) + self.mean.to(latents))
        cache = Cache()
        yield self.decoder(z[:, :, :1], cache)
        for n in range(1, z.shape[2], at_once):
            yield self.decoder(z[:, :, n : n + at_once], cache)
