"""Steps at borders of clips that come frame by frame: seen where they are, and only if they are more than luck."""

import numpy as np
import pytest

from duovsr_vs.metrics.borders import TileSteps, border_places, window_step


@pytest.mark.parametrize(
    "period, length, places",
    [(32, 100, [32, 64, 96]), (50, 100, [50]), (100, 100, []), (33.3, 100, [33, 67, 100][:2]), (0.7, 3, [1, 2])],
)
def test_borders_lie_inside_at_multiples_of_the_period(period: float, length: int, places: list[int]) -> None:
    assert border_places(period, length) == places


def tiles(seam: float, axis: int = 1, blocks: float = 0.0, frames: int = 3) -> TileSteps:
    steps = TileSteps(axis, border_places(64, 256))
    rng = np.random.default_rng(2)
    place = np.indices((192, 256))[axis]
    for _ in range(frames):
        source = rng.uniform(0.3, 0.5, (192, 256)).astype(np.float32)
        plane = source + seam * (place // 64 % 2) + blocks * (place // 16 % 2)
        steps.add(plane.astype(np.float32), source)
    return steps


@pytest.mark.parametrize("axis", [0, 1])
def test_a_seam_stands_out_and_an_even_clip_does_not(axis: int) -> None:
    assert tiles(0.0, axis).step.ratio == pytest.approx(1, abs=1e-6)
    assert tiles(0.08, axis).step.ratio > 1.1
    assert tiles(0.08, axis).step.deviations > 3


def test_blocks_of_a_codec_are_no_tiles() -> None:
    assert tiles(0.0, blocks=0.1).step.ratio == pytest.approx(1, abs=0.05)


def test_without_borders_nothing_is_known() -> None:
    steps = TileSteps(0, [])
    steps.add(np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32))
    assert np.isnan(steps.step.ratio)
    assert np.isnan(TileSteps(0, [4]).step.ratio)
    assert np.isnan(window_step(np.zeros(0), np.zeros(0), 4).ratio)


def test_a_jump_at_each_window_is_seen_and_a_cut_there_is_not() -> None:
    rng = np.random.default_rng(1)
    source = rng.uniform(0.01, 0.02, 40)
    upscaled = source * rng.uniform(1.0, 1.04, 40)
    even = window_step(source, upscaled, 8)
    assert abs(even.ratio - 1) < 0.05
    jumps = upscaled.copy()
    jumps[7::8] *= 1.5  # entry 7 leads to frame 8
    assert window_step(source, jumps, 8).ratio == pytest.approx(1.5, abs=0.05)
    assert window_step(source, jumps, 8).deviations > 3
    source[7], upscaled[7] = 0.4, 0.9
    assert window_step(source, upscaled, 8).ratio == pytest.approx(even.ratio, abs=0.02)
