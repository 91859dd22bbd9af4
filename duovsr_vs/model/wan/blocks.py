"""Building blocks of the video autoencoder: causal in time, so that a clip can be worked on in parts."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class Cache(dict[int, Tensor]):
    """What the layers of one half remember of the frames before; empty: the clip begins."""


class CausalConv(nn.Conv3d):
    """A convolution that sees its own frame and the k − 1 before it; before the clip lie zeros."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int | tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1)
    ):
        sides = (kernel,) * 3 if isinstance(kernel, int) else kernel
        super().__init__(inputs, outputs, sides, stride, (0, sides[1] // 2, sides[2] // 2))
        self.past = sides[0] - 1

    def remember(self, x: Tensor, cache: Cache) -> Tensor:
        """(b c t h w) with the frames before it; keeps its last ones."""
        before = cache.get(id(self))
        if before is None:
            before = x.new_zeros(*x.shape[:2], self.past, *x.shape[3:])
        whole = torch.cat((before, x), 2)
        cache[id(self)] = whole[:, :, -self.past :].clone()  # a view would keep all of it
        return whole

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        seen = self.remember(x, cache) if self.past and cache is not None else x
        return super().forward(seen)


class ScaledNorm(nn.Module):
    """x / ‖x‖ · √c · γ over the channels."""

    def __init__(self, channels: int, dimensions: int = 3):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *(1,) * dimensions))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = F.normalize(x, dim=1) * (x.shape[1] ** 0.5) * self.gamma
        return result


class Residual(nn.Module):
    """x + conv(SiLU(norm(conv(SiLU(norm(x)))))) ."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.residual = nn.Sequential(
            ScaledNorm(inputs), nn.SiLU(), CausalConv(inputs, outputs, 3),
            ScaledNorm(outputs), nn.SiLU(), nn.Identity(), CausalConv(outputs, outputs, 3),
        )  # fmt: skip
        self.shortcut = CausalConv(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        result: Tensor = run(self.residual, x, cache) + self.shortcut(x)
        return result


class FrameAttention(nn.Module):
    """One head over the places of a frame."""

    def __init__(self, channels: int, ops: ModuleType | Any = nn):
        super().__init__()
        self.norm = ScaledNorm(channels, 2)
        self.to_qkv, self.proj = ops.Conv2d(channels, 3 * channels, 1), ops.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        frames, height = x.shape[2], x.shape[3]
        flat = rearrange(x, "b c t h w -> (b t) c h w")
        q, k, v = rearrange(self.to_qkv(self.norm(flat)), "n (s c) h w -> s n 1 (h w) c", s=3)
        seen = rearrange(F.scaled_dot_product_attention(q, k, v), "n 1 (h w) c -> n c h w", h=height)
        result: Tensor = x + rearrange(self.proj(seen), "(b t) c h w -> b c t h w", t=frames)
        return result


class Shrink(nn.Module):
    """Half the height and width; with `time`, half the frames but for the clip's first, which stands alone."""

    def __init__(self, channels: int, time: bool):
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(channels, channels, 3, 2))
        self.time_conv = CausalConv(channels, channels, (3, 1, 1), (2, 1, 1)) if time else None

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        x = each_frame(self.resample, x)
        if self.time_conv is None:
            return x
        before, cache[id(self)] = cache.get(id(self)), x[:, :, -1:].clone()
        return x if before is None else self.time_conv(torch.cat((before, x), 2))


class Enlarge(nn.Module):
    """Twice the height and width, half the channels; with `time`, twice the frames but for the clip's first."""

    def __init__(self, channels: int, time: bool):
        super().__init__()
        self.resample = nn.Sequential(
            nn.Upsample(scale_factor=2.0, mode="nearest-exact"), nn.Conv2d(channels, channels // 2, 3, padding=1)
        )
        self.time_conv = CausalConv(channels, 2 * channels, (3, 1, 1)) if time else None

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        if self.time_conv is not None:
            if id(self) in cache:
                x = rearrange(self.time_conv(x, cache), "b (s c) t h w -> b c (t s) h w", s=2)
            else:  # the clip's first latent is one frame, and no part of what the next ones remember
                cache[id(self)] = x.new_empty(0)
        return each_frame(self.resample, x)


def each_frame(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer for pictures on (b c t h w)."""
    frames = x.shape[2]
    result: Tensor = rearrange(layer(rearrange(x, "b c t h w -> (b t) c h w")), "(b t) c h w -> b c t h w", t=frames)
    return result


def run(layers: nn.Sequential, x: Tensor, cache: Cache) -> Tensor:
    """Layers one after the other; those that look back in time get what they remember."""
    for layer in layers:
        knows_time = isinstance(layer, CausalConv | Residual | FrameAttention | Shrink | Enlarge)
        x = layer(x, cache) if knows_time else layer(x)
    return x
