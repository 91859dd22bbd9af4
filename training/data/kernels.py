"""Blur kernels of the RealBasicVSR degradation: seven shapes, each a formula of the place (x, y) and a few numbers."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from training.data.arrays import F32

F64 = npt.NDArray[np.float64]
Shape = Literal["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso", "sinc"]

_ANGLES = (np.arange(128) + 0.5) * (np.pi / 128)


def _grid(size: int) -> tuple[F64, F64]:
    """y, x of a kernel of odd `size`, 0 in the middle."""
    reach = size // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    return y, x


def _distance(size: int, sigma_x: float, sigma_y: float, angle: float) -> F64:
    """(p, Σ⁻¹ p) with Σ = R diag(σx², σy²) Rᵀ, R a turn by `angle` radians."""
    y, x = _grid(size)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    squared: F64 = np.square(along / sigma_x) + np.square(across / sigma_y)
    return squared


def _bessel_j1(x: F64) -> F64:
    """J₁(x) = 1/π ∫ cos(a − x sin a) da over [0, π]; the midpoint rule is exact to 1e-12 for |x| < 60."""
    mean: F64 = np.cos(_ANGLES - x[..., None] * np.sin(_ANGLES)).mean(axis=-1)
    return mean


def _sinc(size: int, omega: float) -> F64:
    """Ideal round low pass of cut-off ω radians per pixel: ω J₁(ω r) / (2π r), ω²/4π in the middle."""
    radius = np.hypot(*_grid(size))
    middle = radius == 0
    radius[middle] = 1.0
    kernel = omega * _bessel_j1(omega * radius) / (2 * np.pi * radius)
    kernel[middle] = omega * omega / (4 * np.pi)
    return kernel


def blur_kernel(
    shape: Shape, size: int, sigma_x: float, sigma_y: float, angle: float, beta: float, omega: float
) -> F32:
    """(size, size), sum 1; size odd, sigmas in pixels, angle and ω in radians. With d = (p, Σ⁻¹ p):

    gaussian exp(−d/2);  generalized exp(−d^β/2);  plateau 1/(1 + d^β);  sinc: of ω alone.
    The isotropic shapes use sigma_x only. Each shape ignores the numbers that its formula does not name.
    """
    if shape == "sinc":
        kernel = _sinc(size, omega)
    else:
        round_one = shape.endswith("iso") and not shape.endswith("aniso")
        d = _distance(size, sigma_x, sigma_x if round_one else sigma_y, 0.0 if round_one else angle)
        if shape.startswith("plateau"):
            kernel = 1 / (1 + d**beta)
        else:
            kernel = np.exp(-0.5 * (d**beta if shape.startswith("generalized") else d))
    return (kernel / kernel.sum()).astype(np.float32)
