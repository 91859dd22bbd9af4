"""A run folder from end to end: five stages, stops, refusals, and the command that starts it."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_files import SMOKE, make_pack, same

from training.__main__ import main
from training.data.sources import DataError
from training.loop import LOG, RESULT, STATE, Run, TrainingError, read_facts, write_tensors
from training.recipes import STAGES, Recipe

pytestmark = pytest.mark.usefixtures("trainer_alone")

RECIPE = replace(SMOKE, dual_stream=replace(SMOKE.dual_stream, steps=3))
STOP_AT = 3
"""Checkpoints are written every second update, so a stop here repeats the third."""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def finished(packed: Path, trainer_alone: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run by the command that was never interrupted, and what it said."""
    out, said = tmp_path_factory.mktemp("whole"), io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(["run", *command(packed, out)]) == 0
    return out, said.getvalue().splitlines()


def command(data: Path, out: Path) -> list[str]:
    """Arguments that give RECIPE."""
    return ["--recipe", "smoke", "--data", str(data), "--out", str(out), "--dual-stream.steps", "3"]


def stop_at(step: int) -> Callable[[str], None]:
    """Ctrl-C when a stage reports this update."""

    def say(text: str) -> None:
        if f" {step}/" in text.split("  ")[0]:
            raise KeyboardInterrupt

    return say


def logged(folder: Path, stage: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / stage / LOG).read_text().splitlines()]


def test_a_run_goes_through_all_stages_and_leaves_results_logs_and_its_recipe(
    finished: tuple[Path, list[str]],
) -> None:
    out, said = finished
    assert json.loads((out / "recipe.json").read_text()) == json.loads(RECIPE.to_json())
    assert sorted(p.name for p in out.iterdir()) == sorted([*STAGES, "recipe.json"])
    for stage in STAGES:
        assert sorted(p.name for p in (out / stage).iterdir()) == sorted([LOG, RESULT])
        lines = logged(out, stage)
        steps = int(read_facts(out / stage / RESULT)["steps"])
        assert [line["step"] for line in lines] == [*range(1, steps + 1), steps]
        assert "evaluation" in lines[-1] and {"gradient", "seconds"} <= lines[0].keys()
        assert any(text.startswith(f"{stage} 1/{steps} ") and text.endswith("min left") for text in said)
        assert any(text.startswith(f"{stage}: against the base resampler, clean: PSNR-Y") for text in said)
    assert {"fake", "heads", "dmd", "gan", "features", "ratio", "saturated"} <= logged(out, "dual_stream")[0].keys()


def test_each_stage_hands_on_other_finite_weights(finished: tuple[Path, list[str]]) -> None:
    results = [load_file(finished[0] / stage / RESULT) for stage in STAGES]
    assert all(tensor.isfinite().all() for weights in results for tensor in weights.values())
    assert all(not same(a, b) for a, b in pairwise(results))


def test_a_run_that_was_stopped_in_every_stage_ends_bit_equal(
    packed: Path, finished: tuple[Path, list[str]], tmp_path: Path
) -> None:
    resumed = Run(RECIPE, packed, tmp_path, lambda _: None)
    for stage in STAGES:
        with pytest.raises(KeyboardInterrupt):
            Run(RECIPE, packed, tmp_path, stop_at(STOP_AT)).stage(stage)
        assert read_facts(tmp_path / stage / STATE)["step"] == "2"
        resumed.stage(stage)
        assert [line["step"] for line in logged(tmp_path, stage)][:4] == [1, 2, 3, 3]
        assert same(load_file(tmp_path / stage / RESULT), load_file(finished[0] / stage / RESULT)), stage
        assert not (tmp_path / stage / STATE).exists()


def test_a_finished_run_is_left_alone(packed: Path, finished: tuple[Path, list[str]]) -> None:
    out, said = finished[0], []
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.glob("*/*")}
    Run(RECIPE, packed, out, said.append).all_stages()
    assert said == [f"{stage}: finished before" for stage in STAGES]
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.glob("*/*")} == before


@pytest.mark.parametrize(
    "other",
    [
        replace(RECIPE, seed=1),
        replace(RECIPE, model="toy"),
        replace(RECIPE, regression=replace(RECIPE.regression, learning_rate=2e-3)),
    ],
    ids=["seed", "model", "rate"],
)
@pytest.mark.parametrize("name", [RESULT, STATE])
def test_another_recipe_in_the_same_folder_is_refused(
    other: Recipe, name: str, packed: Path, finished: tuple[Path, list[str]], tmp_path: Path
) -> None:
    (tmp_path / "regression").mkdir()
    shutil.copy(finished[0] / "regression" / RESULT, tmp_path / "regression" / name)
    with pytest.raises(TrainingError, match="comes from another recipe; give another --out") as refused:
        Run(other, packed, tmp_path, lambda _: None).stage("regression")
    assert "\n" not in str(refused.value) and str(tmp_path / "regression") in str(refused.value)


def test_a_stage_before_its_turn_is_refused(packed: Path, tmp_path: Path) -> None:
    run = Run(RECIPE, packed, tmp_path, lambda _: None)
    for stage, missing in (("teacher", "regression"), ("guided", "teacher"), ("dual_stream", "regression")):
        with pytest.raises(TrainingError, match=f"the stage {missing} comes first; run it"):
            run.stage(stage)


def test_an_error_of_the_data_ends_the_run_with_its_sentence(packed: Path, tmp_path: Path) -> None:
    large = replace(RECIPE, regression=replace(RECIPE.regression, patch=40))
    with pytest.raises(DataError, match="a patch of 40 LR pixels does not fit into a clip of 48x24"):
        Run(large, packed, tmp_path, lambda _: None).stage("regression")
    assert not (tmp_path / "regression" / RESULT).exists()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / STATE
    write_tensors(path, {"a": torch.ones(2)}, {"step": "1"})
    with pytest.raises(Exception, match="int"):
        write_tensors(path, {"a": torch.zeros(2)}, {"step": 2})  # type: ignore[dict-item]
    assert read_facts(path) == {"step": "1"} and load_file(path)["a"].tolist() == [1, 1]


# -- the command ------------------------------------------------------------------------------------------------

Captured = pytest.CaptureFixture[str]


def test_no_command_or_a_wrong_one_gives_usage_and_exit_code_2(capsys: Captured) -> None:
    assert main([]) == 2
    with pytest.raises(SystemExit) as ended:
        main(["trian"])
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    for text in (out, err):
        assert "usage: python -m training" in text and "dual_stream" in text
    assert main(["--help"]) == 0


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "training"], capture_output=True, text=True, cwd=Path(__file__).parent.parent
    )
    assert done.returncode == 2 and done.stdout.startswith("usage: python -m training") and not done.stderr


def test_a_dry_run_prints_the_recipe_with_its_overrides_and_writes_nothing(tmp_path: Path, capsys: Captured) -> None:
    where = ["--data", str(tmp_path / "none"), "--out", str(tmp_path / "out"), "--dry-run"]
    overrides = ["--regression.steps", "3", "--seed", "7", "--guided.negative", "null"]
    assert main(["run", "--recipe", "smoke", *where, *overrides]) == 0
    wanted = replace(
        SMOKE, seed=7, regression=replace(SMOKE.regression, steps=3), guided=replace(SMOKE.guided, negative="null")
    )
    assert json.loads(capsys.readouterr().out) == json.loads(wanted.to_json())
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (["--regresion.steps", "3"], "regresion"),
        (["--regression.steps", "many"], "many"),
        (["--regression.steps", "0"], "steps is out of range"),
        (["--regression.patch", "17"], "patch is out of range"),
        (["--progressive.start-steps", "6"], "start_steps is out of range"),
        (["--dual-stream.low", "0"], "low is out of range"),
    ],
)
def test_an_override_that_makes_no_sense_is_told_with_exit_code_2(
    override: list[str], told: str, tmp_path: Path, capsys: Captured
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--recipe", "smoke", "--data", str(tmp_path), "--out", str(tmp_path / "out"), *override])
    assert ended.value.code == 2
    assert told in "".join(capsys.readouterr())


def test_data_that_is_not_there_is_one_sentence_and_exit_code_1(tmp_path: Path, capsys: Captured) -> None:
    assert main(["run", "--recipe", "smoke", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and "holds no index.parquet; make it with" in err
    assert not (tmp_path / "out").exists()


def test_a_stage_by_name_is_that_stage_and_refuses_another_recipe_in_one_line(
    packed: Path, finished: tuple[Path, list[str]], tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    assert main(["guided", *command(packed, out)]) == 0
    assert capsys.readouterr().out == "guided: finished before\n"
    assert main(["guided", *command(packed, out), "--guided.guidance", "2"]) == 1
    said, err = capsys.readouterr()
    assert not said and err.count("\n") == 1 and "another recipe" in err
