"""The quality benchmark: verdicts on made-up scores, the cache, and a whole run on a tiny data set."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from quality_data import write_data

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import baselines  # noqa: E402
import quality  # noqa: E402
import sheet  # noqa: E402
import verdict  # noqa: E402
from cache import Cache  # noqa: E402

from duovsr_vs.metrics.suite import METRICS  # noqa: E402


def values(**given: float) -> dict[str, float]:
    return dict.fromkeys((*METRICS, "shrink_psnr_float"), 1.0) | given


def scores(model: dict[str, float], kind: str = "clean") -> verdict.Scores:
    """One clip; every other method is far enough below the model of GOOD."""
    methods = {
        "lanczos": values(ssimulacra2=20.0, niqe=8.0, psnr_y=28.0),
        "lanczos+2bp": values(ssimulacra2=30.0, niqe=7.0, psnr_y=28.5),
        "regression": values(ssimulacra2=34.9, niqe=7.0, psnr_y=29.1),
        "net": values(ssimulacra2=19.05, niqe=6.0, psnr_y=27.0, e_warp=1.2),
        "poor net": values(ssimulacra2=-50.0, niqe=3.0, psnr_y=35.0, e_warp=0.1),
        "m": model,
    }
    return {"a": {kind: methods}}


GOOD = {
    "ssimulacra2": 34.1, "niqe": 6.1, "psnr_y": 28.95, "e_warp_ratio": 0.79, "colour_shift": 0.1,
    "shrink_psnr_float": 51.0,
}  # fmt: skip
RIVALS = verdict.Rivals("nano", "regression", ("poor net", "net"), {"clean": 0.31, "web": 0.31})


def failing(model: dict[str, float], kind: str = "clean", rivals: verdict.Rivals = RIVALS) -> set[str]:
    return {bar.name for bar in verdict.bars(scores(model, kind), "m", {}, rivals) if not bar.met}


WORST = "ssimulacra2 - lanczos's, worst clip"


@pytest.mark.parametrize(
    "change, names",
    [
        ({}, set()),
        ({"ssimulacra2": 33.95}, {"ssimulacra2 - lanczos's", "ssimulacra2 - net's"}),
        ({"ssimulacra2": 33.8}, {"ssimulacra2 - lanczos's", "ssimulacra2 - net's", "ssimulacra2 - regression's"}),
        ({"niqe": 6.21}, {"niqe - lanczos's"}),
        ({"niqe": 6.45}, {"niqe - lanczos's", "niqe - regression's"}),
        ({"psnr_y": 28.85}, {"psnr_y - lanczos's"}),
        (
            {"psnr_y": 28.49},
            {"psnr_y - lanczos's", "psnr_y - lanczos+2bp's", "psnr_y - regression's", "psnr_y - net's"},
        ),
        ({"e_warp_ratio": 0.81}, {"E_warp / truth's"}),
        ({"e_warp": 1.21}, {"e_warp - net's"}),
        ({"e_warp": 1.31}, {"e_warp - net's", "E_warp / regression's"}),
        ({"detail_ratio": 0.79}, {"fine detail / truth's"}),
        ({"detail_ratio": 1.11}, {"fine detail / truth's"}),
        ({"colour_shift": 0.5}, {"colour shift, 1/255"}),
        ({"shrink_psnr_float": 49.0}, {"shrink-back, dB"}),
        ({"niqe": float("nan")}, {f"niqe - {other}'s" for other in ("lanczos", "lanczos+2bp", "regression", "net")}),
    ],
)
def test_a_bar_fails_exactly_where_it_is_missed(change, names):
    assert failing(values(**(GOOD | change))) == names


def test_where_the_lr_is_degraded_flicker_is_held_against_lanczos():
    assert failing(values(**(GOOD | {"e_warp": 1.09, "e_warp_ratio": 3.0})), "web") == set()
    assert "E_warp / lanczos's" in failing(values(**(GOOD | {"e_warp": 1.11})), "web")


def test_more_is_asked_of_small():
    rivals = verdict.Rivals("small", "regression", ("net",), {})
    assert failing(values(**GOOD), rivals=rivals) == {f"{m} - lanczos's" for m in ("ssimulacra2", "niqe", "psnr_y")}


def test_seeds_that_hardly_differ_fail_the_bar():
    rivals = verdict.Rivals(seed_std={"clean": 0.29})
    assert failing(values(**GOOD), rivals=rivals) == {"two seeds in textured areas, std, 1/255"}


def test_one_bad_clip_is_not_hidden_by_the_mean():
    two = scores(values(**(GOOD | {"ssimulacra2": 60.0}))) | {
        "b": scores(values(**(GOOD | {"ssimulacra2": 19.5})))["a"]
    }
    found = {bar.name for bar in verdict.bars(two, "m", {}) if not bar.met}
    assert found == {WORST, "ssimulacra2 - lanczos+2bp's, worst clip"}


def test_what_was_not_measured_has_no_bars():
    names = {bar.name for bar in verdict.bars(scores(values(**GOOD)), "m", {})}
    assert not any("net" in name or "regression" in name or "seeds" in name for name in names)


def test_one_clip_that_differs_when_tiled_fails_the_bar():
    good = {"tiled_equal": True, "tile_step": 1.0, "static_std": 0.0}
    for bad in ({"tiled_equal": False}, {"tile_step": 1.2}, {"static_std": 0.01}):
        found = verdict.bars(scores(values(**GOOD)), "m", {"a": good, "b": good | bad}, RIVALS)
        assert sum(not bar.met for bar in found if bar.kind == "all") == 1


def test_means_leave_out_what_has_no_value():
    two = scores(values(niqe=4.0)) | {"b": scores(values(niqe=float("nan")))["a"]}
    assert verdict.means(two)["clean"]["m"]["niqe"] == 4


def test_back_projection_brings_the_output_nearer_to_its_lr():
    lr = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    for plain, projected in (("bicubic", "base"), ("lanczos", "lanczos+2bp")):
        a, b = (np.abs(baselines.resize(baselines.METHODS[m](lr, 4), 12, 16) - lr).mean() for m in (plain, projected))
        assert b < a / 3


def test_the_cache_gives_back_what_it_was_given_and_survives_damage(tmp_path):
    cache, key = Cache(tmp_path / "c"), ("clip", 3)
    assert cache.scores(key) is None and cache.clip(key) is None
    cache.keep_scores(key, {"niqe": 4.5})
    cache.keep_clip(key, np.arange(5))
    assert cache.scores(key) == {"niqe": 4.5} and cache.clip(key).tolist() == [0, 1, 2, 3, 4]
    assert cache.scores(("clip", 4)) is None
    for path in (tmp_path / "c").iterdir():
        path.write_bytes(b"\x00")
    assert cache.scores(key) is None and cache.clip(key) is None


def test_pictures_stay_below_their_limit(tmp_path):
    clip = np.random.default_rng(0).integers(0, 256, (4, 200, 240, 3), dtype=np.uint8)
    panels = {"a": [sheet.Panel.cut("LR", clip, (0, 239)), sheet.Panel.cut("truth", clip, (100, 100))]}
    sheet.save(tmp_path / "all.png", panels, sheet.crops, None)
    sheet.save(tmp_path / "small.png", panels, sheet.crops, 40_000)
    assert (tmp_path / "all.png").stat().st_size > 100_000
    assert (tmp_path / "small.png").stat().st_size <= 40_000


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def run(data: Path, out: Path, *more: str) -> int:
    cache = str(data.parent / "cache")
    return quality.main(["--data", str(data), "--out", str(out), "--kinds", "clean", "--cache", cache, *more])


def test_a_whole_run_writes_scores_tables_and_pictures_and_repeats_itself(data, tmp_path, tiny_model, capsys):
    pytest.importorskip("vapoursynth")
    for out in ("first", "second"):  # the second from the cache
        assert run(data, tmp_path / out, "--frames", "3", "--precision", "float32", "--model", str(tiny_model)) == 0
    first, second = (json.loads((tmp_path / out / "quality.json").read_text()) for out in ("first", "second"))
    assert first["clips"] == second["clips"] and first["checks"] == second["checks"]
    (model,) = first["models"]
    assert model == "tiny" and len(first["models"][model]["model_hash"]) > 8
    assert set(first["clips"]["tiny"]["clean"]) == {*baselines.METHODS, "regression", model}
    assert first["checks"][model]["tiny"]["tiled_equal"] in (True, False)
    assert first["checks"][model]["tiny"]["base_difference"] < 0.1
    assert "gains" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "first").iterdir()} == {
        "quality.json", "quality.md", "sheet_clean.png", "profile_clean.png",
    }  # fmt: skip


@pytest.mark.parametrize(
    "more, words",
    [(["--clips", "none"], "tiny"), (["--model", "nanno"], "nano"), (["--frames", "1"], "at least 2 frames")],
)
def test_mistakes_get_one_sentence(data, tmp_path, capsys, more, words):
    assert run(data, tmp_path / "out", *more) == 1
    error = capsys.readouterr().err
    assert words in error and len(error.splitlines()) == 1


def test_a_folder_without_data_is_named(tmp_path, capsys):
    assert run(tmp_path / "nowhere", tmp_path / "out") == 1
    assert "make_lr.py" in capsys.readouterr().err
