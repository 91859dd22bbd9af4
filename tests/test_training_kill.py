"""A run that is killed without a warning, or asked to stop, goes on by the same command and ends with the same bits."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from launched import Launched, trainer
from safetensors.torch import load_file
from training_files import SMOKE, make_pack, same

PATIENCE = 300
"""Seconds that a stage may take to come to its next update, on a machine that is busy with other things."""
STAGES = SMOKE.stages
LENGTHS = ("--regression.steps", "12", "--teacher.steps", "8", "--guided.steps", "8", "--dual-stream.steps", "4")
"""Enough updates that a moment between the first and the last is never missed; a checkpoint after every second."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("films"))


def start(command: str, packed: Path, out: Path, *overrides: str) -> Launched:
    """`python -m training` in a process of its own."""
    arguments = [command, "--recipe", "smoke", "--data", packed, "--out", out, *LENGTHS, *overrides]
    return Launched(trainer, arguments, out.parent / f"{out.name}.txt")


def finish(process: Launched) -> None:
    code = process.wait(PATIENCE)
    assert code == 0, process.text()


@pytest.fixture(scope="module")
def straight(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("straight") / "run"
    finish(start("run", packed, out))
    return out


def updates(out: Path, stage: str) -> list[int]:
    """Numbers of the updates in a stage's log."""
    log = out / stage / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [line["step"] for line in lines if "gradient" in line]


def wait_for(process: Launched, out: Path, stage: str, step: int) -> None:
    """Until the log of a stage holds an update."""
    end = time.monotonic() + PATIENCE
    while step not in updates(out, stage):
        assert process.poll() is None, process.text()
        assert time.monotonic() < end, f"{stage} did not come to update {step}"
        time.sleep(0.005)


def files_of(out: Path) -> Iterator[tuple[str, Path]]:
    """All weights that a run left: results and what later stages use beside them."""
    for path in sorted(out.rglob("*.safetensors")):
        yield str(path.relative_to(out)), path


def assert_same_weights(out: Path, straight: Path) -> None:
    found, wanted = dict(files_of(out)), dict(files_of(straight))
    assert found.keys() == wanted.keys() and len(wanted) >= len(STAGES)
    different = [name for name in wanted if not same(load_file(found[name]), load_file(wanted[name]))]
    assert not different


def test_a_run_that_is_killed_at_a_random_moment_of_every_stage_ends_bit_equal(
    packed: Path, straight: Path, tmp_path: Path
) -> None:
    """SIGKILL between two updates, inside one, or while a checkpoint is written: six kills, seven starts."""
    draw, out, unfinished = random.Random(7), tmp_path / "run", 0
    for stage in STAGES:
        last = max(updates(straight, stage))
        process = start("run", packed, out)
        wait_for(process, out, stage, draw.randrange(1, last))
        time.sleep(draw.uniform(0, 0.2))
        process.kill()
        assert process.wait(PATIENCE) == -signal.SIGKILL
        unfinished += not (out / stage / "result.safetensors").exists()
    assert unfinished == len(STAGES)
    finish(start("run", packed, out))
    assert_same_weights(out, straight)
    for stage in STAGES:
        assert updates(out, stage) == updates(straight, stage)  # what was done twice is logged once
        assert not (out / stage / "checkpoints").exists() and not list((out / stage).rglob("*.part"))


def test_a_run_that_is_asked_to_stop_saves_at_once_and_goes_on_from_that_very_update(
    packed: Path, straight: Path, tmp_path: Path
) -> None:
    """SIGTERM long before the first regular checkpoint; the exit code tells a scheduler that it is not done."""
    out, often = tmp_path / "run", ("--save-every", "1000")
    process = start("regression", packed, out, *often)
    wait_for(process, out, "regression", 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    (checkpoint,) = (out / "regression" / "checkpoints").iterdir()
    saved = int(json.loads((checkpoint / "facts.json").read_text())["step"])
    said = process.text()
    assert f"stopped at update {saved} of regression and saved" in said and "Traceback" not in said
    assert saved == max(updates(out, "regression")) < max(updates(straight, "regression"))
    before = (out / "regression" / "log.jsonl").read_text().splitlines()
    finish(start("regression", packed, out, *often))
    after = (out / "regression" / "log.jsonl").read_text().splitlines()
    assert after[: len(before)] == before  # no update was done twice
    assert updates(out, "regression") == updates(straight, "regression")
    weights = [load_file(folder / "regression" / "result.safetensors") for folder in (out, straight)]
    assert same(*weights)
