"""Which LR versions a pack stores, and LR that is made when a sample is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_clips import film, picture, save_photo, save_video

from training.data.dataset import KIND_WEIGHTS, PackedClips
from training.data.degrade import KINDS, degrade
from training.data.online import fresh_lr
from training.data.pack import main, pack
from training.data.resample import resize
from training.data.shards import read_index
from training.data.sources import DataError
from training.data.variants import DEFAULT_LR, parse_variants, variants_in_words

PATCH = 16


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    save_video(folder / "one.mp4", film(7, 96, 136, dy=1, dx=3, seed=1))
    save_video(folder / "two.mp4", film(4, 120, 104, dy=2, dx=0, seed=2))
    save_photo(folder / "photo.png", picture(300, 320, seed=3))
    return folder


@pytest.fixture(scope="module")
def online(data: Path, tmp_path_factory: pytest.TempPathFactory) -> PackedClips:
    out = tmp_path_factory.mktemp("online")
    pack(data, out, val_share=0, lr="none", say=lambda _: None)
    return PackedClips(out)


@pytest.mark.parametrize(
    "spec, kinds",
    [
        ("none", ()),
        ("clean", ("clean",)),
        ("web*2,clean", ("web", "web", "clean")),
        (" realbasicvsr * 2 , web_wide*1 ", ("realbasicvsr", "realbasicvsr", "web_wide")),
        (DEFAULT_LR, ("clean", "web", "web", "web", "real", "real", "real")),
    ],
)
def test_a_spec_names_one_kind_per_version(spec: str, kinds: tuple[str, ...]) -> None:
    assert parse_variants(spec) == kinds
    assert parse_variants(variants_in_words(kinds)) == kinds


@pytest.mark.parametrize(
    "spec, told",
    [
        ("", "'' is not a kind"),
        ("clean,", "'' is not a kind"),
        ("web*0", "'web\\*0' is not a kind"),
        ("web*-1", "count from 1 to 999"),
        ("web*x", "clean,web\\*3,real\\*3"),
        ("3*web", "is not a kind"),
        ("realbasicsvr*4", "did you mean realbasicvsr"),
        ("Clean", "did you mean clean"),
        ("blurry", "known: clean, web, real"),
        ("clean,none", "none alone"),
        ("web,clean,web*2", "'web' comes twice"),
    ],
)
def test_a_bad_spec_is_one_sentence(spec: str, told: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told):
        pack(data, tmp_path / "out", lr=spec, say=lambda _: None)
    assert not (tmp_path / "out").exists()


def test_the_command_takes_a_spec(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", str(data), "--jobs", "1"]
    assert main([*arguments, "--out", str(tmp_path / "a"), "--lr", "clean*zwei"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main([*arguments, "--out", str(tmp_path / "b"), "--lr", "clean,web_wide*2", "--val-share", "0"]) == 0
    clips = PackedClips(tmp_path / "b")
    assert clips.facts["lr"] == "clean,web_wide*2"
    assert all(r.lr_kinds == ["clean", "web_wide", "web_wide"] for r in clips.rows)
    one, two = clips.clip(0).of_kind("web_wide")
    assert not np.array_equal(one, two)
    share = np.bincount(clips.batch(0, 0, 200, 4)["kind"], minlength=5) / 200
    assert share[KINDS.index("web_wide")] > 0.6, "the usual mix of a wide pack"


def test_stored_versions_do_not_depend_on_those_after_them(data: Path, tmp_path: Path) -> None:
    for name, spec in (("short", "clean,web"), ("long", "clean,web*2,real")):
        pack(data, tmp_path / name, val_share=0, lr=spec, say=lambda _: None)
    short, long = PackedClips(tmp_path / "short").clip(0), PackedClips(tmp_path / "long").clip(0)
    assert len(long.lr) == 4
    assert all(np.array_equal(a, b) for a, b in zip(short.lr, long.lr[:2], strict=True))


def test_none_stores_lr_for_held_out_clips_only(data: Path, tmp_path: Path) -> None:
    pack(data, tmp_path, val_share=0.4, lr="none", say=lambda _: None)
    rows, _, facts = read_index(tmp_path)
    assert facts["lr"] == "none" and {r.split for r in rows} == {"train", "val"}
    assert all(r.lr_kinds == (["clean", "web", "real"] if r.split == "val" else []) for r in rows)
    val = PackedClips(tmp_path, "val")
    assert np.array_equal(val.sample(0, 1, 2, 8)["lr"], val.sample(0, 1, 2, 8)["lr"])


@pytest.mark.parametrize("kind", KINDS)
def test_lr_on_line_depends_on_seed_step_and_slot_only(online: PackedClips, kind: str) -> None:
    wanted = online.sample(1, 20, 3, PATCH, kinds={kind: 1.0}, frames=3)
    online.batch(1, 21, 2, PATCH)
    again = PackedClips(online.folder).sample(1, 20, 3, PATCH, kinds={kind: 1.0}, frames=3)
    assert all(np.array_equal(wanted[k], again[k]) for k in wanted)
    assert wanted["lr"].shape == (5, PATCH, PATCH, 3) and wanted["lr"].dtype == np.uint8
    assert wanted["kind"] == KINDS.index(kind)


def test_every_draw_on_line_is_another_degradation(online: PackedClips) -> None:
    hr = online.clip(0).hr
    drawn = [fresh_lr(hr, "real", [1, 2], 2, 3, PATCH, seed)[0] for seed in range(3)]
    assert not np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[1], drawn[2])
    batches = [online.batch(0, step, 40, 4) for step in (0, 1)]
    assert all(set(b["kind"]) == {KINDS.index(k) for k in KIND_WEIGHTS} for b in batches)
    assert online.sample(0, 0, 0, 4, kinds={"web_wide": 1.0})["kind"] == KINDS.index("web_wide")


@pytest.mark.parametrize("y, x", [(0, 0), (3, 5), (8, 18)])
@pytest.mark.parametrize("times", [[0, 0, 1, 2], [2, 3, 4, 5], [4, 5, 6, 6]])
def test_lr_on_line_is_that_of_its_place_and_time(online: PackedClips, y: int, x: int, times: list[int]) -> None:
    """Shrinking reaches 8 HR pixels far, less than the margin: a window of the whole clip's LR must come out."""
    hr = online.clip(next(i for i, r in enumerate(online.rows) if r.source == "one.mp4")).hr
    for seed in range(4):
        whole, _ = degrade(np.ascontiguousarray(hr), "clean", seed)
        window = fresh_lr(hr, "clean", times, y, x, PATCH, seed)
        assert all(
            np.array_equal(w, whole[t, y : y + PATCH, x : x + PATCH]) for w, t in zip(window, times, strict=True)
        )


def test_the_first_frame_on_line_is_not_always_a_key_frame() -> None:
    """Where the encode begins is drawn: sometimes at the frame asked for, sometimes at one before it."""
    hr, begins = film(7, 64, 64), set()
    for seed in range(12):
        window = fresh_lr(hr, "web", [5, 6], 0, 0, 16, seed)
        begins |= {t for t in range(6) if np.array_equal(window, degrade(hr[t:], "web", seed)[0][5 - t :])}
    assert 5 in begins and len(begins) > 2


def test_lr_on_line_belongs_to_the_hr_frames_after_every_turn(online: PackedClips) -> None:
    for step in range(30):
        s = online.sample(2, step, 0, PATCH, kinds={"clean": 1.0}, frames=3)
        for n in range(3):
            small = resize(s["hr"][n].astype(np.float32), PATCH, PATCH)[3:-3, 3:-3]
            errors = [np.abs(lr[3:-3, 3:-3] - small).mean() for lr in s["lr"]]
            assert errors[n + 1] < 3.5 and errors[n + 1] == min(errors)


def test_a_kind_that_is_not_stored_is_made_for_whole_clips(online: PackedClips) -> None:
    clip = online.clip(0)
    (lr,) = clip.of_kind("web")
    assert lr.shape == (clip.row.frames, clip.row.height // 4, clip.row.width // 4, 3)
    assert np.array_equal(lr, PackedClips(online.folder).clip(0).of_kind("web")[0])
