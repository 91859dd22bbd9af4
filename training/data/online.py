"""LR made when a sample is drawn, for packs that store none: every draw another degradation, at the cost of making it.

Only the window and a margin around it are degraded, over the frames of the sample and a few before them, so that the
first frame of the sample is not always the encoder's key frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.data.arrays import U8, generator
from training.data.degrade import SCALE, Kind, degrade

MARGIN = 32 // SCALE
"""LR pixels around the window: kernels reach 10 pixels, and encoders look for motion beyond the edge."""
LONGEST_LEAD = 8
"""Frames before the first one of the sample, at most; how many is drawn."""


def fresh_lr(hr: U8, kind: Kind, times: Sequence[int], y: int, x: int, patch: int, seed: int) -> list[U8]:
    """Windows (patch, patch, 3) at (y, x) of the LR frames `times` of a clip hr (t, h, w, 3).

    times rise, and may repeat. y, x, patch in LR pixels. The result is a function of the arguments alone.
    """
    first = max(0, times[0] - int(generator(seed, "lead").integers(LONGEST_LEAD + 1)))
    top, left = max(0, y - MARGIN), max(0, x - MARGIN)
    down = slice(top * SCALE, (y + patch + MARGIN) * SCALE)
    across = slice(left * SCALE, (x + patch + MARGIN) * SCALE)
    lr, _ = degrade(np.ascontiguousarray(hr[first : times[-1] + 1, down, across]), kind, seed)
    return [lr[t - first, y - top : y - top + patch, x - left : x - left + patch] for t in times]
