"""Samples, tokens and FLOPs per second from a clock that the tests set themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from training.throughput import Throughput, peak_memory

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import training_speed


class Clock:
    """Stands still until it is put forward."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def meter(clock: Clock, peak: float | None = 1000.0) -> Throughput:
    return Throughput(600.0, 8, 40, peak, clock=clock, memory=lambda: 1.5)


def made(clock: Clock, count: int, seconds: float) -> Iterator[int]:
    """Batches that each take their time."""
    for number in range(count):
        clock.now += seconds
        yield number


def test_figures_follow_from_seconds_spent_on_updates_and_on_waiting(clock: Clock) -> None:
    found = meter(clock)
    batches = found.batches(made(clock, 8, 0.25))
    for _ in range(4):
        with found.update():
            assert next(batches) + 1 == next(batches)
            clock.now += 1.5
    assert found.figures() == {
        "seconds": 2.0,
        "wait": 0.25,
        "samples_per_second": 4.0,
        "tokens_per_second": 20.0,
        "memory_gb": 1.5,
        "mfu": 0.3,
    }


def test_what_happens_between_updates_does_not_count(clock: Clock) -> None:
    found = meter(clock)
    for _ in range(3):
        with found.update():
            clock.now += 1.0
        clock.now += 60.0  # a checkpoint, an evaluation
    assert found.figures()["seconds"] == 1.0


def test_every_call_begins_anew(clock: Clock) -> None:
    found = meter(clock)
    for seconds in (1.0, 4.0):
        with found.update(), found.waiting():
            clock.now += seconds
        assert found.figures()["seconds"] == seconds
    assert found.figures() == {}


def test_an_update_that_fails_does_not_count(clock: Clock) -> None:
    found = meter(clock)
    with pytest.raises(RuntimeError), found.update():
        clock.now += 5.0
        raise RuntimeError
    assert found.figures() == {}
    with found.update():
        clock.now += 1.0
    assert found.figures()["seconds"] == 1.0


def test_without_a_known_peak_there_is_no_mfu(clock: Clock) -> None:
    found = meter(clock, peak=None)
    with found.update():
        clock.now += 1.0
    assert "mfu" not in found.figures()


def test_batches_end_where_their_source_ends_and_pass_its_errors_on(clock: Clock) -> None:
    assert list(meter(clock).batches(made(clock, 3, 0.0))) == [0, 1, 2]

    def broken() -> Iterator[int]:
        yield 1
        raise OSError("no such file")

    batches = meter(clock).batches(broken())
    assert next(batches) == 1
    with pytest.raises(OSError, match="no such file"):
        next(batches)


def test_the_memory_of_this_process_is_known() -> None:
    assert 0.01 < peak_memory() < 1000


# -- the benchmark's arithmetic -----------------------------------------------------------------------------------


def block(seconds: float, bare: float, wait: float) -> dict[str, float]:
    rates = {"samples_per_second": 8 / seconds, "tokens_per_second": 40 / seconds, "memory_gb": 1.0}
    return {"seconds": seconds, "bare": bare, "wait": wait, **rates}


def test_an_update_is_compared_with_the_bare_passes_of_its_own_block() -> None:
    blocks = [block(1.4, 1.0, 0.0), block(2.8, 2.0, 0.02), block(9.0, 3.0, 0.9)]
    found = training_speed.summary(blocks)
    assert found["over_bare"] == pytest.approx(1.4) and found["seconds"] == 2.8 and found["wait"] == 0.02


def test_bars_say_what_was_missed() -> None:
    found = {"teacher": training_speed.summary([block(1.6, 1.0, 0.01)])}
    assert [met for *_, met in training_speed.bars("nano", found)] == [False, True]
    assert [met for *_, met in training_speed.bars("small", found)] == [True]
    text = "\n".join(training_speed.tables_of("nano", found))
    assert "FAIL" in text and "| teacher | 1600 " in text
