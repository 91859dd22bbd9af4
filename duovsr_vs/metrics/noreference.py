"""NIQE: how far a picture's local statistics are from those of pristine photos; no reference is needed.

Mittal, Soundararajan and Bovik, "Making a completely blind image quality analyzer", 2013, with the pristine model and
the conventions of BasicSR: limited-range luma rounded to 8 bits, blocks of 96x96, no sharpness selection.

Checked against published values of the authors' MATLAB code: five distorted pictures of TID2013, as the calibration
results of chaofengc/IQA-PyTorch give them, on their grey, MATLAB's full-range rgb2gray in 8 bits (`niqe_plane`):

    picture        I03       I04      I06      I08      I19
    published      15.7536   3.6549   3.2355   3.1840   8.6352
    here           15.7460   3.6549   3.2343   3.2020   8.6655
"""

from dataclasses import dataclass
from functools import lru_cache
from math import lgamma
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from .colour import Samples, check_clip, luma
from .resample import resize

type Real = NDArray[np.float64]

_BLOCK = 96
_FLAT = 1e-9
"""Contrast below this is rounding noise: 8-bit steps leave 1e-6 or more."""
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
PARAMETERS = Path(__file__).with_name("niqe_pris_params.npz")


@dataclass(frozen=True)
class _Pristine:
    mean: Real  # (36,)
    covariance: Real  # (36, 36)
    window: Real  # (7,): the file's 7x7 window is its outer product


@dataclass(frozen=True)
class _ShapeTable:
    """What depends on the shape α alone, on the grid 0.2, 0.201, … 10."""

    alpha: Real
    ratio: Real  # Γ(2/α)² / (Γ(1/α) Γ(3/α)), rising with α
    scale: Real  # sqrt(Γ(1/α) / Γ(3/α))
    mean: Real  # Γ(2/α) / Γ(1/α)


@lru_cache(maxsize=1)
def _pristine() -> _Pristine:
    with np.load(PARAMETERS) as file:
        window = file["gaussian_window"]
        return _Pristine(file["mu_pris_param"].ravel(), file["cov_pris_param"], window.sum(axis=1) / window.sum())


@lru_cache(maxsize=1)
def _shapes() -> _ShapeTable:
    alpha = np.arange(200, 10001) / 1000.0
    g1, g2, g3 = (np.array([lgamma(k / a) for a in alpha]) for k in (1, 2, 3))
    return _ShapeTable(alpha, np.exp(2 * g2 - g1 - g3), np.exp((g1 - g3) / 2), np.exp(g2 - g1))


def _contrast(plane: Real) -> Real:
    """(x − μ) / (σ + 1) with Gaussian-weighted local mean and deviation, edges repeated.

    In flat areas the difference is pure rounding noise whose sign would decide the counts of `_fit`: it is set to 0.
    """
    window = _pristine().window
    mu = cv2.sepFilter2D(plane, cv2.CV_64F, window, window, borderType=cv2.BORDER_REPLICATE)
    square = cv2.sepFilter2D(plane * plane, cv2.CV_64F, window, window, borderType=cv2.BORDER_REPLICATE)
    contrast: Real = (plane - mu) / (np.sqrt(np.abs(square - mu * mu)) + 1.0)
    contrast[np.abs(contrast) < _FLAT] = 0.0
    return contrast


def _fit(x: Real) -> tuple[Real, Real, Real, Real]:
    """Asymmetric generalised Gaussian of each row by moment matching (Lasmar et al. 2009).

    x: (n, samples).  Returns α, β_left, β_right and the mean (β_right − β_left) Γ(2/α)/Γ(1/α), each (n,); NaN where
    a row has no sample on one side.
    """
    table = _shapes()
    low, high = np.minimum(x, 0.0), np.maximum(x, 0.0)
    low_square, high_square = np.einsum("ij,ij->i", low, low), np.einsum("ij,ij->i", high, high)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.sqrt(low_square / np.count_nonzero(low, axis=1))
        right = np.sqrt(high_square / np.count_nonzero(high, axis=1))
        skew = left / right
        ratio = (high - low).mean(axis=1) ** 2 * x.shape[1] / (low_square + high_square)
        target = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    after = np.clip(np.searchsorted(table.ratio, target), 1, len(table.ratio) - 1)
    nearer = target - table.ratio[after - 1] <= table.ratio[after] - target
    at = after - nearer
    beta_left, beta_right = left * table.scale[at], right * table.scale[at]
    alpha = np.where(np.isnan(target), np.nan, table.alpha[at])
    return alpha, beta_left, beta_right, (beta_right - beta_left) * table.mean[at]


def _features(contrast: Real, size: int) -> Real:
    """18 features of each size x size block: (blocks, 18)."""
    rows, columns = contrast.shape[0] // size, contrast.shape[1] // size
    blocks = contrast.reshape(rows, size, columns, size).swapaxes(1, 2).reshape(rows * columns, size, size)
    alpha, left, right, _ = _fit(blocks.reshape(len(blocks), -1))
    found = [alpha, (left + right) / 2]
    for shift in _SHIFTS:  # products with a neighbour, wrapped round inside the block
        product = blocks * np.roll(blocks, shift, axis=(1, 2))
        alpha, left, right, mean = _fit(product.reshape(len(blocks), -1))
        found += [alpha, mean, left, right]
    return np.stack(found, axis=1)


def niqe_plane(plane: Samples) -> float:
    """NIQE of one luma plane (h, w) in 0..255; lower is more natural.

    sqrt((ν − ν_p)ᵀ ((Σ + Σ_p) / 2)⁺ (ν − ν_p)) with mean ν and covariance Σ of the features over the blocks; what is
    left over at the right and lower edge is cut off.  Raises FormatError below two whole 96x96 blocks.
    NaN where fewer than two blocks have any texture.
    """
    rows, columns = plane.shape[0] // _BLOCK, plane.shape[1] // _BLOCK
    if rows * columns < 2:
        found = f"{plane.shape[1]}x{plane.shape[0]}"
        raise FormatError(f"NIQE: a frame of {found} found, two whole blocks of 96x96 pixels are needed at least")
    whole = plane[: rows * _BLOCK, : columns * _BLOCK].astype(np.float64)
    half = resize(whole, whole.shape[0] // 2, whole.shape[1] // 2, edge="mirror")
    features = np.hstack([_features(_contrast(whole), _BLOCK), _features(_contrast(half), _BLOCK // 2)])
    complete = features[~np.isnan(features).any(axis=1)]
    if len(complete) < 2:
        return float("nan")
    pristine = _pristine()
    away = pristine.mean - np.nanmean(features, axis=0)
    inverse = np.linalg.pinv((pristine.covariance + np.cov(complete, rowvar=False)) / 2)
    return float(np.sqrt(away @ inverse @ away))


def niqe_frames(clip: Samples) -> list[float]:
    """NIQE of each frame's rounded BT.601 luma.  clip: (t, h, w, 3) RGB in 0..255."""
    check_clip(clip)
    return [niqe_plane(luma(frame)) for frame in clip]


def niqe(clip: Samples) -> float:
    """Mean of `niqe_frames` over the frames that have one (a blank frame has none)."""
    scores = [score for score in niqe_frames(clip) if not np.isnan(score)]
    return float(np.mean(scores)) if scores else float("nan")
