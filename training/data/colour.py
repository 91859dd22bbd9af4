"""Exact conversions between RGB and the YUV planes of video, in float, and the sRGB transfer for linear light.

Chroma of 4:2:0 sits where MPEG-2 and H.264 put it: on the left column of its 2x2 block, half-way down.
"""

from __future__ import annotations

import numpy as np

from training.data.arrays import F32, U8, to_u8

KR_KB = {"709": (0.2126, 0.0722), "601": (0.299, 0.114), "2020": (0.2627, 0.0593)}
"""Luma weights of red and blue per matrix."""


def _halve_chroma(plane: F32) -> F32:
    left = np.concatenate((plane[:, :1], plane[:, :-1]), axis=1)
    right = np.concatenate((plane[:, 1:], plane[:, -1:]), axis=1)
    across = (0.5 * plane + 0.25 * (left + right))[:, 0::2]
    return np.float32(0.5) * (across[0::2] + across[1::2])


def double_chroma(plane: F32, down: bool = True) -> F32:
    """(h, w) chroma of 4:2:0, or of 4:2:2 with `down` False, at full size by linear interpolation."""
    tall = plane
    if down:
        above, below = np.concatenate((plane[:1], plane[:-1])), np.concatenate((plane[1:], plane[-1:]))
        tall = np.empty((plane.shape[0] * 2, plane.shape[1]), np.float32)
        tall[0::2] = 0.75 * plane + 0.25 * above
        tall[1::2] = 0.75 * plane + 0.25 * below
    right = np.concatenate((tall[:, 1:], tall[:, -1:]), axis=1)
    out = np.empty((tall.shape[0], tall.shape[1] * 2), np.float32)
    out[:, 0::2] = tall
    out[:, 1::2] = 0.5 * (tall + right)
    return out


def rgb_to_yuv420(rgb: U8) -> tuple[U8, U8, U8]:
    """(h, w, 3) with even sides -> Y (h, w), Cb and Cr (h/2, w/2): BT.709, limited range, each rounded once."""
    kr, kb = KR_KB["709"]
    r, g, b = (rgb[..., i].astype(np.float32) for i in range(3))
    y = np.float32(kr) * r + np.float32(1 - kr - kb) * g + np.float32(kb) * b
    cb = (b - y) * np.float32(112.0 / 255.0 / (1.0 - kb))
    cr = (r - y) * np.float32(112.0 / 255.0 / (1.0 - kr))
    luma = to_u8(np.float32(219.0 / 255.0) * y + 16.0)
    return luma, to_u8(_halve_chroma(cb) + 128.0), to_u8(_halve_chroma(cr) + 128.0)


def yuv_to_rgb(y: U8, cb: F32, cr: F32, matrix: str = "709", full: bool = False) -> U8:
    """Planes of one size, nominal 8-bit values, -> (h, w, 3), rounded once. Chroma may be fractional."""
    kr, kb = KR_KB[matrix]
    offset, luma, chroma = (0.0, 1.0, 1.0) if full else (16.0, 255.0 / 219.0, 255.0 / 224.0)
    light = (y.astype(np.float32) - np.float32(offset)) * np.float32(luma)
    blue = (cb - 128.0) * np.float32(chroma * 2.0 * (1.0 - kb))
    red = (cr - 128.0) * np.float32(chroma * 2.0 * (1.0 - kr))
    out = np.empty((*y.shape, 3), np.uint8)
    out[..., 0] = to_u8(light + red)
    out[..., 1] = to_u8(light - np.float32(kb / (1 - kr - kb)) * blue - np.float32(kr / (1 - kr - kb)) * red)
    out[..., 2] = to_u8(light + blue)
    return out


def _srgb_to_linear(x: F32) -> F32:
    low = x / 12.92
    high = ((x + 0.055) / 1.055) ** 2.4
    return np.where(x <= 0.04045, low, high).astype(np.float32)


def _linear_to_srgb(x: F32) -> F32:
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * np.maximum(x, 0.0031308) ** (1 / 2.4) - 0.055).astype(np.float32)


_TO_LINEAR = _srgb_to_linear((np.arange(256) / 255.0).astype(np.float32))
_FROM_LINEAR = to_u8(255.0 * _linear_to_srgb((np.arange(65536) / 65535.0).astype(np.float32)))


def to_linear(image: U8) -> F32:
    """sRGB 0..255 -> light in [0, 1]."""
    result: F32 = _TO_LINEAR[image]
    return result


def from_linear(light: F32) -> U8:
    """Light, clamped to [0, 1], -> sRGB 0..255."""
    level = np.clip(light * np.float32(65535.0) + np.float32(0.5), 0, 65535).astype(np.uint16)
    result: U8 = _FROM_LINEAR[level]
    return result
