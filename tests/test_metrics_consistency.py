"""Shrink-back and colour against the LR, and the resampler that they rest on."""

import numpy as np
import pytest

from duovsr_vs.errors import FormatError
from duovsr_vs.metrics.consistency import colour_shift, shrink_back_psnr
from duovsr_vs.metrics.resample import resize


def clip(height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(20, 236, (2, height, width, 3), dtype=np.uint8)


def shrunk(hr: np.ndarray) -> np.ndarray:
    return np.stack([resize(f.astype(np.float64), hr.shape[1] // 4, hr.shape[2] // 4) for f in hr])


def test_a_clip_is_consistent_with_what_was_made_from_it():
    hr = clip()
    lr = shrunk(hr)
    assert shrink_back_psnr(lr, hr) > 120
    assert shrink_back_psnr(lr, hr + 3.0) == pytest.approx(20 * np.log10(255 / 3), abs=0.01)


def test_shrink_back_sees_a_shift_of_one_pixel():
    hr = np.repeat(np.repeat(clip(24, 32), 2, axis=1), 2, axis=2)
    assert shrink_back_psnr(shrunk(hr), np.roll(hr, 1, axis=2)) < 35


def test_colour_shift_is_the_worst_channel_averaged_over_frames():
    lr, hr = np.full((2, 4, 4, 3), 100, np.uint8), np.full((2, 16, 16, 3), 100, np.uint8)
    hr[0, ..., 1] += 3
    hr[0, ..., 2] -= 1
    hr[1, :, :8, 0] += 2  # cancels within the frame
    hr[1, :, 8:, 0] -= 2
    assert colour_shift(lr, hr) == pytest.approx(1.5)


def test_unequal_counts_are_refused():
    with pytest.raises(FormatError, match="frames found"):
        colour_shift(clip()[:1], clip())


@pytest.mark.parametrize("kernel", ["bicubic", "lanczos3"])
@pytest.mark.parametrize("size", [(12, 17), (37, 51), (148, 204)])
def test_resize_keeps_a_constant_and_its_own_size(kernel, size):
    flat = np.full((37, 51, 3), 9.0)
    assert np.allclose(resize(flat, *size, kernel), 9.0, atol=1e-12)
    own = np.random.default_rng(0).random((37, 51, 3))
    assert np.allclose(resize(own, 37, 51, kernel), own, atol=1e-12)


@pytest.mark.parametrize("kernel", ["bicubic", "lanczos3"])
def test_resize_keeps_positions(kernel):
    x = np.arange(64) + 0.5
    ramp = np.broadcast_to(x, (8, 64))
    fine, coarse = resize(ramp, 8, 256, kernel), resize(ramp, 8, 16, kernel)
    assert np.allclose(fine[:, 16:-16], ((np.arange(256) + 0.5) / 4)[16:-16], atol=0.02)
    assert np.allclose(coarse[:, 4:-4], ((np.arange(16) + 0.5) * 4)[4:-4], atol=0.02)


def test_mirrored_edges_repeat_the_last_sample_once():
    row = np.array([[1.0, 5.0, 2.0, 8.0, 3.0, 9.0, 4.0, 7.0]] * 8)
    wide = np.concatenate([row[:, 3::-1], row, row[:, :3:-1]], axis=1)
    assert np.allclose(resize(row, 8, 4, edge="mirror"), resize(wide, 8, 8)[:, 2:6], atol=1e-12)
