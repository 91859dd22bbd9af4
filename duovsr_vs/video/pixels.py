"""Pixel formats: libav's names, the planar layout that holds the same samples, and copies between frames and arrays."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError

Family = Literal["gray", "yuv", "rgb"]
SUBSAMPLING = {(1, 1): "420", (1, 0): "422", (0, 0): "444", (0, 1): "440", (2, 0): "411", (2, 2): "410"}
"""(log2 of width divisor, log2 of height divisor) -> the digits in libav's names."""


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """What the samples of a frame are, whatever the order they lie in.

    bits: per sample, 8 to 16, or 16 and 32 when floating.  sub_w, sub_h: log2 of how much narrower and lower the chroma
    planes are.  alpha: a last component says how opaque each pixel is; it is always full range.  full: the name itself
    says full range (yuvj420p).  floating: samples are floating-point numbers (EXR), linear light.
    """

    family: Family
    bits: int
    sub_w: int = 0
    sub_h: int = 0
    alpha: bool = False
    full: bool = False
    floating: bool = False

    @property
    def planar_name(self) -> str:
        """libav's little-endian planar format of these samples: yuv420p10le, gbrap, gray16le, gbrpf32le.

        Gray with alpha has none; its name is that of gray alone.
        """
        deep = "f" * self.floating + (f"{self.bits}le" if self.bits > 8 else "")
        if self.family == "yuv":
            return f"yuv{'a' * self.alpha}{SUBSAMPLING[self.sub_w, self.sub_h]}p{deep}"
        return ("gbrap" if self.alpha else "gbrp") + deep if self.family == "rgb" else "gray" + deep

    @property
    def opaque(self) -> PixelLayout:
        """The same samples without alpha."""
        return replace(self, alpha=False) if self.alpha else self

    @property
    def plane_order(self) -> tuple[int, ...]:
        """Index of the libav plane of each component (Y U V, or R G B: libav stores G, B, R)."""
        return {"gray": (0,), "yuv": (0, 1, 2), "rgb": (2, 0, 1)}[self.family]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Sample type in memory."""
        if self.floating:
            return np.dtype(np.float32 if self.bits == 32 else np.float16)
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    def plane_size(self, component: int, width: int, height: int) -> tuple[int, int]:
        """(width, height) of one component's plane for a frame of the given size; chroma sizes round up."""
        if component == 0 or self.family != "yuv":
            return width, height
        return -(-width >> self.sub_w), -(-height >> self.sub_h)

    def fits(self, width: int, height: int) -> bool:
        """Whether chroma planes divide the frame size exactly."""
        return width % (1 << self.sub_w) == 0 and height % (1 << self.sub_h) == 0

    def without_subsampling(self) -> PixelLayout:
        """The same samples with chroma at full size."""
        return replace(self, sub_w=0, sub_h=0)


@lru_cache(maxsize=256)
def layout_of(name: str) -> PixelLayout:
    """Layout of a libav pixel format by name. Raises FormatError for Bayer, hardware and floating YUV formats."""
    refusal = FormatError(
        f"the pixel format {name} is not supported; gray, YUV or RGB with 8 to 16 bits, or floating RGB, is needed"
    )
    try:
        fmt = av.VideoFormat(name, 64, 64)
    except ValueError:
        raise refusal from None
    if fmt.has_palette:
        return PixelLayout("rgb", 8, alpha=True)
    colour = [c for c in fmt.components if not c.is_alpha]
    alpha = len(colour) < len(fmt.components)
    bits = max((c.bits for c in colour), default=0)
    if match := re.fullmatch(r"(gray|gbra?p)f(16|32)le", name):
        return PixelLayout("gray" if match[1] == "gray" else "rgb", int(match[2]), alpha=alpha, floating=True)
    if bits in range(1, 8):
        bits = 8  # mono, rgb565: libav widens them to 8
    if bits not in (8, 9, 10, 12, 14, 16) or re.match("bayer|xyz", name) or re.search("f16[lb]e$", name):
        raise refusal
    if len(colour) == 1:
        return PixelLayout("gray", bits, alpha=alpha)
    if fmt.is_rgb:
        return PixelLayout("rgb", bits, alpha=alpha)
    sub_w, sub_h = _log2(64 // fmt.chroma_width(64)), _log2(64 // fmt.chroma_height(64))
    if (sub_w, sub_h) not in SUBSAMPLING:
        raise refusal
    return PixelLayout("yuv", bits, sub_w, sub_h, alpha, name.startswith("yuvj"))


def _log2(n: int) -> int:
    return n.bit_length() - 1


@lru_cache(maxsize=256)
def _is_readable_as_planar(name: str) -> bool:
    """Whether each colour component already lies alone in the plane where the planar format has it."""
    fmt, layout = av.VideoFormat(name, 64, 64), layout_of(name)
    if fmt.is_big_endian or fmt.has_palette or any(c.bits != layout.bits for c in fmt.components):
        return False
    planes = [c.plane for c in fmt.components]
    colour = tuple(c.plane for c in fmt.components if not c.is_alpha)
    shifted = name.startswith(("p0", "p2", "p4", "nv20", "gray10msb", "yuv444p10msb", "gbrp10msb", "gbrp12msb"))
    return len(set(planes)) == len(planes) and colour == layout.plane_order and not shifted and "msb" not in name


def to_planar(frame: av.VideoFrame) -> av.VideoFrame:
    """The same colours in planes of their own: the frame itself, or reordered losslessly (NV12, RGB24)."""
    if _is_readable_as_planar(frame.format.name):
        return frame
    return reorder(frame, layout_of(frame.format.name).opaque.planar_name)


def reorder(frame: av.VideoFrame, name: str) -> av.VideoFrame:
    """The frame in another format of the same layout, without loss; the frame itself if it has that format.

    One thread: with several, swscale's slices overwrite the first pixels of their neighbours at some widths. The range
    is named on both sides, so that nothing is rescaled.
    """
    if frame.format.name == name:
        return frame
    if frame.format.is_rgb or frame.format.has_palette:
        return frame.reformat(format=name, threads=1)
    full = 2 if frame.color_range == 2 or layout_of(frame.format.name).full else 1
    return frame.reformat(format=name, threads=1, src_color_range=full, dst_color_range=full)


def plane_array(frame: av.VideoFrame, plane: int, width: int, height: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A (height, width) view of one plane's memory, without copy; it is writable when the frame is."""
    buffer = frame.planes[plane]
    rows = np.frombuffer(buffer, np.uint8)[: buffer.line_size * height].reshape(height, buffer.line_size)
    return rows[:, : width * dtype.itemsize].view(dtype)


def component_arrays(frame: av.VideoFrame, layout: PixelLayout) -> list[NDArray[Any]]:
    """Views of the colour components (Y U V, R G B or gray) of a frame in the layout's planar format."""
    views = []
    for component, plane in enumerate(layout.plane_order):
        width, height = layout.plane_size(component, frame.width, frame.height)
        views.append(plane_array(frame, plane, width, height, layout.dtype))
    return views


def alpha_array(frame: av.VideoFrame) -> NDArray[Any]:
    """(height, width) view of how opaque each pixel is, 0 to the largest sample; the format must have alpha."""
    layout = layout_of(frame.format.name)
    planar = layout if layout.family == "yuv" else replace(layout, family="rgb", alpha=True)
    # Packed formats (RGBA, gray with alpha, palettes) are spread to planes; the colours in them are not used.
    spread = reorder(frame, planar.planar_name)
    return plane_array(spread, 3, frame.width, frame.height, planar.dtype)
