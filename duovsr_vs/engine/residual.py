"""The `nano` and `small` family: the network in its precision, tile by tile, with the non-finite guard."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import DuoVsrError
from ..model.compose import compose
from ..model.config import CELL, COEFFICIENTS
from ..model.features import Condition
from ..model.generator import Generator
from ..model.resample import pad_edges
from .fit import Level
from .noise import noise_field
from .renderer import Part, Renderer, repeatable_kernels
from .tiles import Tile, split

UNUSABLE = "the model's output is not finite even in float32; its file is unusable, use another model"


@dataclass(frozen=True, slots=True)
class Residual:
    """What the network adds to the base of its frames."""

    coefficients: Tensor
    """(t 96 h/2 w/2): of the residual, in the network's type, channels last."""
    seen: Tensor
    """(t 3 h w) float32: q of `model.consistency`, to be taken off the base on the LR grid."""


@dataclass(frozen=True, slots=True)
class ResidualWindow:
    """What is kept of a window."""

    residual: Residual
    base: Tensor
    """(t 3 h w) float32: B, whose enlargement is the base R."""


class ResidualRenderer(Renderer[ResidualWindow]):
    """Runs a generator in one precision on frames of one size; odd sides get one more row or column."""

    def __init__(self, generator: Generator, dtype: torch.dtype, width: int, height: int, level: Level, seed: int):
        self.generator = generator
        self.exact = copy.deepcopy(self.generator)
        self.exact.fold_for_one_step()
        self.dtype = dtype
        self.seed, self.size = seed, ((height + 1) // CELL, (width + 1) // CELL)
        self.use(level)
        self.fast = self._in_type(dtype)
        self.lifted = self._lift(self.fast, dtype)
        self._counting = threading.Lock()  # frames are rendered side by side
        self.redone = 0

    def use(self, level: Level) -> None:
        self.tiles = split(*self.size, level.tile, level.overlap)

    def window(self, frames: Tensor, first: int) -> ResidualWindow:
        """The noise is the same for all frames, so that it cannot flicker: `first` changes nothing."""
        condition = self.generator.condition(even(frames.to(self.lifted.device)[None]))
        return ResidualWindow(self.render(condition), condition.base[0])

    def composed(self, parts: Sequence[Part[ResidualWindow]], strength: float) -> Tensor:
        pairs = [(part.window.residual, part.position, part.weight) for part in parts]
        residual, position, weight = pairs[0]
        coefficients, seen = residual.coefficients[position : position + 1], residual.seen[position]
        if len(pairs) == 2:
            other, there, share = pairs[1]
            coefficients = coefficients.float() * weight + other.coefficients[there : there + 1].float() * share
            seen = seen * weight + other.seen[there] * share
        return compose(parts[0].window.base[position], coefficients, seen, strength)

    # -- the network --------------------------------------------------------------------------------------------

    def _in_type(self, dtype: torch.dtype) -> Generator:
        model = copy.deepcopy(self.exact)
        for part in model.children():  # what has weights; the generator's own constants stay float32
            part.to(dtype=dtype).to(memory_format=torch.channels_last)
        return model

    def _lift(self, model: Generator, dtype: torch.dtype) -> Tensor:
        """The noise's share of the first layer: one map for all frames."""
        noise = noise_field(self.seed, *self.size, model.config.latent_channels)
        noise = noise[None].to(model.deviation.device, dtype)
        return model.network.lift(noise.contiguous(memory_format=torch.channels_last))

    def render(self, condition: Condition) -> Residual:
        """Residual of the frames of a condition (1 t …). DuoVsrError if the model gives no numbers even in float32."""
        result = self._render(self.fast, condition, self.lifted, self.dtype)
        if self._finite(result):
            return result
        with self._counting:
            self.redone += condition.features.shape[1]
        result = self._render(self.exact, condition, self._lift(self.exact, torch.float32), torch.float32)
        if not self._finite(result):
            raise DuoVsrError(UNUSABLE)
        return result

    @staticmethod
    def _finite(result: Residual) -> bool:
        """Every coefficient has a share in `seen`, and a sum of which one term is not finite is not finite either."""
        return bool(torch.isfinite(result.seen).all())

    def _render(self, model: Generator, condition: Condition, lifted: Tensor, dtype: torch.dtype) -> Residual:
        tiles = self.tiles  # another frame may change them
        with repeatable_kernels(lifted.device):
            if len(tiles) == 1:
                return Residual(*model.one_step(condition, lifted, dtype))
            frames, (height, width) = condition.features.shape[1], self.size
            whole = Residual(
                torch.empty(
                    (frames, COEFFICIENTS, height, width),
                    dtype=dtype, device=lifted.device, memory_format=torch.channels_last,
                ),
                torch.empty(frames, 3, CELL * height, CELL * width, device=lifted.device),
            )  # fmt: skip
            for tile in tiles:
                self._render_tile(model, condition, lifted, dtype, tile, whole)
            return whole

    def _render_tile(
        self, model: Generator, condition: Condition, lifted: Tensor, dtype: torch.dtype, tile: Tile, into: Residual
    ) -> None:
        top, bottom, left, right = tile.outer
        part = condition.crop(top, bottom, left, right)
        lift = lifted[..., top:bottom, left:right].contiguous(memory_format=torch.channels_last)
        coefficients, seen = model.one_step(part, lift, dtype)
        ys, xs = tile.crop
        y0, y1, x0, x1 = tile.inner
        into.coefficients[..., y0:y1, x0:x1] = coefficients[..., ys, xs]
        inside = seen[..., CELL * ys.start : CELL * ys.stop, CELL * xs.start : CELL * xs.stop]
        into.seen[..., CELL * y0 : CELL * y1, CELL * x0 : CELL * x1] = inside


def even(frames: Tensor) -> Tensor:
    """Odd sides get one more row or column, a copy of the last."""
    h, w = frames.shape[-2:]
    return pad_edges(frames, 0, w % 2, 0, h % 2) if h % 2 or w % 2 else frames
