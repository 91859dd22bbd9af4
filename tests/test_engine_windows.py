"""Time: the window grid, cross-fades, shots, and the noise that windows share."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import synthetic_clip
from torch import Tensor

from duovsr_vs.engine.noise import BLOCK, noise_field
from duovsr_vs.engine.options import Options
from duovsr_vs.engine.scenes import find_cuts
from duovsr_vs.engine.upscaler import Upscaler
from duovsr_vs.engine.windows import Grid, shot_of

GRIDS = [Grid(1, 0), Grid(21, 5), Grid(8, 2), Grid(21, 0), Grid(9, 4)]
CUT = 19
LENGTH = 34


pytestmark = pytest.mark.usefixtures("one_torch_thread")


def upscale(model: Path, clip: list[Tensor], cuts: list[bool] | None = None, **options: Any) -> list[Tensor]:
    chosen = Options(model=str(model), device="cpu", precision="float32", **options)
    return list(Upscaler(chosen, clip[0].shape[2], clip[0].shape[1]).stream(clip, cuts))


@pytest.mark.parametrize("grid", GRIDS)
def test_weights_of_a_cross_fade_sum_to_one(grid: Grid) -> None:
    for frame in range(100):
        weights = [weight for _, _, weight in grid.blend(frame, 1000)]
        assert sum(weights) == pytest.approx(1, abs=1e-12)
        assert all(0 < weight <= 1 for weight in weights)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_blend_shows_the_frame_that_was_asked_for(grid: Grid) -> None:
    """The position in each window is where the window holds that very frame."""
    for end in (1, 2, 20, 21, 22, 37, 60):
        for frame in range(end):
            for window, position, _ in grid.blend(frame, end):
                assert 0 <= position < grid.length
                assert grid.window_frames(window, (0, end))[position + 1] == frame


@pytest.mark.parametrize("grid", [grid for grid in GRIDS if grid.overlap])
def test_weights_move_in_equal_steps_from_one_window_to_the_next(grid: Grid) -> None:
    """So that no border of a window shows: each window's weight changes by 1/(O + 1) a frame, never more."""
    for window in range(1, 4):
        share = [
            sum(weight for k, _, weight in grid.blend(frame, 1000) if k == window) for frame in range(5 * grid.length)
        ]
        steps = [abs(b - a) for a, b in pairwise(share)]
        assert max(share) == 1
        assert max(steps) <= 1 / (grid.overlap + 1) + 1e-9


@pytest.mark.parametrize("grid", GRIDS)
def test_windows_stay_inside_their_shot(grid: Grid) -> None:
    for shot in ((0, 1), (5, 40), (17, 18), (30, 90)):
        for frame in range(*shot):
            for window, _, _ in grid.blend(frame, shot[1]):
                frames = grid.window_frames(window, shot)
                assert len(frames) == grid.length + 2
                assert shot[0] <= min(frames) and max(frames) < shot[1]


@pytest.mark.parametrize("grid", GRIDS)
def test_inputs_cover_what_windows_read(grid: Grid) -> None:
    total = 57
    for start, stop in ((0, 1), (0, 57), (15, 17), (16, 32), (20, 21), (56, 57)):
        first, last = grid.inputs(start, stop, total)
        assert 0 <= first <= start and stop <= last <= total
        for frame in range(start, stop):
            for window, _, _ in grid.blend(frame, total):
                frames = grid.window_frames(window, (0, total))
                assert first <= min(frames) and max(frames) < last


def test_a_shot_ends_before_the_next_cut() -> None:
    cuts = [False, False, True, False, True, False]
    assert [shot_of(n, 10, cuts) for n in range(10, 16)] == [(10, 12)] * 2 + [(12, 14)] * 2 + [(14, 16)] * 2


@pytest.mark.parametrize("kind", ["tiny", "toy"])
def test_nothing_reaches_back_over_a_cut(tiny_model: Path, toy_model: Path, kind: str) -> None:
    model = tiny_model if kind == "tiny" else toy_model
    clip, other = (synthetic_clip(LENGTH, 16, 20, seed=seed, cut=CUT) for seed in (0, 1))
    changed = clip[:CUT] + [frame * 0.5 for frame in clip[CUT:]]
    cuts = [n == CUT for n in range(LENGTH)]
    one, two = (upscale(model, frames, cuts) for frames in (clip, changed))
    assert all(torch.equal(a, b) for a, b in zip(one[:CUT], two[:CUT], strict=True))
    assert not torch.equal(one[CUT], two[CUT])
    three = upscale(model, other[:CUT] + clip[CUT:], cuts)
    assert all(torch.equal(a, b) for a, b in zip(one[CUT:], three[CUT:], strict=True))


def test_without_a_cut_the_same_change_does_reach_back(toy_model: Path) -> None:
    """Were it not so, the test above would show nothing."""
    clip = synthetic_clip(LENGTH, 16, 20, cut=CUT)
    changed = clip[:CUT] + [frame * 0.5 for frame in clip[CUT:]]
    one, two = (upscale(toy_model, frames, scene_cut=False) for frames in (clip, changed))
    assert not torch.equal(one[CUT - 1], two[CUT - 1])
    assert not torch.equal(one[11], two[11]), "the first frame of the window that holds the change"
    assert torch.equal(one[10], two[10])


@pytest.mark.parametrize("kind", ["tiny", "toy"])
def test_a_shot_of_its_own_clip_gives_the_same_at_its_start(tiny_model: Path, toy_model: Path, kind: str) -> None:
    """Up to the place of the grid, which is the clip's: the first shot is the same as a clip that ends there."""
    model = tiny_model if kind == "tiny" else toy_model
    clip = synthetic_clip(LENGTH, 16, 20, cut=CUT)
    whole, alone = upscale(model, clip), upscale(model, clip[:CUT])
    assert all(torch.equal(a, b) for a, b in zip(whole[:CUT], alone, strict=True))


def test_a_still_clip_stays_still_across_windows(toy_model: Path) -> None:
    out = torch.stack(upscale(toy_model, synthetic_clip(1, 16, 20) * LENGTH))
    assert float((out - out[:1]).abs().max()) < 1e-5


def test_a_brightness_ramp_shows_no_step_at_window_borders(toy_model: Path) -> None:
    """Output rises as evenly as the input: as much where windows fade (frames 11 to 16, 27 to 32) as elsewhere."""
    step = 0.005
    picture = synthetic_clip(1, 16, 20)[0] * 0.5
    out = upscale(toy_model, [picture + step * n for n in range(38)])
    steps = torch.stack([(b - a).mean() for a, b in pairwise(out)])
    assert float((steps[1:-1] - step).abs().max()) < 0.1 * step


def test_no_step_at_window_borders_above_the_clips_own(toy_model: Path) -> None:
    """Of what the model adds to a moving clip, the largest change between frames is not at a window's border."""
    clip = synthetic_clip(44, 16, 20)
    added = [a - b for a, b in zip(upscale(toy_model, clip), upscale(toy_model, clip, strength=0), strict=True)]
    change = torch.stack([(b - a).square().mean().sqrt() for a, b in pairwise(added)])
    fading = torch.tensor([n % 16 in range(10, 16) for n in range(len(change))])  # frames 11 to 15 of each stride
    assert float(change[fading].max()) <= 1.1 * float(change[~fading].max())


# -- noise ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 9), (BLOCK, BLOCK + 1), (35, 61)])
def test_noise_is_a_function_of_position(height: int, width: int) -> None:
    field = noise_field(7, 80, 70)
    assert torch.equal(noise_field(7, height, width), field[:, :height, :width])


def test_noise_is_standard_normal_and_white() -> None:
    field = noise_field(3, 64, 64)
    assert abs(float(field.mean())) < 0.01
    assert abs(float(field.std()) - 1) < 0.01
    for axis, size in ((0, 1), (1, 1), (1, BLOCK), (2, 1), (2, BLOCK)):
        assert abs(float((field * field.roll(size, axis)).mean())) < 0.01


def test_seeds_give_unrelated_noise() -> None:
    fields = [noise_field(seed, 40, 40) for seed in (0, 1, 1 << 32, (1 << 63) - 1)]
    for n, field in enumerate(fields):
        for other in fields[:n]:
            assert abs(float((field * other).mean())) < 0.02


# -- cuts -------------------------------------------------------------------------------------------------------------


def test_a_cut_is_found_and_motion_is_not_one() -> None:
    assert find_cuts(synthetic_clip(12, 40, 50, cut=7)) == [n == 7 for n in range(12)]
    assert find_cuts(synthetic_clip(12, 40, 50)) == [False] * 12
    assert find_cuts([]) == []


def test_a_cut_depends_on_two_neighbouring_frames_only() -> None:
    clip = synthetic_clip(9, 19, 33, cut=4)
    whole = find_cuts(clip)
    assert whole[1:] == [find_cuts(clip[n - 1 : n + 1])[1] for n in range(1, 9)]


def test_scene_cut_false_ignores_given_cuts(toy_model: Path) -> None:
    clip = synthetic_clip(12, 16, 20)
    plain = upscale(toy_model, clip, scene_cut=False)
    told = upscale(toy_model, clip, [n == 6 for n in range(12)], scene_cut=False)
    assert all(torch.equal(a, b) for a, b in zip(plain, told, strict=True))
