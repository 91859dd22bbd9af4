"""The base diffusion model: denoises at every t and knows how good its target is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from duovsr_vs.model import flow
from training.batch import Batch, noise_for, uniform
from training.distributed import ALONE, World
from training.recipes import Recipe
from training.stages.base import Figures, Networks, Stage, Weights

SMALLEST = 0.02
"""Least t: below it z_t is the target itself."""
BEFORE = ("regression", "autoencoder")
"""Stages whose result the teacher starts from: the first of these that the recipe has."""


class Teacher(Stage):
    """L = ⟨‖v_θ(z_t, t, c) − (ε − z0)‖²⟩ (or its robust form) + λ·pixel terms, z_t = (1 − t)·z0 + t·ε."""

    name = "teacher"
    shown_steps = 4

    def __init__(self, recipe: Recipe, handed: Mapping[str, Weights], world: World = ALONE):
        networks = Networks(recipe, handed, world)
        super().__init__(networks, recipe.teacher, networks.make(networks.first(*BEFORE)))
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
        return self.descend("student", step, (self.loss(step, batch) for batch in self.next_batch(batches)))

    def loss(self, step: int, batch: Batch) -> tuple[Tensor, Figures]:
        """Of one part of a batch."""
        t = self.times(step, batch)
        z_t = flow.interpolate(batch.z0, noise_for(batch, self.seed, self.name, step), t)
        with self.autocast():
            x0 = self.student.denoise(z_t, t, batch.condition, batch.quality)
        return self.paired_loss(x0, batch, t)
