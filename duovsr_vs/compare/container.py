"""What a file holds besides its pictures: sound, subtitles, chapters, metadata; and whether another file has it too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av

from ..errors import VideoError
from ..video.probe import exact, video_stream
from ..video.sequence import is_pattern
from ..video.streams import Span, chapters_in, kept_tags
from .findings import Finding, counted, verdict

FRAMES_ONLY = ("image2", "_pipe", "yuv4mpegpipe", "rawvideo")
"""Formats (libav's names, or their ends) that hold frames and nothing else."""
ROUNDING = 0.0025
"""Seconds by which streams may move against each other: two containers round to milliseconds."""
_VAGUE = ("data", "video")
"""Kinds of streams whose loss is doubtful rather than wrong: chapter tracks and timecodes made anew, covers."""


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """kind: audio, subtitle, attachment, data or video (a cover).  packets: how many; first, last: their seconds,
    from the first picture on; None without packets.
    """

    kind: str
    codec: str
    language: str
    packets: int
    first: Fraction | None
    last: Fraction | None

    @property
    def name(self) -> str:
        """`audio (aac, eng)`."""
        return f"{self.kind} ({', '.join(part for part in (self.codec, self.language) if part)})"


@dataclass(frozen=True, slots=True)
class Contents:
    """streams: all but the pictures.  chapters: (start, end, title) in seconds.  metadata: keys in lower case."""

    frames_only: bool
    streams: tuple[StreamFacts, ...]
    chapters: tuple[tuple[Fraction, Fraction, str], ...]
    metadata: dict[str, str]


def contents(source: str) -> Contents:
    """Read every packet of a file once, without decoding. Raises VideoError."""
    if is_pattern(source):
        return Contents(True, (), (), {})
    try:
        with av.open(source) as container:
            video = video_stream(container, source)
            extents = _extents(container)
            zero = extents[video.index].first if video.index in extents else Fraction(0)
            facts = tuple(_stream(s, extents.get(s.index), zero) for s in container.streams if s.index != video.index)
            chapters = tuple(_chapter(one) for one in chapters_in(container, Span()))
            metadata = {key.lower(): value for key, value in kept_tags(dict(container.metadata)).items()}
            only = container.format.name.endswith(FRAMES_ONLY)
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, VideoError):
            raise
        raise VideoError(f"{source} is not a video that can be read; a video file is needed") from None
    return Contents(only, facts, chapters, metadata)


@dataclass
class _Extent:
    """Timestamps of one stream's packets, in its time base."""

    base: Fraction
    low: int
    high: int
    packets: int = 0

    @property
    def first(self) -> Fraction:
        return self.low * self.base

    @property
    def last(self) -> Fraction:
        return self.high * self.base


def _extents(container: av.container.InputContainer) -> dict[int, _Extent]:
    found: dict[int, _Extent] = {}
    try:
        for packet in container.demux():
            base, stamp = exact(packet.time_base), packet.pts if packet.pts is not None else packet.dts
            if not packet.size or stamp is None or base is None:
                continue
            extent = found.setdefault(packet.stream.index, _Extent(base, stamp, stamp))
            extent.low, extent.high = min(extent.low, stamp), max(extent.high, stamp)
            extent.packets += 1
    except (av.FFmpegError, OSError):
        pass  # cut off here: what is missing shows in the comparison
    return found


def _stream(stream: av.stream.Stream, extent: _Extent | None, zero: Fraction) -> StreamFacts:
    context, language = stream.codec_context, stream.metadata.get("language", "")
    codec = context.codec.canonical_name if context is not None else ""
    kind, language = str(stream.type), "" if language == "und" else language
    if extent is None or kind in ("attachment", "video"):
        return StreamFacts(kind, codec, language, 0, None, None)
    return StreamFacts(kind, codec, language, extent.packets, extent.first - zero, extent.last - zero)


def _chapter(chapter: dict[str, object]) -> tuple[Fraction, Fraction, str]:
    base = exact(chapter["time_base"]) or Fraction(1, 1000)
    metadata = chapter.get("metadata")
    title = str(metadata.get("title", "")) if isinstance(metadata, dict) else ""
    return int(str(chapter["start"])) * base, int(str(chapter["end"])) * base, title


def compare_contents(source: Contents, other: Contents, part: bool = False) -> list[Finding]:
    """Findings on streams, chapters and metadata. part: the other file is a part of the source, counts differ."""
    if other.frames_only:
        said = "this kind of file holds frames only"
        return [Finding(name, "skipped", said) for name in ("streams", "chapters", "metadata")]
    return [_streams(source, other, part), _chapters(source, other, part), _metadata(source, other)]


def _of_kind(found: Contents, kind: str) -> list[StreamFacts]:
    return [stream for stream in found.streams if stream.kind == kind]


def _streams(source: Contents, other: Contents, part: bool) -> Finding:
    bad: list[str] = []
    doubts: list[str] = []
    for kind in dict.fromkeys(s.kind for s in source.streams):
        ours, theirs = _of_kind(source, kind), _of_kind(other, kind)
        if len(ours) > len(theirs):
            missing = Counter(s.name for s in ours) - Counter(s.name for s in theirs)
            lost = ", ".join(list(missing.elements())[: len(ours) - len(theirs)]) or kind
            (doubts if kind in _VAGUE else bad).append(f"{lost} is missing")
            continue
        for mine, its in zip(ours, theirs, strict=False):
            wrong, odd = _stream_changes(mine, its, part)
            bad += wrong
            doubts += odd
    kept = ", ".join(stream.name for stream in other.streams) or "none besides the video"
    text = "; ".join(bad + doubts) or kept
    facts = {"source": [s.name for s in source.streams], "upscaled": [s.name for s in other.streams]}
    return Finding("streams", verdict(bad, doubts), text, facts)


def _stream_changes(mine: StreamFacts, its: StreamFacts, part: bool) -> tuple[list[str], list[str]]:
    """What is bad and what is doubtful about one stream."""
    bad: list[str] = []
    doubts: list[str] = []
    if mine.codec != its.codec:
        doubts.append(f"{mine.name} became {its.codec}")
    if mine.language != its.language:
        bad.append(f"{mine.name} is tagged {its.language or 'no language'}")
    if part or mine.kind in (*_VAGUE, "attachment"):
        return bad, doubts
    if mine.codec == its.codec and mine.packets != its.packets:
        (bad if its.packets < mine.packets else doubts).append(
            f"{mine.name} has {its.packets} packets instead of {mine.packets}"
        )
    for edge, one, two in (("begins", mine.first, its.first), ("ends", mine.last, its.last)):
        if one is not None and two is not None and mine.codec == its.codec and abs(one - two) > ROUNDING:
            bad.append(f"{mine.name} {edge} {float(abs(two - one)):.3f} s {'later' if two > one else 'earlier'}")
            break
    return bad, doubts


def _chapters(source: Contents, other: Contents, part: bool) -> Finding:
    ours, theirs = source.chapters, other.chapters
    facts = {"source": len(ours), "upscaled": len(theirs)}
    if part:
        return Finding("chapters", "skipped", f"{len(theirs)} in a part of the source", facts)
    bad: list[str] = []
    if len(ours) != len(theirs):
        bad.append(f"{counted(len(theirs), 'chapter')} instead of {len(ours)}")
    for number, (mine, its) in enumerate(zip(ours, theirs, strict=False), 1):
        if abs(mine[0] - its[0]) > ROUNDING:
            bad.append(f"chapter {number} begins at {float(its[0]):.3f} s instead of {float(mine[0]):.3f} s")
        elif mine[2] != its[2]:
            bad.append(f"chapter {number} is called {its[2]!r} instead of {mine[2]!r}")
    return Finding("chapters", verdict(bad), "; ".join(bad[:3]) or str(len(theirs) or "none"), facts)


def _metadata(source: Contents, other: Contents) -> Finding:
    changed = [key for key, value in source.metadata.items() if other.metadata.get(key) != value]
    facts = {"changed": changed}
    text = f"changed or missing: {', '.join(changed)}" if changed else counted(len(source.metadata), "tag") + " kept"
    return Finding("metadata", verdict((), changed), text if source.metadata else "none", facts)


def compare_times(
    source: Sequence[Fraction], other: Sequence[Fraction], tick: Fraction, part: bool = False
) -> list[Finding]:
    """Findings on the number of frames and on every timestamp.

    source, other: seconds, frame by frame.  tick: the coarser of the two time bases; half of it, or half a millisecond,
    may be lost to rounding.  part: the other clip's clock begins anew.
    """
    count = len(other)
    said = str(count) if count == len(source) else f"{count} instead of {len(source)}"
    found = [
        Finding("frames", "ok" if count == len(source) else "wrong", said, {"source": len(source), "upscaled": count})
    ]
    if not source or not other:
        return [*found, Finding("timestamps", "wrong", "there are none")]
    begin = source[0] - other[0] if part else Fraction(0)
    off = [two - one + begin for one, two in zip(source, other, strict=False)]
    allowed = min(tick / 2, Fraction(1, 2000)) + Fraction(1, 10**6)
    late = [number for number, value in enumerate(off) if abs(value) > allowed]
    worst = max(off, key=abs)
    facts = {"different": len(late), "first": late[0] if late else None, "largest_difference": float(abs(worst))}
    return [*found, Finding("timestamps", verdict(late), _times_text(off, late, worst), facts)]


def _times_text(off: Sequence[Fraction], late: Sequence[int], worst: Fraction) -> str:
    if not late:
        rounded = f", rounded by {float(abs(worst)) * 1000:.2g} ms at most" if worst else ""
        return f"all {len(off)} equal{rounded}"
    if len(late) == len(off) and max(off) - min(off) <= ROUNDING:
        return f"all are {float(abs(worst)):.3f} s {'late' if worst > 0 else 'early'}"
    first, way = float(abs(off[late[0]])), "late" if off[late[0]] > 0 else "early"
    return f"{len(late)} differ: from frame {late[0]} ({first:.4f} s {way}), by {float(abs(worst)):.4f} s at most"
