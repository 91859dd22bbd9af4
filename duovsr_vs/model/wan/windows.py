"""Self-attention inside windows of tokens, gathered so that plain attention serves (as SwiftVR, arXiv 2606.09516).

Windows span all frames. In every second block they start half a window later, so that what is parted in one block meets
in the next. Windows at the edge are moved inside instead of cut, so that all have one shape; a token that lies in two
belongs to one of them, and is a neighbour in the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Layout:
    """tokens: (windows, n) numbers of the tokens in each window.  owner: (all tokens,) where each one's result stands
    among all windows · n.  size: (height, width) of a window in tokens.
    """

    tokens: Tensor
    owner: Tensor
    size: tuple[int, int]


def _axis(length: int, side: int, shift: int) -> list[tuple[int, int, int]]:
    """(start, first owned, end of owned) of the windows along one axis."""
    if length <= side:
        return [(0, 0, length)]
    borders = [0, *range(shift or side, length, side), length]
    return [(min(low, length - side), low, end) for low, end in pairwise(borders)]


def layout(frames: int, height: int, width: int, side: int, shifted: bool) -> Layout:
    """The windows of a grid of tokens, numbered frame by frame, row by row."""
    tokens, owner = _numbers(frames, height, width, side, shifted)
    return Layout(torch.from_numpy(tokens), torch.from_numpy(owner), (min(side, height), min(side, width)))


@lru_cache(maxsize=16)
def _numbers(
    frames: int, height: int, width: int, side: int, shifted: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What is remembered are plain numbers: a tensor would keep the mode (inference, no contents) it was made in."""
    shift = side // 2 if shifted else 0
    rows, columns = _axis(height, side, shift), _axis(width, side, shift)
    high, wide = min(side, height), min(side, width)
    number = np.arange(frames * height * width).reshape(frames, height, width)
    tokens: list[NDArray[np.int64]] = []
    owner = np.empty_like(number)
    for top, row, row_end in rows:
        for left, column, column_end in columns:
            inside = np.arange(frames * high * wide).reshape(frames, high, wide) + len(tokens) * frames * high * wide
            owner[:, row:row_end, column:column_end] = inside[
                :, row - top : row_end - top, column - left : column_end - left
            ]
            tokens.append(number[:, top : top + high, left : left + wide].reshape(-1))
    return np.stack(tokens), owner.reshape(-1)


def windows_of(frames: int, height: int, width: int, side: int, block: int) -> Layout | None:
    """The windows of a block by its number; None where all tokens see each other."""
    if not side or max(height, width) <= side:
        return None
    return layout(frames, height, width, side, block % 2 == 1)


def gather(x: Tensor, windows: Layout) -> Tensor:
    """(b n c) tokens -> (b·windows m c)."""
    taken = x[:, windows.tokens.to(x.device)]
    return taken.flatten(0, 1)


def scatter(x: Tensor, windows: Layout, batch: int) -> Tensor:
    """Inverse of `gather` for what each window owns."""
    whole: Tensor = rearrange(x, "(b n) m c -> b (n m) c", b=batch)
    return whole[:, windows.owner.to(x.device)]
