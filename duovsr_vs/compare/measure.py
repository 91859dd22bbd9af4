"""What the pixels of an upscaled clip are against its source's, frame by frame; memory does not grow with pictures.

Every frame gives its time and the mean brightness of a grid of cells, which is cheap; some frames give the measures
that need all pixels in RGB. What is kept of a frame is a few dozen bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import zip_longest

import numpy as np

from ..metrics.borders import TileSteps, border_places
from ..metrics.consistency import shrink_back_psnr
from ..metrics.difference import colour_drift
from ..metrics.flicker import Flicker, flicker
from ..metrics.resample import resize
from .clips import Clip, Picture, Plane, Shot

CELLS = 36, 64
"""Rows and columns of the grid of brightness, at most one per source pixel."""
BLACK, LIT = 0.01, 0.06
"""A cell of the upscaled frame below the first is black; that of the source must be above the second."""
MOVING, FROZEN = 0.002, 0.1
"""A source whose cells change by the first on average moves; an upscaled frame with that share of it stands still."""


@dataclass(frozen=True, slots=True)
class Borders:
    """Where seams could be. window: frames from one window to the next.  tile: side in source pixels.  0: nowhere."""

    window: int = 0
    tile: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """The measures of one frame that need all its pixels. flicker: of this frame and the next, None at the end."""

    number: int
    shrink_back: float
    """PSNR in dB against the source."""
    drift: float
    """CIEDE2000 against the source."""


@dataclass
class Measures:
    """Everything that was found in the pixels of two clips."""

    source_times: list[Fraction] = field(default_factory=list)
    times: list[Fraction] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    flickers: list[Flicker] = field(default_factory=list)
    source_changes: list[float] = field(default_factory=list)
    """Mean |difference| of brightness from each frame to the next, 0..1."""
    changes: list[float] = field(default_factory=list)
    black: list[int] = field(default_factory=list)
    frozen: list[int] = field(default_factory=list)
    infinite: list[int] = field(default_factory=list)
    """Numbers of frames that are black, stand still, or hold values that are not finite."""
    tiles: list[TileSteps] = field(default_factory=list)


def measure(
    source: Clip,
    other: Clip,
    span: tuple[int, int | None] = (0, None),
    every: int = 1,
    borders: Borders | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Measures:
    """Read both clips once, in step.

    span: frames [start, stop) of the source that the other clip shows.  every: all pixels are looked at in every n-th
    frame and, for flicker, in the one after it.  advance is called for every frame.
    """
    found = Measures(tiles=_tiles(source, other, borders or Borders()))
    walk = _Walk(found, every)
    for number, (mine, its) in enumerate(_pairs(source, other, span)):
        if mine is not None:
            found.source_times.append(mine.time)
        if its is not None:
            found.times.append(its.time)
        if mine is not None and its is not None:
            walk.step(number, mine, its)
        advance()
    return found


def _pairs(source: Clip, other: Clip, span: tuple[int, int | None]) -> Iterator[tuple[Shot | None, Shot | None]]:
    return zip_longest(source.shots(*span), other.shots())


def _tiles(source: Clip, other: Clip, borders: Borders) -> list[TileSteps]:
    if not borders.tile:
        return []
    sides = [(other.info.height, source.info.height), (other.info.width, source.info.width)]
    places = [border_places(borders.tile * large / small, large) for large, small in sides]
    return [TileSteps(axis, found) for axis, found in enumerate(places) if found]


class _Walk:
    """One pass over pairs of frames; holds the last pair."""

    def __init__(self, found: Measures, every: int):
        self.found, self.every = found, every
        self._planes: tuple[Plane, Plane] | None = None
        self._cells: tuple[Plane, Plane] | None = None
        self._pictures: tuple[Picture, Picture] | None = None

    def step(self, number: int, source: Shot, other: Shot) -> None:
        """The next pair of frames."""
        if not other.finite():
            self.found.infinite.append(number)
        planes = source.brightness(), np.nan_to_num(other.brightness())
        self._cheap(number, planes)
        after = self._pictures is not None  # the pair before was sampled, and flicker needs this one too
        if number % self.every and not after:
            return
        pictures = source.picture(), other.picture()
        if after and self._pictures is not None:
            self.found.flickers.append(flicker(*self._order(pictures)))
        if number % self.every == 0:
            self._sample(number, pictures, planes)
        self._pictures = pictures if number % self.every == 0 else None

    def _order(self, now: tuple[Picture, Picture]) -> tuple[Picture, Picture, Picture, Picture]:
        before = self._pictures or now
        return before[0], now[0], before[1], now[1]

    def _sample(self, number: int, pictures: tuple[Picture, Picture], planes: tuple[Plane, Plane]) -> None:
        small, large = pictures
        shrunk = resize(large, *small.shape[:2])
        sample = Sample(number, shrink_back_psnr(small[None], shrunk[None]), colour_drift(small, shrunk))
        self.found.samples.append(sample)
        if self.found.tiles:
            plain = resize(planes[0], *planes[1].shape)
            for steps in self.found.tiles:
                steps.add(planes[1], plain)

    def _cheap(self, number: int, planes: tuple[Plane, Plane]) -> None:
        small = planes[0].shape
        grid = min(CELLS[0], small[0]), min(CELLS[1], small[1])
        cells = _cells(planes[0], grid, small), _cells(planes[1], grid, small)
        if ((cells[1] < BLACK) & (cells[0] > LIT)).any():
            self.found.black.append(number)
        if self._planes is not None and self._cells is not None:
            moved = [float(np.abs(now - then).mean()) for now, then in zip(cells, self._cells, strict=True)]
            if moved[0] > MOVING and moved[1] < FROZEN * moved[0]:
                self.found.frozen.append(number)
            changes = [float(np.abs(now - then).mean()) for now, then in zip(planes, self._planes, strict=True)]
            self.found.source_changes.append(changes[0])
            self.found.changes.append(changes[1])
        self._planes, self._cells = planes, cells


def _cells(plane: Plane, grid: tuple[int, int], source: tuple[int, ...]) -> Plane:
    """Mean brightness in a grid of about equal cells, no more than the source has pixels along each axis.

    Cells end between pixels of the source, also in what was made of it: else an edge between light and black lies in
    a cell of one of them alone.
    """
    edges = [
        np.arange(n) * small // n * side // small for n, small, side in zip(grid, source, plane.shape, strict=True)
    ]
    sizes = [np.diff(np.append(edge, side)) for edge, side in zip(edges, plane.shape, strict=True)]
    sums = np.add.reduceat(np.add.reduceat(plane, edges[0], axis=0), edges[1], axis=1)
    return (sums / np.outer(*sizes)).astype(np.float32)
