"""Pairs of files to compare: a source, and what an upscaler could have made of it, with or without a fault."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from duovsr_vs.video.hdr import HdrMetadata, attach

Picture = NDArray[np.uint8]
FRAMES, SIZE, SCALE = 10, (64, 48), 4
"""Frames of the source, its width and height, and how much larger the other file is."""
RATE = 25


def large_pictures(frames: int = FRAMES, size: tuple[int, int] = SIZE, step: int = 3) -> list[Picture]:
    """A texture that pans by `step` pixels a frame, (SCALE h, SCALE w, 3): what an ideal upscaler would give."""
    width, height = size[0] * SCALE, size[1] * SCALE
    noise = np.random.default_rng(5).normal(0, 1, (height + 8, width + step * frames + 8, 3))
    coarse, fine = (cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (9.0, 1.2))
    film = (128 + 90 * coarse + 25 * fine).clip(16, 240).round().astype(np.uint8)
    return [np.ascontiguousarray(film[:height, n * step : n * step + width]) for n in range(frames)]


def small_pictures(large: list[Picture]) -> list[Picture]:
    """The same, shrunk."""
    return [cv2.resize(p, (p.shape[1] // SCALE, p.shape[0] // SCALE), interpolation=cv2.INTER_AREA) for p in large]


def write_clip(
    path: Path, pictures: list[Picture], *, pts: list[int] | None = None, pix_fmt: str = "yuv444p", sound: bool = False,
    language: str = "eng", sound_seconds: float | None = None, sound_late: int = 0, tags: dict[str, int] | None = None,
    chapters: tuple[str, ...] = (), metadata: dict[str, str] | None = None, sar: Fraction | None = None,
    rotation: int = 0, hdr: HdrMetadata | None = None, codec: str = "ffv1",
) -> Path:  # fmt: skip
    """A lossless file of pictures, in BT.709 unless the format is RGB; pts in units of a frame."""
    with av.open(path, "w") as out:
        height, width = pictures[0].shape[:2]
        stream: Any = out.add_stream(codec, rate=RATE, options={"qp": "0"} if codec == "libx264" else {})
        if hdr:
            attach(stream, codec, hdr)
        stream.codec_context.width, stream.codec_context.height, stream.codec_context.pix_fmt = width, height, pix_fmt
        stream.codec_context.framerate, stream.codec_context.thread_count = RATE, 1
        if rotation:
            stream.set_display_rotation(rotation)
        rgb = pix_fmt.startswith(("bgr", "gbr"))
        named = {"colorspace": 0 if rgb else 1, "color_range": 2 if rgb else 1} | {"color_primaries": 1, "color_trc": 1}
        named |= tags or {}
        for name, value in named.items():
            setattr(stream.codec_context, name, value)
        if sar:
            stream.codec_context.sample_aspect_ratio = sar
        track = _sound_track(out, language) if sound else None
        if chapters:
            out.set_chapters([_chapter(n, title) for n, title in enumerate(chapters)])
        out.metadata.update(metadata or {})
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            target = {} if rgb else {"dst_colorspace": 1, "dst_color_range": 1}
            frame = frame.reformat(format=pix_fmt, threads=1, **target)
            frame.pts, frame.time_base = pts[number] if pts else number, Fraction(1, RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if track is not None:
            _play(out, track, sound_seconds or len(pictures) / RATE, sound_late)
    return path


def _sound_track(out: Any, language: str) -> Any:
    track = out.add_stream("aac", rate=16000)
    track.metadata["language"] = language
    return track


def _chapter(number: int, title: str) -> dict[str, Any]:
    span = {"start": 200 * number, "end": 200 * number + 200}
    return {"id": number, "time_base": Fraction(1, 1000), "metadata": {"title": title}, **span}


def _play(out: Any, track: Any, seconds: float, late: int) -> None:
    """late: samples of 1/16000 s by which the sound follows the picture."""
    for begin in range(0, int(16000 * seconds), 1024):
        block = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        block.sample_rate, block.pts, block.time_base = 16000, begin + late, Fraction(1, 16000)
        out.mux(track.encode(block))
    out.mux(track.encode(None))


def pair_of_files(
    folder: Path,
    change: Callable[[list[Picture]], list[Picture]] = list,
    source: dict[str, Any] | None = None,
    **more: Any,
) -> tuple[Path, Path]:
    """(source, upscaled) with sound and a chapter. change makes the fault; source, more: for `write_clip`."""
    large = large_pictures()
    common: dict[str, Any] = {"sound": True, "chapters": ("one",), "metadata": {"title": "A film"}}
    first = write_clip(folder / "a.mkv", small_pictures(large), **(common | (source or {})))
    return first, write_clip(folder / "b.mkv", change([p.copy() for p in large]), **(common | more))
