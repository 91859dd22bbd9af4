"""Output sizes other than four times the input: antialiased bicubic resampling of the finished frame."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from ..model.resample import cubic_kernel


@lru_cache(maxsize=16)
def taps(size: int, wanted: int) -> tuple[Tensor, Tensor]:
    """(wanted n) source indices, held inside the line, and their weights, which sum to 1."""
    step = size / wanted
    width = max(step, 1.0)
    count = math.ceil(4 * width) + 1
    indices, weights = [], []
    for i in range(wanted):
        centre = (i + 0.5) * step - 0.5
        first = math.floor(centre - 2 * width) + 1
        row = [cubic_kernel((j - centre) / width) for j in range(first, first + count)]
        indices.append([min(max(j, 0), size - 1) for j in range(first, first + count)])
        weights.append([w / sum(row) for w in row])
    return torch.tensor(indices), torch.tensor(weights)


def resize_axis(x: Tensor, wanted: int, axis: int) -> Tensor:
    """Resample one of the last two axes; terms are added in a fixed order."""
    if x.shape[axis] == wanted:
        return x
    indices, weights = (part.to(x.device) for part in taps(x.shape[axis], wanted))
    shape = [1] * x.ndim
    shape[axis] = wanted
    out = x.index_select(axis, indices[:, 0]) * weights[:, 0].reshape(shape)
    for k in range(1, indices.shape[1]):
        out.add_(x.index_select(axis, indices[:, k]).mul_(weights[:, k].reshape(shape)))
    return out


def resize(frame: Tensor, height: int, width: int) -> Tensor:
    """(3 h w) float32 -> (3 height width)."""
    return resize_axis(resize_axis(frame, height, -2), width, -1)
