"""Stage I, first half: the student gives at once what the teacher gives with guidance (CFG distillation)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from duovsr_vs.model import flow
from duovsr_vs.model.config import NULL_CLASS
from duovsr_vs.model.generator import Generator
from training.batch import SOFT_CLASS, Batch, random_source, shared_noise
from training.losses import distillation_loss, guided_velocity
from training.recipes import Recipe
from training.stages.base import Figures, Stage, Weights, build, frozen


class Guided(Stage):
    """L = ⟨(σ_c √d/t (x̂_S − sg x̂_cfg))²⟩: ‖v_S − sg v_cfg‖² with errors weighted as F sees them, as x̂0 = z_t − t·v."""

    name = "guided"
    needs = ("teacher",)

    def __init__(self, recipe: Recipe, handed: Mapping[str, Weights]):
        super().__init__(recipe, recipe.guided, build(recipe, handed["teacher"]))
        self.teacher = frozen(recipe, handed["teacher"])
        self.negative = SOFT_CLASS if recipe.guided.negative == "soft" else NULL_CLASS

    @torch.no_grad()
    def target(self, teacher: Generator, z_t: Tensor, t: Tensor, batch: Batch) -> Tensor:
        """x̂_cfg = z_t − t·v_cfg, float32."""
        with self.autocast():
            v_class = teacher.velocity(z_t, t, batch.condition, batch.quality)
            v_negative = teacher.velocity(z_t, t, batch.condition, torch.full_like(batch.quality, self.negative))
        return flow.x0_from_velocity(z_t, guided_velocity(v_class, v_negative, self.recipe.guided.guidance), t)

    def update(self, step: int, batches: Iterator[Batch]) -> Figures:
        batch = next(batches)
        draw = torch.rand(batch.z0.shape[0], generator=random_source(self.seed, self.name, "t", step))
        t = (0.02 + 0.98 * draw).to(batch.z0.device)
        z_t = flow.interpolate(batch.z0, shared_noise(batch.z0, self.seed, self.name, step), t)
        target = self.target(self.teacher, z_t, t, batch)
        with self.autocast():
            x0 = self.student.denoise(z_t, t, batch.condition, batch.quality)
        loss = distillation_loss(x0, target, self.energy, flow.error_weight(t))
        return {"velocity": float(loss.detach()), "gradient": self.learners["student"].update(loss, step)}
