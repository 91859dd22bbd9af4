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

SEEN_AT_ONCE = 2**29
"""Numbers that are laid side by side at once: 1 GB in two bytes each, and few enough for 32-bit indices."""
SMALLEST = 1e-12
"""Below this mean square a place counts as zero."""


def activated(x: Tensor, gamma: Tensor) -> Tensor:
    """SiLU(x / ‖x‖ · √c · γ) over the channels of (n c h w), channels last."""
    return F.silu(normed(x, gamma), inplace=True)


def normed(x: Tensor, gamma: Tensor) -> Tensor:
    """`ScaledNorm`: the root mean square's norm in other words."""
    last = x.permute(0, 2, 3, 1)
    return F.rms_norm(last, last.shape[-1:], gamma.to(x.dtype), SMALLEST).permute(0, 3, 1, 2)


class FlatConv(nn.Module):
    """`CausalConv` over three frames, whatever it sees of each."""

    def __init__(self, layer: CausalConv):
        super().__init__()
        outputs, self.inputs, self.past, self.rows, columns = layer.weight.shape
        self.past -= 1
        self.stride, self.padding = layer.stride[0], columns // 2
        weight = rearrange(layer.weight.detach(), "o c t h w -> o (t c) h w")
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
        assert layer.bias is not None
        self.bias = nn.Parameter(layer.bias.detach().clone(), requires_grad=False)
        self.outputs = outputs

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        """(t c h w) and what the cache remembers of the frames before -> (t k h w)."""
        if not self.past:
            return F.conv2d(x, self.weight, self.bias, padding=self.padding)
        before = cache.get(id(self))
        if before is None:
            before = torch.zeros_like(x[:1]).repeat(self.past, 1, 1, 1)
        # Copies: views would keep whole tensors alive.
        cache[id(self)] = x[-self.past :].clone() if len(x) >= self.past else torch.cat((before[len(x) :], x))
        return self.over(before, x)

    def over(self, before: Tensor, x: Tensor) -> Tensor:
        """Of the frames x, which the frames `before` precede."""
        count = (len(before) + len(x) - self.past - 1) // self.stride + 1
        height, width = x.shape[-2:]
        band = max(SEEN_AT_ONCE // (count * (self.past + 1) * self.inputs * width), 1)
        if band >= height:
            return F.conv2d(self._seen(before, x, count, 0, height), self.weight, self.bias, padding=self.padding)
        out = _empty_like(x, (count, self.outputs, height, width))
        halo = self.rows // 2
        for top in range(0, height, band):
            bottom = min(top + band, height)
            seen = self._seen(before, x, count, top - halo, bottom + halo)
            out[:, :, top:bottom] = F.conv2d(seen, self.weight, self.bias, padding=(0, self.padding))
        return out

    def _seen(self, before: Tensor, x: Tensor, count: int, top: int, bottom: int) -> Tensor:
        """Rows [top, bottom) of every output's frames side by side; rows beyond the frame are zero."""
        height, width = x.shape[-2:]
        shape = count, (self.past + 1) * self.inputs, bottom - top, width
        out = _empty_like(x, shape)
        low, high = max(top, 0), min(bottom, height)
        out[:, :, : low - top] = 0
        out[:, :, high - top :] = 0
        for offset in range(self.past + 1):
            into = out[:, offset * self.inputs : (offset + 1) * self.inputs, low - top : high - top]
            for n in range(count):
                source = n * self.stride + offset - len(before)
                if source >= 0:
                    rest = x[source :: self.stride][: count - n]
                    into[n:] = rest[:, :, low:high]
                    break
                into[n] = before[source, :, low:high]
        return out


def _empty(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


class FlatResidual(nn.Module):
    """`Residual`."""

    def __init__(self, layer: Residual):
        super().__init__()
        first, _, conv1, second, _, _, conv2 = layer.residual
        self.gamma1, self.gamma2 = _gamma(cast(ScaledNorm, first)), _gamma(cast(ScaledNorm, second))
        self.conv1, self.conv2 = FlatConv(cast(CausalConv, conv1)), FlatConv(cast(CausalConv, conv2))
        self.shortcut = FlatConv(layer.shortcut) if isinstance(layer.shortcut, CausalConv) else None

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        inner = self.conv1(activated(x, self.gamma1), cache)
        out: Tensor = self.conv2(activated(inner, self.gamma2), cache)
        return out.add_(x if self.shortcut is None else self.shortcut(x, cache))


class FlatAttention(nn.Module):
    """`FrameAttention`."""

    def __init__(self, layer: FrameAttention):
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

    def __init__(self, layer: Shrink):
        super().__init__()
        self.conv = copy.deepcopy(cast(nn.Conv2d, layer.resample[1])).to(memory_format=torch.channels_last)
        self.time_conv = None if layer.time_conv is None else FlatConv(layer.time_conv)

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        x = self.conv(F.pad(x, (0, 1, 0, 1)))
        if self.time_conv is None:
            return x
        before, cache[id(self)] = cache.get(id(self)), x[-1:].clone()
        return x if before is None else self.time_conv.over(before, x)


class FlatEnlarge(nn.Module):
    """`Enlarge`."""

    def __init__(self, layer: Enlarge):
        super().__init__()
        self.conv = copy.deepcopy(cast(nn.Conv2d, layer.resample[1])).to(memory_format=torch.channels_last)
        self.time_conv = None if layer.time_conv is None else FlatConv(layer.time_conv)

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

    def __init__(self, layers: nn.Sequential):
        super().__init__()
        self.gamma = _gamma(cast(ScaledNorm, layers[0]))
        self.conv = FlatConv(cast(CausalConv, layers[2]))

    def forward(self, x: Tensor, cache: Cache) -> Tensor:
        out: Tensor = self.conv(activated(x, self.gamma), cache)
        return out


_KINDS = {CausalConv: FlatConv, Residual: FlatResidual, FrameAttention: FlatAttention, Shrink: FlatShrink,
          Enlarge: FlatEnlarge, nn.Sequential: FlatHead}  # fmt: skip


def _empty_like(x: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """Of another shape, channels last."""
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _gamma(norm: ScaledNorm) -> nn.Parameter:
    return nn.Parameter(norm.gamma.detach().flatten(), requires_grad=False)


def _flat(layers: list[nn.Module]) -> nn.ModuleList:
    return nn.ModuleList(_KINDS[type(layer)](layer) for layer in layers)


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

    def __init__(self, slow: WanAutoencoder):
        """Its own copy of the weights, in their type and on their device."""
        super().__init__()
        encoder, decoder = slow.encoder, slow.decoder
        self.encoder = _flat([encoder.conv1, *encoder.downsamples, *encoder.middle, encoder.head])
        self.decoder = _flat([decoder.conv1, *decoder.middle, *decoder.upsamples, decoder.head])
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
