"""The transformer for one step: what time and context determine is folded into weights, q, k and v are one product.

At fixed t a modulation is a constant: W(LN(x)(1 + c) + s) + b = (W·diag(1 + c))·LN(x) + (W·s + b), and a gate
g·(W·x + b) = (diag(g)·W)·x + g·b. The context's keys and values never change either. Norms are single kernels that
round once, and what a grid of tokens determines stays on the device. Equal to the slow path but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...errors import OptionError
from .config import LATENT_CHANNELS, PATCH, TransformerConfig
from .rope import rotate, rotations
from .transformer import EPSILON, Attention, Block, ChannelNorm, WanTransformer
from .windows import Layout, gather, scatter, windows_of

FED_AT_ONCE = 32_768
"""Tokens that go through a feed-forward layer together: its inner activations are six times as wide as the tokens."""
Turns = tuple[Tensor, Tensor, Tensor]
"""cos and sin of the rotary angles (m d/2) float32, and cos + i·sin (m 1 d/2) complex64."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the tokens of a grid lie, for the blocks of one kind, on the device."""

    turns: Turns
    windows: Layout | None


def places(config: TransformerConfig, grid: tuple[int, int, int], block: int, device: torch.device) -> Places:
    """grid: latent frames, rows and columns of tokens; block: its number."""
    windows = windows_of(*grid, config.attention_window, block)
    if windows is not None:
        windows = Layout(windows.tokens.to(device), windows.owner.to(device), windows.size)
    area = grid[1:] if windows is None else windows.size
    cos, sin = (y.to(device) for y in rotations(config.head_width, grid[0], *area))
    return Places((cos, sin, torch.complex(cos, sin)[:, None]), windows)


def turned(x: Tensor, turns: Turns) -> Tensor:
    """`rope.rotate` of (b n h d). As complex products, which read and write less; compilers know no complex numbers."""
    if torch.compiler.is_compiling():
        return rotate(x.transpose(1, 2), *turns[:2]).transpose(1, 2)
    pairs = torch.view_as_complex(x.float().view(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns[2]).flatten(-2).to(x.dtype)


def folded_into(layers: Sequence[nn.Linear], scale: Tensor, shift: Tensor) -> nn.Linear:
    """One layer for LN(x) that gives what the layers give for LN(x)·(1 + scale) + shift, one after the other."""
    weight = torch.cat([layer.weight.float() for layer in layers])
    bias = torch.cat([layer.bias.float() for layer in layers])
    return _linear(weight * (1 + scale), bias + weight @ shift, layers[0].weight.dtype)


def gated(layer: nn.Linear, gate: Tensor) -> nn.Linear:
    """The layer whose results are multiplied by the gate."""
    return _linear(layer.weight.float() * gate[:, None], layer.bias.float() * gate, layer.weight.dtype)


def _linear(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight = nn.Parameter(weight.to(dtype).contiguous(), requires_grad=False)
    layer.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
    return layer


def normed(x: Tensor) -> Tensor:
    """LN(x) without weights; kernels compute in float32 and round once."""
    return F.layer_norm(x, x.shape[-1:], eps=EPSILON)


def channel_normed(x: Tensor, norm: ChannelNorm) -> Tensor:
    """`ChannelNorm` in one kernel."""
    return F.rms_norm(x, x.shape[-1:], norm.weight.to(x.dtype), EPSILON)


class FoldedBlock(nn.Module):
    """`Block` at one time and for one context."""

    keys: Tensor
    values: Tensor

    def __init__(self, block: Block, time: Tensor, context: Tensor, fed_at_once: int = FED_AT_ONCE):
        """time: (1 6 c) of the projection; context: (1 m c)."""
        super().__init__()
        shift1, scale1, gate1, shift2, scale2, gate2 = (block.modulation.float() + time)[0]
        own, cross = block.self_attn, block.cross_attn
        self.heads, self.fed_at_once = own.heads, fed_at_once
        self.qkv = folded_into([own.q, own.k, own.v], scale1, shift1)
        self.norm_q, self.norm_k = own.norm_q, own.norm_k
        self.o = gated(own.o, gate1)
        self.norm3, self.cross_q, self.cross_norm, self.cross_o = block.norm3, cross.q, cross.norm_q, cross.o
        keys, values = self._context(cross, context)
        self.register_buffer("keys", keys, persistent=False)
        self.register_buffer("values", values, persistent=False)
        self.first = folded_into([cast(nn.Linear, block.ffn[0])], scale2, shift2)
        self.last = gated(cast(nn.Linear, block.ffn[2]), gate2)

    def _context(self, cross: Attention, context: Tensor) -> tuple[Tensor, Tensor]:
        keys: Tensor = cross.norm_k(cross.k(context))
        return self._split(keys).transpose(1, 2).contiguous(), self._split(cross.v(context)).transpose(
            1, 2
        ).contiguous()

    def _split(self, x: Tensor) -> Tensor:
        """(b n c) -> (b n h d)."""
        return x.view(*x.shape[:-1], self.heads, -1)

    def forward(self, x: Tensor, turns: Turns, windows: Layout | None) -> Tensor:
        """x: (b n c)."""
        x = x + self._within(normed(x), turns, windows)
        x = x + self._to_context(x)
        return x + self._fed(x)

    def _within(self, x: Tensor, turns: Turns, windows: Layout | None) -> Tensor:
        batch = len(x)
        q, k, v = self.qkv(x).chunk(3, -1)
        q, k = channel_normed(q, self.norm_q), channel_normed(k, self.norm_k)
        if windows is not None:
            q, k, v = (gather(y, windows) for y in (q, k, v))
        q, k = turned(self._split(q), turns), turned(self._split(k), turns)
        q, k, v = (y.transpose(1, 2) for y in (q, k, self._split(v)))
        seen = rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)")
        result: Tensor = self.o(seen if windows is None else scatter(seen, windows, batch))
        return result

    def _to_context(self, x: Tensor) -> Tensor:
        weight, bias = (y.to(x.dtype) for y in (self.norm3.weight, self.norm3.bias))
        queries = self.cross_q(F.layer_norm(x, x.shape[-1:], weight, bias, EPSILON))
        q = self._split(channel_normed(queries, self.cross_norm)).transpose(1, 2)
        keys, values = (y.expand(len(x), -1, -1, -1) for y in (self.keys, self.values))
        seen = rearrange(F.scaled_dot_product_attention(q, keys, values), "b h n d -> b n (h d)")
        result: Tensor = self.cross_o(seen)
        return result

    def _fed(self, x: Tensor) -> Tensor:
        """The feed-forward layers, some tokens after the others."""
        parts = torch.split(x, self.fed_at_once or x.shape[1], 1)
        fed = [self.last(F.gelu(self.first(normed(part)), approximate="tanh")) for part in parts]
        return fed[0] if len(fed) == 1 else torch.cat(fed, 1)


class FastTransformer(nn.Module):
    """A `WanTransformer` at t = 1 and for one context, behind the same signature."""

    @torch.no_grad()
    def __init__(self, slow: WanTransformer, context: Tensor, t: float = 1.0, fed_at_once: int = FED_AT_ONCE):
        """context: (1 m c), as `tokens_of` or `learned_context` gives it.  t: the only time that will be asked for.

        fed_at_once: tokens that go through a feed-forward layer together; 0: all.
        """
        super().__init__()
        self.config: TransformerConfig = slow.config
        self.t = t
        time = slow.time_of(torch.full((1,), t, device=slow.patch_embedding.weight.device))
        steps = slow.steps_of(time)
        kind = slow.patch_embedding.weight.dtype
        self.patch_embedding = slow.patch_embedding
        self.blocks = nn.ModuleList(
            FoldedBlock(block, steps, context.to(kind), fed_at_once)
            for block in slow.blocks
            if isinstance(block, Block)
        )
        shift, scale = (slow.head.modulation.float() + time[:, None])[0]
        self.head = folded_into([slow.head.head], scale, shift)
        self._places: tuple[tuple[tuple[int, int, int], torch.device], list[Places]] | None = None

    def compile_blocks(self) -> None:
        """Compile each block on its own: one graph for all of them, made anew for another frame size."""
        for block in self.blocks:
            block.compile()

    def places(self, grid: tuple[int, int, int], device: torch.device) -> list[Places]:
        """Of blocks of even and of odd number; those of the last grid are kept."""
        key = grid, device
        if self._places is None or self._places[0] != key:
            self._places = key, [places(self.config, grid, block, device) for block in (0, 1)]
        return self._places[1]

    def forward(self, z_t: Tensor, t: Tensor, context: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """As `WanTransformer.forward`; OptionError for another time. The context is the one that was folded in."""
        if bool((t != self.t).any()):
            raise OptionError(f"t={float(t.max()):g}: the model was prepared for t={self.t:g}; use the slow path")
        grid = self.patch_embedding(z_t if condition is None else torch.cat((z_t, condition), 1))
        frames, height, width = grid.shape[2:]
        x = grid.flatten(2).transpose(1, 2).contiguous()
        kinds = self.places((frames, height, width), x.device)
        for number, block in enumerate(self.blocks):
            x = block(x, kinds[number % 2].turns, kinds[number % 2].windows)
        velocity: Tensor = rearrange(
            self.head(normed(x)), "b (t h w) (p q c) -> b c t (h p) (w q)",
            t=frames, h=height, w=width, p=PATCH[1], q=PATCH[2], c=LATENT_CHANNELS,
        )  # fmt: skip
        return velocity
