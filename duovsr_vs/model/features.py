"""What the network sees of the LR frames: contrasts against the local mean, in units of the local gain.

Only contrasts enter, so dark and bright places are treated alike; a frame is seen with its two neighbours in time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from .codec import box_mean, local_gain, to_latent_grid
from .config import CELL
from .resample import back_project

NEIGHBOURS = 3
"""LR frames behind one output frame: the one before, itself, the one after."""
FEATURE_CHANNELS = NEIGHBOURS * 3 * CELL * CELL + 1
CONTRAST_SCALE = 0.5
GAIN_CENTRE = 0.013
"""Typical gain; its logarithm is subtracted so that the gain channel is centred."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What one denoising network is told about t frames of LR video."""

    features: Tensor
    """(b t 37 h/2 w/2) float32: contrasts and log gain."""
    gain: Tensor
    """(b t 1 h/2 w/2) float32: the codec's local gain."""
    missing: Tensor
    """(b t 12 h/2 w/2) float32: m = LR − D·R, what the base resampler misses of the LR."""
    base: Tensor
    """(b t 3 h w) float32: B, whose enlargement is the base R."""

    def __getitem__(self, item: slice) -> Condition:
        """The condition of some of the samples of a batch."""
        return Condition(self.features[item], self.gain[item], self.missing[item], self.base[item])

    def crop(self, top: int, bottom: int, left: int, right: int) -> Condition:
        """The condition of a rectangle of latent positions."""
        cells = (Ellipsis, slice(top, bottom), slice(left, right))
        pixels = (Ellipsis, slice(CELL * top, CELL * bottom), slice(CELL * left, CELL * right))
        return Condition(self.features[cells], self.gain[cells], self.missing[cells], self.base[pixels])


def frames_of(x: Tensor, t: int) -> Tensor:
    """(b·t c h w) -> (b t c h w)."""
    return x.reshape(-1, t, *x.shape[1:])


def frame_features(lr: Tensor) -> tuple[Tensor, Tensor]:
    """Features of frames from (n 3 3 h w): before, centre, after. Returns (n 37 h/2 w/2), gain (n 1 h/2 w/2)."""
    centre = lr[:, 1]
    gain = local_gain(centre)
    contrast = lr - box_mean(centre, 2)[:, None]
    cells = to_latent_grid(rearrange(contrast, "n f c h w -> n (f c) h w"))
    level = torch.log(gain * (1 / GAIN_CENTRE))
    return torch.cat((cells * (CONTRAST_SCALE / gain), level), dim=1), gain


def condition(lr: Tensor, back_projections: int) -> Condition:
    """Condition of t output frames from t + 2 LR frames, the first and last of which are neighbours only.

    lr: (b t+2 3 h w) RGB in [0, 1], float32, h and w even.
    """
    triples = torch.stack((lr[:, :-2], lr[:, 1:-1], lr[:, 2:]), dim=2)
    features, gain = frame_features(rearrange(triples, "b t f c h w -> (b t) f c h w"))
    base, missing = back_project(lr[:, 1:-1], back_projections)
    cells = to_latent_grid(missing.flatten(0, 1))
    t = lr.shape[1] - 2
    return Condition(frames_of(features, t), frames_of(gain, t), frames_of(cells, t), base)
