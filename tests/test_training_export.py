"""A finished run as a model file: both ends of the dial, where it comes from, a golden frame, and that it upscales."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from training_files import SMOKE, make_pack

from duovsr_vs.engine import selftest
from duovsr_vs.model.checkpoint import load
from training.__main__ import main
from training.export import last_stage, revision
from training.results import Results
from training.run import Run

pytestmark = pytest.mark.usefixtures("trainer_alone")

RECIPE = replace(SMOKE, stages=("regression", "teacher", "guided", "progressive"), evaluate_clips=1)
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(trainer_alone: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A pack, a run of four stages, and its model file."""
    folder = tmp_path_factory.mktemp("export")
    data, out = make_pack(folder), folder / "run"
    Run(RECIPE, data, out, lambda _: None).all_stages()
    assert main(["export", str(out), "--data", str(data), "-o", str(folder / "m.safetensors"), "--detail", "0.25"]) == 0
    return data, out, folder / "m.safetensors"


def test_the_dial_goes_from_the_regression_to_the_last_stage(made: tuple[Path, Path, Path]) -> None:
    _, out, model = made
    results = Results(out)
    ends = {0.0: results.weights("regression"), 1.0: results.weights("progressive")}
    for detail, wanted in ends.items():
        found = load(model, detail).generator.state_dict()
        for name, tensor in wanted.items():
            torch.testing.assert_close(found[name], tensor, atol=1e-3, rtol=1e-3)
    assert load(model).config.default_detail == 0.25


def test_the_file_says_where_its_weights_come_from(made: tuple[Path, Path, Path]) -> None:
    with safe_open(made[2], framework="pt") as file:
        text = " ".join(file.metadata().values())
    for fact in ("smoke", "regression", "progressive", "psnr_y", "park.mp4", revision()):
        assert fact in text.replace('\\"', '"'), fact


def test_the_model_gives_its_golden_frame(made: tuple[Path, Path, Path]) -> None:
    assert "gives its golden frame" in selftest.run(made[2])


def test_without_a_regression_both_ends_are_the_last_stage(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    data, out, _ = made
    recipe = replace(SMOKE, stages=("guided", "progressive"), evaluate_clips=1)
    shutil.copytree(out / "teacher", tmp_path / "earlier" / "teacher")
    Run(recipe, data, tmp_path / "run", lambda _: None, earlier=tmp_path / "earlier").all_stages()
    target = tmp_path / "m.safetensors"
    assert main(["export", str(tmp_path / "run"), "--data", str(data), "-o", str(target)]) == 0
    ends = [load(target, detail).generator.state_dict() for detail in (0.0, 1.0)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_earlier_stages_are_taken_from_where_the_run_went_on(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    data, out, whole = made
    recipe = replace(RECIPE, stages=RECIPE.stages)
    Run(recipe, data, tmp_path / "run", lambda _: None, earlier=out).stage("progressive")
    target = tmp_path / "m.safetensors"
    command = ["export", str(tmp_path / "run"), "--data", str(data), "-o", str(target), "--from", str(out)]
    assert main([*command, "--detail", "0.25"]) == 0
    found, wanted = (load(path, 0.0).generator.state_dict() for path in (target, whole))
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_curve_of_the_dial_is_measured_when_no_file_is_asked_for(
    made: tuple[Path, Path, Path], capsys: Captured
) -> None:
    assert main(["export", str(made[1]), "--data", str(made[0])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"detail {d:g}" for d in (0, 0.25, 0.5, 0.75, 1)]
    assert all("clean/psnr_y" in line for line in lines)


def test_what_cannot_be_exported_is_one_sentence(
    made: tuple[Path, Path, Path], tmp_path: Path, capsys: Captured
) -> None:
    data, out, _ = made
    for command, told in (
        ([str(tmp_path)], "holds no recipe.json; name a run folder"),
        ([str(out), "--detail", "2"], "--detail 2: it must be from 0 to 1"),
    ):
        assert main(["export", *command, "--data", str(data)]) == 1
        said, err = capsys.readouterr()
        assert not said and err.count("\n") == 1 and told in err
    (tmp_path / "recipe.json").write_text(json.dumps({}))
    assert main(["export", str(tmp_path), "--data", str(data)]) == 1
    assert "holds no finished stage" in capsys.readouterr().err
    assert last_stage(Results(out)) == "progressive"
