"""Synthetic camera motion and the flow of HR frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from data_clips import film, picture

from training.data.arrays import F32
from training.data.flow import agreement, clip_flow, warp
from training.data.motion import Course, Plan, _draw, _Scene, move


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


STILL = Course(velocity=(0, 0), bend=(0, 0), shake=(0, 0, 1, 0), zoom=0, roll=0)
PLAN = Plan(
    size=192, step=1.5, centre=(0.5, 0.5), camera=STILL, piece=None, piece_from=(0.1, 0.9), shutter=0, softness=0
)


def scene_flow(plan: Plan) -> tuple[F32, F32]:
    """Flow (96, 96) dx and dy between two frames of a scene, in output pixels."""
    scene = _Scene(picture(420, 420), plan, np.random.default_rng(0))
    flow, _ = clip_flow(np.stack([scene.frame(-0.5), scene.frame(0.5)]))
    return flow[0, ..., 0].astype(np.float32), flow[0, ..., 1].astype(np.float32)


def test_the_camera_pans_zooms_and_rolls() -> None:
    y, x = np.mgrid[-47.5:48, -47.5:48] * 2
    inner = (slice(8, -8), slice(8, -8))
    for course, down, across in (
        (replace(STILL, velocity=(1.0, 3.0)), np.full_like(y, -1), np.full_like(x, -3)),
        (replace(STILL, zoom=0.03), -0.03 * y, -0.03 * x),  # the window grows, so things shrink towards the middle
        (replace(STILL, roll=0.03), -0.03 * x, 0.03 * y),  # the window turns one way, the picture the other
    ):
        dx, dy = scene_flow(replace(PLAN, camera=course))
        assert np.median(np.abs(dx - across)[inner]) < 0.3 and np.median(np.abs(dy - down)[inner]) < 0.3


def test_a_piece_moves_on_its_own_over_the_rest() -> None:
    plan = replace(PLAN, camera=replace(STILL, velocity=(0, 3.0)), piece=replace(STILL, velocity=(0, -4.0)))
    dx, _ = scene_flow(plan)
    shares = [float((np.abs(dx - to) < 0.6).mean()) for to in (-3.0, 4.0)]
    assert shares[0] > 0.4 and 0.02 < shares[1] < 0.5


def test_an_open_shutter_blurs_along_the_motion_only() -> None:
    moving = replace(PLAN, camera=replace(STILL, velocity=(0, 8.0)))
    upright, level = picture(1, 420).repeat(420, 0), picture(420, 1).repeat(420, 1)
    for photo, low, high in ((upright, 0.0, 0.8), (level, 0.99, 1.01)):
        frames = [
            _Scene(photo, replace(moving, shutter=shutter), np.random.default_rng(0)).frame(0) for shutter in (0.0, 0.6)
        ]
        detail = [sum(np.abs(np.diff(f.astype(int), axis=axis)).mean() for axis in (0, 1)) for f in frames]
        assert low <= detail[1] / detail[0] <= high


def test_every_sort_of_motion_is_drawn_often_enough() -> None:
    plans = [_draw(np.random.default_rng(i), 800, 800, "sharp") for i in range(400)]
    for share, has in (
        (0.9, [p.camera.velocity != (0, 0) for p in plans]),
        (0.5, [p.camera.zoom != 0 for p in plans]),
        (0.4, [p.camera.roll != 0 for p in plans]),
        (0.35, [p.piece is not None for p in plans]),
        (0.25, [p.shutter > 0 for p in plans]),
    ):
        assert abs(float(np.mean(has)) - share) < 0.09


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
