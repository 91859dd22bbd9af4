"""NIQE against a slow derivation that shares no code with it, and its order on real and synthetic pictures."""

from math import gamma
from pathlib import Path

import cv2
import numpy as np
import pytest

from duovsr_vs.errors import FormatError
from duovsr_vs.metrics.colour import luma
from duovsr_vs.metrics.noreference import PARAMETERS, _contrast, niqe, niqe_plane

PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "train" / "photos"
ALPHAS = 0.2 + 0.001 * np.arange(9801)
RATIOS = np.array([gamma(2 / a) ** 2 / (gamma(1 / a) * gamma(3 / a)) for a in ALPHAS])


def texture(height: int = 192, width: int = 288, seed: int = 0) -> np.ndarray:
    """A picture with detail at all scales, uint8 (h, w, 3)."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width))
    for octave in range(6):
        noise = rng.normal(size=(max(height >> octave, 2), max(width >> octave, 2)))
        total += 2.0**octave * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    grey = np.clip(128 + 40 * total / total.std(), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def aggd(values: np.ndarray) -> tuple[float, float, float]:
    left = np.sqrt(np.mean(values[values < 0] ** 2))
    right = np.sqrt(np.mean(values[values > 0] ** 2))
    g = left / right
    r = np.mean(np.abs(values)) ** 2 / np.mean(values**2) * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
    a = ALPHAS[np.argmin((RATIOS - r) ** 2)]
    scale = np.sqrt(gamma(1 / a) / gamma(3 / a))
    return a, left * scale, right * scale


def block_features(block: np.ndarray) -> list[float]:
    a, left, right = aggd(block)
    features = [a, (left + right) / 2]
    n = len(block)
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        product = np.array([[block[i, j] * block[(i - dy) % n, (j - dx) % n] for j in range(n)] for i in range(n)])
        a, left, right = aggd(product)
        features += [a, (right - left) * gamma(2 / a) / gamma(1 / a), left, right]
    return features


def contrast_slow(plane: np.ndarray, window: np.ndarray) -> np.ndarray:
    h, w = plane.shape
    padded = np.pad(plane, 3, mode="edge")
    shifted = [(window[i, j], padded[i : i + h, j : j + w]) for i in range(7) for j in range(7)]
    mean = sum(k * p for k, p in shifted)
    deviation = np.sqrt(np.abs(sum(k * p * p for k, p in shifted) - mean * mean))
    result = (plane - mean) / (deviation + 1)
    return np.where(np.abs(result) < 1e-9, 0.0, result)


def halve_slow(plane: np.ndarray) -> np.ndarray:
    """Antialiased bicubic, a = -0.5: output i lies at 2 i + 0.5; 8 taps of the kernel stretched by 2; mirrored edge."""

    def kernel(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    weights = np.array([kernel((k - 3.5) / 2) for k in range(8)])
    weights /= weights.sum()
    for _ in range(2):
        padded = np.pad(plane, ((3, 4), (0, 0)), mode="symmetric")
        plane = sum(k * padded[i : i + len(plane) : 2] for i, k in enumerate(weights)).T
    return plane


def niqe_slow(plane: np.ndarray) -> float:
    file = np.load(PARAMETERS)
    rows, columns = plane.shape[0] // 96, plane.shape[1] // 96
    plane = plane[: rows * 96, : columns * 96].astype(np.float64)
    table = []
    scales = [contrast_slow(p, file["gaussian_window"]) for p in (plane, halve_slow(plane))]
    for i in range(rows):
        for j in range(columns):
            whole = scales[0][96 * i : 96 * i + 96, 96 * j : 96 * j + 96]
            half = scales[1][48 * i : 48 * i + 48, 48 * j : 48 * j + 48]
            table.append(block_features(whole) + block_features(half))
    features = np.array(table)
    difference = file["mu_pris_param"].ravel() - features.mean(axis=0)
    inverse = np.linalg.pinv((file["cov_pris_param"] + np.cov(features.T)) / 2)
    return float(np.sqrt(difference @ inverse @ difference))


def test_equals_a_slow_derivation_on_synthetic_texture():
    plane = luma(texture(200, 290))  # edges beyond whole blocks are cut
    assert niqe_plane(plane) == pytest.approx(niqe_slow(plane), rel=1e-9)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_equals_a_slow_derivation_on_photos_of_scikit_image(name: str):
    plane = luma(photo(name))[:288, :384]
    assert niqe_plane(plane) == pytest.approx(niqe_slow(plane), rel=1e-9)


def photo(name: str) -> np.ndarray:
    path = PHOTOS / f"skimage_{name}.jpg"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    return cv2.imread(str(path))[..., ::-1]


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_sharp_photo_is_below_the_blurred_and_the_noisy_one(name: str):
    sharp = photo(name)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 2.0)
    noise = np.random.default_rng(0).normal(0, 40, sharp.shape)
    noisy = np.clip(sharp + noise, 0, 255).astype(np.uint8)
    a, b, c = (niqe(x[None]) for x in (sharp, blurred, noisy))
    assert 2 < a < 5 and a < b < c


def test_flat_areas_have_no_contrast_at_all_so_that_rounding_noise_decides_nothing():
    for level in range(256):
        assert not _contrast(np.full((16, 16), float(level))).any()


def test_blank_blocks_are_left_out_and_a_blank_clip_has_no_score():
    picture = texture(192, 384)
    blank = picture.copy()
    blank[:96, :96] = 50
    assert np.isfinite(niqe(blank[None]))
    assert np.isnan(niqe(np.full((1, 192, 192, 3), 50, np.uint8)))


def test_frames_below_two_blocks_are_refused():
    with pytest.raises(FormatError, match="two whole blocks"):
        niqe(np.zeros((1, 96, 190, 3), np.uint8))
