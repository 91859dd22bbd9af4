"""A comparison from file names to a page or a strip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from ..errors import FormatError, OptionError
from ..video.interval import parse_position, resolve_interval
from .findings import counted
from .gather import Entry, View, entries, gather
from .page import Part, Shown, build_page
from .pictures import Enlarge
from .places import LONGEST, Interest, Stretch, evenly, middle, parse_crop
from .strip import Rows, build_strip

Kind = Literal["page", "strip"]
PAGE_CROP, STRIP_CROP = (960, 540), (320, 240)
PAGE_FRAMES, STRIP_FRAMES = 12, 3
MOST_CLIPS, MOST_FRAMES = 9, 100
LARGEST = 100_000_000
"""Bytes of a page's pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The arguments of one comparison, as typed."""

    paths: list[str]
    kind: Kind
    truth: str | None = None
    frames: int | None = None
    """Pictures, evenly over the part; None: PAGE_FRAMES or STRIP_FRAMES."""
    at: str | None = None
    """Frames or times to show instead, separated by commas."""
    start: str | None = None
    length: str | None = None
    crop: str | None = None
    full: bool = False
    enlarge: Enlarge = "bicubic"
    lossless: bool = False

    def check(self) -> None:
        """Refuse what can be seen to be wrong before a file is opened (OptionError)."""
        count = len(self.paths) + bool(self.truth)
        if len(self.paths) < 2 or count > MOST_CLIPS:
            raise OptionError(f"compare: {counted(count, 'clip')} given; two to {MOST_CLIPS} are needed")
        if "-" in (*self.paths, self.truth):
            raise OptionError("compare reads its files more than once, so it cannot read from stdin; name files")
        if self.frames is not None and not 1 <= self.frames <= MOST_FRAMES:
            raise OptionError(f"--frames {self.frames}: 1 to {MOST_FRAMES} is needed")
        if self.full and self.crop:
            raise OptionError("--full and --crop contradict each other; leave one out")
        if self.at and self.frames is not None:
            raise OptionError("--at and --frames contradict each other; leave one out")


@dataclass(frozen=True, slots=True)
class Made:
    """data: of the page or the strip.  lines: what is told about it, for people."""

    data: bytes
    lines: list[str]


def make(
    request: Comparison, begin: Callable[[int], None] = lambda n: None, advance: Callable[[], None] = lambda: None
) -> Made:
    """Read the clips and build what was asked for. begin: called with the number of frames, advance after each.

    Raises OptionError, VideoError and FormatError.
    """
    request.check()
    clips = entries(request.paths, request.truth)
    stretch, missing = _stretch(request, clips)
    view = _view(request, clips, stretch)
    begin(view.stretch.stop - view.stretch.first)
    if request.kind == "strip":
        rows = Rows()
        gather(clips, view, rows.add, advance)
        _some(rows.frames)
        return Made(build_strip(clips, view, rows), _told(view, len(rows.frames), clips))
    shown = Bounded(request.lossless)
    found = gather(clips, view, shown.add, advance)
    _some(shown.frames)
    missing += view.stretch.stop - view.stretch.first - found.seen
    notes = (
        [f"The shortest clip ends {counted(missing, 'frame')} earlier; nothing is shown of those."] if missing else []
    )
    page = build_page(clips, [Part("", view, found, len(shown.frames))], shown, notes)
    return Made(page.encode(), [*_told(view, len(shown.frames), clips), *(f"note     {note}" for note in notes)])


class Bounded(Shown):
    """Frames as bytes, as many as a page can hold; more raise OptionError."""

    def add(self, number: int, time: float, crops: list) -> None:  # type: ignore[type-arg]
        super().add(number, time, crops)
        if self.size > LARGEST:
            raise OptionError(
                f"the pictures of this page take more than {LARGEST // 1_000_000} MB; use fewer --frames, a smaller "
                "--crop, or leave out --full and --lossless"
            )


def _some(frames: list[tuple[int, float, list[bytes]]] | list[tuple[int, float, list]]) -> None:  # type: ignore[type-arg]
    if not frames:
        raise FormatError("none of the frames to show is in every clip; choose others with --at or --start")


def _told(view: View, frames: int, clips: list[Entry]) -> list[str]:
    lines = [f"part     {view.crop} of {view.size[0]}x{view.size[1]}, {counted(frames, 'frame')} shown"]
    small = [entry.name for entry in clips if (entry.width, entry.height) != view.size]
    return lines + ([f"enlarged {', '.join(small)} ({view.enlarged})"] if small else [])


def _view(request: Comparison, clips: list[Entry], stretch: Stretch) -> View:
    largest = max(clips, key=lambda entry: entry.width * entry.height)
    size = largest.width, largest.height
    with clips[0].opened() as clip:
        interest = Interest.of(clip, stretch.shown)
    if request.crop:
        crop = parse_crop(request.crop, size)
    else:
        crop = interest.crop(size, size if request.full else STRIP_CROP if request.kind == "strip" else PAGE_CROP)
    return View(stretch, size, crop, interest.column(size, crop), request.enlarge, request.kind == "page")


def _stretch(request: Comparison, clips: list[Entry]) -> tuple[Stretch, int]:
    """Which frames are read and shown, in numbers of the source, and how many are not because a clip is shorter."""
    counts = [entry.scan.packets for entry in clips if entry.scan]
    common, missing = min(counts, default=1), 0
    with clips[0].opened() as clip:
        info, scan, total = clip.info, clip.reader.scan, clip.reader.total or 1

        def resolved(start: int | Fraction | None, length: int | Fraction | None) -> tuple[int, int]:
            pts = scan.pts if scan else ()
            first, stop = resolve_interval(
                start, length, pts=pts, total=total, time_base=info.time_base, rate=info.rate
            )
            return first, total if stop is None else stop

        start, length = parse_position("--start", request.start), parse_position("--length", request.length)
        asked = [parse_position("--at", text.strip()) for text in (request.at or "").split(",") if text.strip()]
        chosen = [resolved(position, None)[0] for position in asked]
        if start is not None or length is not None:
            first, stop = resolved(start, length)
        elif chosen and total > LONGEST:
            first, stop = min(chosen), max(chosen) + 1
        else:
            first, stop = middle(total if chosen else common)
            missing = 0 if chosen else max(counts, default=1) - common
    count = request.frames or (PAGE_FRAMES if request.kind == "page" else STRIP_FRAMES)
    outside = [number for number in chosen if not first <= number < stop]
    if outside:
        raise OptionError(
            f"--at {outside[0]} lies outside frames {first} to {stop - 1}, which --start and --length name"
        )
    return Stretch.of(first, stop, chosen or evenly(first, stop, count)), missing
