"""Windowed space-time attention: mixes all frames and positions of one square window, never across windows."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class RootMeanSquareNorm(nn.Module):
    """x / rms(x) over channels, times a learned scale; written with exactly rounded operations only."""

    def __init__(self, channels: int, ops: ModuleType | Any = nn):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x: (… c)."""
        squares = x.float().square().sum(-1, keepdim=True)
        return (x / torch.sqrt(squares * (1 / x.shape[-1]) + 1e-6)).to(x.dtype) * self.scale.to(x.dtype)


class WindowAttention(nn.Module):
    """Self-attention over (time, side, side) tokens of non-overlapping windows; the block starts as the identity.

    Windows stand on a grid that is fixed to the frame's corner; `shifted` moves it by half a window, so that two
    layers in turn let neighbours across a border meet. Positions beyond the frame are masked.
    """

    def __init__(self, channels: int, heads: int, side: int, shifted: bool, ops: ModuleType | Any = nn):
        super().__init__()
        self.heads, self.side, self.shifted = heads, side, shifted
        self.norm = RootMeanSquareNorm(channels)
        self.qkv = ops.Linear(channels, 3 * channels, bias=False)
        self.out = ops.Linear(channels, channels, bias=False)
        self.position = nn.Parameter(torch.zeros(side * side, channels))
        nn.init.zeros_(self.out.weight)

    def _pad(self, h: int, w: int) -> tuple[int, int, int, int]:
        lead = self.side // 2 if self.shifted else 0
        return lead, -(w + lead) % self.side, lead, -(h + lead) % self.side

    def forward(self, x: Tensor) -> Tensor:
        """x: (b t c h w)."""
        h, w = x.shape[-2:]
        pad = self._pad(h, w)
        left, _, top, _ = pad
        padded = F.pad(x, pad)
        inside = F.pad(torch.ones(1, h, w, dtype=torch.bool, device=x.device), pad)
        rows, columns = padded.shape[-2] // self.side, padded.shape[-1] // self.side
        split = "b t c (r i) (s j) -> (b r s) (t i j) c"
        tokens = rearrange(padded, split, i=self.side, j=self.side)
        q, k, v = self._project(tokens, x.shape[1])
        mask = rearrange(inside, "n (r i) (s j) -> (n r s) 1 1 (i j)", i=self.side, j=self.side)
        mask = mask.repeat(x.shape[0], 1, 1, x.shape[1])
        mixed = self.out(rearrange(F.scaled_dot_product_attention(q, k, v, attn_mask=mask), "n m l d -> n l (m d)"))
        back = "(b r s) (t i j) c -> b t c (r i) (s j)"
        grid = rearrange(mixed, back, r=rows, s=columns, i=self.side, j=self.side)
        out: Tensor = x + grid[..., top : top + h, left : left + w]
        return out

    def _project(self, tokens: Tensor, frames: int) -> tuple[Tensor, Tensor, Tensor]:
        place = self.position.to(tokens.dtype).repeat(frames, 1)
        projected = self.qkv(self.norm(tokens) + place)
        q, k, v = rearrange(projected, "n l (three m d) -> three n m l d", three=3, m=self.heads)
        return q, k, v
