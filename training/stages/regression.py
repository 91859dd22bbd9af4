"""The temporal regression: one step from noise, against the ground truth. The noise soon counts for nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from training.batch import Batch, shared_noise
from training.distributed import ALONE, World
from training.recipes import Recipe
from training.stages.base import START, Figures, Stage, Weights, build


class Regression(Stage):
    """L = ⟨ρ(e·(x̂0(ε, 1) − z0))⟩ + λ·pixel terms."""

    name = "regression"

    def __init__(self, recipe: Recipe, handed: Mapping[str, Weights], world: World = ALONE):
        weights = handed.get("autoencoder", handed.get(START))
        super().__init__(recipe, recipe.regression, build(recipe, weights, world), world)

    @classmethod
    def needs_of(cls, recipe: Recipe) -> tuple[str, ...]:
        return ("autoencoder",) if "autoencoder" in recipe.stages else ()

    def update(self, step: int, batches: Iterator[Batch]) -> Figures:
        batch = next(batches)
        noise = shared_noise(batch, self.seed, self.name, step)
        with self.autocast():
            x0 = self.student.generate(noise, batch.condition, batch.quality)
        loss, figures = self.paired_loss(x0, batch, torch.ones(len(batch.slots), device=x0.device))
        return {**figures, "gradient": self.learners["student"].update(loss, step)}
