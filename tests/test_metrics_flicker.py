"""What moves with the picture is no flicker, however sharp; what is new in each frame is."""

import math

import numpy as np
import pytest
from comparison_files import large_pictures, small_pictures

from duovsr_vs.metrics.flicker import Flicker, flicker, mean_of, source_motion

LARGE = large_pictures(4)
SMALL = small_pictures(LARGE)


def of_pair(before: np.ndarray, now: np.ndarray) -> Flicker:
    return flicker(SMALL[1], SMALL[2], before, now)


def test_the_truth_is_steady_although_it_has_more_detail_than_the_source() -> None:
    found = of_pair(LARGE[1], LARGE[2])
    assert found.added > 0.2
    assert abs(found.unsteady) < 0.1


def test_noise_is_unsteady_and_brightness_that_pumps_too() -> None:
    rng = np.random.default_rng(0)
    noisy = [(LARGE[n] + rng.normal(0, 12, LARGE[n].shape)).clip(0, 255) for n in (1, 2)]
    assert of_pair(*noisy).unsteady > 0.6
    assert of_pair(LARGE[1], LARGE[2] * 0.85).unsteady > 0.6
    assert of_pair(*noisy).excess > 10 * abs(of_pair(LARGE[1], LARGE[2]).excess)


def test_the_motion_is_that_of_the_source_enlarged() -> None:
    motion = source_motion(SMALL[1], SMALL[2], *LARGE[0].shape[:2])
    inside = (slice(40, -40), slice(40, -40))
    columns = np.arange(LARGE[0].shape[1], dtype=np.float32)[40:-40]
    assert np.median(motion.x[inside] - columns) == pytest.approx(3, abs=0.3)  # pans by three pixels a frame
    assert motion.mask[inside].mean() > 0.9


def test_a_cut_has_no_motion_and_does_not_count() -> None:
    cut = flicker(SMALL[1], 255 - SMALL[2], LARGE[1], 255 - LARGE[2])
    known = of_pair(LARGE[1], LARGE[2])
    pairs = [known, Flicker(float("nan"), float("nan"), 0.0), known]
    assert mean_of(pairs) == known
    assert not mean_of([]).known and math.isnan(mean_of([]).error)
    assert not cut.known or cut.source > 1


@pytest.mark.parametrize("size", [(16, 16), (17, 40)])
def test_sources_too_small_for_the_flow_are_measured_too(size: tuple[int, int]) -> None:
    small = [picture[: size[0], : size[1]] for picture in SMALL]
    large = [picture[: 4 * size[0], : 4 * size[1]] for picture in LARGE]
    assert flicker(small[1], small[2], large[1], large[2]).known
