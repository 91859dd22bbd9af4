"""Space: a frame is cut into tiles with a halo.

Where the halo is the model's receptive field, tiles change no pixel. Models that have none are cross-faded inside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from ..errors import OptionError
from ..model.config import CELL, SCALE
from ..model.family import AnyConfig

LARGEST_WHOLE = 1 << 20
"""LR pixels up to which a frame is not cut."""
CHOSEN_TILE = 768
"""Tile side that is chosen for larger frames."""
SMALLEST_TILE = 32


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile, in latent positions: what it gives and what it must see, each as (top, bottom, left, right)."""

    inner: tuple[int, int, int, int]
    outer: tuple[int, int, int, int]

    @property
    def crop(self) -> tuple[slice, slice]:
        """The inner part within the outer one."""
        (y0, y1, x0, x1), (top, _, left, _) = self.inner, self.outer
        return slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)


def resolve_tile(
    config: AnyConfig, width: int, height: int, tile: int, overlap: int, largest: int = LARGEST_WHOLE,
    chosen: int = CHOSEN_TILE,
) -> tuple[int, int]:  # fmt: skip
    """(tile, overlap) in LR pixels from the options, the model and the frame's size; tile 0 means the whole frame.

    largest: pixels of a frame that is not cut by itself.  chosen: side of a tile for larger ones.
    """
    step = config.tile_step
    if tile == 0:
        tile = 0 if width * height <= largest else chosen
    elif tile < SMALLEST_TILE:
        raise OptionError(f"tile={tile} is too small; use 0 (chosen for you) or {SMALLEST_TILE} and more")
    if tile >= max(width, height):
        tile = 0
    return -(-tile // step) * step, -(-(overlap or config.receptive_field) // step) * step


def split(height: int, width: int, tile: int, overlap: int) -> list[Tile]:
    """Tiles of a frame of height x width latent positions; tile and overlap in LR pixels, tile 0: one tile."""
    if tile == 0:
        whole = (0, height, 0, width)
        return [Tile(whole, whole)]
    side, halo = tile // CELL, overlap // CELL
    tiles = []
    for y in range(0, height, side):
        for x in range(0, width, side):
            inner = (y, min(y + side, height), x, min(x + side, width))
            outer = (max(y - halo, 0), min(y + side + halo, height), max(x - halo, 0), min(x + side + halo, width))
            tiles.append(Tile(inner, outer))
    return tiles


def split_in_step(height: int, width: int, tile: int, overlap: int) -> list[Tile]:
    """The same for tiles that are cross-faded: what they see starts at multiples of `tile`.

    So a model's own grid, such as windows of attention, falls on the same places as in the whole frame where `tile` is
    a multiple of it. Measured with tiny random models, tiled against whole: 60 dB with halos of half a window and 63 to
    87 dB with whole ones; where the grids lay elsewhere, 46 to 54 dB whatever the halo.
    """
    if tile == 0:
        return split(height, width, 0, 0)
    halo = overlap // CELL
    rows, columns = (_in_step(size, tile // CELL, halo) for size in (height, width))
    return [
        Tile((y0, y1, x0, x1), (max(y0 - halo, 0), min(y1 + halo, height), max(x0 - halo, 0), min(x1 + halo, width)))
        for y0, y1 in rows
        for x0, x1 in columns
    ]


def _in_step(size: int, side: int, halo: int) -> list[tuple[int, int]]:
    """Inner parts along one axis; the last is no thinner than a halo."""
    borders = [0, *(first + halo for first in range(side, size - 2 * halo, side)), size]
    return list(pairwise(borders))


class Ramp(NamedTuple):
    """Along one axis, where a tile counts and how much."""

    start: int
    stop: int
    """[start, stop) in LR pixels."""
    weights: list[float]
    """Of each HR pixel; those of all tiles sum to 1 everywhere."""


def ramp(first: int, last: int, size: int, reach: int) -> Ramp:
    """Of a tile whose inner part is [first, last) of `size` LR pixels; it fades over `reach` pixels to each side of its
    borders inside the frame.
    """
    start, stop = max(first - reach, 0), min(last + reach, size)

    def passed(border: int, pixel: int) -> float:
        """How far a pixel's centre is in the fade around a border, 0 to 1."""
        return min(max((pixel + 0.5 - SCALE * (border - reach)) / (2 * SCALE * reach), 0.0), 1.0)

    weights = []
    for pixel in range(SCALE * start, SCALE * stop):
        risen = passed(first, pixel) if first > 0 else 1.0
        weights.append(risen - passed(last, pixel) if last < size else risen)
    return Ramp(start, stop, weights)
