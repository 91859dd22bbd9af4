"""The quality benchmark: verdicts on made-up scores, the cache, and a whole run on a tiny data set."""

import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import baselines  # noqa: E402
import quality  # noqa: E402
import sheet  # noqa: E402
import verdict  # noqa: E402
from cache import Cache  # noqa: E402

from duovsr_vs.metrics.suite import METRICS  # noqa: E402

MAKER = """
import av, numpy as np
def read_video(path, start=0, count=None):
    with av.open(str(path)) as c:
        frames = [f.to_ndarray(format="rgb24") for f in c.decode(video=0)]
    return np.stack(frames[start:][:count])
def make_lr(gt, kind, scale=4, seed=0, name=""):
    t, h, w, c = gt.shape
    return gt.reshape(t, h // scale, scale, w // scale, scale, c).mean((2, 4)).round().astype(np.uint8)
"""


def values(**given: float) -> dict[str, float]:
    return dict.fromkeys((*METRICS, "shrink_psnr_float"), 1.0) | given


def scores(model: dict[str, float]) -> verdict.Scores:
    lanczos = values(ssimulacra2=20.0, niqe=8.0, psnr_y=28.0)
    projected = values(ssimulacra2=30.0, niqe=7.0, psnr_y=28.5)
    return {"a": {"clean": {"lanczos": lanczos, "lanczos+2bp": projected, "m": model}}}


GOOD = {"ssimulacra2": 32.5, "niqe": 6.6, "psnr_y": 28.9, "e_warp_ratio": 0.9, "colour_shift": 0.1}


@pytest.mark.parametrize(
    "change, failing",
    [
        ({}, set()),
        ({"ssimulacra2": 31.9}, {"ssimulacra2 over lanczos"}),
        ({"ssimulacra2": 29.0}, {"ssimulacra2 over lanczos", "ssimulacra2 over lanczos+2bp"}),
        ({"niqe": 6.8}, {"niqe over lanczos"}),
        ({"psnr_y": 28.4}, {"psnr_y over lanczos", "psnr_y over lanczos+2bp"}),
        ({"e_warp_ratio": 1.01}, {"E_warp / truth's"}),
        ({"colour_shift": 0.5}, {"colour shift, 1/255"}),
        ({"shrink_psnr_float": 49.0}, {"shrink-back, dB"}),
        ({"niqe": float("nan")}, {"niqe over lanczos", "niqe over lanczos+2bp"}),
    ],
)
def test_a_bar_fails_exactly_where_it_is_missed(change, failing):
    model = values(**(GOOD | {"shrink_psnr_float": 51.0} | change))
    assert {bar.name for bar in verdict.bars(scores(model), "m", {}) if not bar.met} == failing


def test_one_clip_that_differs_when_tiled_fails_the_bar():
    good = {"tiled_equal": True, "tile_step": 1.0, "static_std": 0.0}
    for bad in ({"tiled_equal": False}, {"tile_step": 1.2}, {"static_std": 0.01}):
        found = verdict.bars(scores(values(**GOOD)), "m", {"a": good, "b": good | bad})
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
    folder = tmp_path / "data"
    (folder / "eval_public").mkdir(parents=True)
    (folder / "make_lr.py").write_text(MAKER)
    y, x = np.mgrid[:192, :288]
    with av.open(str(folder / "eval_public" / "tiny.mp4"), "w") as container:
        stream = container.add_stream("libx264rgb", rate=24, options={"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 288, 192, "rgb24"
        rng = np.random.default_rng(0)
        grain = rng.integers(-30, 30, (192, 288))
        for t in range(4):
            wave = 128 + 60 * np.sin((x + 3 * t) / 9) * np.cos(y / 7) + grain
            frame = np.repeat(wave[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return folder


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
    assert set(first["clips"]["tiny"]["clean"]) == {*baselines.METHODS, model}
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
