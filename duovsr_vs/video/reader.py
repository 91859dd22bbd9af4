"""Reading: frames of one video stream in display order with exact numbers, and the packets of every other stream."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np

from ..errors import FormatError, VideoError
from .colour import ColourTags, tags_of
from .hdr import DYNAMIC, HdrMetadata, hdr_of
from .opening import decoder_of, guarded_scan, open_input
from .pixels import PixelLayout, layout_of
from .probe import Scan, exact, frame_rate, video_stream
from .sequence import is_pattern, opening_of
from .stdin import StdinPipe

MIN_SIZE = 16
"""Smallest width and height in pixels."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video stream is, taken from its first decoded frame.

    width, height: as coded, before any rotation.  rate: frames per second, None if unknown.  sar: sample aspect ratio,
    None if unspecified.  rotation: libav's display matrix (nine integers), None without.  hdr: static HDR metadata,
    None without.  hdr_metadata: names of dynamic HDR metadata, which is not written again.  captions: the first
    frame holds closed captions (ATSC A/53).
    """

    name: str
    container: str
    codec: str
    pix_fmt: str
    layout: PixelLayout
    tags: ColourTags
    width: int
    height: int
    time_base: Fraction
    rate: Fraction | None
    sar: Fraction | None
    rotation: tuple[int, ...] | None
    hdr_metadata: tuple[str, ...]
    hdr: HdrMetadata | None = None
    captions: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame: its number from 0, timestamp and duration (0: unknown) in the time base, samples."""

    number: int
    pts: int
    duration: int
    image: av.VideoFrame


class VideoReader:
    """One pass over one input. `frames` may be called once; `packets` then holds what the other streams gave so far."""

    def __init__(self, source: str, *, assume_progressive: bool = False, threads: int = 1, scan: Scan | None = None):
        """source: a file, a pattern (in/%05d.png) or `-` for stdin.  threads: of the decoder.  scan: the packet table
        from another reader of the same file, so that it need not be made again.

        Opens the input, reads its packet table where it can be read twice, and decodes the first frame. Raises
        VideoError (not a video, no frame) and FormatError (interlaced, too small, unknown pixel format).
        """
        self.source = source
        self.packets: deque[av.Packet[Any]] = deque()
        self.watch: Callable[[Frame], None] | None = None
        """Called with each frame before `frames` gives it."""
        self.restamped = 0
        self.undecodable = 0
        self._ended = False
        self._assume_progressive = assume_progressive
        self._opening: dict[str, Any] = opening_of(source) if is_pattern(source) else {}
        self.scan: Scan | None = scan
        if source != "-" and scan is None:
            self.scan = guarded_scan(source, self._opening)
        self._stdin = StdinPipe() if source == "-" else None
        self._container = open_input(source, self._opening, self._stdin)
        try:
            self._threads = threads
            self._decoded = 0
            self._fed = 0
            self._begin()
            self._first = self._first_image()
            self.info = self._describe(self._first)
            self._check(self._first, 0)
        except BaseException:
            self._container.close()
            raise

    @property
    def _name(self) -> str:
        return "stdin" if self.source == "-" else self.source

    @property
    def container(self) -> Any:
        """The open libav container: its other streams, metadata and chapters."""
        return self._container

    @property
    def stream(self) -> Any:
        """The video stream that is read."""
        return self._stream

    @property
    def total(self) -> int | None:
        """Frames that can be expected from the packets; None for a pipe."""
        return self.scan.packets if self.scan else None

    @property
    def missing(self) -> int:
        """After the last frame: frames that the file announces and that could not be decoded."""
        lost = max(0, self._fed - self._decoded) if self.undecodable else 0
        return lost + (self.scan.cut_off if self.scan and self._ended else 0)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Frames [start, stop) in display order; fewer when the input ends early. Timestamps always increase."""
        number, images = self._seek(start)
        last: int | None = None
        for image in images:
            pts = self._pts(image, number, last)
            if number >= start:
                self._check(image, number)
                frame = Frame(number, pts, int(image.duration or 0), image)
                if self.watch is not None:
                    self.watch(frame)
                yield frame
            last = pts
            number += 1
            if stop is not None and number >= stop:
                return
        self._ended = True

    def drain(self, until: Fraction) -> None:
        """Read on, without decoding, until every other stream has passed `until` seconds (to cut an interval)."""
        wanted = {s.index for s in self._container.streams if s.type == "audio"}
        video_base = self.info.time_base
        for packet in self._demux():
            base = exact(packet.stream.time_base)
            stamp = packet.dts if packet.dts is not None else packet.pts
            if packet.stream.index != self._stream.index:
                self.packets.append(packet)
            if stamp is None or base is None:
                continue
            if packet.stream.index == self._stream.index and stamp * video_base > until + 10:
                return
            if stamp * base >= until:
                wanted.discard(packet.stream.index)
                if not wanted:
                    return

    @property
    def interlaced(self) -> bool:
        """Whether the first frame is marked as interlaced."""
        return bool(self._first.interlaced_frame)

    def close(self) -> None:
        """Close the input; no other thread may be reading it."""
        self._container.close()

    def give_up(self) -> None:
        """Let a thread that waits for a pipe meet its end; the reader is of no use after that."""
        if self._stdin is not None:
            self._stdin.give_up()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self) -> None:
        """Choose the stream and its decoder in the open container; decoding starts where the container stands."""
        self._stream = video_stream(self._container, self._name)
        self._stream.thread_count = self._threads
        self._stream.codec_context.thread_type = "FRAME" if self._threads > 1 else "SLICE"
        self._decoder = decoder_of(self._stream)
        self._decoding = self._decode()

    def _demux(self) -> Iterator[Any]:
        """Packets of all streams; a read error ends the input like its end does."""
        try:
            for packet in self._container.demux():
                if packet.size:
                    yield packet
        except (av.FFmpegError, OSError):
            self.undecodable += 1

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Frames from here to the end; undecodable packets are counted, packets of other streams kept."""
        for packet in self._demux():
            if packet.stream.index != self._stream.index:
                self.packets.append(packet)
                continue
            self._fed += not packet.is_discard
            yield from self._images(packet)
        yield from self._images(None)

    def _images(self, packet: Any) -> Iterator[av.VideoFrame]:
        try:
            images = self._decoder.decode(packet)
        except av.EOFError:
            return
        except (av.FFmpegError, OSError, ValueError):  # ValueError: there is no such codec
            self.undecodable += 1
            return
        self._decoded += len(images)
        yield from images

    def _first_image(self) -> av.VideoFrame:
        image = next(self._decoding, None)
        if self._stdin is not None and self._stdin.interrupted:
            raise KeyboardInterrupt
        if image is None:
            raise VideoError(f"{self._name} holds no frame that can be decoded; the file is empty or damaged")
        return image

    def _seek(self, start: int) -> tuple[int, Iterator[av.VideoFrame]]:
        """The number of the next frame and the frames from there; jumps back to a key frame where that is exact."""
        pts = self.scan.pts if self.scan else ()
        keys = [k for k in self.scan.keyframes if k <= pts[start]] if self.scan and 0 < start < len(pts) else []
        # Decoders leave out frames that refer to what lies before the jump, and some containers land a key frame late.
        for back in (2, 4):
            if len(keys) > back + 1:
                images = self._jump(keys[-back], keys[-2], pts, start)
                if images is not None:
                    return start, images
        if len(keys) > 3:
            self._container.close()
            self._container = open_input(self.source, self._opening, None)
            self.packets.clear()
            self._begin()
            self._first = self._first_image()
        return 0, self._again(self._first, self._decoding)

    def _jump(self, target: int, latest: int, pts: tuple[int, ...], start: int) -> Iterator[av.VideoFrame] | None:
        """Frames from `start` on after a seek to `target`; None when it ends behind `latest` or frames are left out."""
        self._container.seek(target, stream=self._stream, backward=True)
        self.packets.clear()
        self._decoder = decoder_of(self._stream)
        images = self._decode()
        first = next(images, None)
        if first is None or first.pts is None or first.pts > latest:
            return None
        for number in range(bisect_left(pts, first.pts), start + 1):
            if first is None or first.pts != pts[number]:
                return None
            if number < start:
                first = next(images, None)
        return self._again(first, images) if first is not None else None

    @staticmethod
    def _again(first: av.VideoFrame, rest: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        yield first
        yield from rest

    def _pts(self, image: av.VideoFrame, number: int, last: int | None) -> int:
        """The frame's timestamp; where it is absent or does not increase, one frame duration after the last."""
        base = self.info.time_base
        if image.pts is not None and (last is None or image.pts > last):
            return int(image.pts)
        step = max(1, round(1 / (self.info.rate * base))) if self.info.rate else 1
        if image.pts is not None or last is not None:
            self.restamped += image.pts is not None
        return 0 if last is None else last + step

    def _describe(self, image: av.VideoFrame) -> VideoInfo:
        layout = layout_of(image.format.name)
        stream, still = self._stream, self._container.format.name.endswith(("image2", "_pipe"))
        side = {key.name: bytes(value) for key, value in image.side_data.items()}
        rotation = side.get("DISPLAYMATRIX") or stream.codec_context.coded_side_data.get("display_matrix")
        return VideoInfo(
            name=self._name,
            container=self._container.format.name,
            codec=stream.codec_context.name,
            pix_fmt=image.format.name,
            layout=layout,
            tags=tags_of(image, layout, still),
            width=image.width,
            height=image.height,
            time_base=exact(stream.time_base) or Fraction(1, 1000),
            rate=frame_rate(stream),
            sar=exact(stream.sample_aspect_ratio),
            rotation=None if rotation is None else tuple(int(v) for v in np.frombuffer(rotation, np.int32)),
            hdr_metadata=tuple(dict.fromkeys(said for name, said in DYNAMIC.items() if name in side)),
            hdr=hdr_of(image, stream.codec_context),
            captions="A53_CC" in side,
        )

    def _check(self, image: av.VideoFrame, number: int) -> None:
        """Refuse what the engine must not see; every frame of the input passes here."""
        info = self.info
        if image.width < MIN_SIZE or image.height < MIN_SIZE:
            raise FormatError(f"{info.name} is {image.width}x{image.height}; at least {MIN_SIZE}x{MIN_SIZE} is needed")
        if image.interlaced_frame and not self._assume_progressive:
            raise FormatError(
                f"{info.name} is interlaced (frame {number}); deinterlace it first (for instance ffmpeg -vf bwdif), or "
                "give --assume-progressive if its frames are whole pictures"
            )
        if (image.width, image.height, image.format.name) != (info.width, info.height, info.pix_fmt):
            raise FormatError(
                f"{info.name} changes in the middle: frame {number} is {image.width}x{image.height} "
                f"{image.format.name}, the first was {info.width}x{info.height} {info.pix_fmt}; cut it there and "
                "upscale the parts"
            )
