"""Which moments of a film a preview shows: one near the beginning, one that moves much, one with much detail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np

from .clips import Clip
from .gather import Entry

LOOKS = 12
"""Places of a film that are looked at to choose among."""
NEIGHBOURS = 3
"""Frames of each of them; with two differences, a cut in one of them is not taken for movement."""
JUMPS = 3
"""Key frames for each place from which on it is quicker to jump than to read all."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Frames [first, stop) of the source. name: why it was chosen, for people."""

    name: str
    first: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Look:
    """What a place looks like: mean |difference| and mean |Laplacian| of its brightness."""

    first: int
    motion: float
    detail: float


def moments(
    source: Entry, first: int, stop: int, length: int, advance: Callable[[], None] = lambda: None
) -> list[Moment]:
    """Moments of `length` frames that do not overlap, in order, out of frames [first, stop) of the source.

    One, the middle, where there is no room for two. advance: called for each place that has been looked at. Raises
    VideoError and FormatError as the reader does.
    """
    if stop - first < 2 * length + NEIGHBOURS:
        begin = first + max(stop - first - length, 0) // 2
        return [Moment("in the middle", begin, min(begin + length, stop))]
    starts = sorted({round(n) for n in np.linspace(first, stop - max(length, NEIGHBOURS), LOOKS)})
    looks = []
    inside = max(length - NEIGHBOURS, 0) // 2
    for look in _looks(source, [start + inside for start in starts]):
        looks.append(replace(look, first=look.first - inside))
        advance()
    orders: dict[str, Callable[[_Look], float]] = {
        "near the beginning": lambda look: -abs(look.first - starts[min(1, len(starts) - 1)]),
        "most motion": lambda look: look.motion,
        "most detail": lambda look: look.detail,
    }
    chosen: list[Moment] = []
    for name, order in orders.items():
        free = [look for look in looks if all(abs(look.first - one.first) >= length for one in chosen)]
        if free:
            best = max(free, key=order).first
            chosen.append(Moment(name, best, best + length))
    return sorted(chosen, key=lambda moment: moment.first)


def _looks(source: Entry, starts: Sequence[int]) -> Iterator[_Look]:
    """By jumps, or in one pass where there are too few key frames to jump to."""
    keys = len(source.scan.keyframes) if source.scan else 0
    groups = [[start] for start in starts] if keys > JUMPS * len(starts) else [list(starts)]
    for group in groups:
        with source.opened() as clip:
            yield from _read(clip, group)


def _read(clip: Clip, starts: Sequence[int]) -> Iterator[_Look]:
    wanted = {start + n for start in starts for n in range(NEIGHBOURS)}
    planes = {}
    for shot in clip.shots(starts[0], starts[-1] + NEIGHBOURS):
        number = shot.frame.number
        if number not in wanted:
            continue
        planes[number] = np.nan_to_num(shot.brightness())
        start = number - NEIGHBOURS + 1
        if start in starts:
            three = [planes[start + n] for n in range(NEIGHBOURS)]
            changes = [float(np.abs(now - then).mean()) for then, now in pairwise(three)]
            yield _Look(start, min(changes), float(np.abs(cv2.Laplacian(three[1], cv2.CV_32F)).mean()))
            planes = {n: plane for n, plane in planes.items() if n > start}
