"""The temporal regression: one step from noise, against the ground truth. The noise soon counts for nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from training.batch import Batch, noise_for
from training.distributed import ALONE, World
from training.recipes import Recipe
from training.stages.base import Figures, Networks, Stage, Weights


class Regression(Stage):
    """L = ⟨ρ(e·(x̂0(ε, 1) − z0))⟩ + λ·pixel terms."""

    name = "regression"

    def __init__(self, recipe: Recipe, handed: Mapping[str, Weights], world: World = ALONE):
        networks = Networks(recipe, handed, world)
        super().__init__(networks, recipe.regression, networks.make(networks.first("autoencoder")))

    @classmethod
    def needs_of(cls, recipe: Recipe) -> tuple[str, ...]:
        return ("autoencoder",) if "autoencoder" in recipe.stages else ()

    def update(self, step: int, batches: Iterator[Batch]) -> Figures:
        return self.descend("student", step, (self.loss(step, batch) for batch in self.next_batch(batches)))

    def loss(self, step: int, batch: Batch) -> tuple[Tensor, Figures]:
        """Of one part of a batch."""
        noise = noise_for(batch, self.seed, self.name, step)
        with self.autocast():
            x0 = self.student.generate(noise, batch.condition, batch.quality)
        return self.paired_loss(x0, batch, torch.ones(len(batch.slots), device=x0.device))
