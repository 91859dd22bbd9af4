"""Stage I, first half: the student gives at once what the teacher gives with guidance (CFG distillation)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from duovsr_vs.model import flow
from duovsr_vs.model.config import NULL_CLASS
from training.batch import Batch, noise_for, uniform
from training.distributed import ALONE, World
from training.families import SOFT_CLASS
from training.losses import guided_velocity
from training.models import Model, velocity
from training.recipes import Recipe
from training.stages.base import Figures, Networks, Stage, Weights
from training.stages.teacher import SMALLEST


class Guided(Stage):
    """L = ⟨‖v_S − sg v_cfg‖²⟩, v_cfg = (1 + w)·v_c − w·v_neg of the frozen teacher, at random t."""

    name = "guided"
    shown_steps = 4

    def __init__(self, recipe: Recipe, handed: Mapping[str, Weights], world: World = ALONE):
        networks = Networks(recipe, handed, world)
        super().__init__(networks, recipe.guided, networks.make(handed["teacher"]))
        self.teacher = networks.make(handed["teacher"], train=False)
        self.negative = SOFT_CLASS if recipe.guided.negative == "soft" else NULL_CLASS

    @classmethod
    def needs_of(cls, recipe: Recipe) -> tuple[str, ...]:
        return ("teacher",)

    @torch.no_grad()
    def target(self, teacher: Model, z_t: Tensor, t: Tensor, batch: Batch) -> tuple[Tensor, float]:
        """x̂_cfg = z_t − t·v_cfg, float32, and ‖v_c − v_neg‖/‖v_c‖: how much there is to guide with."""
        with self.autocast():
            v_class, v_negative = (
                velocity(teacher, z_t, t, batch.condition, quality)
                for quality in (batch.quality, torch.full_like(batch.quality, self.negative))
            )
        share = float((v_class - v_negative).norm() / v_class.norm())
        return flow.x0_from_velocity(z_t, guided_velocity(v_class, v_negative, self.recipe.guided.guidance), t), share

    def update(self, step: int, batches: Iterator[Batch]) -> Figures:
        return self.descend("student", step, (self.loss(step, batch) for batch in self.next_batch(batches)))

    def loss(self, step: int, batch: Batch) -> tuple[Tensor, Figures]:
        """Of one part of a batch."""
        settings = self.recipe.guided
        t = flow.shift_time(uniform(batch, self.seed, self.name, "t", step), settings.shift)
        t = SMALLEST + (1 - SMALLEST) * t
        z_t = flow.interpolate(batch.z0, noise_for(batch, self.seed, self.name, step), t)
        target, share = self.target(self.teacher, z_t, t, batch)
        with self.autocast():
            x0 = self.student.denoise(z_t, t, batch.condition, batch.quality)
        loss = self.distillation(x0, target, t)
        return loss, {"velocity": float(loss.detach()), "guidance": share}
