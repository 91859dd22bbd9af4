"""`evaluate` measures what users get: the engine's output, beside resamplers of the same LR, clip by clip."""

from __future__ import annotations

import json
import math
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from base_files import base_weights
from conftest import random_weights
from evaluation_files import packed, pairs, pictures, read, shrunk, truth, video
from rich.console import Console

from duovsr_vs.engine.options import Options
from duovsr_vs.engine.upscaler import Upscaler
from duovsr_vs.errors import DuoVsrError
from duovsr_vs.metrics.consistency import shrink_back_psnr
from duovsr_vs.metrics.resample import resize
from duovsr_vs.metrics.suite import GroundTruth, score_clip
from duovsr_vs.metrics.temporal import motions, warping_error
from duovsr_vs.model.checkpoint import DETAILED, load, save
from duovsr_vs.model.config import PRESETS
from duovsr_vs.model.wan.config import PRESETS as BASES
from training.__main__ import main as trainer
from training.checkpoints import TrainingError, write_tensors
from training.data.arrays import U8
from training.data.degrade import degrade
from training.data.shards import read_index
from training.evaluate import main
from training.evaluation.findings import Findings, write
from training.evaluation.measures import LR_ONLY, WITH_TRUTH
from training.evaluation.methods import RESAMPLERS, _file_of
from training.evaluation.sets import find
from training.evaluation.tables import show

pytestmark = pytest.mark.usefixtures("trainer_alone")


QUICK = ("--measures", "psnr_y")
"""Where what is measured does not matter."""


def evaluate(model: Path | str, data: Path, *more: object) -> dict[str, Any]:
    """The results as JSON has them."""
    out = data.parent / "results.json"
    assert main([str(model), "--data", str(data), "-o", str(out), *map(str, more)]) == 0
    return read(out)


def upscaled(model: Path, lr: U8, **options: Any) -> U8:
    """What the engine gives, rounded."""
    engine = Upscaler(Options(model=str(model), **options), lr.shape[2], lr.shape[1])
    frames = torch.from_numpy(lr.copy()).permute(0, 3, 1, 2).float() / 255
    out = torch.stack(list(engine.stream(frames)))
    clip: U8 = (out.permute(0, 2, 3, 1) * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    return clip


def test_with_truth_the_scores_are_the_suites_of_the_engines_output(tiny_model: Path, tmp_path: Path) -> None:
    found = evaluate(tiny_model, pairs(tmp_path / "UDM10"))
    gt, lr = truth(1), shrunk(truth(1))
    expected = score_clip(gt, lr, upscaled(tiny_model, lr), GroundTruth.measure(gt, WITH_TRUTH), WITH_TRUTH)
    assert found["clips"]["BIx4"]["clip1"]["tiny"] == pytest.approx(expected)
    assert list(found["clips"]["BIx4"]) == ["clip0", "clip1"]
    both = [found["clips"]["BIx4"][clip]["tiny"]["psnr_y"] for clip in ("clip0", "clip1")]
    assert found["means"]["BIx4"]["tiny"]["psnr_y"] == pytest.approx(np.mean(both))
    gain = np.mean([c["tiny"]["niqe"] - c["lanczos"]["niqe"] for c in found["clips"]["BIx4"].values()])
    assert found["differences"]["BIx4"]["lanczos"]["niqe"]["mean"] == pytest.approx(gain)
    assert found["complete"] and found["machine"].endswith(torch.__version__.split("+")[0])
    assert found["models"]["tiny"]["model_hash"]


def test_the_base_resampler_is_the_engine_at_strength_0(tiny_model: Path) -> None:
    lr = shrunk(truth(0))
    base = next(method for method in RESAMPLERS if method.label == "base").upscale(lr)
    away = np.abs(base.astype(int) - upscaled(tiny_model, lr, strength=0.0, precision="float32"))
    assert away.max() <= 1 and away.mean() < 0.01


def test_lanczos_is_that_of_the_metrics() -> None:
    lr = shrunk(truth(0))
    large = np.stack([resize(frame, 96, 192, "lanczos3") for frame in lr])
    assert np.array_equal(RESAMPLERS[0].upscale(lr), np.clip(np.rint(large), 0, 255).astype(np.uint8))


def test_from_truth_alone_every_kind_of_lr_is_made_from_its_seed(tiny_model: Path, tmp_path: Path) -> None:
    pictures(tmp_path / "set" / "GT" / "park", truth(0))
    found = evaluate(tiny_model, tmp_path / "set", "--seed", 3, "--kinds", "web", "clean", *QUICK)
    assert list(found["clips"]) == ["web", "clean"]
    lr = find(tmp_path / "set").clips[0].read_lr("web", 24, truth(0), 3)
    lanczos = RESAMPLERS[0].upscale(lr)
    expected = score_clip(truth(0), lr, lanczos, GroundTruth.measure(truth(0), ("psnr_y",)), ("psnr_y",))
    assert found["clips"]["web"]["park"]["lanczos"]["psnr_y"] == pytest.approx(expected["psnr_y"])
    assert found["arguments"]["seed"] == 3 and found["models"]["tiny"]["seed"] == 3
    assert lr.shape == degrade(truth(0), "web", 0)[0].shape


def test_lr_alone_is_measured_without_a_truth_along_the_flow_of_its_lanczos_enlargement(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    low = {"LQ": shrunk(truth(0, 3)), "BDx4": shrunk(truth(1, 3))[:, :, ::-1]}
    for kind, lr in low.items():
        pictures(tmp_path / "VideoLQ" / kind / "000", lr, digits=8)
    found = evaluate(tiny_model, tmp_path / "VideoLQ")
    assert found["measures"] == list(LR_ONLY) and found["flow"] == "of the Lanczos-enlarged LR"
    for kind, lr in low.items():
        expected = warping_error(upscaled(tiny_model, lr), motions(RESAMPLERS[0].upscale(lr)))
        assert found["clips"][kind]["000"]["tiny"]["e_warp"] == pytest.approx(expected)
    assert "its flow is that of the LR enlarged by Lanczos" in capsys.readouterr().err


def test_of_each_clip_the_first_frames_are_taken(tiny_model: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "UDM10", 1, frames=3)
    found = evaluate(tiny_model, data, "--frames", 2, "--measures", "psnr_y", "shrink_psnr", "e_warp")
    gt = truth(0, 3)[:2]
    names = ("psnr_y", "e_warp", "shrink_psnr")
    out = upscaled(tiny_model, shrunk(gt))
    expected = score_clip(gt, shrunk(gt), out, GroundTruth.measure(gt, names), names)
    assert found["clips"]["BIx4"]["clip0"]["tiny"] == pytest.approx(expected)


def test_crop_leaves_out_the_border_of_every_measure(tiny_model: Path, tmp_path: Path) -> None:
    wide = np.pad(truth(0), ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    soiled = wide.copy()
    soiled[:, :4] = soiled[:, :, -4:] = 255
    for name, gt in (("clean", wide), ("soiled", soiled)):
        pictures(tmp_path / name / "GT" / "a", gt)
        pictures(tmp_path / name / "LQ" / "a", shrunk(wide))
    names = [name for name in WITH_TRUTH if name != "ssimulacra2"]
    whole = [evaluate(tiny_model, tmp_path / name, *QUICK) for name in ("clean", "soiled")]
    inner = [evaluate(tiny_model, tmp_path / n, "--crop", 4, "--measures", *names) for n in ("clean", "soiled")]
    assert inner[0]["clips"] == inner[1]["clips"]
    lr, out = shrunk(wide), RESAMPLERS[0].upscale(shrunk(wide))
    shrunk_back = shrink_back_psnr(lr[:, 1:-1, 1:-1], out[:, 4:-4, 4:-4])
    assert inner[0]["clips"]["LQ"]["a"]["lanczos"]["shrink_psnr"] == pytest.approx(shrunk_back)
    assert whole[0]["clips"]["LQ"]["a"]["tiny"]["psnr_y"] > whole[1]["clips"]["LQ"]["a"]["tiny"]["psnr_y"] + 3


def test_a_model_against_itself_differs_by_nothing_and_another_by_something(tiny_model: Path, tmp_path: Path) -> None:
    found = evaluate(tiny_model, pairs(tmp_path / "UDM10"), "--against", tiny_model, *QUICK)
    same = found["differences"]["BIx4"]["tiny'"]["psnr_y"]
    assert (same["mean"], same["low"], same["high"], same["resolved"]) == (0, 0, 0, False)
    dials = ("--against", tiny_model, "--detail", 1, "--against-detail", 0)
    found = evaluate(tiny_model, tmp_path / "UDM10", *dials, *QUICK)
    assert list(found["models"]) == ["tiny d=1", "tiny d=0"]
    assert found["differences"]["BIx4"]["tiny d=0"]["psnr_y"]["mean"] != 0


def test_differences_are_paired_by_clip_and_drawn_by_film() -> None:
    findings = Findings(("lanczos", "mine"), ("psnr_y",), {f"clip{n}": f"film{n // 2}" for n in range(16)})
    for n in range(16):
        hardness = 5.0 * n  # clips differ far more than the methods do
        findings.add("web", f"clip{n}", "lanczos", {"psnr_y": hardness})
        findings.add("web", f"clip{n}", "mine", {"psnr_y": hardness + 0.1 + 0.01 * (n % 3)})
    found = findings.differences()["web"]["lanczos"]["psnr_y"]
    assert found.mean == pytest.approx(0.11, abs=0.005) and 0.1 <= found.low < found.high <= 0.12
    assert found.resolved and (found.groups, found.count) == (8, 16)


def test_the_tables_name_every_clip_and_say_what_is_not_resolved() -> None:
    rng = np.random.default_rng(0)
    findings = Findings(("lanczos", "mine"), ("psnr_y", "niqe", "musiq"), {f"clip{n}": f"clip{n}" for n in range(8)})
    for n in range(8):
        findings.add("web", f"clip{n}", "lanczos", {"psnr_y": 30.0, "niqe": 5.0, "musiq": math.nan})
        own = {"psnr_y": 31.0 + 0.1 * n, "niqe": 5 + float(rng.normal()), "musiq": math.nan}
        findings.add("web", f"clip{n}", "mine", own)
    console = Console(record=True, width=120)
    show(findings, {"musiq"}, console)
    text = console.export_text()
    assert all(f"clip{n}" in text for n in range(8)) and "mean of lanczos" in text
    rows = {line.split()[0]: line for line in text.split("mine minus")[1].splitlines() if line.strip()}
    assert "+1.35 [+1.19, +1.50]" in rows["PSNR-Y"] and "not resolved" not in rows["PSNR-Y"]
    assert "not resolved" in rows["NIQE"]
    assert rows["musiq"].split() == ["musiq", "↓", "-"]


def make_run(folder: Path, stages: dict[str, int]) -> Path:
    """A run folder with random weights as results: stage -> seed."""
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({"model": "tiny", "name": "smoke"}))
    for stage, seed in stages.items():
        (folder / stage).mkdir()
        write_tensors(folder / stage / "result.safetensors", random_weights(PRESETS["tiny"], seed), {"steps": "1"})
    return folder


def of(seed: int, path: Path) -> dict[str, Any]:
    """A model file with one set of those weights."""
    save(path, PRESETS["tiny"], {DETAILED: random_weights(PRESETS["tiny"], seed)}, {})
    return {"model": path}


def test_a_run_is_judged_by_its_last_one_step_stage_and_a_stage_by_its_own(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"regression": 1, "teacher": 2, "progressive": 3, "dual_stream": 4})
    data = pairs(tmp_path / "UDM10", 1)

    def psnr(model: Path, *more: object) -> float:
        found = evaluate(model, data, *more, *QUICK)
        scores = found["clips"]["BIx4"]["clip0"][next(iter(found["models"]))]
        return float(scores["psnr_y"])

    single = {seed: psnr(of(seed, tmp_path / f"{seed}.safetensors")["model"]) for seed in (1, 3, 4)}
    assert psnr(run) == single[4]
    assert psnr(run / "progressive") == single[3]
    assert psnr(run, "--detail", 0) == single[1]
    (run / "dual_stream" / "result.safetensors").unlink()
    (run / "progressive" / "result.safetensors").unlink()
    assert psnr(run) == single[1]


def test_a_pack_is_judged_on_its_held_out_clips(tiny_model: Path, tmp_path: Path) -> None:
    pack = packed(tmp_path)
    found = evaluate(tiny_model, pack, "--kinds", "clean", *QUICK)
    held_out = [row for row in read_index(pack)[0] if row.split == "val"]
    assert list(found["clips"]["clean"]) == [row.clip for row in held_out]
    assert found["bootstrap"]["groups"] == {row.clip: row.group for row in held_out}


def test_the_command_line_of_the_trainer_knows_it(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = pairs(tmp_path / "UDM10", 1)
    assert trainer(["evaluate", str(tiny_model), "--data", str(data), *QUICK]) == 0
    out, err = capsys.readouterr()
    assert "mean of base" in out and "too few clips" in out
    assert "1 clip with ground truth; LR of the set: BIx4" in err and "no difference can be resolved" in err
    assert trainer(["evaluate", str(tiny_model), "--data", str(data / "nothing")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_measured_before_a_damaged_clip_is_kept(tiny_model: Path, tmp_path: Path) -> None:
    data = pairs(tmp_path / "UDM10")
    (data / "BIx4" / "clip1" / "0002.png").write_bytes(b"")
    with pytest.raises(DuoVsrError, match=r"^clip1: .*0002.png cannot be read as a picture"):
        evaluate(tiny_model, data, *QUICK)
    kept = read(tmp_path / "results.json")
    assert list(kept["clips"]["BIx4"]) == ["clip0"] and kept["complete"] is False


def test_what_is_no_number_is_null_in_the_file(tmp_path: Path) -> None:
    write(tmp_path / "a.json", {"a": math.nan, "b": [math.inf, 1.5], "c": {"d": (2, None)}})
    assert read(tmp_path / "a.json") == {"a": None, "b": [None, 1.5], "c": {"d": [2, None]}}


@pytest.mark.parametrize(
    "more, told",
    [
        (["--crop", "2"], "--crop 2: 0 or a multiple of 4"),
        (["--crop", "48"], "clip0: --crop leaves nothing of frames of 192x96"),
        (["--frames", "0"], "--frames 0: 1 or more"),
        (["--measures", "lpips"], "--measures lpips: with ground truth there are psnr_y"),
        (["--kinds", "BDx4"], "--kinds BDx4: there is no such LR here; choose from BIx4 clean web real"),
        (["--against-detail", "0.5"], "--against-detail belongs to --against"),
        (["--against", "nanno"], "there is no model named 'nanno'"),
        (["--detail", "2"], "detail=2.0 is out of range"),
        (["--device", "tpu"], "device='tpu' is unknown"),
    ],
)
def test_options_that_do_not_fit_say_so(tiny_model: Path, tmp_path: Path, more: list[str], told: str) -> None:
    data = pairs(tmp_path / "UDM10", 1)
    with pytest.raises(DuoVsrError, match=told):
        main([str(tiny_model), "--data", str(data), *more])


@pytest.mark.parametrize(
    "build, told",
    [
        (lambda run: run.mkdir(), "is no run folder: it holds no recipe.json"),
        (lambda run: make_run(run, {"teacher": 1}), "is needed"),
        (lambda run: make_run(run.parent / "other", {"teacher": 1}).joinpath("teacher").rename(run), "no run folder"),
        (lambda run: make_run(run, {"regression": 1}).joinpath("recipe.json").write_text('{"model": "x"}'), "'x'"),
    ],
)
def test_folders_that_are_no_finished_run_say_so(tmp_path: Path, build: Callable[[Path], object], told: str) -> None:
    build(tmp_path / "run")
    with pytest.raises(DuoVsrError, match=told):
        main([str(tmp_path / "run"), "--data", str(pairs(tmp_path / "UDM10", 1))])


def test_a_stage_of_many_steps_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"teacher": 1, "regression": 2})
    with pytest.raises(DuoVsrError, match=r"no stage that makes pictures in one step; name one of regression"):
        main([str(run / "teacher"), "--data", str(pairs(tmp_path / "UDM10", 1))])


def test_without_pyiqa_one_sentence_says_what_to_install(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    found = evaluate(tiny_model, pairs(tmp_path / "UDM10", 1), "--pyiqa", "musiq,lpips", *QUICK)
    told = [line for line in capsys.readouterr().err.splitlines() if "pyiqa" in line]
    assert (
        len(told) == 1
        and "pyiqa is not installed; left out: musiq, lpips; install it with pip install pyiqa" in told[0]
    )
    assert found["measures"] == ["psnr_y"] and told[0] in found["notes"]


PYIQA = """
import os, socket, torch

assert os.environ["HF_HUB_OFFLINE"] == "1"

class Metric(torch.nn.Module):
    lower_better = False
    def __init__(self, name):
        super().__init__()
        self.metric_mode = "FR" if name == "lpips" else "NR"
    def forward(self, image, reference=None):
        assert image.shape[:2] == (1, 3) and image.max() <= 1
        return image.mean() if reference is None else (image - reference).abs().mean()

def create_metric(name, device=None):
    if name == "musiq":
        print("Downloading musiq")
        socket.create_connection(("127.0.0.1", {port}))
    assert name in ("musiq", "clipiqa", "lpips"), f"Metric {{name}} not implemented yet."
    return Metric(name)
"""


def test_networks_of_pyiqa_are_used_where_their_weights_are_here_and_nothing_is_fetched(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    monkeypatch.delitem(sys.modules, "pyiqa", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        (tmp_path / "pyiqa.py").write_text(PYIQA.format(port=server.getsockname()[1]))
        found = evaluate(tiny_model, pairs(tmp_path / "UDM10", 1), "--pyiqa", "musiq,clipiqa,lpips,musik", *QUICK)
        server.settimeout(0)
        with pytest.raises(BlockingIOError):  # nobody came
            server.accept()
        socket.create_connection(server.getsockname()).close()  # and afterwards connections work again
    monkeypatch.delitem(sys.modules, "pyiqa")
    out, err = capsys.readouterr()
    scores = found["clips"]["BIx4"]["clip0"]["lanczos"]
    enlarged = RESAMPLERS[0].upscale(shrunk(truth(0))).astype(np.float64)
    assert scores["clipiqa"] == pytest.approx(enlarged.mean() / 255, abs=1e-4)
    assert scores["lpips"] == pytest.approx(np.abs(enlarged - truth(0)).mean() / 255, abs=1e-4)
    assert "musiq" not in scores and "musik" not in scores and "clipiqa ↑" in out and "Downloading" not in out
    assert "pyiqa: musiq is left out (nothing is downloaded here)" in err
    assert "pyiqa: musik is left out (Metric musik not implemented yet.)" in err
    assert "HF_HUB_OFFLINE=1 is set" in err


def test_a_network_that_compares_is_left_out_without_a_truth(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    monkeypatch.delitem(sys.modules, "pyiqa", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "pyiqa.py").write_text(PYIQA.format(port=0))
    video(tmp_path / "AIGC60" / "a.mp4", shrunk(truth(0)))
    found = evaluate(tiny_model, tmp_path / "AIGC60", "--pyiqa", "clipiqa,lpips")
    monkeypatch.delitem(sys.modules, "pyiqa")
    assert found["measures"] == [*LR_ONLY, "clipiqa"]
    assert any("lpips compare with a ground truth" in note for note in found["notes"])


def run_of_base(folder: Path, weights: dict[str, torch.Tensor]) -> Path:
    """A run folder with one stage of a tiny `base`."""
    (folder / "progressive").mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps({"model": "base-tiny"}))
    write_tensors(folder / "progressive" / "result.safetensors", weights, {})
    return folder


def test_a_run_of_base_is_evaluated_by_its_folder_as_one_of_nano_is(tmp_path: Path) -> None:
    weights = base_weights(BASES["base-tiny"])
    path, label = _file_of(run_of_base(tmp_path / "run", weights), tmp_path / "out")
    found = load(path).generator.state_dict()
    assert label == "run/progressive" and found.keys() == weights.keys()
    assert all(torch.equal(found[name].float(), weights[name]) for name in weights)


def test_a_run_of_adapters_is_to_be_exported_before_it_is_evaluated(tmp_path: Path) -> None:
    adapters = {"transformer.blocks.0.attn1.to_q.down": torch.zeros(4, 8)}
    with pytest.raises(TrainingError, match=r"holds adapters, .*; export the run with --from FILE"):
        _file_of(run_of_base(tmp_path / "run", adapters), tmp_path / "out")
