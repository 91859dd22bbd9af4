"""Space: a frame is cut into tiles with a halo of the model's receptive field, so that tiles change no pixel."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import OptionError
from ..model.config import CELL, ModelConfig

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


def resolve_tile(config: ModelConfig, width: int, height: int, tile: int, overlap: int) -> tuple[int, int]:
    """(tile, overlap) in LR pixels from the options, the model and the frame's size; tile 0 means the whole frame."""
    step = config.tile_step
    if tile == 0:
        tile = 0 if width * height <= LARGEST_WHOLE else CHOSEN_TILE
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
