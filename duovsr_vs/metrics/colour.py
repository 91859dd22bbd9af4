"""Brightness as the metrics see it, and the checks every metric makes on its clips."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError

type Clip = NDArray[np.uint8]
"""RGB, (t, h, w, 3), 0..255."""
type Samples = NDArray[Any]
"""A clip or frame of any real type, in the unit that the docstring names."""

_BT601 = np.array([65.481, 128.553, 24.966]) / 255.0


def luma(rgb: Samples, rounded: bool = True) -> NDArray[np.float64]:
    """BT.601 limited-range luma, Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255, R, G, B in 0..255.

    rgb: (..., 3).  Returns (...) float64 in 16..235; `rounded` gives whole numbers, as an 8-bit plane holds them.
    """
    y = 16.0 + rgb @ _BT601
    return np.rint(y) if rounded else y


def check_clip(clip: Samples, name: str = "clip") -> None:
    """Refuse what is not (t, h, w, 3) with t >= 1 (FormatError)."""
    if clip.ndim != 4 or clip.shape[3] != 3 or not len(clip):
        raise FormatError(f"{name}: shape {clip.shape} found, (t, h, w, 3) with at least one frame is needed")


def check_pair(reference: Samples, clip: Samples) -> None:
    """Refuse two clips of unequal shape (FormatError)."""
    check_clip(reference, "reference")
    if reference.shape != clip.shape:
        raise FormatError(f"clip of shape {clip.shape} found, the reference's {reference.shape} is needed")
