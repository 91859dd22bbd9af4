"""The last step at run time: base and residual to a frame, in bands that fit into a core's cache."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor

from .codec import cell_decoding, fixed_convolution
from .config import CELL, SCALE
from .resample import UP_REACH, enlarge, pad_for_enlarging, row_blocks, wide_up_matrix

BAND = 16
"""Rows of latent positions that are finished at once; 480 LR pixels wide, a band is 3 MB of output."""


def compose(base: Tensor, coefficients: Tensor, seen: Tensor, strength: float) -> Tensor:
    """Output = R + strength·(residual − U·q), one frame.

    base: B of the LR frame, (3 h w) float32.  coefficients: (1 96 h/2 w/2), channels last, any float type;
    seen: q, (3 h w) float32; both as `Generator.one_step` gives them for this frame.
    Returns (3 4h 4w) float32, not clamped. With strength 0 it is exactly R.
    """
    if strength == 0:
        return enlarge(base)
    height, width = base.shape[-2:]
    padded = pad_for_enlarging(base - seen * strength)
    out = base.new_empty(3, SCALE * height, SCALE * (padded.shape[-1] - 2 * UP_REACH))
    out[..., SCALE * width :] = 0
    matrix = wide_up_matrix().to(base.device).expand(3, -1, -1)
    for top in range(0, height // CELL, BAND):
        bottom = min(top + BAND, height // CELL)
        rows = out[:, SCALE * CELL * top : SCALE * CELL * bottom]
        cells = decoded(coefficients[..., top:bottom, :], strength)
        rows[..., : SCALE * width].view(cells.shape).copy_(cells)
        lines = row_blocks(padded[:, CELL * top : CELL * bottom + 2 * UP_REACH])
        rows.view(3, -1, matrix.shape[-1]).baddbmm_(lines, matrix)
    return out[..., : SCALE * width]


def decoded(coefficients: Tensor, strength: float) -> Tensor:
    """strength·residual of some rows: (1 96 h w) -> (3 h 8 w 8) float32, a view: colour, rows, columns of the cells.

    Float32 before the axes are exchanged: moving numbers of two bytes one by one takes longer than of four.
    """
    cells = fixed_convolution(coefficients, cell_decoding()).float()
    if strength != 1:
        cells = cells * strength
    return rearrange(cells, "1 (y c x) h w -> c h y w x", c=3, x=SCALE * CELL)
