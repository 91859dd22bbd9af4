"""A resolved run of `duovsr upscale`: what is read, what is made, how it is written."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import OptionError
from ..video.alpha import AlphaPlanes
from ..video.colour import ColourTags, parse_matrix, resolve_matrix
from ..video.encoding import THREADS, Encoding, choose, output_kind, parse_options
from ..video.interval import parse_position, resolve_interval
from ..video.manifest import Facts, fingerprint, plain
from ..video.output import PendingOutput
from ..video.pipeline import Work
from ..video.reader import VideoReader
from ..video.segments import Grid
from ..video.sequence import is_pattern, numbers_of
from ..video.streams import Span, StreamCopier, chapters_in
from ..video.writer import ContainerWriter, ImageWriter, OutputVideo, Writer, Y4mWriter
from .request import Request

if TYPE_CHECKING:
    from ..engine.plan import Plan
    from ..engine.upscaler import Upscaler

ENDLESS = 2**40
"""Stands for the length of a pipe."""
SEGMENT_SECONDS, SHORTEST, LONGEST, USUAL_RATE = 10, 96, 600, 25
"""A segment lasts about so many seconds, but no fewer and no more frames than these; for inputs without a rate."""


@dataclass
class Job:
    """Output frames [start, stop) of an open input; stop is None for all to the end.

    kind: of the output, a libav muxer, "y4m" or "image".  pending: None for stdout and in workers.  tags: of the input,
    resolved.
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

    @property
    def resumable(self) -> bool:
        """Whether it can be written in segments: the input can be read again, the output is not one stream of bytes."""
        return self.reader.scan is not None and self.kind != "y4m" and self.frames is not None

    def upscaler(self) -> Upscaler:
        """The engine; torch is imported here, after everything cheap has been checked."""
        from ..engine.upscaler import Upscaler

        return Upscaler(self.request.options, self.reader.info.width, self.reader.info.height)

    def grid(self, upscaler: Upscaler, length: int | None) -> Grid:
        """The segments of a resumable job: multiples of the model's chunk, of `length` frames or of ten seconds."""
        rate = float(self.reader.info.rate or USUAL_RATE)
        wanted = length or min(max(round(rate * SEGMENT_SECONDS), SHORTEST), LONGEST)
        return Grid(self.start, self.start + (self.frames or 1), -(-wanted // upscaler.chunk) * upscaler.chunk)

    def work(self, upscaler: Upscaler, start: int, stop: int | None) -> Work:
        """Which frames to read for the output frames [start, stop); None is the end of the input."""
        from .engine_feed import inputs_for

        if start == 0 and stop is None:
            return Work()
        total = self.reader.total or ENDLESS
        low, high = inputs_for(upscaler, start, stop or total, total)
        return Work(low, None if stop is None else high, start, stop, self.span.end, self.shift)

    def writer(self) -> Writer:
        """The writer for the output's kind, at the temporary name."""
        video, name = self.video(), self.request.output
        if self.pending is None:
            return Y4mWriter(None, "stdout", video, self.encoding)
        if self.kind == "y4m":
            return Y4mWriter(self.pending.part, name, video, self.encoding)
        alpha = self.alpha(self.reader)
        if self.kind == "image":
            pattern, first = Path(name).name, self.first_number
            return ImageWriter(self.pending.part, pattern, video, self.encoding, first, alpha=alpha)
        return ContainerWriter(self.pending.part, self.kind, name, video, self.encoding, self.copier, alpha=alpha)

    def alpha(self, reader: VideoReader) -> AlphaPlanes | None:
        """What carries the alpha of a reader's frames past the engine; to be asked for before they are read."""
        return AlphaPlanes.of(reader, self.encoding, self.size)

    @property
    def first_number(self) -> int:
        """What an image sequence calls its first frame."""
        return numbers_of(self.request.source)[0] if is_pattern(self.request.source) else 0

    @property
    def sar(self) -> Fraction | None:
        """Sample aspect ratio of the output."""
        info = self.reader.info
        return scaled_sar(info.sar, (info.width, info.height), self.size)

    def video(self) -> OutputVideo:
        """What the output stream is."""
        info, container, stream = self.reader.info, self.reader.container, self.reader.stream
        return OutputVideo(
            width=self.size[0], height=self.size[1], time_base=info.time_base, rate=info.rate, sar=self.sar,
            rotation=info.rotation, metadata=dict(container.metadata),
            stream_metadata={k: v for k, v in stream.metadata.items() if not (self.start and k == "timecode")},
            chapters=tuple(chapters_in(container, self.span)), disposition=int(stream.disposition),
        )  # fmt: skip

    def identity(self, plan: Plan, grid: Grid) -> Facts:
        """Everything that the bytes of a segment depend on, for its manifest."""
        import av

        assert self.reader.scan is not None
        video, encoding = self.video(), asdict(self.encoding)
        encoding.update(threads=encoding["options"].get("threads", THREADS), notes=None, container=self.kind)
        encoding.update(rate=video.rate, time_base=video.time_base, sar=video.sar, source_colours=asdict(self.tags))
        software = {"duovsr": __version__, "PyAV": av.__version__, "VapourSynth": version("vapoursynth")}
        software["libavcodec"] = ".".join(map(str, av.library_versions["libavcodec"]))
        facts = {
            "input": fingerprint(self.request.source, self.reader.scan), "part": asdict(grid), "pixels": plan.pixels(),
            "encoding": encoding, "machine": {"machine class": plan.machine}, "software": software,
        }  # fmt: skip
        return dict(plain(facts))

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


def open_job(request: Request, stack: ExitStack, pending: PendingOutput | None) -> Job:
    """Everything that can be checked before torch is imported; the input is closed by `stack`. Raises DuoVsrError."""
    kind = output_kind(request.output)
    start, length = parse_position("--start", request.start), parse_position("--frames", request.frames)
    matrix = None if request.matrix is None else parse_matrix(request.matrix)
    extra = parse_options(list(request.encoder_options))
    reader = stack.enter_context(VideoReader(request.source, assume_progressive=request.assume_progressive))
    info = reader.info
    tags, matrix_note = resolve_matrix(info.tags, info.layout, info.height, matrix)
    size = request.options.output_size(info.width, info.height)
    encoding = choose(
        request.output, info.layout, tags, size,
        codec=request.codec, crf=request.crf, pix_fmt=request.pix_fmt, options=extra, hdr=info.hdr,
    )  # fmt: skip
    pts = reader.scan.pts if reader.scan else ()
    part = resolve_interval(start, length, pts=pts, total=reader.total, time_base=info.time_base, rate=info.rate)
    job = Job(request, kind, reader, pending, tags, matrix_note, encoding, size, *part)
    if kind == "image" and not is_pattern(request.output) and job.frames != 1:
        count = "an unknown number of" if job.frames is None else job.frames
        raise OptionError(
            f"{request.output} is one image and there are {count} frames; name out/%05d.png, or --frames 1"
        )
    return job


def scaled_sar(sar: Fraction | None, before: tuple[int, int], after: tuple[int, int]) -> Fraction | None:
    """Sample aspect ratio that keeps the displayed shape; unchanged when both axes scale alike but for rounding."""
    if sar is None:
        return None
    (w, h), (wide, high) = before, after
    if abs(wide * h - w * high) <= max(w, h):
        return sar
    return (sar * w * high / (h * wide)).limit_denominator(65535)


def described(request: Request, identity: Facts) -> dict[str, Any]:
    """A long job as plain JSON: its manifest, and all that another process needs to make a segment of it."""
    return {"format": 1, "request": request.as_dict(), "identity": identity}
