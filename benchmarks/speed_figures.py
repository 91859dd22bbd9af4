"""From times to figures: cost per frame out of two lengths, medians, bars and the tables that show them."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from tables import table

FAST_BF16, FAST_FLOAT32 = 10.0, 5.5
"""Frames per second of the engine alone, 480x270 to 1920x1080, on two CPU cores."""
GOAL_BF16 = 12.0
FILTER_SLOWER = 10.0
"""Percent of time per frame that the filter may take more than the engine alone."""
WHOLE_OVER_PARTS = 1.10
"""Core time of the command line over the sum of its parts'."""
HELP_SECONDS = 0.5
STEP = 24
"""A common multiple of the models' chunks (8 and 6 frames)."""
PEAK_BYTES = 1.5e9
GROWTH = 1.05
"""Peak memory of the longer clip over that of the shorter one."""


@dataclass(frozen=True)
class Cost:
    """Seconds that some frames took: wall time, and core time of all threads together."""

    wall: float
    core: float


@dataclass(frozen=True)
class Sample:
    """One measurement: seconds per frame, wall and core, and the seconds of wall time that no frame accounts for."""

    wall: float
    core: float
    start: float


def two_lengths(frames: int) -> tuple[int, int]:
    """Frames of the short and the long run, about a sixth of `frames` and `frames`.

    Both are multiples of STEP: the filter works in whole chunks, and a part of one takes as long as all of it.
    """
    many = max(round(frames / STEP), 2) * STEP
    return max(round(many / 6 / STEP), 1) * STEP, many


def sample(short: Cost, long: Cost, lengths: tuple[int, int]) -> Sample:
    """Cost per frame as the difference quotient of two lengths, so that what happens once falls out.

    lengths: frames of the short and of the long run. Raises ValueError unless the second is greater.
    """
    few, many = lengths
    if many <= few:
        raise ValueError(f"lengths {few} and {many}: the second must be greater")
    wall, core = (long.wall - short.wall) / (many - few), (long.core - short.core) / (many - few)
    return Sample(wall, core, short.wall - few * wall)


def vspipe_seconds(text: str, frames: int) -> float:
    """Time from the first request to the last frame, as vspipe prints it at its end. Raises ValueError."""
    match = re.search(r"Output (\d+) frames in ([\d.]+) seconds", text)
    if match is None or int(match[1]) != frames:
        raise ValueError(f"vspipe did not say that it made {frames} frames: {text.strip()[-200:]!r}")
    return float(match[2])


@dataclass(frozen=True)
class Figure:
    """One row of the result: a value per repetition, and what is needed of their median.

    at_least: True for speeds, False for times and ratios.  bar: None where there is none, then nothing is missed.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    bar: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def found(self) -> float:
        """Median over the repetitions."""
        return median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the bar is reached; None without a bar. A value that is not a number misses it."""
        if self.bar is None:
            return None
        return self.found >= self.bar if self.at_least else self.found <= self.bar

    @property
    def verdict(self) -> str:
        """`met`, `missed`, or nothing."""
        return {True: "met", False: "missed", None: ""}[self.met]

    @property
    def needed(self) -> str:
        """`>= 10 fps`, or nothing."""
        return "" if self.bar is None else f"{'>=' if self.at_least else '<='} {self.bar:g} {self.unit}".rstrip()

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"found": self.found, "met": self.met}


def paired(name: str, unit: str, over: Sequence[float], under: Sequence[float], bar: float | None) -> Figure:
    """Ratio of two measurements, taken within each repetition, so that the machine's slow changes fall out."""
    return Figure(name, unit, tuple(a / b for a, b in zip(over, under, strict=True)), bar)


def percent_slower(name: str, one: Sequence[float], reference: Sequence[float], bar: float | None) -> Figure:
    """How much more time `one` takes than `reference`, in percent, within each repetition."""
    return Figure(name, "%", tuple(100 * (a / b - 1) for a, b in zip(one, reference, strict=True)), bar)


def figures_table(figures: Sequence[Figure]) -> list[str]:
    """What was found beside what is needed."""
    rows = []
    for one in figures:
        found, spread = f"{one.found:.3g} {one.unit}".rstrip(), f"{min(one.values):.3g} to {max(one.values):.3g}"
        rows.append([one.name, found, spread, one.needed, one.verdict, one.note])
    return table(["what", "median", "range", "needed", "", ""], rows)


def parts_table(samples: dict[str, list[Sample]]) -> list[str]:
    """Time of each part per frame, medians over the repetitions."""
    rows = []
    for name, found in samples.items():
        core, wall, start = (median(getattr(s, key) for s in found) for key in ("core", "wall", "start"))
        rows.append([name, f"{1000 * core:.2f}", f"{1000 * wall:.2f}", f"{start:.2f}" if start > 0 else "-"])
    return table(["part", "core-ms a frame", "wall-ms a frame", "start-up s"], rows)


def slowest_stage(samples: dict[str, list[Sample]], stages: dict[str, Sequence[str]]) -> tuple[str, float]:
    """The stage of a pipeline that takes longest by itself, and its wall time per frame in seconds.

    stages: stage -> its parts, which one thread does one after another.
    """
    times = {stage: sum(median(s.wall for s in samples[part]) for part in parts) for stage, parts in stages.items()}
    stage = max(times, key=lambda name: times[name])
    return stage, times[stage]
