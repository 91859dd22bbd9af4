"""Antialiased resizing and Gaussian blur of float images, with a fixed order of addition.

Sums are written out tap by tap, not left to a matrix product, so that a result never depends on how many threads the
linear algebra library has.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import Literal

import numpy as np
import numpy.typing as npt

from training.data.arrays import F32, U8, to_u8

Method = Literal["bicubic", "bilinear", "box"]

_RADIUS: dict[str, float] = {"bicubic": 2.0, "bilinear": 1.0, "box": 0.5}


def _kernel(x: npt.NDArray[np.float64], method: Method) -> npt.NDArray[np.float64]:
    x = np.abs(x)
    if method == "bicubic":  # Keys, a = -0.5
        near = (1.5 * x - 2.5) * x * x + 1.0
        far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
        return np.where(x <= 1.0, near, np.where(x < 2.0, far, 0.0))
    if method == "bilinear":
        return np.maximum(0.0, 1.0 - x)
    return np.where(x < 0.5, 1.0, np.where(x == 0.5, 0.5, 0.0))


@lru_cache(maxsize=256)
def _taps(size_in: int, size_out: int, method: Method) -> tuple[npt.NDArray[np.intp], F32]:
    """Input positions (size_out, taps), edges repeated, and their weights; pixel centres at i + 0.5."""
    step = size_in / size_out
    stretch = max(step, 1.0)  # a wider kernel when shrinking is what keeps aliases out
    reach = _RADIUS[method] * stretch
    centre = (np.arange(size_out) + 0.5) * step - 0.5
    first = np.ceil(centre - reach).astype(np.intp)
    index = first[:, None] + np.arange(2 * ceil(reach) + 1)[None]
    weight = _kernel((index - centre[:, None]) / stretch, method)
    weight /= weight.sum(axis=1, keepdims=True)
    used = np.abs(weight).max(axis=0) > 0
    return np.clip(index, 0, size_in - 1)[:, used], weight[:, used].astype(np.float32)


def _resize_rows(x: F32, size: int, method: Method) -> F32:
    """(n, m) -> (size, m)."""
    index, weight = _taps(x.shape[0], size, method)
    out = x[index[:, 0]] * weight[:, 0, None]
    for k in range(1, index.shape[1]):
        part = x[index[:, k]]
        part *= weight[:, k, None]
        out += part
    return out


def resize(image: F32, height: int, width: int, method: Method = "bicubic") -> F32:
    """(h, w, c) float32 -> (height, width, c) float32, antialiased when it shrinks, edges repeated."""
    h, w, c = image.shape
    if h != height:
        image = _resize_rows(image.reshape(h, w * c), height, method).reshape(height, w, c)
    if w != width:
        turned = np.ascontiguousarray(image.transpose(1, 0, 2)).reshape(w, height * c)
        image = _resize_rows(turned, width, method).reshape(width, height, c).transpose(1, 0, 2)
    return np.ascontiguousarray(image)


def shrink(clip: U8, height: int, width: int, method: Method) -> U8:
    """The same of every frame of (t, h, w, 3), rounded to 0..255."""
    return np.stack([to_u8(resize(f.astype(np.float32), height, width, method)) for f in clip])


def _blur_rows(x: F32, sigma: float) -> F32:
    r = max(1, ceil(3 * sigma))
    k = np.exp(-0.5 * (np.arange(-r, r + 1) / sigma) ** 2)
    k = (k / k.sum()).astype(np.float32)
    n = x.shape[0]
    padded = np.concatenate([np.repeat(x[:1], r, 0), x, np.repeat(x[-1:], r, 0)])
    out: F32 = padded[r : r + n] * k[r]
    for j in range(1, r + 1):
        pair = padded[r - j : r - j + n] + padded[r + j : r + j + n]
        pair *= k[r + j]
        out += pair
    return out


def blur(image: F32, down: float, across: float) -> F32:
    """Separable Gaussian of (h, w, c), sigmas in pixels, edges repeated; below 0.05 a direction stays as it is."""
    h, w, c = image.shape
    if down >= 0.05:
        image = _blur_rows(image.reshape(h, w * c), down).reshape(h, w, c)
    if across >= 0.05:
        turned = np.ascontiguousarray(image.transpose(1, 0, 2)).reshape(w, h * c)
        image = np.ascontiguousarray(_blur_rows(turned, across).reshape(w, h, c).transpose(1, 0, 2))
    return image
