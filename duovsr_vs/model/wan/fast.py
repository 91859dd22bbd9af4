"""The transformer for one step: what time and context determine is folded into weights, q, k and v are one product.

At fixed t a modulation is a constant: W(LN(x)(1 + c) + s) + b = (W·diag(1 + c))·LN(x) + (W·s + b), and a gate
g·(W·x + b) = (diag(g)·W)·x + g·b. The context's keys and values never change either. Equal to the slow path but for
rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...errors import OptionError
from .config import LATENT_CHANNELS, PATCH, TransformerConfig
from .rope import rotate, rotations
from .transformer import EPSILON, Attention, Block, WanTransformer
from .windows import Layout, gather, scatter, windows_of


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
    """LN(x) without weights, in float32 inside."""
    return F.layer_norm(x.float(), x.shape[-1:], eps=EPSILON).to(x.dtype)


class FoldedBlock(nn.Module):
    """`Block` at one time and for one context."""

    keys: Tensor
    values: Tensor

    def __init__(self, block: Block, time: Tensor, context: Tensor):
        """time: (1 6 c) of the projection; context: (1 m c)."""
        super().__init__()
        shift1, scale1, gate1, shift2, scale2, gate2 = (block.modulation.float() + time)[0]
        own, cross = block.self_attn, block.cross_attn
        self.heads = own.heads
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
        keys: Tensor = self._split(cross.norm_k(cross.k(context)))
        return keys, self._split(cross.v(context))

    def _split(self, x: Tensor) -> Tensor:
        heads: Tensor = rearrange(x, "b n (h d) -> b h n d", h=self.heads)
        return heads

    def forward(self, x: Tensor, turns: tuple[Tensor, Tensor], windows: Layout | None) -> Tensor:
        """x: (b n c)."""
        x = x + self._within(normed(x), turns, windows)
        x = x + self._to_context(x)
        fed: Tensor = self.last(F.gelu(self.first(normed(x)), approximate="tanh"))
        return x + fed

    def _within(self, x: Tensor, turns: tuple[Tensor, Tensor], windows: Layout | None) -> Tensor:
        batch = len(x)
        q, k, v = self.qkv(x).chunk(3, -1)
        q, k = self.norm_q(q), self.norm_k(k)
        if windows is not None:
            q, k, v = (gather(y, windows) for y in (q, k, v))
        q, k = rotate(self._split(q), *turns), rotate(self._split(k), *turns)
        seen = rearrange(F.scaled_dot_product_attention(q, k, self._split(v)), "b h n d -> b n (h d)")
        result: Tensor = self.o(seen if windows is None else scatter(seen, windows, batch))
        return result

    def _to_context(self, x: Tensor) -> Tensor:
        weight, bias = self.norm3.weight.float(), self.norm3.bias.float()
        queries = self.cross_q(F.layer_norm(x.float(), x.shape[-1:], weight, bias, EPSILON).to(x.dtype))
        q = self._split(self.cross_norm(queries))
        keys, values = (y.expand(len(x), -1, -1, -1) for y in (self.keys, self.values))
        seen = rearrange(F.scaled_dot_product_attention(q, keys, values), "b h n d -> b n (h d)")
        result: Tensor = self.cross_o(seen)
        return result


class FastTransformer(nn.Module):
    """A `WanTransformer` at t = 1 and for one context, behind the same signature."""

    @torch.no_grad()
    def __init__(self, slow: WanTransformer, context: Tensor, t: float = 1.0):
        """context: (1 m c), as `tokens_of` or `learned_context` gives it.  t: the only time that will be asked for."""
        super().__init__()
        self.config: TransformerConfig = slow.config
        self.t = t
        time = slow.time_of(torch.full((1,), t, device=slow.patch_embedding.weight.device))
        steps = slow.steps_of(time)
        kind = slow.patch_embedding.weight.dtype
        self.patch_embedding = slow.patch_embedding
        self.blocks = nn.ModuleList(
            FoldedBlock(block, steps, context.to(kind)) for block in slow.blocks if isinstance(block, Block)
        )
        shift, scale = (slow.head.modulation.float() + time[:, None])[0]
        self.head = folded_into([slow.head.head], scale, shift)

    def compile_blocks(self) -> None:
        """Compile each block on its own: one graph for all of them, made anew for another frame size."""
        for block in self.blocks:
            block.compile()

    def forward(self, z_t: Tensor, t: Tensor, context: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """As `WanTransformer.forward`; OptionError for another time. The context is the one that was folded in."""
        if bool((t != self.t).any()):
            raise OptionError(f"t={float(t.max()):g}: the model was prepared for t={self.t:g}; use the slow path")
        grid = self.patch_embedding(z_t if condition is None else torch.cat((z_t, condition), 1))
        frames, height, width = grid.shape[2:]
        x = grid.flatten(2).transpose(1, 2)
        for number, block in enumerate(self.blocks):
            windows = windows_of(frames, height, width, self.config.attention_window, number)
            area = windows.size if windows is not None else (height, width)
            cos, sin = (y.to(x.device) for y in rotations(self.config.head_width, frames, *area))
            x = block(x, (cos, sin), windows)
        velocity: Tensor = rearrange(
            self.head(normed(x)), "b (t h w) (p q c) -> b c t (h p) (w q)",
            t=frames, h=height, w=width, p=PATCH[1], q=PATCH[2], c=LATENT_CHANNELS,
        )  # fmt: skip
        return velocity
