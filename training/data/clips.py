"""Cuts videos and photos into the short clips that a pack holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from math import ceil
from pathlib import Path

import cv2
import numpy as np

from training.data.arrays import U8, generator
from training.data.codec import probe, read_frames
from training.data.motion import Look, move
from training.data.sources import DataError, Source

LOOKS: tuple[Look, ...] = ("sharp", "sharp", "soft")
"""Clips made of each photo."""
CLIP_FRAMES = 24
_SMALLEST = 64


@dataclass(frozen=True, slots=True)
class Clip:
    """HR frames (t, h, w, 3) on their way into a shard, sides multiples of 8."""

    frames: U8
    name: str
    """Tells it from the source's other clips."""
    look: str
    first_frame: int
    fps: float
    bits_per_pixel: float
    """Compressed bits of the source per pixel (and frame, of a video)."""


def spans(frames: int, cuts: Sequence[int], longest: int) -> Iterator[tuple[int, int]]:
    """[start, stop) of clips: nearly equal, at most `longest` frames, never over a cut; single frames are left out."""
    edges = [0, *cuts, frames]
    for start, stop in pairwise(edges):
        parts = ceil((stop - start) / longest)
        marks = [start + round(i * (stop - start) / parts) for i in range(parts + 1)] if parts else []
        yield from ((a, b) for a, b in pairwise(marks) if b - a >= 2)


def _whole_frame(frame: U8) -> U8:
    h, w = (n // 8 * 8 for n in frame.shape[:2])
    top, left = (frame.shape[0] - h) // 2, (frame.shape[1] - w) // 2
    return frame[top : top + h, left : left + w]


def video_clips(source: Source) -> Iterator[Clip]:
    facts = probe(source.path)
    frames, at = read_frames(source.path), 0
    for start, stop in spans(facts.frames, facts.cuts, CLIP_FRAMES):
        chunk = list(islice(frames, start - at, stop - at))
        at = stop
        whole = np.stack([_whole_frame(f) for f in chunk])
        if min(whole.shape[1:3]) < _SMALLEST:
            raise DataError(f"{source.path}: {whole.shape[2]}x{whole.shape[1]} is too small, {_SMALLEST} is needed")
        yield Clip(whole, f"frame {start}", "video", start, facts.fps, facts.bits_per_pixel)


def _read_photo(path: Path) -> U8:
    """(h, w, 3) RGB, upright. A file cut short is refused: the decoder would paint the rest grey."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: it cannot be read ({error.strerror})") from error
    jpeg_cut = data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < data.rfind(
        b"\xff\xda"
    )  # no end after the last scan
    png_cut = data[:4] == b"\x89PNG" and b"IEND" not in data[-64:]
    if jpeg_cut or png_cut:
        raise DataError(f"{path}: the picture is cut short")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:  # larger than OpenCV takes, for instance
        raise DataError(f"{path}: it cannot be read as a picture ({error.err})") from error
    if image is None:
        raise DataError(f"{path}: it cannot be read as a picture")
    return np.ascontiguousarray(image[..., ::-1]).astype(np.uint8, copy=False)


def photo_clips(source: Source, seed: int) -> Iterator[Clip]:
    photo = _read_photo(source.path)
    bits = 8 * source.path.stat().st_size / (photo.shape[0] * photo.shape[1])
    for i, look in enumerate(LOOKS):
        own = int(generator(seed, "photo", source.name, i).integers(2**62))
        yield Clip(move(photo, own, look), f"{look} {i}", look, 0, 24.0, bits)


def sharpness(clip: U8) -> float:
    """Fine detail of the middle frame against detail of twice the size: about 0.2 soft, 0.8 and more sharp."""
    luma = clip[len(clip) // 2].astype(np.float32).mean(axis=-1)
    pooled = cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    fine, coarse = (float(np.abs(x - cv2.blur(x, (3, 3))).mean()) for x in (luma, pooled))
    return fine / (coarse + 1e-3)
