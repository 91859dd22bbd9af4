"""What a comparison of two files is made of: the items, the part that is compared, and the reasons for changes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from .encoding import Encoding
from .facts import Facts, StreamFacts
from .subtitles import EMPTY

NOTHING = zlib.crc32(EMPTY)
"""Checksum of a subtitle that shows nothing, which mp4 writes between two texts."""
Status = Literal["kept", "changed", "dropped", "added"]


@dataclass(frozen=True, slots=True)
class Item:
    """One comparison. why: the reason of a change that was to be expected; "" for one that was not, and for `kept`."""

    item: str
    source: Any
    output: Any
    status: Status
    why: str = ""

    @classmethod
    def of(cls, item: str, source: Any, output: Any, same: bool, why: str = "") -> Item:
        """`kept` if it is the same, else `dropped` where the output has nothing, else `changed`."""
        gone = output is None or output is False or output == {}
        return (
            cls(item, source, output, "kept")
            if same
            else cls(item, source, output, "dropped" if gone else "changed", why)
        )


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of the source an output holds: frames [start, start + frames), seconds [begin, end); None: open."""

    start: int
    frames: int | None
    begin: Fraction | None
    end: Fraction | None

    @classmethod
    def of(cls, source: Facts, start: int, stop: int | None) -> Part:
        times, count = source.times, source.frames
        stop = None if count is not None and stop is not None and stop >= count else stop
        end = count if stop is None else stop
        begin = times[start] if start and times else None
        return cls(start, None if end is None else end - start, begin, times[stop] if times and stop else None)

    def times(self, source: Facts) -> tuple[Fraction, ...] | None:
        """Seconds of the frames, on the output's clock."""
        if source.times is None or self.frames is None:
            return None
        shift = self.begin or Fraction(0)
        return tuple(time - shift for time in source.times[self.start : self.start + self.frames])

    def chapters(self, source: Facts) -> list[tuple[Fraction, Fraction, str]]:
        """The chapters inside the part, on the output's clock."""
        low = self.begin or Fraction(0)
        cut = [
            (max(a, low) - low if self.begin else a, (b if self.end is None else min(b, self.end)) - low, title)
            for a, b, title in source.chapters
        ]
        return [one for one in cut if one[1] > one[0]]

    def packets(self, one: StreamFacts) -> list[tuple[float, int]]:
        """(seconds on the output's clock, checksum) of a stream's packets inside the part; empty texts do not count."""
        if one.packets is None:
            return []
        low, high = float(self.begin or 0), float("inf") if self.end is None else float(self.end)
        inside = zip(one.packets.times, one.packets.sums, strict=True)
        cut = [(time - low, value) for time, value in inside if (self.begin is None or time >= low) and time < high]
        return [(time, value) for time, value in cut if one.kind != "subtitle" or value != NOTHING]


@dataclass(frozen=True, slots=True)
class Said:
    """Where the reasons of changes come from. container: what people call the output's."""

    container: str
    frames_only: bool
    encoding: Encoding | None

    @property
    def milliseconds(self) -> bool:
        """Whether the container rounds timestamps."""
        return self.container in ("mkv", "webm", "matroska")

    @property
    def frames_alone(self) -> str:
        """The reason why there is nothing but frames, if it is one."""
        return f"{self.container} holds frames only" if self.frames_only else ""

    def note(self, *words: str) -> str:
        """The notes of the encoding that hold one of the words."""
        notes = self.encoding.notes if self.encoding else ()
        return "; ".join(note for note in notes if any(word in note for word in words))

    def of_colour(self, field: str, chosen: bool) -> str:
        """Why a colour tag differs from the source's. chosen: it is what the encoder was told."""
        if chosen:
            reasons = {"chroma": "the samples are not subsampled", "matrix": "the file said nothing, or YUV became RGB"}
            return reasons.get(field, "it follows from the samples that are written")
        if self.frames_only:
            return self.frames_alone
        return f"{self.container} has no place for it with this codec" if field == "chroma" else ""

    def of_tags(self, keys: Sequence[str]) -> str:
        """Why tags are missing."""
        if not keys or self.frames_only:
            return self.frames_alone if keys else ""
        return "" if self.container in ("mkv", "matroska") else f"{self.container} has no place for {', '.join(keys)}"
