"""What the transformer is told about a window of LR video: its latent, and what the base resampler made of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..config import CELL
from .config import TIME


@dataclass(frozen=True, slots=True)
class WanCondition:
    """Of t = 4n − 3 frames of LR video, n latent frames; all in float32."""

    latents: Tensor
    """(b n 16 h/2 w/2): z_LR, the normalised latents of R, what the LR enlarged looks like."""
    lr: Tensor
    """(b t 3 h w) RGB in [0, 1]: what a light decoder sees beside the latents."""
    missing: Tensor
    """(b t 12 h/2 w/2): m = LR − D·R, what the base resampler misses of the LR."""
    base: Tensor
    """(b t 3 h w): B, whose enlargement is the base R."""

    @property
    def frames(self) -> int:
        """t."""
        return self.lr.shape[1]

    def __getitem__(self, item: slice) -> WanCondition:
        """The condition of some of the samples of a batch."""
        return WanCondition(self.latents[item], self.lr[item], self.missing[item], self.base[item])

    def crop(self, top: int, bottom: int, left: int, right: int) -> WanCondition:
        """The condition of a rectangle of latent positions."""
        cells = (Ellipsis, slice(top, bottom), slice(left, right))
        pixels = (Ellipsis, slice(CELL * top, CELL * bottom), slice(CELL * left, CELL * right))
        return WanCondition(self.latents[cells], self.lr[pixels], self.missing[cells], self.base[pixels])


def latent_frames(frames: int) -> int:
    """How many latents t = 4n − 3 frames have."""
    return (frames - 1) // TIME + 1
