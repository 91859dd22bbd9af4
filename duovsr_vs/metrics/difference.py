"""CIEDE2000: how different two colours look; about 1 is the smallest difference that is seen side by side.

Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula: implementation notes, supplementary test data, and
mathematical observations", 2005; the equation numbers are theirs. The test holds pairs of their table.
"""

import numpy as np
from numpy.typing import NDArray

from .colour import Samples
from .resample import resize

type Real = NDArray[np.float64]

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""Linear sRGB to XYZ (IEC 61966-2-1); its rows sum to the white point D65, so that grey has a = b = 0."""
_CELL = 8
"""Source pixels between the places of `colour_drift`: fine detail and codec noise average out, patches do not."""
_POWER = 25.0**7


def lab(rgb: Samples) -> Real:
    """CIE L*a*b* under D65 of sRGB code values (..., 3) in 0..255; what lies outside is clamped."""
    coded = np.clip(rgb.astype(np.float64) / 255.0, 0.0, 1.0)
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    share = (linear @ _TO_XYZ.T) / _TO_XYZ.sum(axis=1)
    root = np.where(share > (6 / 29) ** 3, np.cbrt(share), share * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _hue(a: Real, b: Real) -> Real:
    """Angle in degrees, 0..360; 0 for grey (eq. 7)."""
    return np.degrees(np.arctan2(b, a)) % 360.0


def _hue_difference(h1: Real, h2: Real, product: Real) -> Real:
    """h2 − h1 the short way round, 0 where one of the colours is grey (eq. 10)."""
    apart = h2 - h1
    apart = np.where(apart > 180, apart - 360, np.where(apart < -180, apart + 360, apart))
    return np.where(product == 0, 0.0, apart)


def _hue_mean(h1: Real, h2: Real, product: Real) -> Real:
    """The angle halfway on the short way; the sum where one of the colours is grey (eq. 14)."""
    total = h1 + h2
    turned = np.where(total < 360, total + 360, total - 360)
    mean = np.where(np.abs(h1 - h2) <= 180, total, turned) / 2
    return np.where(product == 0, total, mean)


def ciede2000(one: Samples, other: Samples) -> Real:
    """ΔE00 of L*a*b* colours (..., 3), with kL = kC = kH = 1: shape (...). Symmetric, 0 for equal colours."""
    (l1, a1, b1), (l2, a2, b2) = (np.moveaxis(np.asarray(x, np.float64), -1, 0) for x in (one, other))
    chroma7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    grey = 1.5 - 0.5 * np.sqrt(chroma7 / (chroma7 + _POWER))  # 1 + G, eq. 4
    a1, a2 = a1 * grey, a2 * grey
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2, product = _hue(a1, b1), _hue(a2, b2), c1 * c2
    lightness, chroma = l2 - l1, c2 - c1
    hue = 2 * np.sqrt(product) * np.sin(np.radians(_hue_difference(h1, h2, product)) / 2)  # eq. 11
    mean_l, mean_c, mean_h = (l1 + l2) / 2, (c1 + c2) / 2, _hue_mean(h1, h2, product)
    waves = [(0.17, 1, -30), (-0.24, 2, 0), (-0.32, 3, 6), (0.20, 4, -63)]  # eq. 15
    t = 1.0 - sum(size * np.cos(np.radians(times * mean_h + shift)) for size, times, shift in waves)
    turn = 30.0 * np.exp(-(((mean_h - 275.0) / 25.0) ** 2))
    blue = -2 * np.sqrt(mean_c**7 / (mean_c**7 + _POWER)) * np.sin(np.radians(2 * turn))  # R_T, eq. 17 and 21
    off = (mean_l - 50.0) ** 2
    lightness = lightness / (1.0 + 0.015 * off / np.sqrt(20.0 + off))
    chroma = chroma / (1.0 + 0.045 * mean_c)
    hue = hue / (1.0 + 0.015 * mean_c * t)
    result: Real = np.sqrt(np.maximum(lightness**2 + chroma**2 + hue**2 + blue * chroma * hue, 0.0))
    return result


def colour_drift(small: Samples, large: Samples) -> float:
    """ΔE00 between two frames of one picture at different sizes: mean over places of 8x8 pixels of the smaller one.

    small: (h, w, 3), large: (H, W, 3), code values 0..255, taken as sRGB whatever they are; for HDR the figure compares
    and does not say how it looks.  Both are shrunk (antialiased) to the same few places first.
    """
    height, width = max(small.shape[0] // _CELL, 1), max(small.shape[1] // _CELL, 1)
    ours, theirs = (lab(resize(frame, height, width)) for frame in (small, large))
    return float(ciede2000(ours, theirs).mean())
