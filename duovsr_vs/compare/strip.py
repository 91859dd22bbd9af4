"""A strip of crops at 1:1: a row for each frame, a column for each clip, labelled."""

from __future__ import annotations

from dataclasses import dataclass, field

from .clips import Picture
from .gather import Entry, View
from .pictures import encoded, joined, labelled


@dataclass
class Rows:
    """Crops as they come from `gather`."""

    frames: list[tuple[int, float, list[Picture]]] = field(default_factory=list)

    def add(self, number: int, time: float, crops: list[Picture]) -> None:
        """The `show` of `gather`."""
        self.frames.append((number, time, crops))


def build_strip(clips: list[Entry], view: View, rows: Rows) -> bytes:
    """A PNG. Clips are named in the first row; each picture is one pixel of the largest clip to one of the strip."""
    lines = []
    for place, (number, _, crops) in enumerate(rows.frames):
        texts = [f"frame {number}" if n == 0 else "" for n in range(len(crops))]
        if place == 0:
            texts = [f"{_name(entry, view)}{f', frame {number}' if n == 0 else ''}" for n, entry in enumerate(clips)]
        lines.append(joined([labelled(crop, text) for crop, text in zip(crops, texts, strict=True)], axis=1))
    return encoded(joined(lines, axis=0, gap=2), lossless=True)


def _name(entry: Entry, view: View) -> str:
    return entry.name if (entry.width, entry.height) == view.size else f"{entry.name} ({view.enlarged})"
