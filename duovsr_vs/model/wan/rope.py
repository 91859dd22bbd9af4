"""Rotary positions over time, rows and columns (arXiv 2104.09864 on three axes)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

THETA = 10_000.0


def rotations(head_width: int, frames: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """cos and sin of the angle of each channel pair at each token, both (frames·height·width, head_width/2) float32.

    angle = position · θ^(−i/n) for the i-th of an axis's n pairs. Time has what rows and columns, a third each, leave.
    """
    cos, sin = _tables(head_width, frames, height, width)
    return torch.from_numpy(cos), torch.from_numpy(sin)


@lru_cache(maxsize=16)
def _tables(head_width: int, frames: int, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What is remembered are plain numbers: a tensor would keep the mode (inference, no contents) it was made in."""
    space = head_width // 2 // 3
    angles = []
    for axis, (length, count) in enumerate(((frames, head_width // 2 - 2 * space), (height, space), (width, space))):
        rates = THETA ** (-np.arange(count, dtype=np.float64) / max(count, 1))
        shape = [1, 1, 1, count]
        shape[axis] = length
        turned = (np.arange(length, dtype=np.float64)[:, None] * rates).reshape(shape)
        angles.append(np.broadcast_to(turned, (frames, height, width, count)))
    angle = np.concatenate(angles, -1).reshape(frames * height * width, -1)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (2i, 2i + 1) of (… n d) by (n d/2) angles, in float32; the type stays."""
    even, odd = rearrange(x.float(), "... (n two) -> two ... n", two=2)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2).to(x.dtype)
