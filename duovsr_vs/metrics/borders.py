"""Steps at window and tile borders of a clip that comes frame by frame: `seams` for clips of any length."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .colour import Samples

type Real = NDArray[np.float64]

_CUT = 8.0
"""A pair of frames whose source changes by this many times the median change is a cut and says nothing of borders."""
_BLOCK = 16
"""Codecs and models write in blocks of 2, 4, 8 or 16 pixels, whose borders show a little; so borders of tiles that
lie on them are compared with other borders of blocks."""
_STILL = 0.02 / 255
"""Added to every step, in full-scale brightness, so that a source that is flat or stands still can be divided by."""


def border_places(period: float, length: int) -> list[int]:
    """Borders of a grid with that period inside a length: a border b lies between the samples b − 1 and b."""
    count = int(np.ceil(length / period))
    places = {round(k * period) for k in range(1, count)}
    return sorted(place for place in places if 0 < place < length)


@dataclass(frozen=True, slots=True)
class Step:
    """How much larger the steps at the borders are than those elsewhere, both as multiples of the source's own."""

    ratio: float
    """1 where no border shows; NaN where there is no border or nothing to compare it with."""
    deviations: float
    """How many standard errors of that mean the difference is: below 3 it may be luck."""


def _compared(own: Real, source: Real, at: NDArray[np.bool_]) -> Step:
    """own, source: steps at all places, 0..1.  at: whether a place is a border."""
    if not at.any() or np.count_nonzero(~at) < 2:
        return Step(float("nan"), float("nan"))
    share = (own + _STILL) / (source + _STILL)
    border, elsewhere = float(share[at].mean()), float(share[~at].mean())
    error = max(float(share[~at].std(ddof=1)) / math.sqrt(np.count_nonzero(at)), 1e-9)
    return Step(border / elsewhere, (border - elsewhere) / error)


class TileSteps:
    """Mean |difference| of neighbouring rows or columns of the upscaled brightness, summed over frames."""

    def __init__(self, axis: int, borders: Iterable[int]):
        """axis: 0 for rows, 1 for columns.  borders: where tiles meet, in upscaled pixels."""
        self.axis = axis
        self.borders = np.asarray(sorted(borders), np.int64)
        self._own: Real | None = None
        self._reference: Real | None = None
        self._frames = 0

    def add(self, plane: Samples, reference: Samples) -> None:
        """One frame's brightness (H, W), and that of the source enlarged to the same size."""
        self._frames += 1
        own, other = self._steps(plane), self._steps(reference)
        self._own = own if self._own is None else self._own + own
        self._reference = other if self._reference is None else self._reference + other

    def _steps(self, plane: Samples) -> Real:
        steps = np.abs(np.diff(plane.astype(np.float32), axis=self.axis))
        return steps.mean(axis=1 - self.axis, dtype=np.float64)

    @property
    def step(self) -> Step:
        """Rows or columns at the borders against those at like places."""
        if self._own is None or self._reference is None or not len(self.borders):
            return Step(float("nan"), float("nan"))
        places = np.arange(1, len(self._own) + 1)
        like = places % math.gcd(_BLOCK, *(int(border) for border in self.borders)) == 0
        at = np.isin(places, self.borders)[like]
        return _compared(self._own[like] / self._frames, self._reference[like] / self._frames, at)


def window_step(source: Samples, upscaled: Samples, period: int) -> Step:
    """Change of the picture at window borders against that at other times.

    source, upscaled: (n − 1,) mean |difference| of brightness, 0..1, from each frame to the next; entry i leads to
    frame i + 1.  period: frames from one window to the next.  Pairs that are cuts in the source are left out.
    """
    number, period = np.arange(1, len(source) + 1), min(period, len(source) + 1)  # a period may be any number
    keep = source <= _CUT * max(float(np.median(source)), _STILL) if len(source) else np.zeros(0, bool)
    return _compared(upscaled[keep], source[keep], (number % period == 0)[keep])
