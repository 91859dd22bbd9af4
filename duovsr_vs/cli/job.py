"""A resolved run of `duovsr upscale`: what is read, what is made, how it is written."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ..engine.options import Options
from ..video.colour import ColourTags
from ..video.encoding import Encoding
from ..video.output import PendingOutput
from ..video.pipeline import Work
from ..video.reader import VideoReader
from ..video.sequence import is_pattern, numbers_of
from ..video.streams import Span, StreamCopier, chapters_in
from ..video.writer import ContainerWriter, ImageWriter, OutputVideo, Writer, Y4mWriter

if TYPE_CHECKING:
    from ..engine.upscaler import Upscaler

ENDLESS = 2**40
"""Stands for the length of a pipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The arguments of one run, as typed."""

    source: str
    output: str
    options: Options
    start: str | None = None
    frames: str | None = None
    codec: str | None = None
    crf: float | None = None
    pix_fmt: str | None = None
    encoder_options: list[str]
    matrix: str | None = None
    assume_progressive: bool = False
    overwrite: bool = False


@dataclass
class Job:
    """Output frames [start, stop) of an open input; stop is None for all to the end.

    kind: of the output, a libav muxer, "y4m" or "image".  pending: None for stdout.  tags: of the input, resolved.
    """

    request: Request
    kind: str
    reader: VideoReader
    pending: PendingOutput | None
    tags: ColourTags
    matrix_note: str
    encoding: Encoding
    size: tuple[int, int]
    start: int
    stop: int | None

    def __post_init__(self) -> None:
        if self.stop is not None and self.stop == self.reader.total:
            self.stop = None
        self.span, self.shift = self._cut()
        self.copier = StreamCopier(self.reader.container, self.reader.stream.index, self.kind, self.span)

    @property
    def to_end(self) -> bool:
        """Whether the last frame of the input is wanted."""
        return self.stop is None

    @property
    def frames(self) -> int | None:
        """How many frames will be made; None for a pipe read to its end."""
        end = self.reader.total if self.stop is None else self.stop
        return None if end is None else end - self.start

    def upscaler(self) -> Upscaler:
        """The engine; torch is imported here, after everything cheap has been checked."""
        from ..engine.upscaler import Upscaler

        return Upscaler(self.request.options, self.reader.info.width, self.reader.info.height)

    def work(self, upscaler: Upscaler) -> Work:
        """Which frames to read for the frames to write."""
        if self.start == 0 and self.stop is None:
            return Work()
        total = self.reader.total or ENDLESS
        low, high = upscaler.inputs(self.start, self.stop or total, total)
        low = low if self.start else 0
        return Work(low, None if self.stop is None else high, self.start, self.stop, self.span.end, self.shift)

    def writer(self) -> Writer:
        """The writer for the output's kind, at the temporary name."""
        video, name = self._video(), self.request.output
        if self.pending is None:
            return Y4mWriter(None, "stdout", video, self.encoding)
        if self.kind == "y4m":
            return Y4mWriter(self.pending.part, name, video, self.encoding)
        if self.kind == "image":
            numbers = numbers_of(self.request.source) if is_pattern(self.request.source) else [0]
            return ImageWriter(self.pending.part, Path(name).name, video, self.encoding, numbers[0])
        return ContainerWriter(self.pending.part, self.kind, name, video, self.encoding, self.copier)

    @property
    def sar(self) -> Fraction | None:
        """Sample aspect ratio of the output."""
        info = self.reader.info
        return scaled_sar(info.sar, (info.width, info.height), self.size)

    def _video(self) -> OutputVideo:
        info, container = self.reader.info, self.reader.container
        return OutputVideo(
            width=self.size[0],
            height=self.size[1],
            time_base=info.time_base,
            rate=info.rate,
            sar=self.sar,
            rotation=info.rotation,
            metadata=dict(container.metadata),
            stream_metadata={
                k: v for k, v in self.reader.stream.metadata.items() if not (self.start and k == "timecode")
            },
            chapters=tuple(chapters_in(container, self.span)),
        )

    def _cut(self) -> tuple[Span, int]:
        """The interval in seconds for the other streams, and what is taken from every timestamp (time base units)."""
        info, pts = self.reader.info, self.reader.scan.pts if self.reader.scan else ()
        step = 1 / (info.rate * info.time_base) if info.rate else Fraction(1)
        shift = (pts[self.start] if pts else round(self.start * step)) if self.start else 0
        begin = shift * info.time_base if self.start else None
        if self.stop is None:
            return Span(begin, None), shift
        end = pts[self.stop] if pts else round(self.stop * step)
        return Span(begin, end * info.time_base), shift


def scaled_sar(sar: Fraction | None, before: tuple[int, int], after: tuple[int, int]) -> Fraction | None:
    """Sample aspect ratio that keeps the displayed shape; unchanged when both axes scale alike but for rounding."""
    if sar is None:
        return None
    (w, h), (wide, high) = before, after
    if abs(wide * h - w * high) <= max(w, h):
        return sar
    return (sar * w * high / (h * wide)).limit_denominator(65535)
