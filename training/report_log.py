"""What a run folder says of itself: the recipe and each stage's log, evaluations, events and pictures.

Reads whatever is there: a log that a stop cut short, a stage without pictures, a recipe of an older revision. Nothing
here raises for a line that makes no sense; such lines are counted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.recipes import STAGES
from training.watch import LOG, SAMPLES

RESULT = "result.safetensors"


@dataclass(slots=True)
class StageLog:
    """One stage's folder. Figures are (step, value) in the order of steps; what was not finite is NaN."""

    name: str
    folder: Path
    finished: bool = False
    figures: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    evaluations: dict[int, dict[str, float]] = field(default_factory=dict)
    """By step: "kind/measure" and "+kind/measure" for the gain over the base resampler."""
    events: list[tuple[int, str]] = field(default_factory=list)
    machines: list[str] = field(default_factory=list)
    broken: int = 0
    """Lines that are no JSON object with a step."""
    samples: dict[int, dict[str, Path]] = field(default_factory=dict)
    """Pictures by step and name."""

    @property
    def last(self) -> int:
        """Updates done, as far as the log knows."""
        steps = [points[-1][0] for points in self.figures.values()]
        return max([*steps, *self.evaluations, 0])

    def values(self, name: str) -> list[float]:
        """Finite values of a figure."""
        return [value for _, value in self.figures.get(name, ()) if math.isfinite(value)]

    def recent(self, name: str) -> float | None:
        """Mean of the last quarter of a figure's values; None if there are none."""
        values = self.values(name)
        values = values[-max(1, len(values) // 4) :]
        return sum(values) / len(values) if values else None

    def mean(self, name: str) -> float | None:
        """Mean of a figure over the updates: a log line stands for the updates since the one before."""
        weighted = [(value, count) for value, count in self._spans(name) if math.isfinite(value)]
        total = sum(count for _, count in weighted)
        return sum(value * count for value, count in weighted) / total if total else None

    @property
    def hours(self) -> float:
        """Time spent on updates, evaluations and checkpoints not counted."""
        return sum(value * count for value, count in self._spans("seconds") if math.isfinite(value)) / 3600

    def _spans(self, name: str) -> list[tuple[float, int]]:
        points = self.figures.get(name, [])
        before = [0, *(step for step, _ in points)]
        return [(value, step - previous) for (step, value), previous in zip(points, before, strict=False)]


def read_recipe(run: Path) -> dict[str, Any]:
    """The recipe that a run wrote beside its stages; empty if it is missing or damaged."""
    try:
        recipe = json.loads((run / "recipe.json").read_text(errors="replace"))
    except (OSError, ValueError):
        return {}
    return recipe if isinstance(recipe, dict) else {}


def read_run(run: Path, recipe: Mapping[str, Any]) -> list[StageLog]:
    """Stages of which something is there, in the order of the recipe, then of STAGES, then by name."""
    listed = recipe.get("stages")
    order = list(dict.fromkeys([*(listed if isinstance(listed, list) else ()), *STAGES]))

    def place(folder: Path) -> tuple[int, str]:
        return (order.index(folder.name) if folder.name in order else len(order), folder.name)

    folders = [path for path in run.iterdir() if path.is_dir() and is_stage(path)]
    return [read_stage(folder) for folder in sorted(folders, key=place)]


def is_stage(folder: Path) -> bool:
    """Whether a folder holds anything that a stage leaves."""
    return any((folder / name).exists() for name in (LOG, RESULT, SAMPLES))


def read_stage(folder: Path) -> StageLog:
    """Everything that a stage's folder holds."""
    stage = StageLog(folder.name, folder, finished=(folder / RESULT).exists())
    text = (folder / LOG).read_text(errors="replace") if (folder / LOG).is_file() else ""
    for line in text.splitlines():
        try:
            content = json.loads(line)
            _take(stage, int(content["step"]), content)
        except (ValueError, TypeError, KeyError, OverflowError):
            stage.broken += 1
    for name, points in stage.figures.items():
        stage.figures[name] = sorted(dict(points).items())  # of a step that stands twice the later line counts
    for path in sorted((folder / SAMPLES).glob("*.png")):
        step, _, name = path.stem.partition("-")
        if step.isdecimal() and name:
            stage.samples.setdefault(int(step), {})[name] = path
    return stage


def _take(stage: StageLog, step: int, content: Mapping[str, Any]) -> None:
    if isinstance(scores := content.get("evaluation"), dict):
        numbers = {str(name): number for name, value in scores.items() if (number := _number(value)) is not None}
        stage.evaluations[step] = numbers
    for kind in ("event", "verdict"):
        if isinstance(text := content.get(kind), str):
            stage.events.append((step, text))
    if isinstance(machine := content.get("machine"), str) and machine not in stage.machines:
        stage.machines.append(machine)
    for name, value in content.items():
        if name != "step" and (number := _number(value)) is not None:
            stage.figures.setdefault(name, []).append((step, number))


def _number(value: object) -> float | None:
    """A figure's value: null stands for what was not finite; None if it is no figure."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else math.nan
