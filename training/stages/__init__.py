"""The stages of training; each file holds one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from training.recipes import Recipe
from training.stages.base import START, Stage, Weights
from training.stages.dual_stream import DualStream
from training.stages.guided import Guided
from training.stages.progressive import Progressive
from training.stages.regression import Regression
from training.stages.teacher import Teacher

CLASSES: dict[str, type[Regression | Teacher | Guided | Progressive | DualStream]] = {
    cls.name: cls for cls in (Regression, Teacher, Guided, Progressive, DualStream)
}


def build_stage(
    name: str, recipe: Recipe, folder: Path, result_of: Callable[[Path, str], Weights], start: Weights | None = None
) -> Stage:
    """A stage with the results of those that it needs; start: weights that the regression begins with."""
    cls = CLASSES[name]
    handed = {needed: result_of(folder, needed) for needed in cls.needs}
    return cls(recipe, handed if start is None else {**handed, START: start})
