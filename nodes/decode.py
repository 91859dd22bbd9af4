"""VIDEO inputs as frames with their times: streamed from a file, or one by one from a tensor."""

from __future__ import annotations

import io as bytes_io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from ..duovsr_vs.errors import VideoError
from .image import check, frame_of

UNSET = 2
"""libav's "unspecified" in colour tags."""
HDR = (16, 18)
"""Transfers PQ and HLG."""
LARGEST_DENOMINATOR = 1001
"""Rates come through nodes as floats; 30000/1001 has the largest denominator that is in use."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What the frames of a video are. width, height: as shown, that is, after rotation. bits: per sample."""

    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    bits: int
    primaries: int
    transfer: int
    sar: Fraction | None
    expected: int
    """Frames, as far as the container knows; for the progress bar only."""

    @property
    def is_hdr(self) -> bool:
        return self.transfer in HDR


class FileSource:
    """One pass over a video file, within its trim; holds one frame at a time."""

    def __init__(self, video: Any):
        self.file = video.get_stream_source()
        self.start, self.duration = video.get_active_trim_window()
        self.stamps: list[int] = []
        """Timestamps of the frames that were given so far, in the time base."""
        self._begun = False
        self._container: Any = open_input(self.file)
        try:
            self._stream = _video_stream(self._container)
            self._images = self._decoded()
            self._first = next(self._images, None)
            if self._first is None:
                raise VideoError(_nothing(self.is_trimmed))
            self.picture = self._describe(self._first)
        except BaseException:
            self.close()
            raise

    @property
    def is_trimmed(self) -> bool:
        return bool(self.start or self.duration)

    @property
    def origin(self) -> Fraction:
        """Seconds of the first frame on the file's clock."""
        return int(self._first.pts or 0) * self.picture.time_base

    def frames(self) -> Iterator[Tensor]:
        """(3 h w) float32 RGB, upright. Closes the file at its end, on the thread that reads: none may close it there
        while another decodes.
        """
        self._begun = True
        try:
            yield from self._upright()
        finally:
            self._container.close()

    def _upright(self) -> Iterator[Tensor]:
        image, last = self._first, None
        while image is not None:
            step = max(1, round(1 / (self.picture.rate * self.picture.time_base)))
            late = image.pts is None or (last is not None and image.pts <= last)
            last = (0 if last is None else last + step) if late else int(image.pts)
            self.stamps.append(last)
            yield rgb(image)
            image = next(self._images, None)

    def close(self) -> None:
        """For a source whose frames nobody began to read."""
        if not self._begun:
            self._container.close()

    def _decoded(self) -> Iterator[Any]:
        """Frames from `start` on, before `start + duration`."""
        stream = self._stream
        stream.thread_type = "AUTO"
        base = Fraction(stream.time_base)
        begin, end = int(self.start / base), int((self.start + self.duration) / base)
        if self.start:
            self._container.seek(begin, stream=stream)
        for packet in self._container.demux(stream):
            try:
                images = packet.decode()
            except av.error.InvalidDataError:  # a damaged packet; what follows may be whole
                continue
            for image in images:
                if image.pts is not None and self.duration and image.pts >= end:
                    return
                if image.pts is None or not self.start or image.pts >= begin:
                    yield image

    def _describe(self, image: Any) -> Picture:
        stream = self._stream
        turned = _quarter_turns(image) % 2
        base, rate = Fraction(stream.time_base), Fraction(stream.average_rate or stream.guessed_rate or 25)
        total = stream.duration * base if stream.duration else Fraction(self._container.duration or 0, av.time_base)
        length = self.duration or float(total) - self.start  # Matroska knows the length of the whole only
        whole = stream.frames if not self.is_trimmed else 0
        return Picture(
            width=image.height if turned else image.width,
            height=image.width if turned else image.height,
            time_base=base,
            rate=rate,
            bits=max(component.bits for component in image.format.components),
            primaries=int(image.color_primaries),
            transfer=int(image.color_trc),
            sar=_aspect(stream.sample_aspect_ratio, bool(turned)),
            expected=int(whole or max(length * float(rate), 1)),
        )


class TensorSource:
    """A VIDEO that holds its images in memory."""

    is_trimmed = False
    file = None
    origin = Fraction(0)

    def __init__(self, video: Any):
        parts = video.get_components()
        check(parts.images)
        self._images, self.sound = parts.images, parts.audio
        count, height, width, _ = parts.images.shape
        rate = Fraction(parts.frame_rate).limit_denominator(LARGEST_DENOMINATOR)
        if rate <= 0:
            raise VideoError(f"the VIDEO has {float(parts.frame_rate):g} frames per second; more than 0 are needed")
        self.stamps: list[int] = []
        bits = video.get_bit_depth() if hasattr(video, "get_bit_depth") else 8  # ComfyUI 0.23 has none
        self.picture = Picture(width, height, 1 / rate, rate, bits, UNSET, UNSET, None, count)

    def frames(self) -> Iterator[Tensor]:
        """(3 h w) float32 RGB."""
        for n, image in enumerate(self._images):
            self.stamps.append(n)
            yield frame_of(image)

    def close(self) -> None:
        """Nothing is open."""


def source_of(video: Any) -> FileSource | TensorSource:
    """The frames of a VIDEO. VideoError: without a picture, or trimmed to nothing. Files are recognised by what they
    can do: a stream source of anything else would be encoded with loss first.
    """
    from comfy_api.latest import InputImpl

    return FileSource(video) if isinstance(video, InputImpl.VideoFromFile) else TensorSource(video)


def open_input(file: str | bytes_io.BytesIO) -> Any:
    """An input of its own: what is in memory is not moved for others. VideoError if it is no media file."""
    try:
        return av.open(file if isinstance(file, str) else bytes_io.BytesIO(file.getbuffer()), "r")
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"the VIDEO cannot be opened ({error}); it is no video, or its file is gone") from error


def rgb(image: Any) -> Tensor:
    """A decoded frame as (3 h w) float32 in [0, 1], upright, by the conversion that ComfyUI itself uses."""
    values = image.to_ndarray(format="gbrpf32le")
    turns = _quarter_turns(image)
    return torch.from_numpy(np.ascontiguousarray(np.rot90(values, turns).transpose(2, 0, 1)))


def _quarter_turns(image: Any) -> int:
    return round(getattr(image, "rotation", 0) // 90) % 4


def _aspect(found: Any, turned: bool) -> Fraction | None:
    """Sample aspect ratio; None where it is unset or square."""
    value = Fraction(found) if found else Fraction(1)
    return None if value in (0, 1) else 1 / value if turned else value


def _video_stream(container: Any) -> Any:
    videos = [s for s in container.streams.video if s.codec_context is not None]
    if not videos:
        raise VideoError("the VIDEO holds no pictures, only sound or other data; give a file with a video stream")
    return videos[0]


def _nothing(trimmed: bool) -> str:
    if trimmed:
        return "the VIDEO is trimmed to nothing: no frame lies within the trim; give it a later end or an earlier start"
    return "the VIDEO holds no frame that can be decoded; the file is empty or damaged"
