"""--start and --frames as frame numbers."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from duovsr_vs.errors import OptionError
from duovsr_vs.video.interval import parse_position, resolve_interval

NTSC = Fraction(30000, 1001)
FACTS: dict[str, Any] = {
    "pts": [500 + 1001 * n for n in range(100)],
    "total": 100,
    "time_base": Fraction(1, 30000),
    "rate": NTSC,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("240", 240),
        ("0:01", Fraction(1)),
        ("1:30.5", Fraction(181, 2)),
        ("01:00:00", 3600),
        ("00:00:02.04", Fraction(51, 25)),
    ],
)
def test_positions_are_frames_or_times(text: str, value: object) -> None:
    assert parse_position("--start", text) == value


@pytest.mark.parametrize("text", ["-1", "1.5", "x", "1:60", "1:2:3:4", "", "--3", "1e3"])
def test_other_texts_are_refused_with_the_option_named(text: str) -> None:
    with pytest.raises(OptionError, match=r"--start .*hh:mm:ss"):
        parse_position("--start", text)


@pytest.mark.parametrize(
    ("start", "length", "interval"),
    [
        (None, None, (0, None)),
        (10, None, (10, None)),
        (10, 5, (10, 15)),
        (95, 50, (95, 100)),
        (None, 1, (0, 1)),
        (Fraction(1), None, (30, None)),
        (Fraction(1), Fraction(1), (30, 60)),
        (None, Fraction(1), (0, 30)),
        (3, Fraction(1), (3, 33)),
    ],
)
def test_an_interval_is_counted_by_timestamps(start: Any, length: Any, interval: tuple[int, int | None]) -> None:
    assert resolve_interval(start, length, **FACTS) == interval


def test_times_follow_a_variable_rate() -> None:
    facts = {**FACTS, "pts": [0, 10, 20, 1000, 2000, 2010], "total": 6, "time_base": Fraction(1, 1000)}
    assert resolve_interval(Fraction(1), Fraction(1), **facts) == (3, 4)
    assert resolve_interval(Fraction(1, 2), None, **facts) == (3, None)


def test_without_timestamps_the_rate_counts_and_without_a_rate_only_frames_do() -> None:
    pipe = {"pts": [], "total": None, "time_base": Fraction(1, 25), "rate": Fraction(25)}
    assert resolve_interval(Fraction(2), Fraction(1), **pipe) == (50, 75)
    with pytest.raises(OptionError, match="number of frames"):
        resolve_interval(Fraction(2), None, **{**pipe, "rate": None})
    assert resolve_interval(5, 5, **{**pipe, "rate": None}) == (5, 10)


@pytest.mark.parametrize(("start", "length"), [(100, None), (Fraction(60), None), (0, 0), (5, Fraction(0))])
def test_an_empty_interval_is_refused(start: Any, length: Any) -> None:
    with pytest.raises(OptionError, match=r"the input has 100|at least 1"):
        resolve_interval(start, length, **FACTS)
