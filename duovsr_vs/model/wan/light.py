"""The light pair for `base-fast`: an encoder that looks at the LR, and a decoder that sees the LR beside the latents.

Both speak the latents of the large autoencoder, from which they are distilled. What the LR shows need not pass through
the latents, which buys back what a small decoder loses (as ReCaVSR's, arXiv 2609.37831, and FlashVSR's, 2510.12747).
2-D convolutions with a memory of one step (the blocks of TAEHV, written anew); causal, so that parts may be worked on
one after another.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...errors import FormatError
from ..config import SCALE
from .blocks import Cache
from .config import LATENT_CHANNELS, SPACE, TIME, LightConfig

LR_PER_LATENT = SPACE // SCALE
"""LR pixels along a side of a latent position."""
LR_VALUES = 3 * LR_PER_LATENT**2 * TIME
"""Numbers of the four LR frames of a latent, at its position."""


class Remembering(nn.Module):
    """x + conv(ReLU(conv(ReLU(conv([x, x of the step before]))))), steps of time in the batch axis."""

    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Conv2d(2 * width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.third = nn.Conv2d(width, width, 3, padding=1)
        nn.init.normal_(self.third.weight, std=0.1 / (9 * width) ** 0.5)

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        """(b t c h w); before the first step lie zeros."""
        before = cache.get(id(self))
        before = torch.zeros_like(x[:, :1]) if before is None else before
        past = torch.cat((before, x[:, :-1]), 1)
        cache[id(self)] = x[:, -1:].clone()  # a view would keep all of it
        inner = self.second(F.relu(self.first(torch.cat((x, past), 2).flatten(0, 1))))
        added: Tensor = rearrange(self.third(F.relu(inner)), "(b t) c h w -> b t c h w", b=len(x))
        return x + added


def grouped(lr: Tensor) -> Tensor:
    """LR frames (b 3 4n+1 h w) of n + 1 latents as (b n+1 48 h/2 w/2); the first latent's one frame stands four times.

    FormatError for other lengths and odd sides.
    """
    frames, height, width = lr.shape[2:]
    if frames % TIME != 1 or height % LR_PER_LATENT or width % LR_PER_LATENT:
        raise FormatError(
            f"{frames} LR frames of {width}x{height}: 4n + 1 frames with sides that are multiples of {LR_PER_LATENT} "
            "are needed"
        )
    whole = torch.cat((lr[:, :, :1].expand(-1, -1, TIME - 1, -1, -1), lr), 2)
    return rearrange(whole, "b c (n s) (h p) (w q) -> b n (s c p q) h w", s=TIME, p=LR_PER_LATENT, q=LR_PER_LATENT)


class LightEncoder(nn.Module):
    """LR frames to the latents that the large encoder gives for their enlargement."""

    def __init__(self, config: LightConfig):
        super().__init__()
        c = config.encoder_width
        self.inner = nn.Conv2d(LR_VALUES, c, 3, padding=1)
        self.blocks = nn.ModuleList(Remembering(c) for _ in range(config.encoder_blocks))
        self.out = nn.Conv2d(c, LATENT_CHANNELS, 3, padding=1)

    def forward(self, lr: Tensor) -> Tensor:
        """(b 3 4n+1 h w) in [0, 1] -> (b 16 n+1 h/2 w/2)."""
        cache = Cache()
        seen = grouped(lr * 2 - 1)
        x = rearrange(self.inner(seen.flatten(0, 1)), "(b n) c h w -> b n c h w", b=len(seen))
        for block in self.blocks:
            x = block(x, cache)
        latents: Tensor = rearrange(self.out(F.relu(x.flatten(0, 1))), "(b n) c h w -> b c n h w", b=lr.shape[0])
        return latents


class LightDecoder(nn.Module):
    """Latents and LR frames to HR frames."""

    def __init__(self, config: LightConfig):
        super().__init__()
        widths = config.decoder_widths
        self.inner = nn.Conv2d(LATENT_CHANNELS + LR_VALUES, widths[0], 3, padding=1)
        self.stages = nn.ModuleList(
            nn.ModuleList(Remembering(width) for _ in range(count))
            for width, count in zip(widths, config.decoder_blocks, strict=True)
        )
        # Twice the side; with the first two steps, twice the steps of time too.
        self.enlarge = nn.ModuleList(
            nn.Conv2d(widths[n], widths[n + 1] * 2 * LR_PER_LATENT**2, 1) for n in range(len(widths) - 1)
        )
        self.out = nn.Conv2d(widths[-1], 3 * 4, 3, padding=1)

    def forward(self, latents: Tensor, lr: Tensor) -> Tensor:
        """(b 16 n+1 h w) and LR (b 3 4n+1 2h 2w) in [0, 1] -> HR (b 3 4n+1 8h 8w) about [−1, 1]."""
        return torch.cat(list(self.decoded(latents, lr, at_once=latents.shape[2])), 2)

    def decoded(self, latents: Tensor, lr: Tensor, at_once: int = 1) -> Iterator[Tensor]:
        """The same in parts of `at_once` latents, which change nothing."""
        cache = Cache()
        seen = torch.cat((latents.transpose(1, 2), grouped(lr * 2 - 1)), 2)
        for start in range(0, seen.shape[1], at_once):
            frames = self._part(seen[:, start : start + at_once], cache)
            yield frames[:, :, TIME - 1 :] if start == 0 else frames  # the first latent is one frame

    def _part(self, seen: Tensor, cache: Cache) -> Tensor:
        x = rearrange(self.inner(seen.flatten(0, 1)), "(b n) c h w -> b n c h w", b=len(seen))
        for number, blocks in enumerate(self.stages):
            for block in blocks if isinstance(blocks, nn.ModuleList) else ():
                x = block(x, cache)
            if number < len(self.enlarge):
                flat = self.enlarge[number](x.flatten(0, 1))
                x = rearrange(flat, "(b t) (s p q c) h w -> b (t s) c (h p) (w q)", b=len(x), s=2, p=2, q=2)
        frames: Tensor = rearrange(
            self.out(F.relu(x.flatten(0, 1))), "(b t) (c p q) h w -> b c t (h p) (w q)", b=len(x), p=2, q=2
        )
        return frames
