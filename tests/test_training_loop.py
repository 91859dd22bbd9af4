"""A run folder from end to end: all stages, stops, refusals, and the command that starts it."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from errno import ENOSPC
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import random_weights
from data_clips import film, save_video
from safetensors.torch import load_file
from training_files import SMOKE, make_pack, same

from duovsr_vs.model.family import PRESETS
from training.__main__ import in_words, main
from training.checkpoints import Checkpoints, TrainingError, read_facts, write_tensors
from training.data.sources import DataError
from training.distributed import ALONE, World
from training.recipes import Recipe
from training.results import RESULT, differing, fingerprint
from training.run import Run
from training.watch import LOG, SAMPLES

pytestmark = pytest.mark.usefixtures("trainer_alone")

RECIPE = replace(SMOKE, dual_stream=replace(SMOKE.dual_stream, steps=3))
STAGES = RECIPE.stages
STOP_AT = 3
"""Checkpoints are written every second update, so a stop here repeats the third."""
COMMON = {"gradient", "rate", "seconds", "wait", "samples_per_second", "tokens_per_second", "mfu", "memory_gb"}
FIGURES = {
    "guided": {"velocity", "guidance"},
    "dual_stream": {
        *("fake", "heads", "dmd", "gan", "features", "ratio", "d_real", "d_fake", "saturated"),
        *("gradient_fake", "gradient_heads"),
    },
    "preference": {"preference", "anchor", "delta_w", "delta_l", "accuracy"},
}


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
        names = {p.name for p in (out / stage).iterdir()}
        assert names >= {LOG, RESULT, SAMPLES} and "checkpoints" not in names
        assert any(name.startswith("events.out.tfevents") for name in names)
        lines = [line for line in logged(out, stage) if "machine" not in line]
        steps = int(read_facts(out / stage / RESULT)["steps"])
        last = [{"step", "evaluation"}, *[{"step", "verdict"}] * (stage == "preference")]
        assert [line["step"] for line in lines] == [*range(1, steps + 1), *[steps] * len(last)]
        assert [line.keys() for line in lines[steps:]] == last and lines[0].keys() >= COMMON
        assert any(text.startswith(f"{stage} 1/{steps} ") and text.endswith("min left") for text in said)
        assert any(text.startswith(f"{stage} {steps}: against the base resampler, clean: PSNR-Y") for text in said)
    for stage, figures in FIGURES.items():
        assert figures <= {name for line in logged(out, stage) for name in line}, stage
    assert (out / "guided" / SAMPLES / "000003-guidance.png").is_file()
    assert (out / "dual_stream" / "heads.safetensors").is_file() and [*(out / "dual_stream").glob("late-*.safetensors")]


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
        facts = Checkpoints(tmp_path / stage / "checkpoints", ALONE).facts()
        assert facts is not None and facts["step"] == "2"
        resumed.stage(stage)
        steps = [line["step"] for line in logged(tmp_path, stage) if "gradient" in line]
        assert steps == [*range(1, len(steps) + 1)]  # no step stands twice
        assert same(load_file(tmp_path / stage / RESULT), load_file(finished[0] / stage / RESULT)), stage


def test_a_finished_run_is_left_alone(packed: Path, finished: tuple[Path, list[str]]) -> None:
    out, said = finished[0], []
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.glob("*/*") if path.is_file()}
    Run(RECIPE, packed, out, said.append).all_stages()
    assert said == [f"{stage}: finished before" for stage in STAGES]
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.glob("*/*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize(
    "other",
    [
        replace(RECIPE, seed=1),
        replace(RECIPE, model="toy"),
        replace(RECIPE, regression=replace(RECIPE.regression, learning_rate=2e-3)),
    ],
    ids=["seed", "model", "rate"],
)
@pytest.mark.parametrize("stopped", [False, True], ids=["finished", "checkpoint"])
def test_another_recipe_in_the_same_folder_is_refused(
    other: Recipe, stopped: bool, packed: Path, finished: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "regression"
    folder.mkdir()
    if stopped:
        Checkpoints(folder / "checkpoints", ALONE).save(2, {"a": torch.ones(1)}, {"recipe": "that of another run"})
    else:
        shutil.copy(finished[0] / "regression" / RESULT, folder)
    with pytest.raises(TrainingError, match=r"comes from another recipe.*; give another --out") as refused:
        Run(other, packed, tmp_path, lambda _: None).stage("regression")
    assert "\n" not in str(refused.value) and str(folder) in str(refused.value)


def test_a_stage_made_from_an_earlier_result_is_refused_once_that_has_changed(
    packed: Path, finished: tuple[Path, list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished[0], out)
    path = out / "teacher" / RESULT
    write_tensors(path, {name: t + 1e-3 for name, t in load_file(path).items()}, read_facts(path))
    with pytest.raises(TrainingError, match="made from another result of teacher than is there now; delete"):
        Run(RECIPE, packed, out, lambda _: None).stage("guided")


def test_a_stage_before_its_turn_is_refused_with_the_command_that_makes_what_is_missing(
    packed: Path, tmp_path: Path
) -> None:
    run = Run(RECIPE, packed, tmp_path, lambda _: None)
    for stage, missing in (("teacher", "regression"), ("guided", "teacher"), ("preference", "regression")):
        with pytest.raises(TrainingError, match=f"Make it with: python -m training {missing} --recipe smoke"):
            run.stage(stage)


def test_a_run_goes_on_from_stage_files_of_another(
    packed: Path, finished: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """From a run folder, and from a folder of <stage>.safetensors, in half precision as well."""
    files = tmp_path / "files"
    files.mkdir()
    weights = load_file(finished[0] / "teacher" / RESULT)
    write_tensors(files / "teacher.safetensors", {name: t.half() for name, t in weights.items()}, {})
    for earlier in (finished[0], files):
        out = tmp_path / earlier.name / "on"
        Run(RECIPE, packed, out, lambda _: None, earlier=earlier).stage("guided")
        later = load_file(out / "guided" / RESULT)
        assert same(later, load_file(finished[0] / "guided" / RESULT)) == (earlier is not files)
    with pytest.raises(TrainingError, match=r"--from .*nowhere: there is no such folder"):
        Run(RECIPE, packed, tmp_path, lambda _: None, earlier=tmp_path / "nowhere")


def test_a_whole_run_takes_from_an_earlier_one_what_that_has(
    packed: Path, finished: tuple[Path, list[str]], tmp_path: Path
) -> None:
    recipe, said = replace(RECIPE, stages=("regression", "teacher", "guided")), list[str]()
    shutil.copytree(finished[0] / "regression", tmp_path / "earlier" / "regression")
    shutil.copytree(finished[0] / "teacher", tmp_path / "earlier" / "teacher")
    Run(recipe, packed, tmp_path / "run", said.append, earlier=tmp_path / "earlier").all_stages()
    assert [line.split(" from ")[0] for line in said[:2]] == ["regression: taken", "teacher: taken"]
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["guided", "recipe.json"]


def test_a_start_for_a_stage_that_begins_with_results_is_refused(
    packed: Path, finished: tuple[Path, list[str]], tmp_path: Path
) -> None:
    recipe = replace(RECIPE, stages=("guided",))
    run = Run(recipe, packed, tmp_path, lambda _: None, start=finished[0] / "teacher" / RESULT, earlier=finished[0])
    with pytest.raises(TrainingError, match="--start: guided begins with the results of teacher; give those by --from"):
        run.stage("guided")


def test_a_batch_that_the_processes_cannot_divide_is_told_before_the_first_stage(packed: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, preference=replace(RECIPE.preference, batch=3))
    with pytest.raises(TrainingError, match=r"--preference\.batch: a batch of 3 cannot be divided by 2 processes"):
        Run(recipe, packed, tmp_path, lambda _: None, world=World(0, 2))


def test_what_differs_between_two_recipes_is_named_and_fields_at_their_default_do_not_count() -> None:
    other = replace(RECIPE, seed=5, guided=replace(RECIPE.guided, guidance=2.5))
    told = differing(fingerprint(RECIPE, "guided"), fingerprint(other, "guided"))
    assert told == " (guided.guidance was the default, is 2.5; seed was the default, is 5)"
    assert "temporal" not in fingerprint(RECIPE, "guided") and "log_every" not in fingerprint(RECIPE, "guided")
    assert differing("of an older version", fingerprint(other, "guided")) == ""


def test_weights_of_another_architecture_are_refused_with_the_difference(packed: Path, tmp_path: Path) -> None:
    start = tmp_path / "larger.safetensors"
    write_tensors(start, random_weights(PRESETS["toy"], 0), {})
    run = Run(RECIPE, packed, tmp_path, lambda _: None, start=start)
    with pytest.raises(
        TrainingError, match=r"another architecture than tiny: .* is .* there and .* in tiny"
    ) as refused:
        run.stage("regression")
    assert "\n" not in str(refused.value)


def test_other_training_data_is_refused_when_a_stage_goes_on(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Run(RECIPE, packed, tmp_path / "run", stop_at(STOP_AT)).stage("regression")
    (tmp_path / "more").mkdir()
    save_video(tmp_path / "more" / "lake.mp4", film(3, 96, 192, seed=9))
    with pytest.raises(TrainingError, match="comes from other training data"):
        Run(RECIPE, make_pack(tmp_path / "more"), tmp_path / "run", lambda _: None).stage("regression")


def test_a_training_that_has_gone_wrong_stops_and_names_its_samples(packed: Path, tmp_path: Path) -> None:
    wild = replace(
        RECIPE, save_every=1, regression=replace(RECIPE.regression, learning_rate=1e30, steps=40, warmup=0, clip=1e30)
    )
    with pytest.raises(
        TrainingError, match=r"regression has gone wrong at update \d+: .*; its batch holds .*\.mp4 frame"
    ):
        Run(wild, packed, tmp_path, lambda _: None).stage("regression")
    kept = Checkpoints(tmp_path / "regression" / "checkpoints", ALONE)
    assert kept.all() and not (tmp_path / "regression" / RESULT).exists()


def test_an_error_of_the_data_ends_the_run_with_its_sentence(packed: Path, tmp_path: Path) -> None:
    large = replace(RECIPE, regression=replace(RECIPE.regression, patch=40))
    with pytest.raises(DataError, match=r"a patch of 40 LR pixels does not fit into .* the largest is 48x24 \(.*mp4\)"):
        Run(large, packed, tmp_path, lambda _: None).stage("regression")
    assert not (tmp_path / "regression" / RESULT).exists()
    last = replace(RECIPE, preference=replace(RECIPE.preference, frames=4))
    with pytest.raises(DataError, match="4 frames in a row are asked for, and the longest clip"):
        Run(last, packed, tmp_path / "new", lambda _: None).all_stages()
    assert not (tmp_path / "new").exists()  # told before the first stage


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.ones(2)}, {"step": "1"})
    (tmp_path / "a.safetensors.part").mkdir()  # nothing can be written there
    with pytest.raises((TrainingError, OSError)):
        write_tensors(path, {"a": torch.zeros(2)}, {"step": "2"})
    assert read_facts(path) == {"step": "1"} and load_file(path)["a"].tolist() == [1, 1]


# -- the command ------------------------------------------------------------------------------------------------

Captured = pytest.CaptureFixture[str]


def test_what_the_system_refuses_is_told_with_its_file_and_without_a_number(
    packed: Path, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "file").touch()
    assert main(["run", *command(packed, tmp_path / "file" / "out")]) == 1
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and "Errno" not in err
    assert err.startswith(f"{tmp_path / 'file' / 'out'}") and "Not a directory; name another place" in err
    assert in_words(OSError(ENOSPC, "No space left on device")).endswith("make room and give the same command again")


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


def test_results_can_be_read_by_whoever_reads_other_files(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_tensors(tmp_path / "result.safetensors", {"a": torch.zeros(2)}, {})
    assert (tmp_path / "result.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "result.safetensors"]
