"""What stops a training: figures that are no numbers, gradients that explode; and what it says then."""

from __future__ import annotations

import math

import pytest
from training_files import stage

from training.checkpoints import TrainingError
from training.guard import AT_LEAST, BAD_IN_A_ROW, EXPLODED_IN_A_ROW, NAMED, USUAL, Guard
from training.loop import rates_of

RATES = ("--dual-stream.learning-rate", "--dual-stream.fake-learning-rate")


def guard(clip: float = 1.0) -> Guard:
    return Guard("dual_stream", RATES, clip)


def calm(watch: Guard, **norms: float) -> int:
    """Good updates; the number of the next one."""
    for step in range(USUAL):
        watch.watch(step, {"dmd": 1.0, **norms}, ["a"])
    assert watch.trusts
    return USUAL


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("figure", ["dmd", "gradient", "gradient_fake", "gradient_heads"])
def test_any_figure_that_is_no_number_five_times_in_a_row_stops_and_is_named(figure: str, bad: float) -> None:
    watch = guard()
    for step in range(BAD_IN_A_ROW - 1):
        watch.watch(step, {"gan": 1.0, "gradient": 1.0, figure: bad}, ["a"])
        assert not watch.trusts  # nothing of it is saved
    with pytest.raises(
        TrainingError, match=rf"at update 4: {figure} not finite in 5 updates in a row; .* holds x; y\."
    ):
        watch.watch(4, {"gan": 1.0, "gradient": 1.0, figure: bad}, ["x", "y"])


def test_a_good_update_begins_the_count_anew() -> None:
    watch = guard()
    for step in range(4 * BAD_IN_A_ROW):
        watch.watch(step, {"gradient": 1.0 if step % BAD_IN_A_ROW == 0 else math.nan}, [])
    assert not watch.trusts
    watch.watch(99, {"gradient": 1.0}, [])
    assert watch.trusts


@pytest.mark.parametrize(
    ("name", "told"), [("gradient", "the gradient is"), ("gradient_fake", "the gradient of fake is")]
)
def test_a_gradient_a_thousand_times_the_usual_one_ten_times_in_a_row_stops(name: str, told: str) -> None:
    watch = guard()
    norms = {"gradient": 0.5, "gradient_fake": 0.25}
    first = calm(watch, **norms)
    for step in range(first, first + EXPLODED_IN_A_ROW - 1):
        watch.watch(step, norms | {name: 1001 * norms[name]}, ["a"])
        assert not watch.trusts
    with pytest.raises(TrainingError, match=f"{told} .*, usual is {norms[name]}; "):
        watch.watch(first + EXPLODED_IN_A_ROW, norms | {name: 1001 * norms[name]}, ["a"])


def test_nothing_explodes_before_the_usual_size_is_known_nor_for_nine_updates_only() -> None:
    watch = guard()
    for step in range(USUAL // 2 - 1):
        watch.watch(step, {"gradient": 1.0}, [])
    watch.watch(USUAL, {"gradient": 1e9}, [])
    assert watch.trusts
    for step in range(10 * EXPLODED_IN_A_ROW):
        watch.watch(step, {"gradient": 1.0 if step % EXPLODED_IN_A_ROW == 0 else 1e9}, [])


def test_saturated_heads_that_wake_up_do_not_stop_a_run() -> None:
    """Where the hinge is flat gradients are exactly zero, and anything is a thousand times that."""
    watch = guard(clip=0.5)
    first = calm(watch, gradient=1.0, gradient_heads=0.0)
    for step in range(first, first + 2 * EXPLODED_IN_A_ROW):
        watch.watch(step, {"gradient": 1.0, "gradient_heads": AT_LEAST * 0.5}, [])
    assert watch.trusts


def test_many_samples_are_named_in_part_and_a_lower_rate_is_asked_for_by_its_options() -> None:
    watch, names = guard(), [f"film {n}" for n in range(NAMED + 8)]
    with pytest.raises(TrainingError) as stop:
        for step in range(BAD_IN_A_ROW):
            watch.watch(step, {"gradient": math.nan}, names)
    text = str(stop.value)
    assert f"film {NAMED - 1} and 8 more. " in text and f"film {NAMED}" not in text and "\n" not in text
    assert text.endswith(f"with a lower {RATES[0]} or {RATES[1]}")


def test_every_learning_rate_of_a_stage_is_an_option() -> None:
    assert rates_of(stage("teacher")) == ["--teacher.learning-rate"]
    wanted = {f"--dual-stream.{name}learning-rate" for name in ("", "fake-", "head-")}
    assert {*rates_of(stage("dual_stream"))} == wanted
