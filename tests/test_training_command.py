"""The training command: usage, dry runs, overrides, and what it says where something is amiss."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from training_files import SMOKE

from training.__main__ import main
from training.ranges import RecipeError
from training.recipes import STAGES as ALL_STAGES
from training.recipes import StageRecipe

pytestmark = pytest.mark.usefixtures("trainer_alone")
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
    printed, end = json.JSONDecoder().raw_decode(out := capsys.readouterr().out)
    assert printed == json.loads(wanted.to_json()) and "dual_stream" in out[end:]
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (["--dual-stream.taps", "left"], "'left' for argument '--dual-stream.taps'. Expected one of ('both', 'real',"),
        (["--teacher.steps", "many"], "--teacher.steps: 'many' is no whole number; --fields lists"),
        (["--teacher.shift", "much"], "--teacher.shift: 'much' is no number; --fields lists"),
        (["--regression.steps", "0"], "regression.steps is 0; it must be 1 or more"),
        (["--regression.patch", "17"], "regression.patch is 17; it must be even, 16 or more"),
        (["--teacher.learning-rate", "nan"], "teacher.learning_rate is nan; it must be a finite number"),
        (["--progressive.start-steps", "6"], "progressive.start_steps is 6; it must be a power of two, 2 or more"),
        (["--dual-stream.low", "0"], "dual_stream.low is 0.0; it must be above 0 and at most 1"),
        (["--dual-stream.low", "0.99"], "dual_stream.low is 0.99; it must be below high, which is 0.98"),
        (["--preference.noise-scale", "2", "1"], "preference.noise_scale is (2.0, 1.0); the first number must not be"),
        (["--lr-kinds", "clean", "-1"], "lr_kinds is {'clean': -1.0}; weights must be 0 or more"),
        (["--stages", "teacher", "regression"], "stages is ('teacher', 'regression'); it must be some of autoencoder,"),
        (["--log-every", "0"], "log_every is 0; it must be 1 or more"),
        (["stray"], "stray"),
    ],
)
def test_an_override_that_makes_no_sense_is_told_in_one_line_with_exit_code_2(
    override: list[str], told: str, tmp_path: Path, capsys: Captured
) -> None:
    assert main(["run", "--recipe", "smoke", "--data", str(tmp_path), "--out", str(tmp_path / "out"), *override]) == 2
    out, err = capsys.readouterr()
    assert not out and told in err and err.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("stage", ALL_STAGES)
def test_every_number_of_a_stage_has_a_range(stage: str) -> None:
    settings = SMOKE.stage(stage)
    numbers = [field.name for field in fields(settings) if isinstance(getattr(settings, field.name), int | float)]
    assert len(numbers) >= len(fields(StageRecipe))
    for name in numbers:
        with pytest.raises(RecipeError, match=rf"^{stage}\.{name} is nan; it must be a finite number$"):
            replace(settings, **{name: float("nan")})


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("--regresion.steps", "--regression.steps"),
        ("--dual-stream.tap", "--dual-stream.taps"),
        ("--sead=3", "--seed"),
        ("--steps", "every stage has its own: did you mean --autoencoder.steps?"),
        ("--start-steps", "; did you mean --progressive.start-steps?"),
        ("--zzzz", "--fields lists those that it has"),
    ],
)
def test_a_misspelt_field_is_told_with_the_nearest(word: str, near: str, tmp_path: Path, capsys: Captured) -> None:
    assert main(["run", "--recipe", "smoke", "--out", str(tmp_path / "out"), word]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and word.split("=")[0] in err and near in err


def test_data_that_is_not_there_is_one_sentence_and_exit_code_1(tmp_path: Path, capsys: Captured) -> None:
    assert main(["run", "--recipe", "smoke", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and "holds no index.parquet; make it with" in err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_films_in_place_of_a_pack_is_told_how_to_pack_it(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "beach.MP4").touch()
    assert main(["run", "--recipe", "smoke", "--data", str(tmp_path / "films"), "--out", str(tmp_path / "out")]) == 1
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1
    assert f"make one with: python -m training pack --data {tmp_path / 'films'} --out PACK" in err
