"""Flicker without a ground truth: does what was added to the source travel with the picture?"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from .colour import Samples
from .temporal import Motion, motions, warping_error

_SMALLEST = 64
"""Side in pixels from which the motion estimate works; smaller sources are enlarged for it."""
_NOTHING = 1e-6
"""Added energy, in the unit of E_warp, below which nothing was added: a tenth of an 8-bit step has 1.5e-4."""


@dataclass(frozen=True, slots=True)
class Flicker:
    """One pair of neighbouring frames, or the mean of many; all in the unit of E_warp, 1000 · (colour in 0..1)²."""

    error: float
    """E_warp of the large clip along the source's motion."""
    source: float
    """E_warp of the source enlarged (bicubic), along the same motion."""
    added: float
    """Mean square of what the large clip has more than the source enlarged."""

    @property
    def excess(self) -> float:
        """E_warp above that of the source enlarged. A sharper picture has some: it moves by fractions of pixels."""
        return self.error - self.source

    @property
    def unsteady(self) -> float:
        """The excess over what unrelated additions would have (twice their energy): 0 for what travels with the
        picture, 1 for what is new in each frame.

        Measured on eight filmed clips, x4: true high resolution 0.02–0.53, noise or detail that is another one in every
        frame 0.71–0.94, pumping brightness 0.97 and more.
        """
        return self.excess / (2 * self.added) if self.added > _NOTHING else 0.0

    @property
    def known(self) -> bool:
        """Whether some motion could be trusted."""
        return math.isfinite(self.error + self.source + self.added)


def mean_of(pairs: list[Flicker]) -> Flicker:
    """Mean over the pairs that are known; NaN where there is none."""
    known = [pair for pair in pairs if pair.known]
    columns = [[p.error for p in known], [p.source for p in known], [p.added for p in known]]
    return Flicker(*(float(np.mean(column)) if column else float("nan") for column in columns))


def source_motion(before: Samples, now: Samples, height: int, width: int) -> Motion:
    """Motion from one source frame to the next, for frames of height x width.

    before, now: uint8 (h, w, 3).  The flow is found at the source's size, where it costs little, and enlarged.
    """
    grow = max(_SMALLEST / min(now.shape[:2]), 1.0)
    sides = None if grow == 1 else (math.ceil(now.shape[1] * grow), math.ceil(now.shape[0] * grow))
    pair = [frame if sides is None else cv2.resize(frame, sides) for frame in (before, now)]
    (small,) = motions(np.stack(pair))
    h, w = small.x.shape
    across, down = small.x - np.arange(w, dtype=np.float32), small.y - np.arange(h, dtype=np.float32)[:, None]
    x = np.arange(width, dtype=np.float32) + cv2.resize(across, (width, height)) * np.float32(width / w)
    y = np.arange(height, dtype=np.float32)[:, None] + cv2.resize(down, (width, height)) * np.float32(height / h)
    mask = cv2.resize(small.mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
    return Motion(x, y, mask & (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1))


def flicker(
    small_before: Samples, small_now: Samples, before: Samples, now: Samples, motion: Motion | None = None
) -> Flicker:
    """Flicker of a pair of large frames against the pair of source frames they were made of.

    small_before, small_now: uint8 (h, w, 3); before, now: (H, W, 3) in 0..255.  motion: `source_motion`, if it is
    known.  NaN where no motion can be trusted, at a cut for instance.
    """
    height, width = now.shape[:2]
    motion = motion or source_motion(small_before, small_now, height, width)
    plain = np.stack([cv2.resize(f, (width, height), interpolation=cv2.INTER_CUBIC) for f in (small_before, small_now)])
    large = np.stack([before, now])
    added = float(np.mean(((large.astype(np.float32) - plain) / np.float32(255)) ** 2, dtype=np.float64))
    return Flicker(warping_error(large, [motion]), warping_error(plain, [motion]), 1000 * added)
