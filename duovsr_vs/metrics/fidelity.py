"""Distances to the ground truth: PSNR, SSIM and the share of fine detail that is there."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from .colour import Samples, check_pair, luma

_PEAK = 255.0
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
_DETAIL_SIGMA = 1.5
"""Gaussian whose gain is 1/2 at a period of 8 pixels, the finest that a four times smaller frame can hold."""


def _decibel(mse: float) -> float:
    return 10.0 * float(np.log10(_PEAK**2 / mse)) if mse > 0 else float("inf")


def psnr(reference: Samples, clip: Samples) -> float:
    """PSNR in dB, 10 log10(255² / mse) for each frame (all channels together), then the mean over frames.

    Both: (t, h, w, 3) RGB in 0..255, any real type. Equal clips give infinity.
    """
    check_pair(reference, clip)
    pairs = zip(reference, clip, strict=True)
    return float(np.mean([_decibel(float(np.mean((a.astype(np.float64) - b) ** 2))) for a, b in pairs]))


def psnr_y(reference: Samples, clip: Samples) -> float:
    """PSNR in dB of the BT.601 limited-range luma (of 8-bit RGB, itself not rounded), peak 255; mean over frames.

    The convention of BasicSR and DOVE, whole frame (crop 0). Both: (t, h, w, 3) RGB in 0..255.
    Luma rounded to 8 bits gives 0.01 dB less.
    """
    check_pair(reference, clip)
    pairs = zip(reference, clip, strict=True)
    return float(np.mean([_decibel(float(np.mean((luma(a, False) - luma(b, False)) ** 2))) for a, b in pairs]))


def _smooth(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian window mean at every place where the window fits ('valid')."""
    kernel = cv2.getGaussianKernel(_WINDOW, _SIGMA, cv2.CV_64F)
    half = _WINDOW // 2
    full: Samples = cv2.sepFilter2D(plane, cv2.CV_64F, kernel, kernel)
    return full[half:-half, half:-half]


def _ssim_plane(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    mx, my = _smooth(x), _smooth(y)
    vx, vy, vxy = _smooth(x * x) - mx * mx, _smooth(y * y) - my * my, _smooth(x * y) - mx * my
    score = (2 * mx * my + _C1) * (2 * vxy + _C2) / ((mx * mx + my * my + _C1) * (vx + vy + _C2))
    return float(score.mean())


def ssim(reference: Samples, clip: Samples) -> float:
    """SSIM of Wang et al. 2004 on the rounded BT.601 luma, mean over valid window places, then over frames.

    SSIM = (2 μx μy + C1)(2 σxy + C2) / ((μx² + μy² + C1)(σx² + σy² + C2)), Gaussian window 11x11 of sigma 1.5,
    C1 = (0.01·255)², C2 = (0.03·255)².  Both: (t, h, w, 3) RGB in 0..255, h and w >= 11.
    """
    check_pair(reference, clip)
    if min(reference.shape[1:3]) < _WINDOW:
        raise FormatError(f"SSIM: frames of {reference.shape[2]}x{reference.shape[1]} found, 11x11 or more is needed")
    return float(np.mean([_ssim_plane(luma(a), luma(b)) for a, b in zip(reference, clip, strict=True)]))


def detail_energy(clip: Samples) -> float:
    """Mean square of Y − G_1.5 * Y: the energy above what a four times smaller frame can hold, in (1/255)² units.

    clip: (t, h, w, 3) RGB in 0..255.  Y is BT.601 luma, not rounded; mean over pixels and frames.
    """
    total = 0.0
    for frame in clip:
        y = luma(frame, rounded=False)
        low = cv2.GaussianBlur(y, (0, 0), _DETAIL_SIGMA, borderType=cv2.BORDER_REPLICATE)
        total += float(np.mean((y - low) ** 2))
    return total / len(clip)


def detail_ratio(reference: Samples, clip: Samples) -> float:
    """High-frequency energy of `clip` over that of the ground truth (`detail_energy` of both); 1 is as much as there.

    A reference without any detail gives NaN.
    """
    check_pair(reference, clip)
    own = detail_energy(reference)
    return detail_energy(clip) / own if own > 0 else float("nan")
