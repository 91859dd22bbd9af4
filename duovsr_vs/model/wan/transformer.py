"""The transformer of Wan2.1 with the LR latent beside the noised one (arXiv 2503.20314; arXiv 2603.22271 §3).

Modules have the names of the original files, so that a checkpoint loads without renaming.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .config import LATENT_CHANNELS, PATCH, TransformerConfig
from .rope import rotate, rotations
from .windows import Layout, gather, scatter, windows_of

EPSILON = 1e-6


class ChannelNorm(nn.Module):
    """x / rms(x) · γ over all channels, before they are split into heads; in float32."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPSILON)).to(x.dtype) * self.weight.to(
            x.dtype
        )


class Attention(nn.Module):
    """Attention of queries (b n c) to keys (b m c), with normed queries and keys."""

    def __init__(self, config: TransformerConfig, ops: ModuleType | Any = nn):
        super().__init__()
        c = config.width
        self.heads = config.heads
        self.q, self.k, self.v, self.o = (ops.Linear(c, c) for _ in range(4))
        self.norm_q, self.norm_k = ChannelNorm(c), ChannelNorm(c)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """To a context: its tokens know no place."""
        return self._attend(self.norm_q(self.q(x)), self.norm_k(self.k(context)), self.v(context))

    def within(self, x: Tensor, turns: tuple[Tensor, Tensor], windows: Layout | None) -> Tensor:
        """To the tokens themselves, of the same window if there are windows; turns: of `rope.rotations`."""
        q, k, v = self.norm_q(self.q(x)), self.norm_k(self.k(x)), self.v(x)
        if windows is None:
            return self._attend(q, k, v, turns)
        q, k, v = (gather(y, windows) for y in (q, k, v))
        return self._attend(q, k, v, turns, windows, len(x))

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, turns: tuple[Tensor, Tensor] | None = None,
        windows: Layout | None = None, batch: int = 0,
    ) -> Tensor:  # fmt: skip
        q, k, v = (rearrange(y, "b n (h d) -> b h n d", h=self.heads) for y in (q, k, v))
        if turns is not None:
            q, k = rotate(q, *turns), rotate(k, *turns)
        out = rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)")
        if windows is not None:
            out = scatter(out, windows, batch)
        result: Tensor = self.o(out)
        return result


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """LN(x)(1 + scale) + shift, in float32."""
    return F.layer_norm(x.float(), x.shape[-1:], eps=EPSILON) * (1 + scale) + shift


class Block(nn.Module):
    """x += g₁·SA(LN(x)(1+c₁)+s₁); x += CA(LN(x), context); x += g₂·FFN(LN(x)(1+c₂)+s₂)."""

    def __init__(self, config: TransformerConfig, ops: ModuleType | Any = nn):
        super().__init__()
        c = config.width
        self.self_attn, self.cross_attn = Attention(config, ops), Attention(config, ops)
        self.norm3 = ops.LayerNorm(c, eps=EPSILON)
        self.ffn = nn.Sequential(ops.Linear(c, config.inner), nn.GELU(approximate="tanh"), ops.Linear(config.inner, c))
        self.modulation = nn.Parameter(torch.randn(1, 6, c) / c**0.5)

    def forward(
        self, x: Tensor, time: Tensor, context: Tensor, turns: tuple[Tensor, Tensor], windows: Layout | None
    ) -> Tensor:
        """x: (b n c); time: (b 6 c) float32; context: (b m c)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.modulation.float() + time).chunk(6, 1)
        seen = self.self_attn.within(modulated(x, scale1, shift1).to(x.dtype), turns, windows)
        x = (x.float() + seen.float() * gate1).to(x.dtype)
        x = x + self.cross_attn(self._normed(x), context)
        fed: Tensor = self.ffn(modulated(x, scale2, shift2).to(x.dtype))
        return (x.float() + fed.float() * gate2).to(x.dtype)

    def _normed(self, x: Tensor) -> Tensor:
        weight, bias = self.norm3.weight, self.norm3.bias
        return F.layer_norm(x.float(), x.shape[-1:], weight.float(), bias.float(), EPSILON).to(x.dtype)


class Head(nn.Module):
    """LN(x)(1 + scale) + shift, then the 64 values of a token's patch."""

    def __init__(self, config: TransformerConfig, ops: ModuleType | Any = nn):
        super().__init__()
        patch = PATCH[0] * PATCH[1] * PATCH[2]
        self.head = ops.Linear(config.width, patch * LATENT_CHANNELS)
        self.modulation = nn.Parameter(torch.randn(1, 2, config.width) / config.width**0.5)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """time: (b c), the embedding itself, not its projection."""
        shift, scale = (self.modulation.float() + time[:, None]).chunk(2, 1)
        values: Tensor = self.head(modulated(x, scale, shift).to(x.dtype))
        return values


class WanTransformer(nn.Module):
    """Velocity v = ε − x0 of noised latents x_t = (1 − t)·x0 + t·ε."""

    context: Tensor
    """(2 n width): tokens of the best class, learned or of a text, and those of the null class."""

    def __init__(self, config: TransformerConfig, ops: ModuleType | Any = nn):
        super().__init__()
        self.config = config
        self.recompute = False
        """Training only: activations of a block are computed again in the backward pass instead of kept."""
        c = config.width
        self.patch_embedding = ops.Conv3d(LATENT_CHANNELS + config.condition_channels, c, PATCH, PATCH)
        self.text_embedding = nn.Sequential(
            ops.Linear(config.text_width, c), nn.GELU(approximate="tanh"), ops.Linear(c, c)
        )
        self.time_embedding = nn.Sequential(ops.Linear(config.frequencies, c), nn.SiLU(), ops.Linear(c, c))
        self.time_projection = nn.Sequential(nn.SiLU(), ops.Linear(c, 6 * c))
        self.blocks = nn.ModuleList(Block(config, ops) for _ in range(config.blocks))
        self.head = Head(config, ops)
        if config.context_tokens:
            tokens = torch.randn(2, config.context_tokens, c) * 0.02
            if config.text:  # part of the file, but no weight: what a text says is not trained
                self.register_buffer("context", tokens)
            else:
                self.context = nn.Parameter(tokens)
        if config.condition_channels:  # the LR latent means nothing yet: the model begins as the one without it
            with torch.no_grad():
                self.patch_embedding.weight[:, LATENT_CHANNELS:] = 0

    def tokens_of(self, text: Tensor) -> Tensor:
        """Embeddings (b n text_width) of a text, n up to text_length, as context (b text_length width)."""
        filled = F.pad(text, (0, 0, 0, self.config.text_length - text.shape[1]))
        tokens: Tensor = self.text_embedding(filled)
        return tokens

    def learned_context(self, batch: int, null: bool = False) -> Tensor:
        """The learned tokens (b n width), or those for "no text"."""
        return self.context[int(null)][None].expand(batch, -1, -1)

    def forward(
        self, z_t: Tensor, t: Tensor, context: Tensor, condition: Tensor | None = None, taps: list[Tensor] | None = None
    ) -> Tensor:
        """z_t: (b 16 t h w), h and w even; t: (b,) in [0, 1]; context: (b m width); condition: like z_t. Returns v.

        `taps` collects the activations after each block, (b·t width h/2 w/2), for a discriminator.
        """
        grid = self.patch_embedding(z_t if condition is None else torch.cat((z_t, condition), 1))
        frames, height, width = grid.shape[2:]
        x = grid.flatten(2).transpose(1, 2)
        time = self.time_of(t)
        steps, context = self.steps_of(time), context.to(x.dtype)
        for number, block in enumerate(self.blocks):
            windows = windows_of(frames, height, width, self.config.attention_window, number)
            area = windows.size if windows is not None else (height, width)
            cos, sin = (y.to(x.device) for y in rotations(self.config.head_width, frames, *area))
            given = (x, steps, context, (cos, sin), windows)
            x = checkpoint(block, *given, use_reentrant=False) if self.recompute else block(*given)
            if taps is not None:
                taps.append(rearrange(x, "b (t h w) c -> (b t) c h w", t=frames, h=height))
        velocity: Tensor = rearrange(
            self.head(x, time), "b (t h w) (p q c) -> b c t (h p) (w q)",
            t=frames, h=height, w=width, p=PATCH[1], q=PATCH[2],
        )  # fmt: skip
        return velocity

    def time_of(self, t: Tensor) -> Tensor:
        """(b c) float32: the sinusoid of 1000·t, cosines first, in float64, through two layers."""
        half = self.config.frequencies // 2
        rates = 10_000.0 ** (-torch.arange(half, dtype=torch.float64, device=t.device) / half)
        angle = 1000.0 * t.double()[:, None] * rates
        waves = torch.cat((angle.cos(), angle.sin()), 1).float()
        return self._in_float32(self.time_embedding, waves)

    def steps_of(self, time: Tensor) -> Tensor:
        """(b 6 c) float32: what every block's modulation is added to."""
        return rearrange(self._in_float32(self.time_projection, time), "b (n c) -> b n c", n=6)

    @staticmethod
    def _in_float32(layers: nn.Sequential, x: Tensor) -> Tensor:
        """Times stay exact under bfloat16 weights, and under autocast."""
        with without_autocast(x.device):
            for layer in layers:
                x = F.linear(x, layer.weight.float(), layer.bias.float()) if isinstance(layer, nn.Linear) else layer(x)
        return x


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Products in the type of their factors, whatever the caller has turned on."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()
