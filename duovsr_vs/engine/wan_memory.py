"""What a run of the `base` family takes of memory: its parts run on tensors without data, and what lives is counted.

A tile is counted as it is run, part by part, with one transformer block for all of them; what has the size of the frame
is added up here, in bytes per latent position ("cell", 2x2 LR pixels).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import torch
from torch import nn

from ..model.config import CELL, SCALE
from ..model.wan.condition import WanCondition, latent_frames
from ..model.wan.config import LATENT_CHANNELS, TOKEN, BaseConfig
from ..model.wan.generator import WanGenerator
from .memory import FLOAT, KEPT_SHARE_LARGE, OUTPUT, PIXELS
from .offload import PLACES, row_length
from .tally import peak
from .tiles import resolve_tile, split_in_step
from .wan import Working

LARGEST_WHOLE = 1 << 17
"""LR pixels up to which a frame is not cut by itself: 480x270, for 1080p."""
CHOSEN_TILE = 256
"""Tile side that is chosen for larger frames."""
NUMBERS = 3 * (CELL * SCALE) ** 2
"""Of a cell's output pixels."""
LIBRARIES = 5 * 10**8
"""Of a GPU, what CUDA and its libraries take for themselves; a guess from the sizes that others report."""
TYPES = {2: torch.bfloat16, 4: torch.float32}


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of one model in one precision."""

    blocks: int
    """All of the transformer's."""
    place: int
    """One block's on its own."""
    rest: int
    """What makes and reads latents, and the transformer's ends."""

    def on_device(self, offload: bool) -> int:
        """With the blocks there, or two of them at a time."""
        return self.rest + (PLACES * self.place if offload else self.blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class WanDemand:
    """What a run asks of memory, for any tile. width, height: of the input. item: bytes of a number of the network."""

    config: BaseConfig
    width: int
    height: int
    out_width: int
    out_height: int
    item: int
    on_cpu: bool
    own_weights: ClassVar[bool] = True

    @property
    def tile_step(self) -> int:
        """Whole windows of attention: see `split_in_step`. Half of one is enough for a halo."""
        return TOKEN * max(1, self.config.transformer.attention_window)

    @property
    def can_offload(self) -> bool:
        """On a CPU all memory is main memory."""
        return not self.on_cpu

    def resolve_tile(self, tile: int, overlap: int) -> tuple[int, int]:
        """(tile, overlap) in LR pixels for what the options say, 0 where they leave it open."""
        tile, overlap = resolve_tile(self.config, self.width, self.height, tile, overlap, LARGEST_WHOLE, CHOSEN_TILE)
        return -(-tile // self.tile_step) * self.tile_step, overlap

    def bytes(self, tile: int, overlap: int, in_flight: int, offload: bool = False) -> int:
        """Peak bytes on the device that computes.

        On a CPU that is what the process grows by, without libraries. Windows are made one by one, whatever
        `in_flight` says.
        """
        weights = weights_of(self.config, self.item).on_device(offload)
        if not self.on_cpu:
            return LIBRARIES + weights + self.working(tile, overlap)
        waiting = (self.config.window + 4) * PIXELS * self._cells + self.out_width * self.out_height * 3 * FLOAT
        return int(weights + KEPT_SHARE_LARGE * self.working(tile, overlap) + waiting)

    def working(self, tile: int, overlap: int) -> int:
        """Besides weights: while a window is made with the one before it kept, or a frame put together out of two."""
        frames, cells = self.config.window, self._cells
        kept = frames * (NUMBERS * self.item + 2 * PIXELS) * cells
        sides = self._sides(tile, overlap)
        noise = latent_frames(frames) * LATENT_CHANNELS * FLOAT * cells
        inputs = ((2 * frames + 2) * PIXELS) * cells + noise
        weighted = NUMBERS * FLOAT // 3 * sides[0] * sides[1]
        making = 2 * kept + inputs + weighted + tile_peak(self.config, *sides, self.item, self.on_cpu)
        return max(making, 2 * kept + self._finishing())

    def _finishing(self) -> int:
        """R, what is added to it and a blend's second picture; then the resized frame."""
        blended = 3 if self.config.overlap else 2
        frame = OUTPUT * self._cells
        if (self.out_width, self.out_height) == (SCALE * self.width, SCALE * self.height):
            return blended * frame
        lines = 3 * FLOAT * self.out_height * (2 * SCALE * self.width + self.out_width)
        return max(blended * frame, frame + lines)

    @property
    def _cells(self) -> int:
        return (self.width + 1) // CELL * ((self.height + 1) // CELL)

    def _sides(self, tile: int, overlap: int) -> tuple[int, int]:
        """(height, width) of the largest tile with its halo, in cells."""
        high, wide = (self.height + 1) // CELL, (self.width + 1) // CELL
        outer = [each.outer for each in split_in_step(high, wide, tile, overlap)]
        return max(bottom - top for top, bottom, _, _ in outer), max(right - left for _, _, left, right in outer)


# -- counting ---------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def weights_of(config: BaseConfig, item: int) -> Weights:
    """Counted on a model without data and with one block."""
    model = _empty(config, TYPES[item])
    block = model.transformer.blocks[0]
    inside = {id(tensor) for tensor in _tensors(block)}
    whole = [*_tensors(model.transformer), *_tensors(model.codec)]
    rest = sum(tensor.nbytes for tensor in whole if id(tensor) not in inside)
    own = sum(tensor.nbytes for tensor in _tensors(block))
    return Weights(config.blocks * own, row_length(block) * item, rest)


@lru_cache(maxsize=64)
def tile_peak(config: BaseConfig, height: int, width: int, item: int, on_cpu: bool) -> int:
    """Bytes alive at most while a tile of height x width cells of a window is worked on, besides weights and inputs.

    on_cpu: some of the operations are other ones there.
    """
    model = _empty(config, TYPES[item])
    frames, groups = config.window, latent_frames(config.window)
    with torch.device("meta"):
        lr = torch.empty(1, frames + 2, 3, CELL * height, CELL * width)
        noise = torch.empty(1, groups, LATENT_CHANNELS, height, width)
        condition = WanCondition(
            torch.empty_like(noise), torch.empty_like(lr[:, 2:]),
            torch.empty(1, frames, 3 * CELL**2, height, width), torch.empty_like(lr[:, 2:]),
        )  # fmt: skip
    known = [*_tensors(model.transformer), *_tensors(model.codec), lr, noise]
    known += [condition.latents, condition.lr, condition.missing, condition.base]
    left = frames * 2 * PIXELS * height * width + noise.nbytes  # of the condition, while the rest runs
    return max(
        peak(lambda: model.codec.condition(lr), known, on_cpu),
        left + peak(lambda: model.velocity(noise, condition), known, on_cpu),
        left + noise.nbytes + peak(lambda: deque(model.codec.decoded(noise, condition), maxlen=0), known, on_cpu),
    )


@lru_cache(maxsize=2)
def _empty(config: BaseConfig, dtype: torch.dtype) -> Working:
    """The model with one block and without data."""
    small = config.with_values(transformer=replace(config.transformer, blocks=1))
    with torch.device("meta"):
        generator = WanGenerator(small).to(dtype)
    return Working(generator, torch.device("meta"), dtype, offload=False)


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]
