"""Alpha: it never meets the model. Each frame's plane goes past the engine and is enlarged exactly to the output size.

Lanczos with three lobes on the plane alone, so that opaque stays opaque and clear stays clear; colours are taken as
straight (not premultiplied), as libav hands them over.
"""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from .convert import Conversion, zimg_format
from .encoding import Encoding
from .pixels import PixelLayout, alpha_array, layout_of, plane_array
from .reader import Frame, VideoReader


class AlphaPlanes:
    """The alpha planes of frames between reader and writer, by frame number. Two threads: one puts, one takes."""

    def __init__(self, source: PixelLayout, target: PixelLayout, before: tuple[int, int], after: tuple[int, int]):
        """source, target: layouts with alpha.  before, after: (width, height) of frames read and written."""
        self._target, self._after = target, after
        self._held: dict[int, NDArray[Any]] = {}
        self._source_floats = source.floating
        given = _as_gray(source)
        result = _as_gray(target)
        self._resize = Conversion(
            zimg_format(given), *before, kernel="Lanczos", format=zimg_format(result).id, width=after[0],
            height=after[1], range_in=1, range=1,
        )  # fmt: skip

    @classmethod
    def of(cls, reader: VideoReader, encoding: Encoding, size: tuple[int, int]) -> AlphaPlanes | None:
        """Those of a reader's frames, for a writer of that encoding and (width, height); None if there are none to
        keep. To be called before the reader gives its frames.
        """
        info = reader.info
        if not (info.layout.alpha and encoding.layout.alpha):
            return None
        planes = cls(info.layout, encoding.layout, (info.width, info.height), size)

        def watch(frame: Frame) -> None:
            planes.put(frame.number, frame.image)

        reader.watch = watch
        return planes

    def put(self, number: int, frame: av.VideoFrame) -> None:
        """Keep the plane of a frame until it is taken or a later one is."""
        plane = alpha_array(frame)
        self._held[number] = plane.astype(np.float32) if self._source_floats else plane.copy()

    def take(self, number: int) -> NDArray[Any]:
        """The enlarged plane of a frame, (height, width) of the target's samples; forgets all frames up to it."""
        plane = self._held[number]
        for old in [n for n in list(self._held) if n <= number]:
            del self._held[old]
        source = self._resize.new_frame()
        np.copyto(np.asarray(source[0]), plane)
        with self._resize.convert(source) as done:
            return np.clip(np.asarray(done[0]), 0, 1) if self._target.floating else np.array(done[0])

    def fill(self, number: int, frame: av.VideoFrame) -> None:
        """Write a frame's enlarged plane into an output frame in the target's planar format."""
        layout = layout_of(frame.format.name)
        np.copyto(plane_array(frame, 3, frame.width, frame.height, layout.dtype), self.take(number))


def fill_opaque(frame: av.VideoFrame) -> None:
    """Make an output frame in a planar format with alpha opaque everywhere."""
    layout = layout_of(frame.format.name)
    opaque = 1 if layout.floating else (1 << layout.bits) - 1
    plane_array(frame, 3, frame.width, frame.height, layout.dtype)[:] = opaque


def _as_gray(layout: PixelLayout) -> PixelLayout:
    return PixelLayout("gray", 32 if layout.floating else layout.bits, floating=layout.floating)
