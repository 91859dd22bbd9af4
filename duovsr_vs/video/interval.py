"""`--start` and `--frames`: frame counts or times, turned into frame numbers by the timestamps of the input."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction

from ..errors import OptionError


def parse_position(option: str, text: str | None) -> int | Fraction | None:
    """Frames (`240`) as int, a time (`00:01:30`, `1:30.5`) as seconds. Raises OptionError."""
    if text is None:
        return None
    if re.fullmatch(r"\d{1,15}", text):
        return int(text)
    match = re.fullmatch(r"(?:(\d{1,9}):)?(\d{1,9}):(\d\d?(?:\.\d{1,15})?)", text)
    if match is None or Fraction(match[3]) >= 60:
        raise OptionError(f"{option} {text[:100]}: a number of frames or a time hh:mm:ss is needed")
    return int(match[1] or 0) * 3600 + int(match[2]) * 60 + Fraction(match[3])


def resolve_interval(
    start: int | Fraction | None,
    length: int | Fraction | None,
    *,
    pts: Sequence[int],
    total: int | None,
    time_base: Fraction,
    rate: Fraction | None,
) -> tuple[int, int | None]:
    """Frame numbers [first, stop); stop is None for "to the end".

    pts: timestamps of all frames in display order, () if they are not known; times are then counted with the rate.
    Raises OptionError for an empty interval or one that begins after the end.
    """
    first = _number(start or 0, pts, time_base, rate, "--start")
    if total is not None and first >= total:
        raise OptionError(f"--start lies at frame {first}, the input has {total}; frames are counted from 0")
    if length is None:
        return first, None
    if isinstance(length, int):
        stop = first + length
    else:
        begin = (pts[first] - pts[0]) * time_base if pts else Fraction(first) / _known(rate, "--frames")
        stop = _number(begin + length, pts, time_base, rate, "--frames")
    if stop <= first:
        raise OptionError("--frames gives no frame; at least 1 is needed")
    return first, stop if total is None else min(stop, total)


def _number(
    position: int | Fraction, pts: Sequence[int], time_base: Fraction, rate: Fraction | None, option: str
) -> int:
    """The first frame at or after a position."""
    if isinstance(position, int):
        return position
    if pts:
        ticks = position / time_base + pts[0]
        return bisect_left(pts, -(-ticks.numerator // ticks.denominator))
    exact = position * _known(rate, option)
    return -(-exact.numerator // exact.denominator)


def _known(rate: Fraction | None, option: str) -> Fraction:
    if rate is None:
        raise OptionError(f"{option}: this input has neither timestamps nor a rate, so give a number of frames")
    return rate
