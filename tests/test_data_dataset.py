"""Sampling: a pure function of (seed, step, slot) whose frames, LR and flow belong together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_clips import film, picture, save_photo, save_video

from training.data.dataset import PackedClips, _crop, _turn
from training.data.degrade import KINDS
from training.data.flow import warp
from training.data.pack import pack
from training.data.prefetch import Prefetch
from training.data.resample import resize
from training.data.sources import DataError

PATCH = 16


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> PackedClips:
    data, out = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("pack")
    save_video(data / "one.mp4", film(6, 96, 136, dy=1, dx=3, seed=1))
    save_video(data / "two.mp4", film(4, 120, 104, dy=2, dx=0, seed=2))
    save_photo(data / "photo.png", picture(300, 320, seed=3))
    pack(data, out, val_share=0, say=lambda _: None)
    return PackedClips(out)


def test_a_sample_depends_on_seed_step_and_slot_only(clips: PackedClips) -> None:
    wanted = clips.sample(1, 20, 3, PATCH)
    for step in range(5):
        clips.batch(1, step, 2, PATCH)
    again = PackedClips(clips.folder).sample(1, 20, 3, PATCH)
    assert all(np.array_equal(wanted[k], again[k]) for k in wanted)
    for other in ((2, 20, 3), (1, 21, 3), (1, 20, 4)):
        assert not np.array_equal(wanted["hr"], clips.sample(*other, PATCH)["hr"])


def test_a_batch_is_its_samples_stacked(clips: PackedClips) -> None:
    for n in (2, 4):
        batch = clips.batch(4, 9, 3, PATCH, first_slot=2, frames=n)
        for i in range(3):
            sample = clips.sample(4, 9, 2 + i, PATCH, frames=n)
            assert all(np.array_equal(batch[k][i], sample[k]) for k in sample)
        side = 4 * PATCH
        assert batch["lr"].shape == (3, n + 2, PATCH, PATCH, 3) and batch["lr"].dtype == np.uint8
        assert batch["hr"].shape == (3, n, side, side, 3) and batch["hr"].dtype == np.uint8
        assert batch["flow"].shape == (3, n - 1, 2, side, side) and batch["flow"].dtype == np.float32
        assert batch["mask"].shape == (3, n - 1, side, side) and set(np.unique(batch["mask"])) <= {0, 1}
        assert batch["soft"].shape == (3,) and batch["soft"].dtype == np.bool_


@pytest.mark.parametrize("frames", [2, 4])
def test_flow_warps_the_next_frame_onto_this_one_after_every_turn(clips: PackedClips, frames: int) -> None:
    with_flow, without, against = [], [], []
    for step in range(48):  # 48 draws meet all eight turns
        s = clips.sample(0, step, 0, PATCH, frames=frames)
        for n in range(frames - 1):
            a, b = s["hr"][n : n + 2].astype(np.float32)
            flow, valid = s["flow"][n].transpose(1, 2, 0), s["mask"][n].astype(bool)
            if valid.mean() < 0.2:
                continue
            with_flow.append(np.square(a - warp(b, flow))[valid].mean())
            without.append(np.square(a - b)[valid].mean())
            against.append(np.square(a - warp(b, -flow))[valid].mean())
    assert len(with_flow) > 30 * (frames - 1)
    assert np.mean(with_flow) < 0.15 * np.mean(without) and np.mean(with_flow) < 0.1 * np.mean(against)


@pytest.mark.parametrize("y, x", [(0, 0), (3, 1), (2, 7), (8, 12)])
def test_flow_and_mask_of_a_crop_are_those_of_its_place(clips: PackedClips, y: int, x: int) -> None:
    """Flow that tells its own place in HR pixels, and a mask of noise, must come out where the crop is."""
    row = clips.rows[0]
    h, w = row.height // 2, row.width // 2
    rows, columns = np.mgrid[0:h, 0:w].astype(np.float16) * 2 + np.float16(0.5)
    place = np.broadcast_to(np.stack([columns, rows], -1), (row.frames - 1, h, w, 2))
    noise = np.random.default_rng(0).integers(0, 2, (row.frames - 1, h, w), np.uint8)
    clip = replace(clips.clip(0), flow=place, mask_bits=np.packbits(noise, axis=-1))
    s = _crop(clip, clip.lr[0], 1, y, x, PATCH, 3)
    side = 4 * PATCH
    ys, xs = np.mgrid[4 * y : 4 * y + side, 4 * x : 4 * x + side]
    inner = (slice(1, -1), slice(1, -1))  # the outermost half block has one neighbour only
    assert np.array_equal(s["flow"][0][inner], xs[inner]) and np.array_equal(s["flow"][1][inner], ys[inner])
    for n in (0, 1):
        whole = noise[1 + n].repeat(2, 0).repeat(2, 1)
        assert np.array_equal(s["mask"][n], whole[4 * y : 4 * y + side, 4 * x : 4 * x + side])
    for n in (0, 1, 2):
        assert np.array_equal(s["hr"][n], clip.hr[1 + n][4 * y : 4 * y + side, 4 * x : 4 * x + side])
        assert np.array_equal(s["lr"][n + 1], clip.lr[0][1 + n][y : y + PATCH, x : x + PATCH])


@pytest.mark.parametrize("turn", range(8))
def test_each_turn_moves_frames_and_flow_alike(turn: int) -> None:
    across, down, swap = bool(turn & 1), bool(turn & 2), bool(turn & 4)
    clip = film(2, 64, 64, dy=2, dx=5, seed=4)
    flow = [np.full((64, 64), -5, np.float32), np.full((64, 64), -2, np.float32)]
    raw = {"hr": list(clip), "lr": list(clip), "flow": flow, "mask": [np.ones((64, 64), np.uint8)]}
    s = _turn(raw, across, down, swap)
    a, b = s["hr"].astype(np.float32)
    assert np.array_equal(warp(b, s["flow"][0].transpose(1, 2, 0))[8:-8, 8:-8], a[8:-8, 8:-8])
    assert np.array_equal(s["lr"], s["hr"])


def test_lr_frames_belong_to_the_hr_frames(clips: PackedClips) -> None:
    for step in range(40):
        frames = 2 + step % 3
        s = clips.sample(2, step, 0, PATCH, kinds={"clean": 1.0}, frames=frames)
        for n in range(frames):
            small = resize(s["hr"][n].astype(np.float32), PATCH, PATCH)[3:-3, 3:-3]
            errors = [np.abs(lr[3:-3, 3:-3] - small).mean() for lr in s["lr"]]
            assert errors[n + 1] < 3.5, "clean LR is the shrunk HR, but for the box variant"
            assert errors[n + 1] == min(errors)


def test_frames_before_the_first_and_after_the_last_repeat_the_nearest(clips: PackedClips) -> None:
    seen = set()
    for step in range(120):
        s = clips.sample(3, step, 0, PATCH)
        last = clips.rows[int(s["clip"])].frames - 1
        if s["t"] == 0:
            assert np.array_equal(s["lr"][0], s["lr"][1])
            seen.add("first")
        if s["t"] + 1 == last:
            assert np.array_equal(s["lr"][3], s["lr"][2])
            seen.add("last")
    assert seen == {"first", "last"}


def test_clips_that_are_too_short_are_left_to_others(clips: PackedClips) -> None:
    """The films have 6 and 4 frames, the clips of the photo 6."""
    batch = clips.batch(0, 0, 60, 4, frames=5)
    lengths = np.array([r.frames for r in clips.rows])[batch["clip"]]
    assert lengths.min() >= 5 and set(batch["t"]) == {0, 1} and 0 < batch["is_video"].mean() < 1
    films = [i for i, r in enumerate(clips.rows) if r.is_video]
    alone = PackedClips(clips.folder)
    for i in films:
        alone.rows[i] = replace(alone.rows[i], frames=4)
    assert not alone.batch(0, 0, 20, 4, frames=5)["is_video"].any(), "photos serve where no film is long enough"
    with pytest.raises(DataError, match=r"longest clip .* has 6; ask for 6 at most"):
        clips.sample(0, 0, 0, 4, frames=7)
    with pytest.raises(DataError, match="frames=1"):
        clips.sample(0, 0, 0, 4, frames=1)


def test_kinds_and_sorts_come_in_the_asked_shares(clips: PackedClips) -> None:
    batch = clips.batch(0, 0, 400, 4)
    share = np.bincount(batch["kind"], minlength=3) / 400
    assert np.abs(share - [0.4, 0.3, 0.3]).max() < 0.08
    assert abs(batch["is_video"].mean() - 0.5) < 0.08
    web = clips.batch(0, 1, 40, 4, kinds={"web": 1.0}, video_share=1.0)
    assert set(web["kind"]) == {KINDS.index("web")} and web["is_video"].all()


def test_the_mask_leaves_out_what_moves_beyond_the_crop(clips: PackedClips) -> None:
    for step in range(20):
        s = clips.sample(5, step, 0, PATCH)
        y, x = np.mgrid[0 : 4 * PATCH, 0 : 4 * PATCH].astype(np.float32) + s["flow"][0, ::-1]
        outside = (x < 0) | (y < 0) | (x > 4 * PATCH - 1) | (y > 4 * PATCH - 1)
        assert not s["mask"][0][outside].any()


def test_prefetching_changes_nothing(clips: PackedClips) -> None:
    with Prefetch(lambda step: clips.batch(6, step, 2, PATCH), first=3, depth=2) as ahead:
        for step in range(3, 8):
            expected, got = clips.batch(6, step, 2, PATCH), next(ahead)
            assert all(np.array_equal(expected[k], got[k]) for k in expected)


def test_an_error_in_the_background_comes_out_at_its_step() -> None:
    def make(step: int) -> dict[str, int]:
        if step == 2:
            raise DataError("step 2 has no data")
        return {"step": step}

    with Prefetch(make) as ahead:
        assert [next(ahead)["step"] for _ in range(2)] == [0, 1]
        with pytest.raises(DataError, match="step 2"):
            next(ahead)


def test_clips_that_are_too_small_for_the_patch_are_not_drawn(tmp_path: Path) -> None:
    save_video(tmp_path / "large.mp4", film(3, 96, 192, seed=1))
    save_video(tmp_path / "small.mp4", film(3, 64, 96, seed=2))
    pack(tmp_path, tmp_path / "pack", jobs=1, val_share=0, say=lambda _: None)
    both = PackedClips(tmp_path / "pack")
    sources = {both.rows[both.sample(0, n, 0, 20)["clip"]].source for n in range(20)}
    assert sources == {"large.mp4"}
    assert {both.rows[both.sample(0, n, 0, 16)["clip"]].source for n in range(20)} == {"large.mp4", "small.mp4"}


def test_wishes_that_cannot_be_met_are_told(clips: PackedClips) -> None:
    with pytest.raises(DataError, match="does not fit"):
        clips.sample(0, 0, 0, 64)
    with pytest.raises(DataError, match="LR kinds"):
        clips.sample(0, 0, 0, PATCH, kinds={"blurry": 1.0})
    with pytest.raises(DataError, match="split 'val'"):
        PackedClips(clips.folder, "val")
