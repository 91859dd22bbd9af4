"""The video autoencoder for run time: frames are a batch of pictures, channels last in memory.

A causal 3x3x3 convolution is the 2-D convolution of the three frames laid side by side as channels, which GPUs have
fast kernels for where those for three axes may miss the matrix units. Large frames are worked on in bands of rows, so
that what is laid side by side stays small. Behind the signatures of `WanAutoencoder`, equal to it but for rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...errors import FormatError
from .autoencoder import WanAutoencoder
from .blocks import Cache, CausalConv, Enlarge, FrameAttention, Residual, ScaledNorm, Shrink
from .config import LATENT_CHANNELS, SPACE, TIME

SEEN_AT_ONCE = 2**28
"""Numbers that are laid side by side at once: half a GB in two bytes each, and few enough for 32-bit indices."""
SMALLEST = 1e-12
"""Below this mean square a place counts as zero."""


def normed(x: Tensor, gamma: Tensor) -> Tensor:
    """`ScaledNorm`: the root mean square's norm in other words."""
    last = x.permute(0, 2, 3, 1)
    return F.rms_norm(last, last.shape[-1:], gamma.to(x.dtype), SMALLEST).permute(0, 3, 1, 2)


class FlatConv(nn.Module):
    """`CausalConv` over three frames, whatever it sees of each.

    beside: as a 2-D convolution of the frames side by side; else as it is, channels last.
    """

    def __init__(self, layer: CausalConv, beside: bool = True):
        super().__init__()
        self.outputs, self.inputs, depth, self.rows, columns = layer.weight.shape
        self.past, self.stride, self.padding = depth - 1, layer.stride[0], columns // 2
        self.beside = beside or depth == 1
        weight, order = layer.weight.detach(), torch.channels_last_3d
        if self.beside:
            weight, order = rearrange(weight, "o c t h w -> o (t c) h w"), torch.channels_last
        self.weight = nn.Parameter(weight.clone(memory_format=order), requires_grad=False)
        assert layer.bias is not None
        self.bias = nn.Parameter(layer.bias.detach().clone(), requires_grad=False)

    def forward(self, x: Tensor, cache: Cache, activate: bool = False) -> Tensor:
        """(t c h w) and what the cache remembers of the frames before -> (t k h w); activate: of SiLU(x)."""
        if not self.past:
            return self._convolved(F.silu(x) if activate else x, self.padding)
        before = cache.get(id(self))
        if before is None:
            before = torch.zeros_like(x[:1]).repeat(self.past, 1, 1, 1)
        # Copies: views would keep whole tensors alive.
        cache[id(self)] = x[-self.past :].clone() if len(x) >= self.past else torch.cat((before[len(x) :], x))
        return self.over(before, x, activate)

    def over(self, before: Tensor, x: Tensor, activate: bool = False) -> Tensor:
        """Of the frames x, which the frames `before` precede."""
        height, width = x.shape[-2:]
        count = (len(before) + len(x) - self.past - 1) // self.stride + 1
        frames = count * (self.past + 1) if self.beside else len(before) + len(x)
        band = max(SEEN_AT_ONCE // (frames * self.inputs * width), 1)
        if band >= height:
            return self._convolved(self._seen(before, x, count, (0, height), activate), self.padding)
        out = _empty(x, (count, self.outputs, height, width))
        halo = self.rows // 2
        for top in range(0, height, band):
            bottom = min(top + band, height)
            seen = self._seen(before, x, count, (top - halo, bottom + halo), activate)
            out[:, :, top:bottom] = self._convolved(seen, 0)
        return out

    def _convolved(self, seen: Tensor, padding: int) -> Tensor:
        if self.beside:
            return F.conv2d(seen, self.weight, self.bias, padding=(padding, self.padding))
        clip, stride = seen.transpose(0, 1)[None], (self.stride, 1, 1)
        return F.conv3d(clip, self.weight, self.bias, stride, (0, padding, self.padding))[0].transpose(0, 1)

    def _seen(self, before: Tensor, x: Tensor, count: int, rows: tuple[int, int], activate: bool) -> Tensor:
        """Some rows of every output's frames side by side, or of all frames; rows beyond the frame are zero."""
        (top, bottom), (height, width) = rows, x.shape[-2:]
        low, high = max(top, 0), min(bottom, height)
        shape = count, (self.past + 1) * self.inputs
        out = _empty(x, (*(shape if self.beside else (len(before) + len(x), self.inputs)), bottom - top, width))
        out[:, :, : low - top] = 0
        out[:, :, high - top :] = 0
        inside, kept = out[:, :, low - top : high - top], slice(low, high)
        for into, source in self._placed(inside, before, x) if self.beside else _joined(inside, before, x):
            _lay(into, source[:, :, kept], activate)
        return out

    def _placed(self, out: Tensor, before: Tensor, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Where the frames go that outputs see side by side: the n-th sees those from n·stride on."""
        for offset in range(self.past + 1):
            into = out[:, offset * self.inputs : (offset + 1) * self.inputs]
            first = [n * self.stride + offset for n in range(len(out))]
            early = [n for n in first if n < len(before)]
            if early:
                yield into[: len(early)], before[early[0] :: self.stride][: len(early)]
            if len(early) < len(first):
                yield into[len(early) :], x[first[len(early)] - len(before) :: self.stride][: len(first) - len(early)]


def _joined(out: Tensor, before: Tensor, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    yield out[: len(before)], before
    yield out[len(before) :], x


def _lay(into: Tensor, source: Tensor, activate: bool) -> None:
    """Copy, with SiLU on the way: one pass over memory less."""
    if activate:
        torch.ops.aten.silu.out(source, out=into)
    else:
        into.copy_(source)


def _empty(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


class FlatResidual(nn.Module):
    """`Residual`."""

    def __init__(self, layer: Residual, beside: bool):
        super().__init__()
        first, _, conv1, second, _, _, conv2 = layer.residual
        self.gamma1, self.gamma2 = _gamma(cast(ScaledNorm, first)), _gamma(cast(ScaledNorm, second))
        self.conv1, self.conv2 = (FlatConv(cast(CausalConv, layer), beside) for layer in (conv1, conv2))
        self.shortcut = FlatConv(layer.shortcut) if isinstance(layer.shortcut, CausalConv) else None

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        inner = self.conv1(normed(x, self.gamma1), cache, activate=True)
        out: Tensor = self.conv2(normed(inner, self.gamma2), cache, activate=True)
        return out.add_(x if self.shortcut is None else self.shortcut(x, cache))


class FlatAttention(nn.Module):
    """`FrameAttention`."""

    def __init__(self, layer: FrameAttention, beside: bool):
        super().__init__()
        self.gamma = _gamma(layer.norm)
        self.to_qkv, self.proj = layer.to_qkv, layer.proj

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        height = x.shape[2]
        tokens = rearrange(normed(x, self.gamma), "t c h w -> t 1 (h w) c")
        q, k, v = F.linear(tokens, self.to_qkv.weight[:, :, 0, 0], self.to_qkv.bias).chunk(3, -1)
        seen = F.linear(F.scaled_dot_product_attention(q, k, v), self.proj.weight[:, :, 0, 0], self.proj.bias)
        return x + rearrange(seen, "t 1 (h w) c -> t c h w", h=height)


class FlatShrink(nn.Module):
    """`Shrink`."""

    def __init__(self, layer: Shrink, beside: bool):
        super().__init__()
        self.conv = copy.deepcopy(cast(nn.Conv2d, layer.resample[1])).to(memory_format=torch.channels_last)
        self.time_conv = None if layer.time_conv is None else FlatConv(layer.time_conv, beside)

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        x = self.conv(F.pad(x, (0, 1, 0, 1)))
        if self.time_conv is None:
            return x
        before, cache[id(self)] = cache.get(id(self)), x[-1:].clone()
        return x if before is None else self.time_conv.over(before, x)


class FlatEnlarge(nn.Module):
    """`Enlarge`."""

    def __init__(self, layer: Enlarge, beside: bool):
        super().__init__()
        self.conv = copy.deepcopy(cast(nn.Conv2d, layer.resample[1])).to(memory_format=torch.channels_last)
        self.time_conv = None if layer.time_conv is None else FlatConv(layer.time_conv, beside)

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        if self.time_conv is not None:
            if id(self) in cache:
                twice = self.time_conv(x, cache)
                x = rearrange(twice, "t (s c) h w -> (t s) h w c", s=2).permute(0, 3, 1, 2)
            else:  # the clip's first latent is one frame, and no part of what the next ones remember
                cache[id(self)] = x.new_empty(0)
        frames = [self.conv(F.interpolate(frame[None], scale_factor=2.0, mode="nearest-exact")) for frame in x]
        return torch.cat(frames)


class FlatHead(nn.Module):
    """Norm, SiLU and the last convolution."""

    def __init__(self, layers: nn.Sequential, beside: bool):
        super().__init__()
        self.gamma = _gamma(cast(ScaledNorm, layers[0]))
        self.conv = FlatConv(cast(CausalConv, layers[2]), beside)

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        out: Tensor = self.conv(normed(x, self.gamma), cache, activate=True)
        return out


_KINDS = {CausalConv: FlatConv, Residual: FlatResidual, FrameAttention: FlatAttention, Shrink: FlatShrink,
          Enlarge: FlatEnlarge, nn.Sequential: FlatHead}  # fmt: skip


def _empty_like(x: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """Of another shape, channels last."""
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _gamma(norm: ScaledNorm) -> nn.Parameter:
    return nn.Parameter(norm.gamma.detach().flatten(), requires_grad=False)


def _flat(layers: list[nn.Module], beside: bool) -> nn.ModuleList:
    return nn.ModuleList(_KINDS[type(layer)](layer, beside) for layer in layers)


def _run(layers: nn.ModuleList, x: Tensor, cache: Cache) -> Tensor:
    for layer in layers:
        x = layer(x, cache)
    return x


def in_channels_last(slow: WanAutoencoder) -> WanAutoencoder:
    """The slow path itself with its weights' channels last in memory, for those whose 3-D kernels like it so."""
    model = copy.deepcopy(slow)
    for layer in model.modules():
        if isinstance(layer, nn.Conv3d):
            layer.to(memory_format=torch.channels_last_3d)
    return model


class FastAutoencoder(nn.Module):
    """One clip of frames (1 3 t h w) in [−1, 1] <-> normalised latents (1 16 1+(t−1)/4 h/8 w/8), for inference."""

    mean: Tensor
    std: Tensor

    def __init__(self, slow: WanAutoencoder, beside: bool = True):
        """Its own copy of the weights, in their type and on their device.

        beside: three frames go side by side into 2-D convolutions; else 3-D ones are used, channels last, which move
        less where a GPU is quick at them (benchmarks/gpu.py times both).
        """
        super().__init__()
        encoder, decoder = slow.encoder, slow.decoder
        self.encoder = _flat([encoder.conv1, *encoder.downsamples, *encoder.middle, encoder.head], beside)
        self.decoder = _flat([decoder.conv1, *decoder.middle, *decoder.upsamples, decoder.head], beside)
        self.conv1, self.conv2 = FlatConv(slow.conv1), FlatConv(slow.conv2)
        for name in ("mean", "std"):
            self.register_buffer(name, getattr(slow, name).view(-1, 1, 1).clone(), persistent=False)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """As `WanAutoencoder.encode`."""
        t, h, w = frames.shape[2:]
        if t % TIME != 1 or h % SPACE or w % SPACE:
            raise FormatError(
                f"{t} frames of {w}x{h}: 4n + 1 frames with sides that are multiples of {SPACE} are needed"
            )
        cache, pictures = Cache(), self._pictures(frames)
        starts = [(0, 1), *((n, n + TIME) for n in range(1, t, TIME))]
        encoded = torch.cat([_run(self.encoder, pictures[a:b], cache) for a, b in starts])
        posterior = self.conv1(encoded, cache)[:, :LATENT_CHANNELS]
        return self._clip((posterior - self.mean.to(posterior)) / self.std.to(posterior))

    def decode(self, latents: Tensor, at_once: int = 1) -> Tensor:
        """As `WanAutoencoder.decode`."""
        return torch.cat(list(self.decoded(latents, at_once)), 2)

    def decoded(self, latents: Tensor, at_once: int = 1) -> Iterator[Tensor]:
        """As `WanAutoencoder.decoded`."""
        with torch.no_grad():
            cache, pictures = Cache(), self._pictures(latents)
            z = self.conv2(pictures * self.std.to(pictures) + self.mean.to(pictures), cache)
            first = self._clip(_run(self.decoder, z[:1], cache))
        yield first
        for n in range(1, len(z), at_once):
            with torch.no_grad():
                part = self._clip(_run(self.decoder, z[n : n + at_once], cache))
            yield part

    @staticmethod
    def _pictures(x: Tensor) -> Tensor:
        """(1 c t h w) -> (t c h w), channels last."""
        if len(x) != 1:
            raise FormatError(f"{len(x)} clips at once; the fast autoencoder takes one")
        return x[0].transpose(0, 1).contiguous(memory_format=torch.channels_last)

    @staticmethod
    def _clip(pictures: Tensor) -> Tensor:
        return pictures.transpose(0, 1)[None]
