"""What a run takes of memory at its peak: the sizes of what is alive at once, counted through the code, without torch.

Everything that is large grows with the frame, so it is counted in bytes per latent position ("cell", 2x2 LR pixels).
Tests count every tensor of real runs and hold these numbers against them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

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
"""Tensors from this size on are given back to the system at once on Linux, smaller ones are kept for reuse …"""
KEPT_SHARE = 1.4
"""… which takes so many times what is alive, as measured: pieces that are free do not fit what is asked for next."""
KEPT_SHARE_LARGE = 1.1


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
        if not self.on_cpu:
            return int(static + self._flight(tile, overlap))
        waiting = self._held * PIXELS * self._cells + self._output
        return int(static + in_flight * self._flight(tile, overlap) * self._share(tile, overlap) + waiting)

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

    def _flight(self, tile: int, overlap: int) -> float:
        """While one frame is made; with windows, one of them, and the one before it is kept."""
        frames = self.config.window
        before = frames * self._residual * self._cells if frames > 1 else 0
        inputs = (frames + 2) * PIXELS * self._cells
        making = inputs + frames * CONDITION_PEAK * self._cells
        rendering = inputs + frames * (CONDITION * self._cells + self._rendering(tile, overlap))
        if not self.on_cpu:
            return max(before + making, before + rendering, self._finishing())
        # Memory that the network has used is not free in one piece, so that the finished frame comes on top of it.
        return max(max(making, rendering) + before + OUTPUT * self._cells, self._finishing())

    def _rendering(self, tile: int, overlap: int) -> float:
        """The network on the largest tile of one frame, and the whole frame that tiles are put together to."""
        if tile == 0:
            return self._network(self._cells, self._padding(0, overlap))
        lift = self._width * self.item
        cells = self.tile_cells(tile, overlap)
        whole = (COEFFICIENTS * self.item + PIXELS) * self._cells
        return whole + self._network(cells, self._padding(tile, overlap)) + lift * cells / self.config.window

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

    def _finishing(self) -> float:
        """The output frame is put together, and resized."""
        rows = min(BAND_ROWS, (self.height + 1) // 2)
        band = BAND[4 if self.config.window > 1 else self.item] * rows * ((self.width + 1) // 2)
        kept = self._residual * self.config.window * (2 if self.config.window > 1 else 1)
        blended = COEFFICIENTS * FLOAT + PIXELS if self.config.overlap else 0
        frame = OUTPUT * self._cells
        composing = frame + PIXELS * self._cells + band
        if self.exact_base:
            composing = frame + (PIXELS + OUTPUT * 3 // 8) * self._cells
        composed = max(composing + blended * self._cells, 3 * blended * self._cells) + kept * self._cells
        lines = 3 * FLOAT * self.out_height * (2 * SCALE * self.width + self.out_width)
        return max(composed, frame + lines if self._resized else 0)

    @property
    def _resized(self) -> bool:
        return (self.out_width, self.out_height) != (SCALE * self.width, SCALE * self.height)

    # -- space --------------------------------------------------------------------------------------------------

    def tile_cells(self, tile: int, overlap: int) -> int:
        """Positions of the largest tile with its halo."""
        height, width = self._seen(tile, overlap)
        return height * width

    def _seen(self, tile: int, overlap: int) -> tuple[int, int]:
        """(height, width) of the largest tile with its halo, in latent positions."""
        high, wide = (self.height + 1) // 2, (self.width + 1) // 2
        return (high, wide) if tile == 0 else (_longest(high, tile, overlap), _longest(wide, tile, overlap))

    def _padding(self, tile: int, overlap: int) -> float:
        """Positions that the attention sees over those of a tile; every other layer shifts its grid of windows."""
        side = self.config.attention_window
        seen = self._seen(tile, overlap)
        lead = side // 2 if self.config.blocks // max(self.config.attention_every, 1) > 1 else 0
        high, wide = (-(-(size + lead) // side) * side for size in seen)
        return high * wide / (seen[0] * seen[1])

    def _share(self, tile: int, overlap: int) -> float:
        """How many times what is alive the process grows by."""
        cells = self._cells if tile == 0 else self.tile_cells(tile, overlap)
        typical = self.config.window * cells * self._width * self.item
        return KEPT_SHARE if typical < LARGE else KEPT_SHARE_LARGE


def _longest(size: int, tile: int, overlap: int) -> int:
    """Along one axis of `size` latent positions, the longest tile with its halo; tile and overlap in LR pixels."""
    side, halo = tile // CELL, overlap // CELL
    return max(min(start + side + halo, size) - max(start - halo, 0) for start in range(0, size, side))
