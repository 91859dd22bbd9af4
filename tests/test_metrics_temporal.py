"""Warping error on motion that is known exactly, and flicker of static clips."""

import cv2
import numpy as np
import pytest

from duovsr_vs.metrics.temporal import motions, temporal_std, warping_error

STEP = 3
"""Pixels per frame that the window moves to the right over the picture."""


def picture(seed: int = 0, height: int = 160, width: int = 260) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.clip(128 + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pan() -> np.ndarray:
    return np.stack([picture()[:, STEP * t : STEP * t + 200] for t in range(5)])


def test_motion_of_a_pan_is_found_and_trusted(pan: np.ndarray):
    for m in motions(pan):
        middle = (slice(20, -20), slice(20, -20))
        xs = np.arange(200, dtype=np.float32)[None, 20:-20]
        assert np.abs(m.x[middle] - xs - STEP).mean() < 0.1
        assert m.mask[middle].mean() > 0.99


def test_places_outside_the_earlier_frame_are_not_trusted(pan: np.ndarray):
    back = motions(pan[::-1])  # the picture comes in on the left, from beyond the earlier frame
    assert all(not m.mask[:, 0].any() for m in back)


def test_true_motion_has_almost_no_error_and_flicker_has_its_variance(pan: np.ndarray):
    motion = motions(pan)
    assert warping_error(pan, motion) < 0.1
    sign = np.array([1, -1, 1, -1, 1])[:, None, None, None]
    flicker = (pan.clip(20, 235) + 10 * sign).astype(np.uint8)
    quiet = warping_error(pan.clip(20, 235), motion)
    assert warping_error(flicker, motion) - quiet == pytest.approx(1000 * (20 / 255) ** 2, rel=0.02)


def test_a_frozen_clip_cannot_hide(pan: np.ndarray):
    frozen = np.repeat(pan[:1], len(pan), axis=0)
    assert warping_error(frozen, motions(frozen)) == 0
    assert warping_error(frozen, motions(pan)) > 5


def test_motion_is_the_same_with_any_number_of_threads(pan: np.ndarray):
    before = cv2.getNumThreads()
    found = []
    try:
        for threads in (1, 2, 8):
            cv2.setNumThreads(threads)
            found.append(motions(pan))
    finally:
        cv2.setNumThreads(before)
    for other in found[1:]:
        assert all(np.array_equal(a.x, b.x) and np.array_equal(a.y, b.y) for a, b in zip(found[0], other, strict=True))


def test_one_frame_has_no_warping_error(pan: np.ndarray):
    assert np.isnan(warping_error(pan[:1], []))


def test_temporal_std_is_that_of_the_noise():
    still = np.full((64, 32, 32, 3), 100.0)
    assert temporal_std(still) == 0
    noisy = still + np.random.default_rng(0).normal(0, 3, still.shape)
    assert temporal_std(noisy) == pytest.approx(3, rel=0.02)
