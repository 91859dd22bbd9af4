"""A stop that is asked for between updates ends with one sentence at once, and the same command goes on."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file
from training_files import SMOKE, make_pack, same, weights

from training.__main__ import main
from training.checkpoints import Checkpoints, read_facts, write_tensors
from training.data.dataset import PackedClips
from training.distributed import ALONE
from training.preference.groups import Judging
from training.recipes import Recipe
from training.results import RESULT
from training.run import Run
from training.stopping import StoppedError, at_once, later, stop_signals
from training.validate import Validation

pytestmark = pytest.mark.usefixtures("trainer_alone")

RECIPE = replace(SMOKE, stages=("regression",), save_every=1000, evaluate_every=2, evaluate_clips=1)


def ask(*_: object) -> None:
    """What a scheduler does."""
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("films"))


def stopped(packed: Path, out: Path, recipe: Recipe = RECIPE, earlier: Path | None = None) -> str:
    """The sentence of a run that is asked to stop by whatever the test has planted."""
    before = signal.getsignal(signal.SIGTERM)  # the command line, run in this process, has its own
    with pytest.raises(StoppedError) as ended:
        Run(recipe, packed, out, lambda _: None, earlier=earlier).all_stages()
    assert ended.value.number == signal.SIGTERM and signal.getsignal(signal.SIGTERM) == before
    return str(ended.value)


def test_a_stop_between_updates_is_at_once_and_within_one_waits_for_whoever_looks() -> None:
    with stop_signals(), at_once("it was tested"), pytest.raises(StoppedError, match="stopped while it was tested"):
        ask()
    with stop_signals() as outer, later() as stops, stop_signals() as inner:
        ask()
        assert stops.asked == [signal.SIGTERM] and outer is stops is inner
        with pytest.raises(StoppedError, match="while pairs were made"), at_once("pairs were made"):
            raise AssertionError("the stop that had waited is not taken")
    with stop_signals() as stops:
        assert not stops.asked  # of the run before


def test_a_second_ctrl_c_ends_what_waits() -> None:
    with stop_signals(), later():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
def test_a_run_that_was_stopped_while_prepared_evaluated_and_measured_last_ends_bit_equal(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run(RECIPE, packed, tmp_path / "straight", lambda _: None).all_stages()
    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(Validation, "__init__", ask)
        assert stopped(packed, out) == "stopped while regression was prepared; the same command goes on"
    for done in (2, 4):
        with monkeypatch.context() as patched:
            patched.setattr(Validation, "measure", ask)
            assert stopped(packed, out) == "stopped while regression was evaluated; the same command goes on"
        facts = Checkpoints(out / "regression" / "checkpoints", ALONE).facts()
        assert facts is not None and facts["step"] == str(done)  # nothing is done twice
    Run(RECIPE, packed, out, lambda _: None).all_stages()
    results = [load_file(folder / "regression" / RESULT) for folder in (tmp_path / "straight", out)]
    assert same(*results) and not (out / "regression" / "checkpoints").exists()


def test_pairs_in_the_making_are_not_waited_for_and_the_weights_before_them_are_saved(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start of the stage, and in the middle, before its first regular checkpoint."""
    settings = replace(SMOKE.preference, steps=2, refresh=0.5, pairs=2, candidates=2, truth_share=1)
    recipe = replace(SMOKE, stages=("preference",), preference=settings, save_every=1000, evaluate_clips=1)
    write_tensors(tmp_path / "dual_stream.safetensors", weights(1), {})
    made = Judging.of
    for done in (0, 1):
        with monkeypatch.context() as patched:
            plant = staticmethod(lambda r, clips, n, last=done: made(r, clips, n) if n != last else ask())
            patched.setattr(Judging, "of", plant)
            told = stopped(packed, tmp_path / "run", recipe, tmp_path)
        assert told == "stopped while preference made its pairs; the same command goes on"
        facts = Checkpoints(tmp_path / "run" / "preference" / "checkpoints", ALONE).facts()
        assert (facts["step"] if facts else "0") == str(done)
        assert not (tmp_path / "run" / "preference" / f"pairs-{done}.safetensors").exists()
    facts = read_facts(tmp_path / "run" / "preference" / "pairs-0.safetensors")
    assert "model" in json.loads(facts["measures"])  # the learned ranker has its say


def test_a_stop_is_told_in_one_line_with_the_signals_exit_code(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(PackedClips, "__init__", ask)
    assert main(["run", "--recipe", "smoke", "--data", str(packed), "--out", str(tmp_path)]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "stopped; the same command goes on\n"
    monkeypatch.setattr("training.data.pack.find", ask)
    assert main(["pack", "--data", str(packed), "--out", str(tmp_path)]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "stopped; the same command begins anew\n"
