"""What a stage shows while it trains: the log, TensorBoard, pictures, the bar."""

from __future__ import annotations

import io
import json
import math
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.checkpoints import TrainingError
from training.watch import LOG, Silent, Watcher

STEPS = 6


def watcher(folder: Path, first: int = 0, said: list[str] | None = None) -> Watcher:
    return Watcher(folder / "teacher", "teacher", first, STEPS, (said if said is not None else []).append)


def lines(folder: Path) -> list[dict[str, Any]]:
    """The log, read as strict JSON."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    text = (folder / "teacher" / LOG).read_text()
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def board(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder / "teacher")).Reload()


def train(folder: Path, first: int, last: int, evaluate: bool = True) -> None:
    with watcher(folder, first) as watch:
        for step in range(first + 1, last + 1):
            watch.advance(step)
            watch.figures(step, {"latent": 1 / step})
        if evaluate:
            watch.evaluation(last, {"clean/psnr_y": 30.0, "+clean/psnr_y": 0.25})


def test_the_log_holds_every_figure_and_null_for_what_is_not_finite(tmp_path: Path) -> None:
    with watcher(tmp_path) as watch:
        watch.figures(1, {"latent": 0.1 + 0.2, "gradient": math.nan, "ratio": math.inf, "steps": 2})
        watch.evaluation(1, {"clean/psnr_y": 30.5, "clean/niqe": math.nan})
        watch.event(1, "a round\nbegins")
        watch.machine("x86_64")
    assert lines(tmp_path) == [
        {"step": 1, "latent": 0.1 + 0.2, "gradient": None, "ratio": None, "steps": 2.0},
        {"step": 1, "evaluation": {"clean/psnr_y": 30.5, "clean/niqe": None}},
        {"step": 1, "event": "a round\nbegins"},
        {"step": 0, "machine": "x86_64"},
    ]


def test_a_resumed_log_is_that_of_a_run_that_never_stopped(tmp_path: Path) -> None:
    train(tmp_path / "straight", 0, STEPS)
    train(tmp_path / "stopped", 0, 5, evaluate=False)
    train(tmp_path / "stopped", 3, STEPS)
    assert lines(tmp_path / "stopped") == lines(tmp_path / "straight")


def test_the_last_evaluation_stands_once_when_a_finished_stage_is_measured_again(tmp_path: Path) -> None:
    train(tmp_path, 0, STEPS)
    before = lines(tmp_path)
    train(tmp_path, STEPS, STEPS)
    assert lines(tmp_path) == before


def test_an_evaluation_in_the_middle_survives_a_resume_at_its_step(tmp_path: Path) -> None:
    train(tmp_path, 0, 3)
    with watcher(tmp_path, 3):
        pass
    assert [line["step"] for line in lines(tmp_path) if "evaluation" in line] == [3]


def test_a_stage_that_begins_anew_begins_a_new_log(tmp_path: Path) -> None:
    train(tmp_path, 0, 3)
    with watcher(tmp_path) as watch:
        watch.event(0, "begun")
    train(tmp_path, 0, 1, evaluate=False)
    assert [line["step"] for line in lines(tmp_path)] == [1]


def test_a_line_cut_short_is_dropped_and_the_next_one_is_whole(tmp_path: Path) -> None:
    train(tmp_path, 0, 3, evaluate=False)
    path = tmp_path / "teacher" / LOG
    path.write_bytes(path.read_bytes()[:-9] + b'\n[1]\n{"step": null}\n\xff\xfe\n{"step": 3, "latent": 0.3}')
    train(tmp_path, 3, 4, evaluate=False)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 4]


def test_tensorboard_shows_each_step_once_after_a_resume(tmp_path: Path) -> None:
    train(tmp_path, 0, 5)
    train(tmp_path, 3, STEPS)
    shown = board(tmp_path)
    assert [event.step for event in shown.Scalars("latent")] == [1, 2, 3, 4, 5, 6]
    assert shown.Scalars("evaluation/clean/psnr_y")[-1].value == 30.0
    assert shown.Scalars("gain/clean/psnr_y")[-1].value == 0.25


def test_pictures_lie_in_the_samples_folder_and_on_the_board_as_they_were_given(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    with watcher(tmp_path) as watch:
        watch.samples(4, {"1-clean": picture})
    found = cv2.imread(str(tmp_path / "teacher" / "samples" / "000004-1-clean.png"))
    assert found is not None and np.array_equal(found[..., ::-1], picture)
    stored = np.frombuffer(board(tmp_path).Images("samples/1-clean")[0].encoded_image_string, np.uint8)
    assert np.array_equal(cv2.imdecode(stored, cv2.IMREAD_COLOR)[..., ::-1], picture)


def test_without_a_terminal_lines_tell_the_figures_and_the_time_left(tmp_path: Path) -> None:
    said: list[str] = []
    with watcher(tmp_path, said=said) as watch:
        watch.advance(1)
        watch.figures(2, {"latent": 0.25, "seconds": 30.0})
        watch.evaluation(2, {"clean/psnr_y": 30.0, "+clean/psnr_y": 0.25, "clean/e_warp_ratio": 1.5})
        watch.event(2, "resumed")
    assert said == [
        "teacher 2/6  latent 0.25  seconds 30  2.0 min left",
        "teacher 2: against the base resampler, clean: PSNR-Y +0.25, E_warp ratio 1.50",
        "teacher 2: resumed",
    ]


class Terminal(io.StringIO):
    """A standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "figures, shown",
    [
        ({"fake": 0.5, "dmd": 0.125, "gan": 2.0, "features": 3.0}, "dmd 0.125  gan 2  features 3\n"),
        ({"rate": 0.1, "mfu": 0.3, "latent": 0.25}, "latent 0.25\n"),
    ],
)
def test_on_a_terminal_a_bar_shows_pace_and_main_losses_and_lines_do_not_repeat_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figures: dict[str, float], shown: str
) -> None:
    terminal, said = Terminal(), list[str]()
    for name, value in {"TERM": "xterm", "COLUMNS": "160", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout", terminal)
    with watcher(tmp_path, said=said) as watch:
        watch.advance(1)
        watch.figures(2, {**figures, "seconds": 0.5})
    used = "  MFU 30%" if "mfu" in figures else ""
    assert "teacher" in terminal.getvalue() and f"2/6  2 it/s{used}  0.0 min left  {shown}" in terminal.getvalue()
    assert said == []


def test_the_log_says_why_a_stage_ended_early_and_the_error_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyError), watcher(tmp_path) as watch:
        watch.advance(2)
        raise KeyError("gradient")
    assert lines(tmp_path) == [{"step": 2, "event": "ended early: 'gradient'"}]
    train(tmp_path, 1, 2, evaluate=False)
    assert [line["step"] for line in lines(tmp_path)] == [2]


@contextmanager
def full_disk(bytes_left: int) -> Iterator[None]:
    """No file can grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda watch: watch.figures(1, {"latent": 0.5}), LOG),
        (lambda watch: watch.event(1, "resumed"), LOG),
        (lambda watch: watch.samples(1, {"a": np.zeros((8, 8, 3), np.uint8)}), "samples"),
        (lambda watch: watch._scalar("latent", 0.5, 1), "teacher"),
    ],
)
def test_no_room_for_a_log_a_picture_or_the_board_is_one_sentence_at_once(
    call: Callable[[Watcher], None], named: str, tmp_path: Path
) -> None:
    """Not a thread's traceback, and not at the end of the stage."""
    threads = threading.active_count()
    with watcher(tmp_path) as watch, full_disk(8), pytest.raises(TrainingError) as told:
        call(watch)  # eight bytes of it would fit
    assert threading.active_count() == threads
    assert str(told.value).startswith(str(tmp_path / "teacher")) and f"{named} cannot be written (" in str(told.value)
    assert str(told.value).endswith("make room and give the same command again")


def test_a_silent_watcher_takes_every_call_and_leaves_nothing(tmp_path: Path) -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    with Silent() as watch:
        watch.advance(1)
        watch.figures(1, {"latent": 1.0})
        watch.evaluation(1, {})
        watch.samples(1, {"a": picture})
        watch.event(1, "text")
        watch.machine("text")
    assert list(tmp_path.iterdir()) == []
    public = {name for name in vars(Watcher) if not name.startswith("_")}
    assert public <= set(vars(Silent))
