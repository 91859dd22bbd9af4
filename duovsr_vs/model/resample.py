"""Resampling by four, exact and cheap: the base resampler R and the operators U and D that define consistency.

U: bicubic enlargement (a = −1/2), D: antialiased bicubic reduction (the same kernel, four times as wide). Both are
separable and commute with shifts by one LR pixel, so everything but the last enlargement happens on the LR grid:

    R = U·B,   B = Σ_{k=0}^{n} (I − A)^k · LR,   A = D·U     (n back-projections x ← x + U(LR − D x) of x = U·LR)

A frame is continued beyond its border by its border pixels. Sums run over shifted views in a fixed order, so that a
pixel does not depend on the frame's size, the tile or the number of threads.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import SCALE

PHASE_OFFSETS = tuple((p + 0.5) / SCALE - 0.5 for p in range(SCALE))
"""Centres of the four HR pixels of an LR pixel, in LR pixels from its centre: −3/8, −1/8, 1/8, 3/8."""
UP_REACH = 2
"""U reaches this many LR pixels to each side."""
CONSISTENCY_REACH = 3
"""A = D·U reaches this many LR pixels to each side."""


def cubic_kernel(x: float) -> float:
    """Keys' cubic convolution kernel with a = −1/2 (IEEE ASSP 29(6), 1981, eq. 15)."""
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


@cache
def up_weights() -> tuple[tuple[float, ...], ...]:
    """Weights of U: for each of the four phases, the taps at LR offsets −2 … 2; each row sums to 1."""
    rows = ([cubic_kernel(k - offset) for k in range(-UP_REACH, UP_REACH + 1)] for offset in PHASE_OFFSETS)
    return tuple(tuple(w / sum(row) for w in row) for row in rows)


@cache
def down_weights() -> tuple[float, ...]:
    """Weights of D: the 16 HR pixels from −6 to 9 relative to the first HR pixel of an LR pixel; they sum to 1."""
    taps = [cubic_kernel((j - 1.5) / SCALE) for j in range(-6, 10)]
    return tuple(t / sum(taps) for t in taps)


@cache
def consistency_weights() -> tuple[float, ...]:
    """Weights of A = D·U along one axis: LR offsets −3 … 3."""
    taps = [0.0] * (2 * CONSISTENCY_REACH + 1)
    for j, down in zip(range(-6, 10), down_weights(), strict=True):
        cell, phase = divmod(j, SCALE)
        for k, up in zip(range(-UP_REACH, UP_REACH + 1), up_weights()[phase], strict=True):
            if up:
                taps[cell + k + CONSISTENCY_REACH] += down * up
    return tuple(taps)


def pad_edges(x: Tensor, left: int, right: int, top: int, bottom: int) -> Tensor:
    """(… h w) continued by its border pixels."""
    flat = x.reshape(-1, 1, *x.shape[-2:])
    out = F.pad(flat, (left, right, top, bottom), mode="replicate")
    return out.reshape(*x.shape[:-2], *out.shape[-2:])


def filter_axis(x: Tensor, weights: tuple[float, ...], axis: int) -> Tensor:
    """Correlation along one axis without padding: the axis shrinks by len(weights) − 1."""
    size = x.shape[axis] - len(weights) + 1
    out = x.narrow(axis, 0, size) * weights[0]
    for k, w in enumerate(weights[1:], 1):
        if w:
            out.add_(x.narrow(axis, k, size), alpha=w)
    return out


def consistency(x: Tensor) -> Tensor:
    """A·x = D(U·x) without padding: (… h w) -> (… h−6 w−6)."""
    return filter_axis(filter_axis(x, consistency_weights(), -2), consistency_weights(), -1)


def back_project(lr: Tensor, times: int) -> tuple[Tensor, Tensor]:
    """B = Σ_{k=0}^{times} (I − A)^k · lr, the LR picture whose plain enlargement is back-projected `times` times.

    lr: (… h w), any range, float32.  Returns B and what the result still misses of the LR,
    lr − D·U·B = (I − A)^(times+1) · lr, both of the same shape.
    """
    reach = CONSISTENCY_REACH
    term = pad_edges(lr, *([reach * (times + 1)] * 4))
    total = torch.zeros_like(lr)
    for left in range(times + 1, 0, -1):
        edge = reach * left
        total += term[..., edge : term.shape[-2] - edge, edge : term.shape[-1] - edge]
        term = term[..., reach : term.shape[-2] - reach, reach : term.shape[-1] - reach] - consistency(term)
    return total, term


ROW_BLOCK = 8
"""LR pixels that one row of the product in `enlarge` covers: 12 values in, 32 out."""


@cache
@torch.inference_mode(False)
def wide_up_matrix() -> Tensor:
    """(12, 32): U along a row, for a block of LR pixels at once."""
    matrix = torch.zeros(ROW_BLOCK + 2 * UP_REACH, SCALE * ROW_BLOCK)
    for x in range(ROW_BLOCK):
        for phase, row in enumerate(up_weights()):
            matrix[x : x + 2 * UP_REACH + 1, SCALE * x + phase] = torch.tensor(row)
    return matrix


def enlarge(x: Tensor) -> Tensor:
    """U·x: (… h w) float32 -> (… 4h 4w) float32.

    Down the columns as weighted sums of shifted rows, along the rows as one product with a banded 12x32 matrix, whose
    result already lies in memory as the picture does.
    """
    lead, (h, w) = x.shape[:-2], x.shape[-2:]
    padded = pad_for_enlarging(x.reshape(-1, h, w))
    wide = torch.matmul(row_blocks(padded), wide_up_matrix().to(x.device))
    return wide.reshape(*lead, SCALE * h, -1)[..., : SCALE * w]


def pad_for_enlarging(x: Tensor) -> Tensor:
    """(n h w) continued by what U sees beyond the border, and to whole row blocks: (n h+4 w'+4)."""
    return pad_edges(x, UP_REACH, UP_REACH + -x.shape[-1] % ROW_BLOCK, UP_REACH, UP_REACH)


def row_blocks(padded: Tensor) -> Tensor:
    """U down the columns, cut along the rows: (n h+4 w'+4) -> (n h·4·w'/8 12), to be multiplied by `wide_up_matrix`."""
    n, h = padded.shape[0], padded.shape[1] - 2 * UP_REACH
    tall = padded.new_empty(n, h, SCALE, padded.shape[2])
    for phase, weights in enumerate(up_weights()):
        taps = [(k, weight) for k, weight in enumerate(weights) if weight]
        column = tall[:, :, phase]
        torch.mul(padded[:, taps[0][0] : taps[0][0] + h], taps[0][1], out=column)
        for k, weight in taps[1:]:
            column.add_(padded[:, k : k + h], alpha=weight)
    blocks = tall.reshape(n, SCALE * h, -1).unfold(2, ROW_BLOCK + 2 * UP_REACH, ROW_BLOCK)
    return blocks.reshape(n, -1, ROW_BLOCK + 2 * UP_REACH)


def shrink(x: Tensor) -> Tensor:
    """D·x: (… 4h 4w) float32 -> (… h w); the border pixels are repeated. Not used in the hot path."""
    for axis in (-1, -2):
        x = x.transpose(axis, -1)
        size = x.shape[-1] // SCALE
        flat = F.pad(x.reshape(-1, 1, x.shape[-1]), (6, 6), mode="replicate")
        taps = torch.tensor(down_weights(), dtype=x.dtype, device=x.device)
        small = (flat.unfold(-1, 16, SCALE)[..., :size, :] * taps).sum(-1)
        x = small.reshape(*x.shape[:-1], size).transpose(axis, -1)
    return x.contiguous()
