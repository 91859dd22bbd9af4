"""The fixed residual codec: HR − R(LR) as 24 DCT coefficients per LR pixel, relative to what the LR frame can tell.

A residual is transformed to luma and colour differences, cut into the 4x4 blocks of the LR pixels, cosine-transformed,
and divided by a local gain (computed from the LR frame) and by one constant per coefficient. Four LR pixels make one
latent position, so latents are (b 96 h/2 w/2). All of it is linear in the residual, so that decoding, the operators U
and D of `resample` and the consistency step are small fixed convolutions between latents and LR pictures. Their kernels
are made once, outside any inference mode, so that the trainer may use them after an engine has run.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from einops import rearrange
from torch import Tensor

from .config import CELL, CHROMA_COEFFICIENTS, LATENT_PER_PIXEL, LUMA_COEFFICIENTS, SCALE
from .convolution import convolve
from .resample import UP_REACH, down_weights, filter_axis, pad_edges, up_weights

LUMA = (0.25, 0.5, 0.25)
"""Luma of an RGB pixel: Y = (R + 2G + B)/4."""
GAIN_SCALE, GAIN_FLOOR, GAIN_POWER = 0.2, 0.02, 0.4
"""g = 0.2·(e + 0.02²)^0.4, e: local variance of the LR's luma."""


@cache
@torch.inference_mode(False)
def colour_matrix() -> Tensor:
    """(3, 3) RGB -> (Y, (R−B)/2, (−R+2G−B)/4); its rows are orthogonal."""
    return torch.tensor([LUMA, (0.5, 0.0, -0.5), (-0.25, 0.5, -0.25)], dtype=torch.float64)


@cache
@torch.inference_mode(False)
def dct_basis() -> Tensor:
    """(16, 4, 4) orthonormal 4x4 DCT-II basis pictures, low frequencies first (by u + v, then u)."""
    k = torch.arange(SCALE, dtype=torch.float64)
    rows = torch.cos(math.pi / SCALE * (k[None] + 0.5) * k[:, None]) * math.sqrt(2 / SCALE)
    rows[0] /= math.sqrt(2)
    order = sorted(((u, v) for u in range(SCALE) for v in range(SCALE)), key=lambda uv: (max(uv), sum(uv), uv))
    return torch.stack([rows[u][:, None] * rows[v][None] for u, v in order])


@cache
@torch.inference_mode(False)
def decoding() -> Tensor:
    """(24, 3, 4, 4): coefficient -> RGB block. `encoding` is its inverse on the kept coefficients."""
    to_rgb = torch.linalg.inv(colour_matrix())
    kept = [(0, LUMA_COEFFICIENTS), (1, CHROMA_COEFFICIENTS), (2, CHROMA_COEFFICIENTS)]
    parts = [torch.einsum("c,kyx->kcyx", to_rgb[:, plane], dct_basis()[:count]) for plane, count in kept]
    return torch.cat(parts)


@cache
@torch.inference_mode(False)
def encoding() -> Tensor:
    """(24, 3, 4, 4): coefficient = Σ over the RGB block of weight · value."""
    matrix = colour_matrix()
    kept = [(0, LUMA_COEFFICIENTS), (1, CHROMA_COEFFICIENTS), (2, CHROMA_COEFFICIENTS)]
    return torch.cat([torch.einsum("c,kyx->kcyx", matrix[plane], dct_basis()[:count]) for plane, count in kept])


def to_latent_grid(x: Tensor) -> Tensor:
    """(b c h w) on LR pixels -> (b c·4 h/2 w/2), channels ordered (dy dx c)."""
    return rearrange(x, "b c (h dy) (w dx) -> b (dy dx c) h w", dy=CELL, dx=CELL)


def from_latent_grid(x: Tensor) -> Tensor:
    """Inverse of `to_latent_grid`."""
    return rearrange(x, "b (dy dx c) h w -> b c (h dy) (w dx)", dy=CELL, dx=CELL)


def encode_residual(residual: Tensor) -> Tensor:
    """HR residual (b 3 4h 4w) -> coefficients (b 96 h/2 w/2), not yet divided by gain and deviation."""
    weights = encoding().to(residual)
    blocks = rearrange(residual, "b c (h y) (w x) -> b h w (c y x)", y=SCALE, x=SCALE)
    coefficients = blocks @ rearrange(weights, "k c y x -> (c y x) k")
    return to_latent_grid(rearrange(coefficients, "b h w k -> b k h w"))


def decode_residual(coefficients: Tensor) -> Tensor:
    """Coefficients (b 96 h/2 w/2) -> HR residual (b 3 4h 4w)."""
    weights = decoding().to(coefficients)
    blocks = rearrange(from_latent_grid(coefficients), "b k h w -> b h w k") @ rearrange(
        weights, "k c y x -> k (c y x)"
    )
    return rearrange(blocks, "b h w (c y x) -> b c (h y) (w x)", c=3, y=SCALE, x=SCALE)


@cache
@torch.inference_mode(False)
def cell_decoding() -> Tensor:
    """(192, 96, 1, 1) convolution: latent position -> its 8x8 RGB pixels, outputs ordered (y c x)."""
    side = SCALE * CELL
    weights = torch.zeros(side, 3, side, CELL, CELL, LATENT_PER_PIXEL, dtype=torch.float64)
    blocks = rearrange(decoding(), "k c y x -> y c x k")
    for dy in range(CELL):
        for dx in range(CELL):
            ys, xs = slice(SCALE * dy, SCALE * (dy + 1)), slice(SCALE * dx, SCALE * (dx + 1))
            weights[ys, :, xs, dy, dx] = blocks
    return rearrange(weights, "y c x dy dx k -> (y c x) (dy dx k) 1 1").float()


@cache
@torch.inference_mode(False)
def cell_shrink() -> Tensor:
    """(12, 96, 3, 3) convolution: D of the decoded residual, on the latent grid; outputs ordered (dy dx c).

    The residual is taken as zero beyond the frame.
    """
    side = SCALE * CELL
    lines = torch.zeros(CELL, 3 * side, dtype=torch.float64)  # one output LR pixel sees three cells of HR pixels
    for d in range(CELL):
        first = side + SCALE * d - 6
        lines[d, first : first + 16] = torch.tensor(down_weights(), dtype=torch.float64)
    pixels = rearrange(cell_decoding().double(), "(y c x) k 1 1 -> y c x k", y=side, c=3)
    taps = lines.reshape(CELL, 3, side)
    weights = torch.einsum("aiy,bjx,ycxk->abckij", taps, taps, pixels)
    return rearrange(weights, "a b c k i j -> (a b c) k i j").float()


@cache
@torch.inference_mode(False)
def cell_enlarge() -> Tensor:
    """(96, 12, 3, 3) convolution: coefficients of U·q for an LR picture q on the latent grid (channels dy dx c)."""
    phases = torch.tensor(up_weights(), dtype=torch.float64)  # phase, tap
    pixel = torch.einsum("kcyx,ys,xt->kcst", encoding(), phases, phases)  # 24 x 3 x 5 x 5 on the LR grid
    weights = torch.zeros(CELL, CELL, LATENT_PER_PIXEL, CELL, CELL, 3, 3, 3, dtype=torch.float64)
    for dy in range(CELL):
        for dx in range(CELL):
            for s in range(-UP_REACH, UP_REACH + 1):
                for t in range(-UP_REACH, UP_REACH + 1):
                    (i, ey), (j, ex) = divmod(dy + s, CELL), divmod(dx + t, CELL)
                    weights[dy, dx, :, ey, ex, :, i + 1, j + 1] += pixel[:, :, s + UP_REACH, t + UP_REACH]
    return rearrange(weights, "dy dx k ey ex c i j -> (dy dx k) (ey ex c) i j").float()


def luma(rgb: Tensor) -> Tensor:
    """(… 3 h w) -> (… 1 h w)."""
    r, g, b = (rgb.narrow(-3, plane, 1) for plane in range(3))
    return (r + 2 * g + b) * 0.25


def box_mean(x: Tensor, radius: int) -> Tensor:
    """Mean over the square of side 2·radius + 1; the border pixels are repeated. (… h w) -> (… h w)."""
    ones = (1.0,) * (2 * radius + 1)
    total = filter_axis(filter_axis(pad_edges(x, *([radius] * 4)), ones, -2), ones, -1)
    return total.mul_(1 / (2 * radius + 1) ** 2)


def local_gain(lr: Tensor) -> Tensor:
    """Gain g by which coefficients are divided: the size of residual to expect, from the LR frame alone.

    e = 5x5 mean of (luma − its 3x3 mean)², averaged over a latent position; g = 0.2·(e + 0.02²)^0.4.
    lr: (b 3 h w) RGB in [0, 1], h and w even.  Returns (b 1 h/2 w/2) float32.
    """
    y = luma(lr)
    energy = box_mean((y - box_mean(y, 1)) ** 2, 2)
    quarter = energy[..., 0::2, 0::2] + energy[..., 0::2, 1::2] + energy[..., 1::2, 0::2] + energy[..., 1::2, 1::2]
    return torch.exp(GAIN_POWER * torch.log(quarter * 0.25 + GAIN_FLOOR**2)) * GAIN_SCALE


def fixed_convolution(x: Tensor, weights: Tensor) -> Tensor:
    """Convolution with one of the fixed kernels above, zero beyond the frame; computed in the type of `x`."""
    return convolve(x, weights.to(x))
