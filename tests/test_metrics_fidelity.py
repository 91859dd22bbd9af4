"""PSNR, SSIM and detail against hand-made values and a slow derivation."""

import math

import numpy as np
import pytest

from duovsr_vs.errors import FormatError
from duovsr_vs.metrics.colour import luma
from duovsr_vs.metrics.fidelity import detail_ratio, psnr, psnr_y, ssim


def clip(seed: int = 0, frames: int = 2, height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def test_luma_spans_16_to_235_and_rounds_to_whole_numbers():
    white, black, red = (np.array(c, np.uint8) for c in ((255, 255, 255), (0, 0, 0), (255, 0, 0)))
    assert luma(white) == 235 and luma(black) == 16
    assert luma(red, rounded=False) == pytest.approx(81.481)
    assert luma(red) == 81


def test_psnr_of_a_known_error():
    dark = np.zeros((1, 8, 8, 3), np.uint8)
    assert psnr(dark, dark + 1) == pytest.approx(20 * math.log10(255))
    assert psnr(dark, dark) == math.inf


def test_psnr_is_the_mean_of_the_frames_decibels():
    a = np.zeros((2, 8, 8, 3), np.uint8)
    b = np.stack([a[0] + 1, a[1] + 10])
    assert psnr(a, b) == pytest.approx((psnr(a[:1], b[:1]) + psnr(a[1:], b[1:])) / 2)


def test_psnr_y_weighs_the_channels_as_bt601_limited_range():
    dark = np.zeros((1, 8, 8, 3), np.uint8)
    blue = dark.copy()
    blue[..., 2] = 100
    assert psnr_y(dark, blue) == pytest.approx(20 * math.log10(255 / (100 * 24.966 / 255)))


def ssim_slow(x: np.ndarray, y: np.ndarray) -> float:
    g = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    w = np.outer(g, g) / np.outer(g, g).sum()
    c1, c2, found = (0.01 * 255) ** 2, (0.03 * 255) ** 2, []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            ma, mb = (w * a).sum(), (w * b).sum()
            va, vb, vab = (w * (a - ma) ** 2).sum(), (w * (b - mb) ** 2).sum(), (w * (a - ma) * (b - mb)).sum()
            found.append((2 * ma * mb + c1) * (2 * vab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(found))


def test_ssim_equals_the_definition_at_every_valid_place():
    a, b = clip(1), clip(2)
    slow = np.mean([ssim_slow(luma(x), luma(y)) for x, y in zip(a, b, strict=True)])
    assert ssim(a, b) == pytest.approx(slow, abs=1e-10)
    assert ssim(a, a) == pytest.approx(1.0)


def test_detail_ratio_counts_high_frequencies_only():
    a = clip(3, height=64, width=64) // 2 + 64
    assert detail_ratio(a, a + 5) == pytest.approx(1.0)
    assert detail_ratio(a, 128 + (a.astype(np.float64) - 128) * 0.5) == pytest.approx(0.25)


def test_detail_filter_halves_an_eight_pixel_wave():
    wave = 128 + 50 * np.sin(2 * np.pi * np.arange(128) / 8)
    picture = np.broadcast_to(wave[None, None, :, None], (1, 64, 128, 3))
    all_of_it = picture + 50 * (-1.0) ** np.arange(128)[None, None, :, None]
    fine = detail_ratio(picture, all_of_it)  # 1/4 of the wave's energy (half its amplitude) + all of the finest
    assert fine == pytest.approx((0.25 / 2 + 1) / (0.25 / 2), rel=0.06)


def test_unequal_shapes_are_refused_in_one_sentence():
    with pytest.raises(FormatError, match="is needed"):
        psnr(clip(), clip(frames=3))
    with pytest.raises(FormatError, match="11x11"):
        ssim(clip(height=8), clip(height=8))
    with pytest.raises(FormatError, match="at least one frame"):
        psnr(clip()[:0], clip()[:0])
