"""Videos as frames to compare: brightness of every frame, RGB of some, several files in step and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..video.colour import ColourTags, resolve_matrix
from ..video.convert import ToRGB
from ..video.pixels import component_arrays, to_planar
from ..video.probe import Scan
from ..video.reader import Frame, VideoInfo, VideoReader

type Picture = NDArray[np.uint8]
"""(h, w, 3) RGB, 0..255."""
type Plane = NDArray[np.float32]
"""(h, w) brightness, 0 black to 1 white."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One decoded frame of a clip; pixels are made when they are asked for."""

    clip: Clip
    frame: Frame

    @property
    def time(self) -> Fraction:
        """Seconds on the file's clock."""
        return self.frame.pts * self.clip.info.time_base

    def brightness(self) -> Plane:
        """Luma as it is stored (green of RGB), 0 black to 1 white; not clamped: what is beyond stays visible."""
        layout, tags = self.clip.info.layout, self.clip.tags
        plane = self._components()[1 if layout.family == "rgb" else 0]
        if layout.floating:
            return plane.astype(np.float32)
        low, high = (0, (1 << layout.bits) - 1) if tags.full else (16 << layout.bits - 8, 235 << layout.bits - 8)
        return (plane.astype(np.float32) - np.float32(low)) / np.float32(high - low)

    def finite(self) -> bool:
        """Whether every sample is a finite number; only floating formats can hold others."""
        return not self.clip.info.layout.floating or all(bool(np.isfinite(part).all()) for part in self._components())

    def _components(self) -> list[NDArray[Any]]:
        return component_arrays(to_planar(self.frame.image), self.clip.info.layout)

    def values(self) -> NDArray[np.float32]:
        """RGB (3, h, w), nominally 0..1, neither rounded nor clamped."""
        return self.clip.to_rgb(self.frame.image)

    def picture(self) -> Picture:
        """RGB (h, w, 3) in 8 bits."""
        return to_picture(self.values())


def to_picture(values: NDArray[np.float32]) -> Picture:
    """(3, h, w) float RGB as (h, w, 3) in 8 bits; what is not finite becomes black."""
    scaled = np.nan_to_num(values * np.float32(255), nan=0.0, posinf=255.0, neginf=0.0)
    return np.ascontiguousarray(scaled.round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


class Clip:
    """A video that is open for comparison: the pixels that duovsr itself would see. Used as a context manager."""

    def __init__(self, source: str, threads: int = 2, *, scan: Scan | None = None, matrix: int | None = None):
        """scan: the packet table, if it is known.  matrix: instead of the file's own.

        Raises VideoError and FormatError as the reader does; interlaced frames are taken as whole pictures.
        """
        self.reader = VideoReader(source, assume_progressive=True, threads=threads, scan=scan)
        info = self.reader.info
        self.tags: ColourTags
        self.tags, self.matrix_note = resolve_matrix(info.tags, info.layout, info.height, matrix)
        self._to_rgb: ToRGB | None = None

    @property
    def info(self) -> VideoInfo:
        """What the file is."""
        return self.reader.info

    def to_rgb(self, image: Any) -> NDArray[np.float32]:
        """A decoded frame as RGB (3, h, w), with the file's own tags."""
        if self._to_rgb is None:
            self._to_rgb = ToRGB(self.info.layout, self.tags, self.info.width, self.info.height)
        return self._to_rgb(image)

    def shots(self, start: int = 0, stop: int | None = None) -> Iterator[Shot]:
        """Frames [start, stop) in order; packets of other streams are dropped, so that memory stays flat."""
        for frame in self.reader.frames(start, stop):
            self.reader.packets.clear()
            yield Shot(self, frame)

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()


def opened(stack: ExitStack, sources: list[str]) -> list[Clip]:
    """Clips that close with the stack."""
    return [stack.enter_context(Clip(source)) for source in sources]
