"""Synthetic camera motion and the flow of HR frames."""

from __future__ import annotations

import numpy as np
import pytest
from data_clips import film, picture

from training.data.flow import agreement, clip_flow, warp
from training.data.motion import Course, move


def test_a_moved_photo_is_a_function_of_its_seed() -> None:
    photo = picture(420, 520)
    clip = move(photo, 5, frames=3)
    assert clip.dtype == np.uint8 and clip.shape[0] == 3 and clip.shape[1] % 8 == 0 and clip.shape[3] == 3
    assert np.array_equal(clip, move(photo, 5, frames=3))
    assert not np.array_equal(clip, move(photo, 6, frames=3))


def test_motion_keeps_the_colours_of_a_flat_photo() -> None:
    photo = np.broadcast_to(np.array([180, 90, 30], np.uint8), (400, 400, 3)).copy()
    clip = move(photo, 1, "soft", frames=2)
    assert np.abs(clip.astype(int) - photo[0, 0]).max() <= 1


def test_the_soft_look_has_less_fine_detail() -> None:
    photo = picture(420, 420)

    def detail(look: str) -> float:
        clips = [move(photo, s, look, frames=2)[0].astype(np.float32) for s in range(4)]  # type: ignore[arg-type]
        return float(np.mean([np.abs(np.diff(c, axis=1)).mean() for c in clips]))

    assert detail("soft") < 0.9 * detail("sharp")


def test_speeds_go_from_rest_to_fast() -> None:
    speed = [float(np.hypot(*Course.draw(np.random.default_rng(i)).velocity)) for i in range(300)]
    assert 0.03 < np.mean([s == 0 for s in speed]) < 0.2 and max(speed) > 6 and max(speed) <= 9


def test_a_photo_that_is_too_small_is_refused_with_its_size() -> None:
    with pytest.raises(ValueError, match="120x100"):
        move(np.zeros((100, 120, 3), np.uint8), 0)


def test_flow_points_from_a_frame_to_the_next_in_hr_pixels() -> None:
    flow, mask = clip_flow(film(3, 96, 128, dy=1, dx=3))
    assert flow.shape == (2, 48, 64, 2) and flow.dtype == np.float16 and mask.shape == (2, 48, 64)
    inner = flow[:, 8:-8, 8:-8].astype(np.float32)
    assert np.abs(np.median(inner[..., 0]) + 3) < 0.3 and np.abs(np.median(inner[..., 1]) + 1) < 0.3
    assert mask[:, 8:-8, 8:-8].mean() > 0.9
    assert not mask[:, :, 0].any(), "what leaves the frame on the left cannot be trusted"


def test_warping_undoes_a_shift() -> None:
    clip = film(2, 64, 80, dy=0, dx=4).astype(np.float32)
    flow = np.zeros((64, 80, 2), np.float32)
    flow[..., 0] = -4
    assert np.array_equal(warp(clip[1], flow)[:, 4:], clip[0][:, 4:])


def test_flows_that_disagree_are_masked() -> None:
    forward, backward = np.full((20, 30, 2), 2, np.float32), np.full((20, 30, 2), -2, np.float32)
    assert agreement(forward, backward)[:-2, :-2].all()
    assert not agreement(forward, -backward).any()
