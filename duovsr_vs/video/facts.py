"""Everything that a file says and holds beside its pixels, so that two files can be compared item by item."""

from __future__ import annotations

import hashlib
import zlib
from array import array
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from ..errors import VideoError
from .colour import ColourTags
from .hdr import HdrMetadata
from .pixels import PixelLayout
from .probe import exact
from .reader import VideoReader
from .sequence import is_pattern, opening_of
from .streams import MOV_LANGUAGES, Span, amount, chapters_in, is_cover, is_remade, kept_tags, name_of, stream_tags

FRAMES_ONLY = ("image2", "_pipe", "yuv4mpegpipe")
"""Formats (libav's names, or their ends) that hold frames and nothing else."""


@dataclass(slots=True)
class Packets:
    """times: seconds, in file order.  sums: CRC-32 of their bytes; PCM counts as one packet, since containers divide it
    as they like.
    """

    times: array[float] = field(default_factory=lambda: array("d"))
    sums: array[int] = field(default_factory=lambda: array("I"))


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """One stream beside the video.

    kind: audio, subtitle, data, attachment or cover.  name: `audio (aac, eng)`.  disposition: libav's names of its
    flags.  packets: None where nobody has counted them.  digest: of an attachment's bytes.
    """

    index: int
    kind: str
    name: str
    codec: str
    language: str
    title: str
    disposition: tuple[str, ...]
    packets: Packets | None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """A whole file.

    frames: how many it holds, times: their seconds in display order; None if unknown.  rotation: libav's display
    matrix.  dynamic: names of dynamic HDR metadata.  captions: whether the first frame holds closed captions.
    metadata, video: tags of the file and of its video stream, keys in lower case.  chapters: (start, end, title) in
    seconds.  frames_only: the format has no timestamps, tags or other streams.
    """

    name: str
    container: str
    codec: str
    pix_fmt: str
    layout: PixelLayout
    tags: ColourTags
    size: tuple[int, int]
    rate: Fraction | None
    sar: Fraction | None
    rotation: tuple[int, ...] | None
    hdr: HdrMetadata | None
    dynamic: tuple[str, ...]
    captions: bool
    frames: int | None
    times: tuple[Fraction, ...] | None
    metadata: dict[str, str]
    video: dict[str, str]
    disposition: tuple[str, ...]
    chapters: tuple[tuple[Fraction, Fraction, str], ...]
    streams: tuple[StreamFacts, ...]
    frames_only: bool


def facts(source: str) -> Facts:
    """Those of a file, of a numbered pattern, or of a folder that holds one sequence of images. Raises VideoError and
    FormatError.
    """
    if Path(source).is_dir():
        images = sorted(Path(source).iterdir())
        if not images:
            raise VideoError(f"{source} holds no image")
        return replace(facts(str(images[0])), name=source, frames=len(images), times=None, frames_only=True)
    with VideoReader(source, assume_progressive=True) as reader:
        return facts_of(reader)


def facts_of(reader: VideoReader) -> Facts:
    """Those of an open input; the packets of its other streams are read once more, except those of a pipe."""
    info, container, stream, scan = reader.info, reader.container, reader.stream, reader.scan
    counted = _count(reader.source, stream.index) if reader.source != "-" else {}
    return Facts(
        name=info.name,
        container=info.container,
        codec=info.codec,
        pix_fmt=info.pix_fmt,
        layout=info.layout,
        tags=info.tags,
        size=(info.width, info.height),
        rate=info.rate,
        sar=info.sar,
        rotation=info.rotation,
        hdr=info.hdr,
        dynamic=info.hdr_metadata,
        captions=info.captions,
        frames=scan.packets if scan else None,
        times=tuple(pts * info.time_base for pts in scan.pts) if scan and scan.pts else None,
        metadata=_lower(kept_tags(dict(container.metadata))),
        video=_own_tags(stream),
        disposition=_flags(stream),
        chapters=tuple(_chapter(one) for one in chapters_in(container, Span())),
        streams=tuple(
            _stream(one, counted.get(one.index))
            for one in container.streams
            if one.index != stream.index and not is_remade("", one)
        ),
        frames_only=info.container.endswith(FRAMES_ONLY),
    )


def _stream(stream: Any, packets: Packets | None) -> StreamFacts:
    context = stream.codec_context
    kind = "cover" if is_cover(stream) else str(stream.type)
    tags = _own_tags(stream)
    return StreamFacts(
        index=stream.index,
        kind=kind,
        name=name_of(stream),
        codec=context.codec.canonical_name if context else str(stream.metadata.get("filename", "")),
        language=tags.get("language", ""),
        title=tags.get("title", ""),
        disposition=_flags(stream),
        packets=packets,
        digest=hashlib.sha256(stream.data).hexdigest() if kind == "attachment" else "",
    )


def _count(source: str, video: int) -> dict[int, Packets]:
    """Times and checksums of the packets of all streams but the video, by index."""
    counted: dict[int, Packets] = {}
    with suppress(av.FFmpegError, OSError), av.open(source, "r", **_opening(source)) as container:
        wanted = [s for s in container.streams if s.index != video and s.type != "attachment"]
        counted = {stream.index: Packets() for stream in wanted}
        for packet in container.demux(wanted) if wanted else ():
            if packet.size:
                _add(counted[packet.stream.index], packet)
    return counted  # of a file that is cut off: what is missing shows in the comparison


def _add(packets: Packets, packet: Any) -> None:
    if packets.sums and amount(packet.stream, packet) > 1:
        packets.sums[0] = zlib.crc32(packet, packets.sums[0])
        return
    stamp, base = packet.pts if packet.pts is not None else packet.dts, exact(packet.time_base)
    packets.times.append(0.0 if stamp is None or base is None else float(stamp * base))
    packets.sums.append(zlib.crc32(packet))


def _opening(source: str) -> dict[str, Any]:
    return opening_of(source) if is_pattern(source) else {}


def _flags(stream: Any) -> tuple[str, ...]:
    """Names of a stream's flags, without `default`, which some muxers set by themselves, and without mp4's doublets."""
    names = [str(flag.name) for flag in Disposition if flag & stream.disposition and flag is not Disposition.default]
    doubled = {"descriptions": "visual_impaired", "captions": "hearing_impaired"}
    return tuple(name for name in names if doubled.get(name) not in names)


def _chapter(chapter: dict[str, Any]) -> tuple[Fraction, Fraction, str]:
    base = exact(chapter["time_base"]) or Fraction(1, 1000)
    return chapter["start"] * base, chapter["end"] * base, str(chapter.get("metadata", {}).get("title", ""))


def _own_tags(stream: Any) -> dict[str, str]:
    """What a stream says beside what its file says, by Matroska's names."""
    tags = _lower(stream_tags(dict(stream.metadata), "matroska"))
    tags.pop("creation_time", None)  # mp4 repeats the file's for each stream
    if tags.get("language") == "und":
        del tags["language"]
    elif "language" in tags:
        tags["language"] = MOV_LANGUAGES.get(tags["language"], tags["language"])  # one code for each language
    return tags


def _lower(tags: dict[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in tags.items()}
