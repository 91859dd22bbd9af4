"""Integer samples <-> float RGB on the device that computes, so that a frame crosses the bus in 1 or 2 bytes a sample.

The rules are zimg's, which the hosts use on the CPU: chroma by the cubic kernel with a = −1/2, widened where it is
reduced, mirrored at the border; one rounding to the nearest even, saturated. Codes and ranges are those of ITU-T H.273.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import FormatError
from ..model.resample import cubic_kernel

LUMA = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087),
        9: (0.2627, 0.0593)}  # fmt: skip
"""Matrix code -> share of red and of blue in luma."""


def rgb_from_bytes(frame: Tensor) -> Tensor:
    """(h w 3) uint8 -> (3 h w) float32 in [0, 1]."""
    return (frame.permute(2, 0, 1).float() * (1 / 255)).contiguous()


def bytes_from_rgb(frame: Tensor) -> Tensor:
    """(3 h w) float RGB -> (h w 3) uint8, saturated."""
    return (frame.float() * 255).round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()


@lru_cache(maxsize=32)
def axis_weights(size: int, wanted: int, shift: float) -> Tensor:
    """(wanted size): resampling along one axis; output i lies at (i + ½)·size/wanted + shift of the input."""
    step = size / wanted
    wide = max(step, 1.0)
    taps = max(math.ceil(2 * wide) * 2, 1)
    weights = torch.zeros(wanted, size, dtype=torch.float64)
    for i in range(wanted):
        place = (i + 0.5) * step + shift
        first = math.floor(place - taps / 2 + 0.5)
        values = [cubic_kernel((first + j + 0.5 - place) / wide) for j in range(taps)]
        for j, value in enumerate(values):
            seen = first + j
            mirrored = -1 - seen if seen < 0 else 2 * size - 1 - seen if seen >= size else seen
            weights[i, min(max(mirrored, 0), size - 1)] += value / sum(values)
    return weights.float()


class Yuv:
    """YUV planes of one kind and size <-> RGB.

    width, height: of luma.  sub_w, sub_h: log2 of how much narrower and lower chroma is.  bits: 8 to 16.  matrix: H.273
    code.  full: full range.  left: chroma lies on the left luma sample (MPEG-2's place), else between the two.
    FormatError for a matrix that is none of luma and colour differences, and for sides that chroma does not divide.
    """

    def __init__(
        self, width: int, height: int, device: torch.device, *, sub_w: int = 1, sub_h: int = 1, bits: int = 8,
        matrix: int = 1, full: bool = False, left: bool = True,
    ):  # fmt: skip
        if matrix not in LUMA:
            raise FormatError(f"the matrix {matrix} is not converted on the device; {sorted(LUMA)} are")
        if width % (1 << sub_w) or height % (1 << sub_h):
            raise FormatError(
                f"frames of {width}x{height} with chroma of 1/{1 << sub_w} by 1/{1 << sub_h}: the chroma planes must "
                "divide the frame; crop it or convert it on the host"
            )
        self.bits, self.full = bits, full
        self.red, self.blue = LUMA[matrix]
        small = width >> sub_w, height >> sub_h
        # Where chroma is left, an output on the luma grid lies a quarter of a chroma sample further to the right.
        shift = 0.5 - 0.5 / (1 << sub_w) if left and sub_w else 0.0
        self._wide = axis_weights(small[0], width, shift).to(device) if sub_w else None
        self._narrow = axis_weights(width, small[0], -shift * (1 << sub_w)).to(device) if sub_w else None
        self._tall = axis_weights(small[1], height, 0.0).to(device) if sub_h else None
        self._low = axis_weights(height, small[1], 0.0).to(device) if sub_h else None

    @property
    def _scales(self) -> tuple[float, float, float, float]:
        """Luma's step and offset, chroma's step and offset, in sample values."""
        unit = 1 << (self.bits - 8)
        if self.full:
            top = (1 << self.bits) - 1
            return top, 0.0, top, 128.0 * unit
        return 219.0 * unit, 16.0 * unit, 224.0 * unit, 128.0 * unit

    def to_rgb(self, y: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """Planes (h w) of integers -> (3 h w) float32, nominally in [0, 1], not clamped."""
        step, offset, chroma_step, chroma_offset = self._scales
        luma = (y.float() - offset) / step
        blue, red = (self._resampled((x.float() - chroma_offset) / chroma_step, self._tall, self._wide) for x in (u, v))
        green = 1 - self.red - self.blue
        to_green = (2 * part * (1 - part) / green for part in (self.blue, self.red))
        out = luma.new_empty(3, *luma.shape)
        torch.add(luma, red, alpha=2 * (1 - self.red), out=out[0])
        torch.add(luma, blue, alpha=2 * (1 - self.blue), out=out[2])
        torch.sub(luma, blue, alpha=next(to_green), out=out[1])
        out[1].sub_(red, alpha=next(to_green))
        return out

    def from_rgb(self, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(3 h w) float -> planes of uint8, or of uint16 above 8 bits."""
        step, offset, chroma_step, chroma_offset = self._scales
        red, green, blue = rgb.float()
        luma = self.red * red + (1 - self.red - self.blue) * green + self.blue * blue
        u, v = (blue - luma) / (2 * (1 - self.blue)), (red - luma) / (2 * (1 - self.red))
        u, v = (self._resampled(x, self._low, self._narrow) for x in (u, v))
        return (
            self._rounded(luma * step + offset),
            self._rounded(u * chroma_step + chroma_offset),
            self._rounded(v * chroma_step + chroma_offset),
        )

    @staticmethod
    def _resampled(x: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
        x = x if rows is None else rows @ x
        return x if columns is None else x @ columns.T

    def _rounded(self, x: Tensor) -> Tensor:
        kind = torch.uint8 if self.bits == 8 else torch.uint16
        return x.round_().clamp_(0, (1 << self.bits) - 1).to(kind)
