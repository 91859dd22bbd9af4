"""Small video files made by the tests, and the whole way of a file through reader, conversion and writer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from duovsr_vs.video.alpha import AlphaPlanes
from duovsr_vs.video.colour import resolve_matrix
from duovsr_vs.video.convert import ToRGB
from duovsr_vs.video.encoding import choose, output_kind
from duovsr_vs.video.pipeline import Work, run
from duovsr_vs.video.pixels import component_arrays, layout_of
from duovsr_vs.video.reader import VideoReader
from duovsr_vs.video.scheduling import usual_scheduling
from duovsr_vs.video.streams import Span, StreamCopier, chapters_in
from duovsr_vs.video.writer import ContainerWriter, ImageWriter, OutputVideo, Writer, Y4mWriter

MILLISECOND = Fraction(1, 1000)


def picture(number: int, width: int, height: int, pix_fmt: str = "yuv420p") -> av.VideoFrame:
    """Frame `number`: a moving ramp over most of the range, different in every plane; in the layout's planar format."""
    layout = layout_of(pix_fmt)
    frame = av.VideoFrame(width, height, layout.planar_name)
    top = (1 << layout.bits) - 1
    for component, view in enumerate(component_arrays(frame, layout)):
        rows, columns = np.indices(view.shape)
        wave = np.sin((rows * (1 + component) + 2 * columns + 5 * number) * 6.0 / sum(view.shape))
        view[:] = np.round((0.5 + 0.38 * wave) * top).astype(view.dtype)
    return frame


def make_video(
    path: Path, frames: int = 12, size: tuple[int, int] = (48, 32), pix_fmt: str = "yuv420p", codec: str = "libx264", *,
    rate: Fraction | int = 25, pts: Sequence[int] | None = None, time_base: Fraction | None = None, sound: bool = False,
    subtitles: bool = False, chapters: bool = False, attachment: bool = False, options: dict[str, str] | None = None,
    prepare: Any = None, each: Any = None, muxer: str | None = None,
) -> Path:  # fmt: skip
    """A video of `picture`s. prepare(stream) and each(frame, number) may change the stream and every frame."""
    with av.open(path, "w", format=muxer) as out:
        base = time_base or 1 / Fraction(rate)
        stream: Any = out.add_stream(
            codec, rate=rate, width=size[0], height=size[1], pix_fmt=pix_fmt, options=options, time_base=base
        )
        stream.time_base = base
        stream.codec_context.thread_count = 1
        if prepare:
            prepare(stream)
        extras = _extras(out, sound, subtitles, chapters, attachment)
        with usual_scheduling():
            out.start_encoding()
        for number in range(frames):
            frame = picture(number, *size, pix_fmt)
            if frame.format.name != pix_fmt:
                frame = frame.reformat(format=pix_fmt, threads=1)
            frame.pts, frame.time_base = (pts[number] if pts else number), base
            if each:
                each(frame, number)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        _fill(out, extras, frames / float(rate))
    return path


def _extras(out: Any, sound: bool, subtitles: bool, chapters: bool, attachment: bool) -> dict[str, Any]:
    streams: dict[str, Any] = {}
    if sound:
        streams["sound"] = out.add_stream("aac", rate=16000)
        streams["sound"].metadata["language"] = "eng"
    if subtitles:
        streams["subtitles"] = out.add_mux_stream("subrip")
        streams["subtitles"].metadata["language"] = "fra"
    if attachment:
        out.add_attachment("font.ttf", "application/x-truetype-font", b"not a font")
    if chapters:
        marks = [(0, 200, "one"), (200, 480, "two")]
        facts = [{"start": a, "end": b, "metadata": {"title": title}} for a, b, title in marks]
        out.set_chapters([{"id": n, "time_base": MILLISECOND, **fact} for n, fact in enumerate(facts)])
        out.metadata["title"] = "A film"
    return streams


def _fill(out: Any, streams: dict[str, Any], seconds: float) -> None:
    if "sound" in streams:
        tone = np.sin(np.arange(int(16000 * seconds)) * 0.1).astype(np.float32) * 0.1
        for begin in range(0, len(tone), 1024):
            block = av.AudioFrame.from_ndarray(tone[None, begin : begin + 1024], format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = 16000, begin, Fraction(1, 16000)
            out.mux(streams["sound"].encode(block))
        out.mux(streams["sound"].encode(None))
    if "subtitles" in streams:
        for begin in range(0, int(1000 * seconds), 160):
            packet: Any = av.Packet(f"line at {begin}".encode())
            packet.pts = packet.dts = begin
            packet.duration, packet.time_base, packet.stream = 150, MILLISECOND, streams["subtitles"]
            out.mux(packet)


def planes(frame: av.VideoFrame) -> list[np.ndarray[Any, Any]]:
    """Copies of the colour components of a frame in a planar format."""
    return [view.copy() for view in component_arrays(frame, layout_of(frame.format.name))]


def decoded(path: Path | str) -> list[av.VideoFrame]:
    """All frames of a file."""
    with av.open(path) as container:
        return list(container.decode(video=0))


def times(path: Path | str, kind: str = "video") -> list[Fraction]:
    """Timestamps in seconds of all packets of the first stream of a kind, ascending."""
    with av.open(path) as container:
        stream: Any = getattr(container.streams, kind)[0]
        base = Fraction(stream.time_base.numerator, stream.time_base.denominator)
        return sorted(packet.pts * base for packet in container.demux(stream) if packet.size)


def double(frames: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """The simplest upscaler."""
    return (frame.repeat(2, 1).repeat(2, 2) for frame in frames)


def convert(
    source: Path, target: Path, process: Any = double, work: Work | None = None, span: Span | None = None, **asked: Any
) -> Path:
    """The whole way of a file through reader, conversion, process and writer."""
    with VideoReader(str(source)) as reader:
        info, kind = reader.info, output_kind(str(target))
        tags, _ = resolve_matrix(info.tags, info.layout, info.height, None)
        size = 2 * info.width, 2 * info.height
        encoding = choose(str(target), info.layout, tags, size, hdr=info.hdr, **asked)
        alpha = AlphaPlanes.of(reader, encoding, size)
        span = span or Span()
        video = OutputVideo(
            width=size[0], height=size[1], time_base=info.time_base, rate=info.rate, sar=info.sar,
            rotation=info.rotation, metadata=dict(reader.container.metadata),
            stream_metadata=dict(reader.stream.metadata), chapters=tuple(chapters_in(reader.container, span)),
            disposition=int(reader.stream.disposition),
        )  # fmt: skip
        writer: Writer
        if kind == "image":
            target.parent.mkdir(exist_ok=True)
            writer = ImageWriter(target.parent, target.name, video, encoding, alpha=alpha)
        elif kind == "y4m":
            writer = Y4mWriter(target, str(target), video, encoding)
        else:
            copier = StreamCopier(reader.container, reader.stream.index, kind, span)
            writer = ContainerWriter(target, kind, str(target), video, encoding, copier, alpha=alpha)
        to_rgb = ToRGB(info.layout, tags, info.width, info.height)
        try:
            run(reader, to_rgb, process, writer, work or Work(), lambda: None)
            writer.finish()
        except BaseException:
            writer.abort()
            raise
    return target
