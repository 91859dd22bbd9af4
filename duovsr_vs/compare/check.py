"""Is an upscaled file what it should be? Everything that can be told from it and its source, as findings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction

from ..errors import OptionError
from ..video.interval import parse_position, resolve_interval
from .clips import Clip
from .container import compare_contents, compare_times, contents
from .findings import Finding, Status, counted
from .measure import Borders, measure
from .tags import compare_tags
from .verdicts import judge

SAMPLES = 120
"""Frames whose pixels are measured where nothing else is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """The arguments of one check, as typed."""

    source: str
    upscaled: str
    start: str | None = None
    frames: str | None = None
    every: int = 0
    """All pixels of every n-th frame; 0: chosen so that about SAMPLES frames are."""
    borders: Callable[[int, int], Borders] = lambda width, height: Borders()
    """Where seams could be in a source of that size."""


@dataclass(frozen=True, slots=True)
class Checked:
    """findings: in the order of the table.  every: as used."""

    findings: list[Finding]
    every: int


def run_check(
    request: CheckRequest,
    begin: Callable[[int | None], None] = lambda n: None,
    advance: Callable[[], None] = lambda: None,
) -> Checked:
    """Compare two files. begin is called with the number of frames before the first, advance after each.

    Raises VideoError and FormatError where one cannot be read at all, OptionError for a part that does not exist.
    """
    if "-" in (request.source, request.upscaled):
        raise OptionError("check reads its files twice, so it cannot read from stdin; name two files")
    start, length = parse_position("--start", request.start), parse_position("--frames", request.frames)
    part = start is not None or length is not None
    with ExitStack() as stack:
        source, other = (stack.enter_context(Clip(name)) for name in (request.source, request.upscaled))
        held = contents(request.source), contents(request.upscaled)
        info, scan = source.info, source.reader.scan
        span = resolve_interval(
            start, length, pts=scan.pts if scan else (), total=source.reader.total, time_base=info.time_base,
            rate=info.rate,
        )  # fmt: skip
        total = None if source.reader.total is None else (span[1] or source.reader.total) - span[0]
        every = request.every or max(1, (total or 1) // SAMPLES)
        borders = request.borders(info.width, info.height)
        tags = compare_tags(source, other)
        begin(total)
        found = measure(source, other, span, every, borders, advance)
        findings = _times(source, other, held[1].frames_only, found.source_times, found.times, part)
        findings += [_damage(source, "source"), _damage(other, "upscaled")]
        findings += [*compare_contents(*held, part), *tags, *judge(found, borders)]
    return Checked(findings, every)


def _times(
    source: Clip, other: Clip, frames_only: bool, ours: list[Fraction], theirs: list[Fraction], part: bool
) -> list[Finding]:
    tick = max(source.info.time_base, other.info.time_base)
    frames, times = compare_times(ours, theirs, tick, part)
    return [frames, Finding("timestamps", "skipped", "this kind of file has none") if frames_only else times]


def _damage(clip: Clip, name: str) -> Finding:
    """Whether everything in a file could be decoded."""
    reader = clip.reader
    lost = reader.missing or reader.undecodable
    facts = {"missing": reader.missing, "undecodable": reader.undecodable}
    text = f"damaged: {counted(lost, 'frame')} cannot be decoded" if lost else "decodes"
    status: Status = "ok" if not lost else "wrong" if name == "upscaled" else "doubtful"
    return Finding(f"{name} file", status, text, facts)
