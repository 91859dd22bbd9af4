"""Round trips through real video codecs in memory, and reading videos: the only file here that knows PyAV."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
import av.error
import numpy as np

from duovsr_vs.errors import DamagedVideoError, VideoError
from duovsr_vs.video.scheduling import usual_scheduling
from training.data.arrays import U8
from training.data.colour import double_chroma, rgb_to_yuv420, yuv_to_rgb

Codec = Literal["x264", "x265", "vp9", "mpeg4", "svtav1"]

# Macroblock-tree rate control makes libx264 give different streams for equal input from one call to the next.
_X264 = "threads=1:sliced-threads=0:lookahead-threads=1:mbtree=0"
_X265 = "pools=none:frame-threads=1:wpp=0:cutree=0:log-level=none:info=0"
_ENCODERS: dict[Codec, str] = {
    "x264": "libx264",
    "x265": "libx265",
    "vp9": "libvpx-vp9",
    "mpeg4": "mpeg4",
    "svtav1": "libsvtav1",
}
FRAME_RATE = 24


def _options(codec: Codec, quality: float, preset: str, gop: int | None) -> dict[str, str]:
    """For one thread and a constant quality. gop None: as far apart as the encoder likes, MPEG-4's twelve."""
    g = {} if gop is None else {"g": str(gop)}
    if codec == "x264":
        return {"crf": f"{quality:.2f}", "preset": preset, "x264-params": f"{_X264}:keyint={gop or 250}"}
    if codec == "x265":
        return {"crf": f"{quality:.2f}", "preset": "ultrafast", "x265-params": _X265, **g}
    if codec == "vp9":
        return {"crf": f"{quality:.0f}", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "0", **g}
    if codec == "svtav1":
        return {"crf": f"{quality:.0f}", "preset": "8", "svtav1-params": "lp=1", **g}
    return {"qmin": f"{quality:.0f}", "qmax": f"{quality:.0f}", **g}


def _encode(
    frames: U8, codec: Codec, options: dict[str, str], rate: int = FRAME_RATE, bit_rate: int | None = None
) -> io.BytesIO:
    """Frames (t, h, w, 3) with even sides to a Matroska file in memory; `bit_rate` in bits per second."""
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 would tell its configuration at every clip; 1 leaves errors
    out = io.BytesIO()
    _, h, w, _ = frames.shape
    with av.open(out, "w", format="matroska") as container:
        stream: Any = container.add_stream(_ENCODERS[codec], rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = w, h, "yuv420p"
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        stream.codec_context.thread_count = 1
        with usual_scheduling():
            container.start_encoding()
        for i, rgb in enumerate(frames):
            planes = np.concatenate([p.reshape(-1) for p in rgb_to_yuv420(rgb)])
            frame = av.VideoFrame.from_ndarray(planes.reshape(h * 3 // 2, w), format="yuv420p")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    out.seek(0)
    return out


def round_trip(frames: U8, codec: Codec, quality: float, preset: str = "medium", gop: int | None = None) -> U8:
    """Encode (t, h, w, 3) RGB to 4:2:0 BT.709 and decode it again; same shape.

    quality: CRF of x264, x265, VP9 and SVT-AV1, quantiser (2..31) of MPEG-4 part 2. preset: of x264. gop: frames from
    one key frame to the next at most. One thread, equal bytes for equal input.
    """
    return _decode(_encode(_padded(frames), codec, _options(codec, quality, preset, gop)), frames, codec)


def round_trip_at_bit_rate(frames: U8, codec: Literal["x264", "mpeg4"], bits_per_frame: int) -> U8:
    """The same at a bit rate instead of a quality: on average `bits_per_frame`, as far as the encoder can keep to it.

    The stream is declared as one frame per second, so that bits per second are bits per frame.
    """
    options = {"x264-params": f"{_X264}:keyint=250"} if codec == "x264" else {}
    return _decode(_encode(_padded(frames), codec, options, rate=1, bit_rate=bits_per_frame), frames, codec)


def _padded(frames: U8) -> U8:
    """Sides even, as x264 wants them, and 16 or more, as x265 does, by repeating the last row and column."""
    more = [(0, max(16, side + side % 2) - side) for side in frames.shape[1:3]]
    return np.pad(frames, ((0, 0), *more, (0, 0)), mode="edge")


def _decode(data: io.BytesIO, frames: U8, codec: Codec) -> U8:
    """What is in the file, cut to the shape of `frames`."""
    t, h, w, _ = frames.shape
    out = np.empty_like(frames)
    count = 0
    with av.open(data, "r") as container:
        container.streams.video[0].codec_context.thread_count = 1
        for count, frame in enumerate(container.decode(video=0), 1):
            out[count - 1] = frame_to_rgb(frame, "709")[:h, :w]
    if count != t:
        raise VideoError(f"the {codec} encoder gave back {count} frames of {t}")
    return out


def frame_to_rgb(frame: Any, matrix: str | None = None) -> U8:
    """One decoded frame as (h, w, 3), turned upright. `matrix` None: from the tags, untagged 709 from 720 lines up."""
    name = frame.format.name
    if frame.format.is_rgb:
        rgb = frame.to_ndarray(format="rgb24")
    else:
        full = frame.color_range == 2 or name.startswith("yuvj")
        name = name.replace("yuvj", "yuv")
        if name not in ("yuv420p", "yuv422p", "yuv444p"):
            frame, name = frame.reformat(format="yuv444p"), "yuv444p"
        y, cb, cr = (np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width] for p in frame.planes)
        u, v = cb.astype(np.float32), cr.astype(np.float32)
        if name != "yuv444p":
            u, v = (double_chroma(c, down=name == "yuv420p")[: y.shape[0], : y.shape[1]] for c in (u, v))
        rgb = yuv_to_rgb(y, u, v, matrix or _matrix(frame), full)
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


def _matrix(frame: Any) -> str:
    known = {1: "709", 4: "601", 5: "601", 6: "601", 9: "2020"}
    return known.get(int(frame.colorspace), "709" if frame.height >= 720 else "601")


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a whole decode of a file found: frames, frames per second, where a new shot starts, and the bit rate."""

    frames: int
    fps: float
    cuts: tuple[int, ...]
    bits_per_pixel: float
    """Of the compressed stream, per frame and pixel."""


def probe(path: Path) -> VideoFacts:
    """Decode the whole file once. VideoError: not a video, interlaced, of several sizes. DamagedVideoError: it ends
    early, or a frame is damaged."""
    cuts: list[int] = []
    spent: list[int] = []
    before: Any = None
    count, size = 0, None
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"{path}: there is no video stream in it")
            stream = container.streams.video[0]
            fps, promised = float(stream.average_rate or 24), stream.frames
            for count, frame in enumerate(_decoded(container, stream, spent), 1):
                size = size or (frame.width, frame.height)
                _check(path, count - 1, frame, size)
                small = _thumbnail(frame)
                if before is not None and float(np.abs(small - before).mean()) > 30.0:
                    cuts.append(count - 1)
                before = small
    except (av.error.FFmpegError, OSError) as error:
        if isinstance(error, VideoError):
            raise
        raise VideoError(f"{path}: it cannot be read as video ({error})") from error
    if not size or count < promised:
        raise DamagedVideoError(f"{path}: {count} of {promised} frames decode, the file is cut short or damaged")
    return VideoFacts(count, fps, tuple(cuts), 8 * sum(spent) / (count * size[0] * size[1]))


def _check(path: Path, number: int, frame: Any, size: tuple[int, int]) -> None:
    """Refuse a frame that is damaged, of another size than the first, or interlaced."""
    if frame.is_corrupt:  # the decoder paints over what is missing and goes on
        raise DamagedVideoError(f"{path}: frame {number} is damaged; cut the file there, or replace it")
    if (frame.width, frame.height) != size:
        raise VideoError(f"{path}: the picture changes its size at frame {number}; cut the file there")
    if frame.interlaced_frame:
        raise VideoError(f"{path}: interlaced video is of no use for training, deinterlace it first")


def _decoded(container: Any, stream: Any, spent: list[int]) -> Iterator[Any]:
    """The frames of a stream; notes the bytes of every packet in `spent`."""
    for packet in container.demux(stream):
        spent.append(packet.size)
        yield from packet.decode()


def _thumbnail(frame: Any) -> Any:
    """About 32 x 32 luma values: enough to see a cut."""
    plane = frame.planes[0] if frame.format.name.startswith("yuv") and frame.format.components[0].bits == 8 else None
    if plane is None:
        plane = frame.reformat(format="gray").planes[0]
    y = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
    return y[:: max(1, y.shape[0] // 32), :: max(1, y.shape[1] // 32)].astype(np.float32)


def read_frames(path: Path) -> Iterator[U8]:
    """The frames of a video in order, each (h, w, 3)."""
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame_to_rgb(frame)
    except av.error.FFmpegError as error:
        raise DamagedVideoError(f"{path}: a frame does not decode ({error})") from error
