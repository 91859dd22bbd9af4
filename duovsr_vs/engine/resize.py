"""Output sizes other than four times the input: antialiased bicubic resampling of the finished frame."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from ..model.resample import cubic_kernel

BLOCK = 32
"""Output lines that are made by one product: enough to be quick, few enough that the matrix is mostly non-zero."""


@lru_cache(maxsize=16)
def bands(size: int, wanted: int) -> tuple[tuple[int, Tensor], ...]:
    """For each block of output lines: the first input line that it sees and its weights (lines, inputs).

    Rows sum to 1; what would lie beyond the border is taken from the border line.
    """
    step = size / wanted
    width = max(step, 1.0)
    out = []
    for start in range(0, wanted, BLOCK):
        lines = range(start, min(start + BLOCK, wanted))
        low, high = (
            math.floor((lines[0] + 0.5) * step - 0.5 - 2 * width),
            math.ceil((lines[-1] + 0.5) * step - 0.5 + 2 * width),
        )
        first, last = max(low, 0), min(high, size - 1)
        weights = torch.zeros(len(lines), last - first + 1, dtype=torch.float64)
        for row, i in enumerate(lines):
            centre = (i + 0.5) * step - 0.5
            for j in range(low, high + 1):
                weights[row, min(max(j, first), last) - first] += cubic_kernel((j - centre) / width)
        out.append((first, (weights / weights.sum(1, keepdim=True)).float()))
    return tuple(out)


def resize_lines(x: Tensor, wanted: int) -> Tensor:
    """(n h w) -> (n wanted w), as products with a banded matrix."""
    if x.shape[1] == wanted:
        return x
    out = x.new_empty(x.shape[0], wanted, x.shape[2])
    for n, (first, weights) in enumerate(bands(x.shape[1], wanted)):
        part = x[:, first : first + weights.shape[1]]
        out[:, n * BLOCK : n * BLOCK + weights.shape[0]] = torch.matmul(weights.to(x.device), part)
    return out


def resize(frame: Tensor, height: int, width: int) -> Tensor:
    """(3 h w) float32 -> (3 height width)."""
    tall = resize_lines(frame, height)
    return (
        resize_lines(tall.transpose(1, 2).contiguous(), width).transpose(1, 2).contiguous()
        if tall.shape[2] != width
        else tall
    )
