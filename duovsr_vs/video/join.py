"""Joining finished segments: their packets, the input's exact timestamps, and the packets of the other streams."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import Flags

from ..errors import VideoError
from .encoding import Encoding
from .output import put_in_place, write_error
from .probe import exact, video_stream
from .segments import Record, SegmentFolder
from .sequence import is_pattern, opening_of
from .streams import Span, StreamCopier
from .writer import ContainerWriter, OutputVideo

OVERSHOOT = 10
"""Seconds behind the end of a part up to which other streams are read: they lie beside each other only roughly."""


class JoinWriter(ContainerWriter):
    """A video file whose video packets exist already; everything else is as `ContainerWriter` writes it."""

    def __init__(
        self, path: Path, muxer: str, name: str, video: OutputVideo, encoding: Encoding, copier: StreamCopier,
        template: Any,
    ):  # fmt: skip
        """template: the video stream of an open segment."""
        self._template = template
        super().__init__(path, muxer, name, video, encoding, copier)

    def put(self, packet: Any, stamp: int, decoding: int, duration: int) -> None:
        """One video packet, with its timestamps in the video's time base."""
        packet.stream, packet.time_base = self._stream, self._video.time_base
        packet.pts, packet.dts, packet.duration = stamp, decoding, duration
        try:
            self._container.mux_one(packet)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise write_error(error, self._name) from None

    def expect(self, stamps: array[int]) -> None:
        """The timestamps that the finished file must hold, ascending."""
        self._pts = stamps

    def _new_stream(self) -> Any:
        exactly: Any = Flags.bitexact
        self._container.flags |= exactly.value  # no random numbers: the same segments make the same file
        stream: Any = self._container.add_stream_from_template(self._template, opaque=True)
        stream.time_base = self._video.time_base
        context, tags = stream.codec_context, self._encoding.tags
        context.colorspace, context.color_primaries = tags.matrix, tags.primaries
        context.color_trc, context.color_range = tags.transfer, 2 if tags.full else 1
        context.chroma_sample_location = tags.chroma
        context.pix_fmt = self._encoding.pix_fmt  # of VP9 with alpha the carrier tells only the colours
        if self._video.rate:
            context.framerate = self._video.rate
        if self._video.sar:
            context.sample_aspect_ratio = self._video.sar
        return stream

    def _mux(self, frame: av.VideoFrame | None) -> None:
        """There is no encoder to feed or to empty."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A segment: its files, which frame each packet is, and the durations of its frames."""

    files: list[Path]
    order: array[int]
    durations: array[int]


class Joiner:
    """Makes one file of all segments of a folder."""

    def __init__(self, folder: SegmentFolder, count: int, name: str, *, moving: bool = False):
        """count: of segments, all finished.  name: what people call the output.  moving: some images may have their
        places already. Raises VideoError if a segment is gone.
        """
        self._folder, self._name = folder, name
        self._stamps = array("q")
        self._parts: list[_Part] = []
        self._delay = 0
        self._counters: Counter[str] = Counter()
        for index in range(count):
            self._take(self._known(index, moving))

    @property
    def frames(self) -> int:
        """Frames in all segments."""
        return len(self._stamps)

    def counters(self) -> dict[str, int]:
        """What happened while the segments were made, summed up."""
        return dict(self._counters)

    def move_images(self, output: Path) -> None:
        """Give images their names; those that a killed run has moved already stay where they are. Raises VideoError."""
        files = [path for part in self._parts for path in part.files]
        gone = [path.name for path in files if not path.exists() and not (output.parent / path.name).exists()]
        if gone:
            raise VideoError(f"{self._name}: {gone[0]} has gone; --overwrite begins again")
        put_in_place([path for path in files if path.exists()], output, images=True)

    def join(
        self, path: Path, muxer: str, video: OutputVideo, encoding: Encoding, source: str, span: Span
    ) -> None:  # fmt: skip
        """Write, close and check the whole file at `path`.

        source: the input, whose other streams are read again.  span: the part of them that is wanted. Raises
        VideoError.
        """
        if not self._stamps:
            raise VideoError(f"{source} holds no frame of that part that can be decoded; nothing is written")
        first = next(path for part in self._parts for path in part.files)
        opening = opening_of(source) if is_pattern(source) else {}
        with av.open(first, "r") as begin, av.open(source, "r", **opening) as container:
            template = begin.streams.video[0]
            copier = StreamCopier(container, video_stream(container, source).index, muxer, span)
            writer = JoinWriter(path, muxer, self._name, video, encoding, copier, template)
            try:
                self._fill(writer, video.time_base, _others(container, copier), template)
                writer.expect(self._stamps)
                writer.finish()
            except BaseException:
                writer.abort()
                raise

    def _fill(self, writer: JoinWriter, base: Fraction, others: Iterator[tuple[Fraction, Any]], template: Any) -> None:
        """All packets in the order of their decoding times."""
        ahead = next(others, None)
        for packet, stamp, decoding, duration in self._packets(template.codec_context.extradata):
            while ahead is not None and ahead[0] <= decoding * base:
                writer.copy([ahead[1]])
                ahead = next(others, None)
            writer.put(packet, stamp, decoding, duration)
        while ahead is not None:
            writer.copy([ahead[1]])
            ahead = next(others, None)

    def _packets(self, headers: bytes | None) -> Iterator[tuple[Any, int, int, int]]:
        """Video packets with their timestamp, decoding time and duration."""
        begin = 0
        for part in self._parts:
            for path in part.files:
                for position, packet in enumerate(_video_packets(path, headers, len(part.order), self._name)):
                    rank = part.order[position]
                    yield packet, self._stamps[begin + rank], self._decoding(begin + position), part.durations[rank]
            begin += len(part.durations)

    def _decoding(self, position: int) -> int:
        """Decoding time of a packet: the timestamps of all frames, later by the delay of the whole file."""
        if position >= self._delay:
            return self._stamps[position - self._delay]
        return self._stamps[position] - (self._stamps[self._delay] - self._stamps[0])  # as encoders begin, too

    def _take(self, record: Record) -> None:
        """Remember of a record what joining needs, in little memory."""
        self._parts.append(_Part(self._folder.paths(record), array("q", record.order), array("q", record.durations)))
        self._stamps.extend(record.stamps)
        self._delay = max(self._delay, record.delay)
        self._counters.update({name: int(count) for name, count in record.counters.items()})

    def _known(self, index: int, moving: bool) -> Record:
        record = self._folder.record(index, complete=not moving)
        if record is None:
            raise VideoError(
                f"{self._name}: segment {index} has gone from {self._folder.path}; --resume makes it again"
            )
        return record


def _video_packets(path: Path, headers: bytes | None, count: int, name: str) -> Iterator[Any]:
    """The packets of a segment; VideoError when they are not `count`, or need other decoder settings than the first."""
    found = 0
    try:
        with av.open(path, "r") as container:
            stream = container.streams.video[0]
            if stream.codec_context.extradata != headers:
                raise VideoError(f"{name}: {path.name} was written by another encoder; --overwrite begins again")
            for packet in container.demux(stream):
                found += packet.size > 0
                if packet.size and found <= count:
                    yield packet
    except (av.FFmpegError, IndexError) as error:
        raise VideoError(f"{name}: {path.name} cannot be read ({error}); --resume makes it again") from None
    if found != count:
        raise VideoError(f"{name}: {path.name} holds {found} packets instead of {count}; --resume makes it again")


def _others(container: Any, copier: StreamCopier) -> Iterator[tuple[Fraction, Any]]:
    """The packets of all other streams that are kept, each with the time in seconds at which the output wants it."""
    begin, end = copier.span.begin or Fraction(0), copier.span.end
    chosen = [stream for stream in copier.kept if stream.type != "attachment"]
    try:
        for packet in container.demux(chosen) if chosen else ():
            base, stamp = exact(packet.time_base), packet.pts if packet.dts is None else packet.dts
            if not packet.size:
                continue
            time = Fraction(0) if stamp is None or base is None else stamp * base
            if end is not None and time > end + OVERSHOOT:
                return
            yield time - begin, packet
    except (av.FFmpegError, OSError):
        return  # cut off here; the frames have met the same end
