"""Decoded frames <-> planar float RGB, by zimg through VapourSynth: the filter's calls, so the pixels agree.

One frame at a time: a source clip whose only frame is swapped before each request. That costs about 70 us a frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import vapoursynth as vs
from numpy.typing import NDArray

from ..errors import FormatError
from .colour import ColourTags
from .curve import light_from_signal, working_from_light
from .pixels import PixelLayout, component_arrays, to_planar

_ENDLESS = 2**31 - 1
"""Length of the source clip: each conversion asks for the next frame number, so no cache ever answers."""


def zimg_format(layout: PixelLayout) -> Any:
    """VapourSynth's format of a layout; alpha is not part of it."""
    family = {"gray": vs.GRAY, "yuv": vs.YUV, "rgb": vs.RGB}[layout.family]
    kind = vs.FLOAT if layout.floating else vs.INTEGER
    return vs.core.query_video_format(family, kind, layout.bits, layout.sub_w, layout.sub_h)


def _zimg_tags(layout: PixelLayout, tags: ColourTags) -> dict[str, int]:
    """Arguments of resize for one side of a conversion, without their `_in`."""
    named = {"matrix": 0 if layout.family == "rgb" else tags.matrix, "range": int(tags.full)}
    if layout.family == "yuv" and (layout.sub_w or layout.sub_h):
        named["chromaloc"] = tags.chroma_zimg
    return named


@dataclass(slots=True)
class _Slot:
    """Where the graph takes its source frame from."""

    frame: Any = None


class Conversion:
    """One resize call fed by hand: `convert` puts a frame in and takes the converted one out."""

    def __init__(self, source: Any, wide: int, high: int, kernel: str = "Bicubic", **arguments: Any):
        """source: VapourSynth format of frames of wide x high.  kernel: function of `resize`; arguments: of it."""
        blank = vs.core.std.BlankClip(format=source, width=wide, height=high, length=_ENDLESS, keep=True)
        self.source = source
        self.size = wide, high
        self._asked = 0
        # The graph must not hold this object, which holds the graph: Python sees no such circle and never frees it.
        current = self._current = _Slot()
        feed = vs.core.std.ModifyFrame(blank, blank, lambda n, f: current.frame)
        try:
            self._node = getattr(vs.core.resize, kernel)(feed, **arguments)
        except vs.Error as error:
            raise FormatError(
                f"these colours cannot be converted ({error}); name another matrix with --matrix"
            ) from None

    def new_frame(self) -> Any:
        """An empty source frame; its planes are writable."""
        return vs.core.create_video_frame(self.source, *self.size)

    def convert(self, frame: Any) -> Any:
        """The converted frame; the caller closes it. The source frame is closed here."""
        self._current.frame = frame
        try:
            return self._node.get_frame(self._asked % _ENDLESS)
        except vs.Error as error:
            raise FormatError(
                f"these colours cannot be converted ({error}); name another matrix with --matrix"
            ) from None
        finally:
            self._asked += 1
            self._current.frame = None
            frame.close()


class ToRGB:
    """Frames of one size and layout -> (3, height, width) float32 RGB, nominal [0, 1], not clamped.

    Integer samples become their code values, whatever the transfer; floating ones, which are light, become the working
    values of `curve`. Alpha is not looked at.
    """

    def __init__(self, layout: PixelLayout, tags: ColourTags, width: int, height: int):
        """tags.matrix must be resolved (not 2) unless the layout is RGB."""
        self.layout, self.width, self.height = layout, width, height
        if layout.floating:
            return
        given: dict[str, Any] = {f"{name}_in": value for name, value in _zimg_tags(layout, tags).items()}
        # zimg wants whole chroma samples: an odd frame gets one more luma row or column, of any content, since every
        # pixel is converted by itself, and the result is cropped.
        self._padded_w, self._padded_h = _round_up(width, layout.sub_w), _round_up(height, layout.sub_h)
        source = zimg_format(layout)
        self._conversion = Conversion(source, self._padded_w, self._padded_h, format=vs.RGBS, **given)

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.float32]:
        """A fresh array; the frame is only read."""
        if self.layout.floating:
            components = component_arrays(frame, self.layout)
            return working_from_light(np.stack(components if len(components) == 3 else components * 3))
        planar, source = to_planar(frame), self._conversion.new_frame()
        for component, view in enumerate(component_arrays(planar, self.layout)):
            np.asarray(source[component])[: view.shape[0], : view.shape[1]] = view
        with self._conversion.convert(source) as done:
            return np.stack([np.asarray(done[c])[: self.height, : self.width] for c in range(3)])


def _round_up(size: int, log2_step: int) -> int:
    return -(-size >> log2_step) << log2_step


class FromRGB:
    """(3, height, width) float32 RGB -> libav frames of a layout: rounded once, no dithering, saturated.

    Floating layouts (RGB only) get linear light, neither rounded nor saturated. An alpha plane is left to the caller.
    """

    def __init__(self, layout: PixelLayout, tags: ColourTags, width: int, height: int):
        """tags: of the signal that the RGB is; tags.matrix must be resolved (not 2) unless the layout is RGB."""
        self.layout, self.width, self.height = layout, width, height
        self._transfer = tags.transfer
        if layout.floating:
            return
        given: dict[str, Any] = {**_zimg_tags(layout, tags)}
        self._conversion = Conversion(vs.RGBS, width, height, format=zimg_format(layout).id, matrix_in=0, **given)

    def __call__(self, rgb: NDArray[np.float32]) -> av.VideoFrame:
        """A new frame in the layout's planar format, without timestamp."""
        if self.layout.floating:
            return self._floating(rgb)
        source = self._conversion.new_frame()
        for component in range(3):
            np.copyto(np.asarray(source[component]), rgb[component])
        frame = av.VideoFrame(self.width, self.height, self.layout.planar_name)
        with self._conversion.convert(source) as done:
            for component, view in enumerate(component_arrays(frame, self.layout)):
                np.copyto(view, np.asarray(done[component]))
        return frame

    def _floating(self, rgb: NDArray[np.float32]) -> av.VideoFrame:
        frame = av.VideoFrame(self.width, self.height, self.layout.planar_name)
        light = light_from_signal(rgb, self._transfer)
        for view, component in zip(component_arrays(frame, self.layout), light, strict=True):
            np.copyto(view, component)
        return frame
