"""The stages of training; each file holds one."""

from __future__ import annotations

from collections.abc import Mapping

from training.distributed import ALONE, World
from training.recipes import Recipe
from training.stages.autoencoder import Autoencoder
from training.stages.base import Stage, Weights
from training.stages.dual_stream import DualStream
from training.stages.guided import Guided
from training.stages.light import Light
from training.stages.preference import Preference
from training.stages.progressive import Progressive
from training.stages.regression import Regression
from training.stages.teacher import Teacher

AnyStage = Autoencoder | Regression | Teacher | Guided | Progressive | DualStream | Preference | Light
CLASSES: dict[str, type[AnyStage]] = {
    cls.name: cls for cls in (Autoencoder, Regression, Teacher, Guided, Progressive, DualStream, Preference, Light)
}


def build_stage(name: str, recipe: Recipe, handed: Mapping[str, Weights], world: World = ALONE) -> Stage:
    """handed: results of the stages that it needs, and under START what the first stage of a run begins with."""
    return CLASSES[name](recipe, handed, world)
