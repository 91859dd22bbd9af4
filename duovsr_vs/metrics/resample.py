"""Separable resizing in floating point: what shrink-back, NIQE and the classical baselines are made with.

It is written here, apart from the engine's resampler, so that a fault there cannot hide itself from the metrics.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .colour import Samples

type Kernel = Literal["bicubic", "lanczos3"]
type Edge = Literal["repeat", "mirror"]


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys 1981 with a = -0.5 (Catmull-Rom)."""
    a, x = -0.5, np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _lanczos3(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """sinc(x) sinc(x / 3) for |x| < 3, as zimg and VapourSynth's resize.Lanczos have it."""
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


_KERNELS: dict[str, tuple[Callable[[NDArray[np.float64]], NDArray[np.float64]], float]] = {
    "bicubic": (_bicubic, 2.0),
    "lanczos3": (_lanczos3, 3.0),
}


@lru_cache(maxsize=64)
def _matrix(size: int, new_size: int, kernel: Kernel, edge: Edge) -> NDArray[np.float64]:
    """Weights (new_size, size) of one axis; the kernel is stretched by the step when shrinking (antialiasing)."""
    function, radius = _KERNELS[kernel]
    step = size / new_size
    stretch = max(step, 1.0)
    centre = (np.arange(new_size) + 0.5) * step - 0.5
    first = np.floor(centre - radius * stretch).astype(np.int64)
    index = first[:, None] + np.arange(int(np.ceil(2 * radius * stretch)) + 2)
    weight = function((index - centre[:, None]) / stretch)
    weight /= weight.sum(axis=1, keepdims=True)
    if edge == "repeat":
        index = np.clip(index, 0, size - 1)
    else:  # ... 1 0 | 0 1 2 ..., the edge sample twice, as MATLAB's imresize
        index = index % (2 * size)
        index = np.minimum(index, 2 * size - 1 - index)
    matrix = np.zeros((new_size, size))
    np.add.at(matrix, (np.arange(new_size)[:, None], index), weight)
    return matrix


def resize(frame: Samples, height: int, width: int, kernel: Kernel = "bicubic", edge: Edge = "repeat") -> Samples:
    """Antialiased resize of one frame (h, w) or (h, w, c) in its own unit, pixel centres at (i + 0.5).

    Returns (height, width[, c]) in float64 for float64 input, else float32; not clamped.
    """
    dtype = np.float64 if frame.dtype == np.float64 else np.float32
    down: Samples = _matrix(frame.shape[0], height, kernel, edge).astype(dtype)
    across: Samples = _matrix(frame.shape[1], width, kernel, edge).astype(dtype)
    planes: Samples = frame.astype(dtype).reshape(frame.shape[0], -1)
    tall: Samples = (down @ planes).reshape(height, frame.shape[1], -1)
    wide: Samples = across @ tall  # broadcast over rows: (h, w', c)
    return wide.reshape(height, width, *frame.shape[2:])
