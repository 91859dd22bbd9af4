"""What is taken off an output so that it agrees with its LR: everything where the LR is clean, its colours anywhere."""

from __future__ import annotations

import math

from einops import rearrange, reduce
from torch import Tensor

from .codec import from_latent_grid, to_latent_grid
from .config import CELL
from .resample import CONSISTENCY_REACH, consistency, filter_axis, pad_edges

LOW_PASS_SIGMA = 4.0
"""Deviation of the Gaussian, in LR pixels, below which output and LR always agree."""
LOW_PASS_REACH = 5
"""Latent positions that the Gaussian reaches to each side."""
REACH = 2 + LOW_PASS_REACH
"""Latent positions that `to_take_off` reaches to each side."""


def low_pass_weights() -> tuple[float, ...]:
    """Gaussian on the latent grid, summing to 1."""
    sigma = LOW_PASS_SIGMA / CELL
    taps = [math.exp(-0.5 * (n / sigma) ** 2) for n in range(-LOW_PASS_REACH, LOW_PASS_REACH + 1)]
    return tuple(tap / sum(taps) for tap in taps)


def low_pass(x: Tensor) -> Tensor:
    """(n 3 h w) on latent positions, smoothed; the border is repeated."""
    weights = low_pass_weights()
    padded = pad_edges(x, *([LOW_PASS_REACH] * 4))
    return filter_axis(filter_axis(padded, weights, -2), weights, -1)


def to_take_off(mismatch: Tensor, kappa: Tensor) -> Tensor:
    """The LR picture q whose enlargement is taken off: q = κ·r + κ·r' + G·(1 − κ)·r',  r' = r − A·κ·r.

    Two back-projections with weight κ for the mismatch r = D·x − LR, and the low-pass G of what they leave. With κ = 1
    the output shrinks back to the LR, with κ = 0 only its low frequencies do.
    mismatch: (n 12 h/2 w/2), channels ordered (dy dx c); kappa: (n 1 h/2 w/2).  Returns (n 3 h w) float32.
    """
    first = from_latent_grid(mismatch * kappa)
    left = mismatch - to_latent_grid(consistency(pad_edges(first, *([CONSISTENCY_REACH] * 4))))
    kept = reduce(left, "n (cells c) h w -> n c h w", "sum", cells=CELL * CELL) * ((1 - kappa) / CELL**2)
    low = low_pass(kept)
    cells = rearrange(left * kappa, "n (cells c) h w -> n cells c h w", cells=CELL * CELL) + low[:, None]
    return first + from_latent_grid(cells.flatten(1, 2))
