"""One window of LR frames to residuals: the network in its precision, tile by tile, with the non-finite guard."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import DuoVsrError
from ..model.features import Condition
from ..model.generator import Generator
from .noise import noise_field
from .tiles import Tile, split


@dataclass(frozen=True, slots=True)
class Residual:
    """What a window adds to its frames."""

    cells: Tensor
    """(t h/2 w/2 192): decoded residual, in the network's type."""
    seen: Tensor
    """(t 3 h w) float32: κ·(D·residual − m), to be taken off the base on the LR grid."""


@contextmanager
def repeatable_kernels() -> Iterator[None]:
    """cuDNN's deterministic kernels without trials or reduced precision, for the time of one call."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


class Renderer:
    """Runs a generator in one precision on frames of one (even) size."""

    def __init__(
        self, generator: Generator, device: torch.device, dtype: torch.dtype, height: int, width: int, tile: int,
        overlap: int, seed: int,
    ):  # fmt: skip
        self.exact = generator.to(device)
        self.dtype = dtype
        self.tiles = split(height // 2, width // 2, tile, overlap)
        self.seed, self.size = seed, (height // 2, width // 2)
        self.bias = self.exact.one_step_bias()
        self.fast = self._in_type(dtype)
        self.lifted = self._lift(self.fast, dtype)
        self.redone = 0
        """Frames whose reduced-precision result was not finite and that were computed again in float32."""

    def _in_type(self, dtype: torch.dtype) -> Generator:
        model = copy.deepcopy(self.exact)
        model.network.to(dtype=dtype, memory_format=torch.channels_last)
        return model

    def _lift(self, model: Generator, dtype: torch.dtype) -> Tensor:
        """The noise's share of the first layer: one map for all frames."""
        noise = noise_field(self.seed, *self.size)[None].to(model.deviation.device, dtype)
        return model.network.lift(noise.contiguous(memory_format=torch.channels_last))

    def render(self, condition: Condition) -> Residual:
        """Residual of the frames of a condition (1 t …). DuoVsrError if the model gives no numbers even in float32."""
        result = self._render(self.fast, condition, self.lifted, self.dtype)
        if self._finite(result):
            return result
        self.redone += condition.features.shape[1]
        result = self._render(self.exact, condition, self._lift(self.exact, torch.float32), torch.float32)
        if not self._finite(result):
            raise DuoVsrError(
                "the model's output is not finite even in float32; its file is unusable, use another model"
            )
        return result

    @staticmethod
    def _finite(result: Residual) -> bool:
        """Every coefficient has a share in `seen`, and what is not finite stays so in a sum; only float16 can overflow later."""
        finite = bool(torch.isfinite(result.seen).all())
        return finite and (result.cells.dtype != torch.float16 or bool(torch.isfinite(result.cells).all()))

    def _render(self, model: Generator, condition: Condition, lifted: Tensor, dtype: torch.dtype) -> Residual:
        with repeatable_kernels():
            if len(self.tiles) == 1:
                return Residual(*model.one_step(condition, lifted, self.bias, dtype))
            frames, (height, width) = condition.features.shape[1], self.size
            cells = lifted.new_empty(frames, height, width, 192)
            seen = torch.empty(frames, 3, 2 * height, 2 * width, device=lifted.device)
            for tile in self.tiles:
                self._render_tile(model, condition, lifted, dtype, tile, Residual(cells, seen))
            return Residual(cells, seen)

    def _render_tile(
        self, model: Generator, condition: Condition, lifted: Tensor, dtype: torch.dtype, tile: Tile, into: Residual
    ) -> None:
        top, bottom, left, right = tile.outer
        part = condition.crop(top, bottom, left, right)
        lift = lifted[..., top:bottom, left:right].contiguous(memory_format=torch.channels_last)
        cells, seen = model.one_step(part, lift, self.bias, dtype)
        ys, xs = tile.crop
        y0, y1, x0, x1 = tile.inner
        into.cells[:, y0:y1, x0:x1] = cells[:, ys, xs]
        inside = seen[..., 2 * ys.start : 2 * ys.stop, 2 * xs.start : 2 * xs.stop]
        into.seen[..., 2 * y0 : 2 * y1, 2 * x0 : 2 * x1] = inside
