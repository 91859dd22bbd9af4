"""The `base` family: a window is encoded, denoised in one step and decoded; tiles are cross-faded inside their halos.

Noise is keyed by seed, place and absolute group of frames, so that windows see the same of it where they overlap.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import DuoVsrError
from ..model.codec import to_latent_grid
from ..model.config import CELL, SCALE
from ..model.consistency import to_take_off
from ..model.resample import back_project, down_weights, enlarge, pad_edges
from ..model.wan.autoencoder import WanAutoencoder
from ..model.wan.condition import WanCondition, latent_frames
from ..model.wan.config import LATENT_CHANNELS, TIME
from ..model.wan.fast import FastTransformer
from ..model.wan.fast_autoencoder import FastAutoencoder
from ..model.wan.generator import WanGenerator, clip_of, whole_tokens
from ..model.wan.transformer import WanTransformer
from .fit import Level
from .kernels import attention_kernels
from .noise import noise_frame
from .offload import Streamed
from .renderer import Part, Renderer, repeatable_kernels
from .residual import UNUSABLE, even
from .steady import steady_operations
from .tiles import Ramp, Tile, ramp, split_in_step

SPOILT = 12
"""LR pixels from a tile's cut edge within which its base is not that of the frame."""


@dataclass(frozen=True, slots=True)
class WanWindow:
    """What is kept of a window of t frames."""

    residual: Tensor
    """(t 3 4h 4w), in the network's type: what the model adds to R, before the consistency step."""
    seen: Tensor
    """(t 3 h w) float32: q of `model.consistency`, to be taken off the base on the LR grid."""
    base: Tensor
    """(t 3 h w) float32: B, whose enlargement is the base R."""


class Working:
    """A model in one precision on the device: the transformer folded for one step, and what makes and reads latents."""

    def __init__(self, generator: WanGenerator, device: torch.device, dtype: torch.dtype, offload: bool):
        """The generator itself stays as and where it is."""
        self.dtype = dtype
        with torch.inference_mode(False), torch.no_grad():
            self.transformer = folded(generator, device, dtype, offload)
            self.codec = codec_of(generator, device, dtype)

    def offload(self, device: torch.device) -> None:
        """Let the blocks wait in main memory from now on, if they do not yet."""
        if not isinstance(self.transformer.blocks, Streamed):
            self.transformer.blocks = Streamed(self.transformer.blocks, device, self.dtype)

    def residual(self, lr: Tensor, noise: Tensor) -> Iterator[Tensor]:
        """Parts (t 3 4h 4w) float32 of the residual of (t+2 3 h w) LR frames; noise: (n 16 h/2 w/2)."""
        condition = self.codec.condition(lr[None])
        z0 = noise[None] - self.velocity(noise[None], condition)
        return (part[0] for part in self.codec.decoded(z0, condition))

    def velocity(self, noise: Tensor, condition: WanCondition) -> Tensor:
        """v = ε − x̂0 at t = 1, where z_1 = ε; (1 n 16 h w) float32."""
        seen, beside = (clip_of(whole_tokens(x)).to(self.dtype) for x in (noise, condition.latents))
        v = clip_of(self.transformer(seen, torch.ones(1), None, beside)).float()
        return v[..., : noise.shape[-2], : noise.shape[-1]]


class WanRenderer(Renderer[WanWindow]):
    """Runs a generator in one precision on windows of frames of one size; odd sides get one more row or column."""

    def __init__(
        self, generator: WanGenerator, device: torch.device, dtype: torch.dtype, width: int, height: int, level: Level,
        seed: int,
    ):  # fmt: skip
        self.generator, self.config = generator, generator.config
        self.device, self.seed = device, seed
        self.size = (height + 1) // CELL, (width + 1) // CELL
        self.fast = Working(generator, device, dtype, level.offload)
        self.exact: Working | None = None  # made when it is needed: with the weights in main memory
        self._noise: dict[int, Tensor] = {}
        self.redone = 0
        self.use(level)

    def use(self, level: Level) -> None:
        self.tiles = split_in_step(*self.size, level.tile, level.overlap)
        self.reach = fade(level.tile, level.overlap)
        if level.offload:
            self.fast.offload(self.device)

    def window(self, frames: Tensor, first: int) -> WanWindow:
        frames = even(frames.to(self.device))
        groups = groups_of(first, len(frames) - 2, self.config.overlap)
        self._draw(groups)
        noise = torch.stack([self._noise[n] for n in groups]).to(self.device)
        with repeatable_kernels(self.device), steady_operations(self.device), attention_kernels(self.device):
            result = self._window(self.fast, frames, noise)
            if self.device.type == "cuda":  # which works by itself meanwhile: the noise of the window that comes next
                self._draw(range(groups.start, groups.stop + self.config.stride // TIME))
            if bool(torch.isfinite(result.seen).all()):
                return result
            self.redone += len(frames) - 2
            self.exact = self.exact or Working(self.generator, self.device, torch.float32, offload=True)
            result = self._window(self.exact, frames, noise)
        if not bool(torch.isfinite(result.seen).all()):
            raise DuoVsrError(UNUSABLE)
        return result

    def composed(self, parts: Sequence[Part[WanWindow]], strength: float) -> Tensor:
        """R + strength·(residual − U·q); the cross-fade of two windows is that of residuals and of q."""
        base = parts[0].window.base[parts[0].position]
        if strength == 0:
            return enlarge(base)
        seen = blended([part.window.seen[part.position] for part in parts], parts)
        added = blended([part.window.residual[part.position] for part in parts], parts)
        return enlarge(base - seen * strength).add_(added, alpha=strength)

    # -- one window ---------------------------------------------------------------------------------------------

    def _window(self, model: Working, frames: Tensor, noise: Tensor) -> WanWindow:
        t, (h, w) = len(frames) - 2, frames.shape[-2:]
        base, missing = back_project(frames[1:-1], self.config.back_projections)
        residual = torch.zeros(t, 3, SCALE * h, SCALE * w, dtype=model.dtype, device=self.device)
        for tile in self.tiles:
            self._add_tile(model, frames, noise, tile, residual)
        seen = torch.cat([self._take_off(residual[n : n + 1], missing[n : n + 1]) for n in range(t)])
        return WanWindow(residual, seen, base)

    def _add_tile(self, model: Working, frames: Tensor, noise: Tensor, tile: Tile, into: Tensor) -> None:
        """Add what a tile counts for; the weights of all tiles sum to 1."""
        top, bottom, left, right = tile.outer
        lr = frames[..., CELL * top : CELL * bottom, CELL * left : CELL * right]
        rows, columns = self._ramps(tile, frames.shape[-2:])
        weights = torch.outer(*(torch.tensor(each.weights, device=self.device) for each in (rows, columns)))
        ys, xs = (
            slice(SCALE * (each.start - CELL * edge), SCALE * (each.stop - CELL * edge))
            for each, edge in ((rows, top), (columns, left))
        )
        into = into[..., SCALE * rows.start : SCALE * rows.stop, SCALE * columns.start : SCALE * columns.stop]
        first = 0
        for part in model.residual(lr, noise[..., top:bottom, left:right]):
            into[first : first + len(part)] += part[..., ys, xs] * weights
            first += len(part)

    def _ramps(self, tile: Tile, size: Sequence[int]) -> tuple[Ramp, Ramp]:
        y0, y1, x0, x1 = (CELL * edge for edge in tile.inner)
        return ramp(y0, y1, size[0], self.reach), ramp(x0, x1, size[1], self.reach)

    def _take_off(self, residual: Tensor, missing: Tensor) -> Tensor:
        """q of one frame: (1 3 h w)."""
        mismatch = to_latent_grid(shrunk(residual.float()) - missing)
        kappa = mismatch.new_full((1, 1, *mismatch.shape[-2:]), self.config.kappa)
        return to_take_off(mismatch, kappa)

    def _draw(self, groups: range) -> None:
        """Have the noise of these latent groups, (16 h/2 w/2) each, at hand, and of no others."""
        self._noise = {
            n: self._noise[n] if n in self._noise else noise_frame(self.seed, n, *self.size, LATENT_CHANNELS)
            for n in groups
        }


def groups_of(first: int, frames: int, overlap: int) -> range:
    """Numbers in the clip of a window's latents: frames that two windows share belong to the same groups in both.

    first: number of the window's first frame. A stride of windows is a multiple of 4.
    """
    group = (first + overlap) // TIME
    return range(group, group + latent_frames(frames))


# -- a model in one precision -----------------------------------------------------------------------------------------


def folded(generator: WanGenerator, device: torch.device, dtype: torch.dtype, offload: bool) -> FastTransformer:
    """The transformer for one step with the best quality class's context, its blocks on the device or streamed to it.

    Blocks are copied one by one. The generator's own weights may lie in a file at any address, and float32 products
    round by the address: only copies are computed with.
    """
    own = copy.copy(generator.transformer)
    own._modules = {name: copied(part) for name, part in own._modules.items() if part is not None}
    fast = FastTransformer(own, generator.context(torch.tensor([generator.config.best_class])))
    fast.patch_embedding.to(device, dtype)
    fast.head.to(device, dtype)
    if offload:
        fast.blocks = Streamed(fast.blocks, device, dtype)
        return fast
    for number in range(len(fast.blocks)):
        fast.blocks[number] = fast.blocks[number].to(device, dtype)
    return fast


def copied(part: nn.Module) -> nn.Module:
    """A copy, at addresses that kernels like; of a list one whose members are copied when they are asked for."""
    return Copies(part) if isinstance(part, nn.ModuleList) else copy.deepcopy(part)


class Copies(nn.ModuleList):
    """Gives out copies of its members, made one after another."""

    def __iter__(self) -> Iterator[nn.Module]:
        return (copy.deepcopy(member) for member in super().__iter__())


def codec_of(generator: WanGenerator, device: torch.device, dtype: torch.dtype) -> WanGenerator:
    """The generator without its transformer: condition and decoder in one precision on the device."""
    codec = copy.copy(generator)
    codec._modules = {name: moved(part, device, dtype) for name, part in generator._modules.items() if part is not None}
    codec._modules = {"autoencoder": None, "light_encoder": None, "light_decoder": None, **codec._modules}
    return codec


def moved(part: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module | None:
    if isinstance(part, WanTransformer):
        return None
    own = copy.deepcopy(part).to(device, dtype)
    return FastAutoencoder(own) if isinstance(own, WanAutoencoder) else own.to(memory_format=torch.channels_last)


# -- pictures ---------------------------------------------------------------------------------------------------------


def fade(tile: int, overlap: int) -> int:
    """LR pixels to each side of a border over which tiles are cross-faded: not to where their own bases end."""
    return max(min(max(overlap - SPOILT, overlap // 4), tile // 2), 1)


def blended(pictures: list[Tensor], parts: Sequence[Part[WanWindow]]) -> Tensor:
    """The pictures by the weights of the parts, in float32."""
    if len(pictures) == 1:
        return pictures[0].float()
    whole = pictures[0].float() * parts[0].weight
    return whole.add_(pictures[1].float(), alpha=parts[1].weight)


def shrunk(x: Tensor) -> Tensor:
    """D·x: (n 3 4h 4w) -> (n 3 h w), border pixels repeated, as sums of strided views in a fixed order."""
    for axis in (-2, -1):
        size = x.shape[axis] // SCALE
        edges = (6, 6, 0, 0) if axis == -1 else (0, 0, 6, 6)
        padded = pad_edges(x, *edges)
        x = strided(padded, axis, 0, size) * down_weights()[0]
        for k, weight in enumerate(down_weights()[1:], 1):
            x.add_(strided(padded, axis, k, size), alpha=weight)
    return x


def strided(x: Tensor, axis: int, start: int, count: int) -> Tensor:
    """Every fourth line from `start` on, `count` of them."""
    index = [slice(None)] * x.ndim
    index[axis] = slice(start, start + SCALE * (count - 1) + 1, SCALE)
    return x[tuple(index)]
