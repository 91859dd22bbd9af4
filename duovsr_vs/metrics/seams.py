"""Steps at the borders of windows, tiles and cells."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from .colour import Samples, check_clip, check_pair, luma


def _steps(clip: Samples, axis: int) -> NDArray[np.float64]:
    """Mean |difference| of neighbouring luma along an axis: entry i is the step from i to i + 1."""
    y = np.stack([luma(frame, rounded=False) for frame in clip])
    other = tuple(a for a in range(3) if a != axis)
    result: NDArray[np.float64] = np.abs(np.diff(y, axis=axis)).mean(axis=other)
    return result


def _share(steps: NDArray[np.float64], borders: NDArray[np.int64]) -> float:
    """Step at the borders over the step at all other places."""
    at = np.zeros(len(steps), bool)
    at[borders - 1] = True
    if at.all() or not at.any():
        raise OptionError(f"borders: {len(borders)} found in a length of {len(steps) + 1}; leave places between them")
    elsewhere = float(steps[~at].mean())
    return float(steps[at].mean()) / elsewhere if elsewhere > 0 else float("nan")


def border_steps(clip: Samples, reference: Samples | None, borders: Sequence[int], axis: int) -> float:
    """Step at known borders, relative to elsewhere and to the reference's own.

    (mean |y[b] − y[b−1]| over borders b) / (the same over all other places), luma; divided by that of `reference` if
    there is one, so that an edge of the picture at a border does not count.  1 means: no seam.
    clip, reference: (t, h, w, 3) RGB in 0..255; axis 0 is time (window borders), 1 rows, 2 columns; a border b lies
    between samples b − 1 and b.  Raises OptionError for borders outside the clip.
    """
    check_clip(clip)
    where = np.unique(np.asarray(borders, np.int64))
    if not len(where) or where[0] < 1 or where[-1] >= clip.shape[axis]:
        raise OptionError(f"borders: {list(borders)} found, places from 1 to {clip.shape[axis] - 1} are needed")
    own = _share(_steps(clip, axis), where)
    if reference is None:
        return own
    check_pair(reference, clip)
    return own / _share(_steps(reference, axis), where)


def border_step_ratio(clip: Samples, reference: Samples | None, period: int) -> float:
    """`border_steps` at every `period` pixels, mean of rows and columns: 1 where no grid shows.  period: 2 or more."""
    if period < 2:
        raise OptionError(f"period: {period} found, 2 or more is needed")
    ratios = [border_steps(clip, reference, range(period, clip.shape[axis], period), axis) for axis in (1, 2)]
    return float(np.mean(ratios))
