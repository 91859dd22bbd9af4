"""One window of LR frames to residuals: the network in its precision, tile by tile, with the non-finite guard."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import DuoVsrError
from ..model.config import CELL, COEFFICIENTS
from ..model.features import Condition
from ..model.generator import Generator
from .noise import noise_field
from .tiles import Tile, split


@dataclass(frozen=True, slots=True)
class Residual:
    """What a window adds to its frames."""

    coefficients: Tensor
    """(t 96 h/2 w/2): of the residual, in the network's type, channels last."""
    seen: Tensor
    """(t 3 h w) float32: q of `model.consistency`, to be taken off the base on the LR grid."""


@contextmanager
def repeatable_kernels(device: torch.device) -> Iterator[None]:
    """cuDNN's deterministic kernels without trials or reduced precision, for the time of one call on a GPU."""
    if device.type == "cpu":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


class Renderer:
    """Runs a generator in one precision on frames of one (even) size."""

    def __init__(
        self, generator: Generator, device: torch.device, dtype: torch.dtype, height: int, width: int, tile: int,
        overlap: int, seed: int,
    ):  # fmt: skip
        self.exact = copy.deepcopy(generator).to(device)
        self.exact.fold_for_one_step()
        self.dtype = dtype
        self.seed, self.size = seed, (height // 2, width // 2)
        self.use_tiles(tile, overlap)
        self.fast = self._in_type(dtype)
        self.lifted = self._lift(self.fast, dtype)
        self._counting = threading.Lock()  # frames are rendered side by side
        self.redone = 0
        """Frames whose reduced-precision result was not finite and that were computed again in float32."""

    def use_tiles(self, tile: int, overlap: int) -> None:
        """Cut the frames that follow into tiles; tile and overlap in LR pixels, tile 0: whole frames."""
        self.tiles = split(*self.size, tile, overlap)

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
            raise DuoVsrError(
                "the model's output is not finite even in float32; its file is unusable, use another model"
            )
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
