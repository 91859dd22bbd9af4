"""The base diffusion model: denoises at every t and knows how good its target is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from duovsr_vs.model import flow
from training.batch import Batch, shared_noise, uniform
from training.distributed import ALONE, World
from training.recipes import Recipe
from training.stages.base import START, Figures, Stage, Weights, build

SMALLEST = 0.02
"""Least t: below it z_t is the target itself."""
BEFORE = ("regression", "autoencoder")
"""Stages whose result the teacher starts from: the first of these that the recipe has."""


class Teacher(Stage):
    """L = ⟨‖v_θ(z_t, t, c) − (ε − z0)‖²⟩ (or its robust form) + λ·pixel terms, z_t = (1 − t)·z0 + t·ε."""

    name = "teacher"
    shown_steps = 4

    def __init__(self, recipe: Recipe, handed: Mapping[str, Weights], world: World = ALONE):
        weights = next((handed[name] for name in (*BEFORE, START) if name in handed), None)
        super().__init__(recipe, recipe.teacher, build(recipe, weights, world), world)
        self.soft, self.drop = recipe.teacher.soft, recipe.teacher.drop

    @classmethod
    def needs_of(cls, recipe: Recipe) -> tuple[str, ...]:
        return next(((name,) for name in BEFORE if name in recipe.stages), ())

    def times(self, step: int, batch: Batch) -> Tensor:
        """t of each sample, (b,)."""
        settings = self.recipe.teacher
        t = uniform(batch, self.seed, self.name, "t", step)
        if settings.times == "logit_normal":
            t = torch.sigmoid(torch.special.ndtri(t.clamp(1e-6, 1 - 1e-6)))
        t = SMALLEST + (1 - SMALLEST) * flow.shift_time(t, settings.shift)
        only = uniform(batch, self.seed, self.name, "noise only", step) < settings.noise_only
        return torch.where(only, 1.0, t)

    def update(self, step: int, batches: Iterator[Batch]) -> Figures:
        batch = next(batches)
        t = self.times(step, batch)
        z_t = flow.interpolate(batch.z0, shared_noise(batch, self.seed, self.name, step), t)
        with self.autocast():
            x0 = self.student.denoise(z_t, t, batch.condition, batch.quality)
        loss, figures = self.paired_loss(x0, batch, t)
        return {**figures, "gradient": self.learners["student"].update(loss, step)}
