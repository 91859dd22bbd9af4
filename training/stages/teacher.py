"""The base diffusion model: denoises at every t and knows how good its target is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from duovsr_vs.model import flow
from training.batch import Batch, random_source, shared_noise
from training.recipes import Recipe
from training.stages.base import Figures, Stage, Weights, build


class Teacher(Stage):
    """L = ⟨ρ(σ_c √d/t (x̂0(z_t, t, c) − z0))⟩ + λ·temporal, z_t = (1 − t)·z0 + t·ε."""

    name = "teacher"
    needs = ("regression",)

    def __init__(self, recipe: Recipe, handed: Mapping[str, Weights]):
        super().__init__(recipe, recipe.teacher, build(recipe, handed["regression"]))
        self.soft, self.drop = recipe.teacher.soft, recipe.teacher.drop

    def update(self, step: int, batches: Iterator[Batch]) -> Figures:
        batch, settings = next(batches), self.recipe.teacher
        draws = torch.rand(2, batch.z0.shape[0], generator=random_source(self.seed, self.name, "t", step))
        t = flow.shift_time(0.02 + 0.98 * draws[0], settings.shift)
        t = torch.where(draws[1] < settings.noise_only, 1.0, t).to(batch.z0.device)
        z_t = flow.interpolate(batch.z0, shared_noise(batch.z0, self.seed, self.name, step), t)
        with self.autocast():
            x0 = self.student.denoise(z_t, t, batch.condition, batch.quality)
        loss, figures = self.paired_loss(x0, batch, flow.error_weight(t))
        return {**figures, "gradient": self.learners["student"].update(loss, step)}
