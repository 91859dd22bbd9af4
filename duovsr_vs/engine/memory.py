"""What a run takes of memory at its peak: the sizes of what is alive at once, counted through the code, without torch.

Everything that is large grows with the frame, so it is counted in bytes per latent position ("cell", 2x2 LR pixels).
Tests count every tensor of real runs and hold these numbers against them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, NamedTuple

from ..model.config import CELL, COEFFICIENTS, SCALE, ModelConfig
from .tiles import resolve_tile

FLOAT = 4
PIXELS = 3 * CELL * CELL * FLOAT
"""A frame of LR."""
OUTPUT = PIXELS * SCALE * SCALE
"""A frame of output at four times the LR."""
FEATURES = 37
"""Numbers that the network sees of a frame."""
CONDITION_PEAK, CONDITION = 732, (FEATURES + 1) * FLOAT + 2 * PIXELS
"""While the condition of a frame is made, and what is left of it: features, gain, what is missed, base."""
TAKE_OFF = 316
"""Of the consistency step, which is computed in float32, without the coefficients."""
BAND_ROWS = 16
"""Rows that `model.compose` finishes at once, and what it needs for a position of them, by bytes of a number."""
BAND = {2: 2220, 4: 1880}
LARGE = 32 * 2**20
"""Tensors from this size on are given back to the system at once on Linux, smaller ones are kept for reuse: so small
and large ones have their peaks each for itself."""
KEPT_SHARE, KEPT_SHARE_LARGE = 1.4, 1.1
"""So many times what is alive is taken, as measured: pieces that are free do not fit what is asked for next."""
KEPT_MORE, KEPT_LESS = 0.1, 0.1
"""Of small tensors more where threads make float32 frames side by side, each from a store of its own, less where a
window's tensors are of a few sizes only. Two runs differ by as much: frames are seldom at their peak together."""


class Part(NamedTuple):
    """Tensors of one size that are alive at once: bytes of all, bytes of one."""

    total: float
    one: float


Phase = list[Part]
"""What is alive at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a run asks of memory, for any tile and any number of frames in flight.

    width, height: of the input.  item: bytes of one number of the network's type.  parameters: of the network.
    """

    config: ModelConfig
    width: int
    height: int
    out_width: int
    out_height: int
    item: int
    parameters: int
    on_cpu: bool
    exact_base: bool = False
    """Whether strength is 0, so that only the base is enlarged."""

    can_offload: ClassVar[bool] = False
    own_weights: ClassVar[bool] = False
    """The weights are a few megabytes; they are moved to the device, and copied there."""

    @property
    def tile_step(self) -> int:
        return self.config.tile_step

    def resolve_tile(self, tile: int, overlap: int) -> tuple[int, int]:
        """(tile, overlap) in LR pixels for what the options say, 0 where they leave it open."""
        return resolve_tile(self.config, self.width, self.height, tile, overlap)

    def bytes(self, tile: int, overlap: int, in_flight: int, offload: bool = False) -> int:
        """Peak bytes on the device that computes, without what libraries take for themselves.

        On a CPU that is what the process grows by: also frames that wait to be used and to be taken over.
        """
        static = self.parameters * (2 * FLOAT + self.item) + self._width * self.item * self._cells
        phases = list(self._phases(tile, overlap))
        if not self.on_cpu:
            return int(static + max(sum(part.total for part in phase) for phase in phases))
        waiting = self._held * PIXELS * self._cells + self._output
        return int(static + in_flight * self._grown(phases, tile, overlap, in_flight) + waiting)

    # -- the frame as a whole -----------------------------------------------------------------------------------

    @property
    def _cells(self) -> int:
        return (self.width + 1) // 2 * ((self.height + 1) // 2)

    @property
    def _width(self) -> int:
        return self.config.channels

    @property
    def _held(self) -> int:
        """Input frames that wait: a window with its neighbours and what is read ahead."""
        return self.config.window + 4

    @property
    def _output(self) -> int:
        """A finished frame."""
        return self.out_width * self.out_height * 3 * FLOAT

    @property
    def _residual(self) -> int:
        """What a window leaves for one position of a frame: coefficients, what is taken off, base."""
        return COEFFICIENTS * self.item + 2 * PIXELS

    # -- one frame, or one window -------------------------------------------------------------------------------

    def _phases(self, tile: int, overlap: int) -> Iterator[Phase]:
        """While one frame is made; with windows, one of them, and the one before it is kept."""
        frames, cells = self.config.window, self._cells
        kept = [self._part(frames * self._residual, COEFFICIENTS * self.item)] if frames > 1 else []
        held = [*kept, self._part((frames + 2) * PIXELS, PIXELS)]
        after = [self._part(OUTPUT, OUTPUT)] if self.on_cpu and (frames > 1 or OUTPUT * cells < LARGE) else []
        # Small pieces that were used before are not free in one piece, so that the finished frame comes on top of them.
        yield [*held, self._part(frames * CONDITION_PEAK, FEATURES * FLOAT), *after]
        held.append(self._part(frames * CONDITION, FEATURES * FLOAT))
        if tile:
            held.append(self._part(frames * (COEFFICIENTS * self.item + PIXELS), COEFFICIENTS * self.item))
        for seen in self._tiles(tile, overlap):
            network = frames * self._network(seen, self._padding(tile, overlap))
            lift = self._width * self.item * seen if tile else 0
            yield [*held, Part(network + lift, self._typical(seen)), *after]
        yield from self._finishing()

    def _part(self, per_cell: float, one_per_cell: float) -> Part:
        """Tensors of a whole frame."""
        return Part(per_cell * self._cells, one_per_cell * self._cells)

    def _network(self, cells: int, padding: float) -> float:
        """Its layers one after another; the largest counts."""
        config, item = self.config, self.item
        numbers = 3.0 * config.channels
        if config.attention_every:
            numbers = config.channels * (2 + 7 * padding)
        if config.codec == "learned":
            numbers = max(numbers, 2 * COEFFICIENTS + 3 * config.codec_channels)
        layers = max(numbers * item, COEFFICIENTS * item + TAKE_OFF)
        return cells * (FEATURES * item + layers)

    def _finishing(self) -> Iterator[Phase]:
        """The output frame is put together, and resized."""
        windows = 1 if self.config.window == 1 else 2 * self.config.window
        kept, frame = self._part(windows * self._residual, COEFFICIENTS * self.item), self._part(OUTPUT, OUTPUT)
        blended = COEFFICIENTS * FLOAT + PIXELS if self.config.overlap else 0
        rows = min(BAND_ROWS, (self.height + 1) // 2)
        band = BAND[4 if self.config.window > 1 else self.item] * rows * ((self.width + 1) // 2)
        rest = [self._part(PIXELS, PIXELS), Part(band, 1)]
        if self.exact_base:
            rest = [self._part(PIXELS + OUTPUT * 3 // 8, PIXELS)]
        yield [frame, *rest, self._part(blended, COEFFICIENTS * FLOAT), kept]
        yield [self._part(3 * blended, COEFFICIENTS * FLOAT), kept]
        if self._resized:
            lines = 3 * FLOAT * self.out_height * (2 * SCALE * self.width + self.out_width)
            yield [frame, Part(lines, lines / 2)]

    @property
    def _resized(self) -> bool:
        return (self.out_width, self.out_height) != (SCALE * self.width, SCALE * self.height)

    # -- space --------------------------------------------------------------------------------------------------

    def tile_cells(self, tile: int, overlap: int) -> int:
        """Positions of the largest tile with its halo."""
        return max(self._tiles(tile, overlap))

    def _tiles(self, tile: int, overlap: int) -> set[int]:
        """Positions of tiles with their halos; of whole frames all."""
        high, wide = (_lengths(size, tile, overlap) for size in (self.height, self.width))
        return {a * b for a in high for b in wide}

    def _padding(self, tile: int, overlap: int) -> float:
        """Positions that the attention sees over those of a tile; every other layer shifts its grid of windows."""
        side = self.config.attention_window
        seen = [max(_lengths(size, tile, overlap)) for size in (self.height, self.width)]
        lead = side // 2 if self.config.blocks // max(self.config.attention_every, 1) > 1 else 0
        high, wide = (-(-(size + lead) // side) * side for size in seen)
        return high * wide / (seen[0] * seen[1])

    # -- what a process keeps -----------------------------------------------------------------------------------

    def _typical(self, cells: int) -> int:
        """Bytes of a tensor of the network."""
        return self.config.window * cells * self._width * self.item

    def _grown(self, phases: list[Phase], tile: int, overlap: int, in_flight: int) -> float:
        """By how much the process grows for one frame, or one window, whose tensors all count as the network's do."""
        if self.config.window > 1:
            most = max(sum(part.total for part in phase) for phase in phases)
            ends = min(self._tiles(tile, overlap)), self.tile_cells(tile, overlap)
            shares = [KEPT_SHARE - KEPT_LESS if self._typical(n) < LARGE else KEPT_SHARE_LARGE for n in ends]
            return most * sum(shares) / 2
        small, large = (
            max(sum(part.total for part in phase if (part.one < LARGE) is kept) for phase in phases)
            for kept in (True, False)
        )
        apart = in_flight > 1 and self.item == FLOAT
        return (KEPT_SHARE + (KEPT_MORE if apart else 0)) * small + KEPT_SHARE_LARGE * large


@cache
def _lengths(size: int, tile: int, overlap: int) -> tuple[int, ...]:
    """Latent positions of each tile with its halo along an axis of `size` LR pixels; tile 0: one as long as that."""
    cells, side, halo = -(-size // CELL), tile // CELL, overlap // CELL
    starts = range(0, cells, side) if side else [0]
    return tuple(min(start + (side or cells) + halo, cells) - max(start - halo, 0) for start in starts)
