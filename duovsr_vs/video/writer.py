"""Writing: float RGB frames to a container, to y4m or to images; each writer rounds once and keeps the timestamps."""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import av
import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from . import hdr
from .alpha import AlphaPlanes, fill_opaque
from .convert import FromRGB
from .curve import LARGEST_HALF
from .ebml import write_display_size
from .encoding import THREADS, Encoding
from .output import write_error
from .pixels import component_arrays, plane_array, reorder
from .probe import exact
from .scheduling import usual_scheduling
from .stamps import round_half_up, stamp_decoding_times
from .streams import StreamCopier, kept_tags, stream_tags
from .verify import verify

FAST_START = {"mp4": {"movflags": "+faststart"}, "mov": {"movflags": "+faststart"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputVideo:
    """What the output stream is, apart from its encoding.

    time_base: of the timestamps given to `write`.  rate: average frames per second, None if unknown.  sar: sample
    aspect ratio.  rotation: libav's display matrix.  metadata, stream_metadata: tags.  chapters: as libav gives them.
    disposition: libav's flags of the stream.
    """

    width: int
    height: int
    time_base: Fraction
    rate: Fraction | None
    sar: Fraction | None = None
    rotation: tuple[int, ...] | None = None
    metadata: dict[str, str] | None = None
    stream_metadata: dict[str, str] | None = None
    chapters: tuple[Any, ...] = ()
    disposition: int = 0


class Writer(Protocol):
    """One output that is being written; `write` once per frame, in order, then `finish`."""

    def write(self, rgb: NDArray[np.float32], number: int, pts: int, duration: int) -> None:
        """One (3, height, width) frame: its number in the clip, its timestamp and duration in the time base."""

    def copy(self, packets: Iterable[Any]) -> None:
        """Packets of the other streams that have been read by now."""

    def finish(self) -> None:
        """Flush, close, and check what was written. Raises VideoError."""

    def abort(self) -> None:
        """Close without finishing."""


class ContainerWriter:
    """A video file through libav."""

    def __init__(
        self, path: Path, muxer: str, name: str, video: OutputVideo, encoding: Encoding, copier: StreamCopier, *,
        alpha: AlphaPlanes | None = None,
    ):  # fmt: skip
        """path: the temporary file.  name: what people call the output.  alpha: where the encoding has it; without, all
        is opaque. Raises VideoError and OptionError.
        """
        self._name, self._path, self._muxer, self._copier = name, path, muxer, copier
        self._video, self._encoding, self._alpha = video, encoding, alpha
        self._encoded_before = False
        self._pts = array("q")
        self._convert = FromRGB(encoding.layout, encoding.tags, video.width, video.height)
        self._container = av.open(path, "w", format=muxer, options=FAST_START.get(muxer, {}))
        try:
            self._stream = self._add_video()
            copier.add_to(self._container)
            self._container.metadata.update(kept_tags(video.metadata or {}))
            if video.chapters:
                self._container.set_chapters(list(video.chapters))
            with usual_scheduling():
                self._container.start_encoding()
        except (av.FFmpegError, OSError, ValueError) as error:
            self.abort()
            if isinstance(error, av.ArgumentError | ValueError) and not isinstance(error, OSError):
                raise OptionError(self._refusal(error)) from None
            raise write_error(error, name) from None

    def write(self, rgb: NDArray[np.float32], number: int, pts: int, duration: int) -> None:
        frame = _prepared(self._convert(rgb), self._encoding, number, self._alpha)
        frame.pts, frame.time_base, frame.duration = pts, self._video.time_base, duration
        self._pts.append(pts)
        self._mux(frame)

    def copy(self, packets: Iterable[Any]) -> None:
        try:
            self._copier.write(self._container, packets)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise write_error(error, self._name) from None

    def finish(self) -> None:
        self._mux(None)
        base = exact(self._stream.time_base) or Fraction(1)
        try:
            self._container.close()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise write_error(error, self._name) from None
        self._keep_shape()
        stamps = [round_half_up(pts * self._video.time_base / base) for pts in self._pts]
        verify(self._path, self._name, stamps, base, self._copier.expected(), self._copier.pictures)

    def _keep_shape(self) -> None:
        """Write the sample aspect where neither the bitstream nor libav's Matroska writer does."""
        sar = self._video.sar
        if self._muxer not in ("matroska", "webm") or sar in (None, 1):
            return
        try:
            with av.open(self._path, "r") as container:
                told = exact(container.streams.video[0].sample_aspect_ratio)
            if sar is not None and told != sar:
                write_display_size(self._path, self._video.width, self._video.height, sar)
        except (av.FFmpegError, OSError, IndexError) as error:
            raise write_error(error, self._name) from None

    def abort(self) -> None:
        with suppress(av.FFmpegError, OSError, ValueError):  # the file is thrown away
            self._container.close()

    def _encoded(self, frame: av.VideoFrame | None) -> list[Any]:
        """The packets that the encoder gives for a frame, or at its end."""
        packets: list[Any] = self._stream.encode(frame)
        if frame is None and not self._encoded_before and self._encoding.codec == "libx265":
            stamp_decoding_times(packets)
        self._encoded_before = self._encoded_before or bool(packets)
        return packets

    def _mux(self, frame: av.VideoFrame | None) -> None:
        try:
            self._container.mux(self._encoded(frame))
        except av.EOFError:
            return
        except (av.FFmpegError, OSError, ValueError) as error:
            raise write_error(error, self._name) from None

    def _add_video(self) -> Any:
        stream = self._new_stream()
        self._label(stream)
        return stream

    def _new_stream(self) -> Any:
        """A stream with its encoder, and all that the encoder writes into its packets."""
        video, encoding, tags = self._video, self._encoding, self._encoding.tags
        if encoding.codec == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # errors only: it writes to stderr by itself
        stream: Any = self._container.add_stream(
            encoding.codec, rate=video.rate or 25, options=dict(encoding.options), time_base=video.time_base
        )
        if encoding.hdr is not None:
            hdr.attach(stream, encoding.codec, encoding.hdr)
        stream.time_base = video.time_base
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = video.width, video.height, encoding.pix_fmt
        context.framerate = video.rate or 25
        context.thread_count = int(encoding.options.get("threads", THREADS))
        context.colorspace, context.color_primaries = tags.matrix, tags.primaries
        context.color_trc, context.color_range = tags.transfer, 2 if tags.full else 1
        context.chroma_sample_location = tags.chroma
        if video.sar:
            context.sample_aspect_ratio = video.sar
        return stream

    def _label(self, stream: Any) -> None:
        """What a stream's container says beside its packets."""
        video = self._video
        stream.disposition = video.disposition
        if video.rotation:
            stream.set_display_matrix(video.rotation)
        if self._encoding.codec == "libx265" and self._muxer in ("mp4", "mov"):
            stream.codec_context.codec_tag = "hvc1"  # what players of these files expect
        stream.metadata.update(stream_tags(video.stream_metadata or {}, self._muxer))

    def _refusal(self, error: Exception) -> str:
        if "does not support" in str(error):
            return f"{self._name}: this container cannot hold {self._encoding.codec}; use an .mkv or another --codec"
        given = ", ".join(f"{k}={v}" for k, v in self._encoding.options.items())
        return f"{self._encoding.codec} does not take these options ({given}); see its documentation"


class Y4mWriter:
    """Raw video with a one-line header, to a file or stdout: no timestamps, no sound, no colour tag but the range."""

    def __init__(self, target: Path | None, name: str, video: OutputVideo, encoding: Encoding):
        """target: the temporary file; None is stdout."""
        self._name, self._layout = name, encoding.layout
        self._convert = FromRGB(encoding.layout, encoding.tags, video.width, video.height)
        self._file: BinaryIO = sys.stdout.buffer if target is None else target.open("wb")
        self._is_stdout = target is None
        rate, sar = video.rate or Fraction(25), video.sar or Fraction(0)
        head = [f"W{video.width} H{video.height} F{rate.numerator}:{rate.denominator} Ip"]
        head += [f"A{sar.numerator}:{sar.denominator if sar else 0} {_y4m_colour(encoding)}"]
        head += [f"XCOLORRANGE={'FULL' if encoding.tags.full else 'LIMITED'}"]
        self._put(f"YUV4MPEG2 {' '.join(head)}\n".encode())

    def write(self, rgb: NDArray[np.float32], number: int, pts: int, duration: int) -> None:
        planes = component_arrays(self._convert(rgb), self._layout)
        self._put(b"FRAME\n", *(np.ascontiguousarray(plane) for plane in planes))

    def copy(self, packets: Iterable[Any]) -> None:
        """Dropped: the plan has said so."""

    def finish(self) -> None:
        try:
            self._file.flush()
            if not self._is_stdout:
                self._file.close()
        except OSError as error:
            raise write_error(error, self._name) from None

    def abort(self) -> None:
        if not self._is_stdout:
            self._file.close()

    def _put(self, *parts: Any) -> None:
        try:
            for part in parts:
                self._file.write(part)
        except OSError as error:
            raise write_error(error, self._name) from None


class ImageWriter:
    """One image file per frame, in a temporary folder; names carry the frame's number in the clip."""

    def __init__(
        self, folder: Path, pattern: str, video: OutputVideo, encoding: Encoding, first_number: int = 0, *,
        alpha: AlphaPlanes | None = None,
    ):  # fmt: skip
        """pattern: the last part of the output's name.  first_number: what the clip's frame 0 is called.  alpha: where
        the encoding has it; without, all is opaque.
        """
        self._folder, self._pattern, self._encoding, self._video = folder, pattern, encoding, video
        self._first, self._alpha = first_number, alpha
        self._written = 0
        self._convert = FromRGB(encoding.layout, encoding.tags, video.width, video.height)

    def write(self, rgb: NDArray[np.float32], number: int, pts: int, duration: int) -> None:
        frame = _prepared(self._convert(rgb), self._encoding, number, self._alpha)
        try:
            data = self._encode(frame)
            (self._folder / self._name_of(number)).write_bytes(data)
        except (av.FFmpegError, OSError) as error:
            raise write_error(error, self._pattern) from None
        self._written += 1

    def copy(self, packets: Iterable[Any]) -> None:
        """Dropped: the plan has said so."""

    def finish(self) -> None:
        found = sum(1 for file in self._folder.iterdir() if file.stat().st_size)
        if found != self._written:
            raise write_error(OSError(f"{self._written} images were written, {found} are there"), self._pattern)

    def abort(self) -> None:
        """Nothing is open between two images."""

    def _name_of(self, number: int) -> str:
        return self._pattern % (number + self._first) if "%" in self._pattern else self._pattern

    def _encode(self, frame: av.VideoFrame) -> bytes:
        """A new encoder per image: each file is whole by itself."""
        context: Any = av.CodecContext.create(self._encoding.codec, "w")
        context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
        context.time_base = Fraction(1, 25)
        context.options = dict(self._encoding.options)
        if self._video.sar:
            context.sample_aspect_ratio = self._video.sar
        return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def _prepared(frame: av.VideoFrame, encoding: Encoding, number: int, alpha: AlphaPlanes | None) -> av.VideoFrame:
    """The frame with its alpha, in the order that the encoder wants (bgr0, nv12, rgb48be), tagged."""
    tags = encoding.tags
    if encoding.layout.alpha:
        fill_opaque(frame) if alpha is None else alpha.fill(number, frame)
    if encoding.layout.floating and encoding.options.get("format") == "half":
        for plane in range(len(frame.planes)):  # the encoder cuts off instead of rounding
            view = plane_array(frame, plane, frame.width, frame.height, encoding.layout.dtype)
            view[:] = np.clip(view, -LARGEST_HALF, LARGEST_HALF).astype(np.float16)
    frame.color_range = 2 if tags.full else 1
    frame = reorder(frame, encoding.pix_fmt)
    frame.colorspace, frame.color_primaries, frame.color_trc = tags.matrix, tags.primaries, tags.transfer
    frame.color_range = 2 if tags.full else 1
    frame.chroma_location = tags.chroma
    return frame


def _y4m_colour(encoding: Encoding) -> str:
    layout = encoding.layout
    deep = str(layout.bits) if layout.bits > 8 else ""
    if layout.family == "gray":
        return f"Cmono{deep}"
    digits = {(1, 1): "420", (1, 0): "422", (0, 0): "444"}[layout.sub_w, layout.sub_h]
    if deep:
        return f"C{digits}p{deep} XYSCSS={digits}P{deep}"
    if digits == "420":
        return "C420" + {2: "jpeg", 3: "paldv"}.get(encoding.tags.chroma, "mpeg2") + " XYSCSS=420"
    return f"C{digits} XYSCSS={digits}"
