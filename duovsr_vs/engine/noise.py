"""The generator's noise: a function of seed and position alone, so that any tile or frame size sees the same field."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..model.config import COEFFICIENTS

BLOCK = 32
"""Side of the squares that are drawn at once, in latent positions."""


def noise_field(seed: int, height: int, width: int, channels: int = COEFFICIENTS) -> Tensor:
    """(channels height width) float32 standard normal noise for latent positions from the frame's corner.

    Each square is drawn by numpy's RandomState, whose streams never change, from (seed, row, column) of the square.
    """
    return _drawn((seed,), height, width, channels)


def noise_frame(seed: int, group: int, height: int, width: int, channels: int) -> Tensor:
    """The same for one latent frame of a model whose noise moves: `group` is its place in time in the whole clip."""
    return _drawn((seed, group), height, width, channels)


def _drawn(where: tuple[int, ...], height: int, width: int, channels: int) -> Tensor:
    seed, *time = where
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    field = np.empty((channels, rows * BLOCK, columns * BLOCK), dtype=np.float32)
    for row in range(rows):
        for column in range(columns):
            key = np.array([seed & 0xFFFFFFFF, seed >> 32, row, column, *time], dtype=np.uint32)
            square = np.random.RandomState(key).standard_normal((channels, BLOCK, BLOCK))
            field[:, row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK] = square
    return torch.from_numpy(field[:, :height, :width].copy())
