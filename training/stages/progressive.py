"""Stage I, second half: two steps of the teacher become one of the student, until one is left (arXiv 2202.00512)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from duovsr_vs.model import flow
from training.batch import Batch, noise_for, uniform
from training.distributed import ALONE, World, settle
from training.losses import two_step_velocity
from training.models import Model, velocity
from training.recipes import Recipe
from training.stages.base import Figures, Networks, Stage, Weights


class Progressive(Stage):
    """v* = (z_t − z_t'')/(t − t'') from two Euler steps of the teacher on the grid, L = ‖v_S − sg v*‖²."""

    name = "progressive"

    def __init__(self, recipe: Recipe, handed: Mapping[str, Weights], world: World = ALONE):
        networks = Networks(recipe, handed, world)
        super().__init__(networks, recipe.progressive, networks.make(handed["guided"]))
        self.steps = recipe.progressive.steps * recipe.progressive.rounds
        self.teacher = networks.make(handed["guided"], train=False)
        self.kept["teacher"] = self.teacher

    @classmethod
    def needs_of(cls, recipe: Recipe) -> tuple[str, ...]:
        return ("guided",)

    def student_steps(self, step: int) -> int:
        """Steps of the student in the round that an update belongs to: start/2, …, 1."""
        return self.recipe.progressive.start_steps >> (step // self.recipe.progressive.steps + 1)

    def begin_round(self) -> None:
        """The averaged student so far is the new student and the new teacher."""
        student = self.learners["student"]
        student.take_average()
        with torch.no_grad():
            for name, parameter in settle(self.teacher).named_parameters():
                if name in student.average:
                    parameter.copy_(student.average[name])

    @torch.no_grad()
    def target(self, teacher: Model, z_t: Tensor, times: tuple[Tensor, Tensor, Tensor], batch: Batch) -> Tensor:
        """x̂* = z_t − t·v*; times: t > t' > t''."""
        with self.autocast():
            v_star = two_step_velocity(lambda z, t: velocity(teacher, z, t, batch.condition, batch.quality), z_t, times)
        return flow.x0_from_velocity(z_t, v_star, times[0])

    def update(self, step: int, batches: Iterator[Batch]) -> Figures:
        within, count = step % self.recipe.progressive.steps, self.student_steps(step)
        if within == 0 and step > 0:
            self.begin_round()
        losses = (self.loss(step, batch) for batch in self.next_batch(batches))
        return {**self.descend("student", within, losses), "steps": count}

    def loss(self, step: int, batch: Batch) -> tuple[Tensor, Figures]:
        """Of one part of a batch."""
        settings, count = self.recipe.progressive, self.student_steps(step)
        k = (uniform(batch, self.seed, self.name, "k", step) * count).long().clamp_max(count - 1)
        grid = flow.time_grid(2 * count, settings.shift).to(k.device)
        times = (grid[2 * k], grid[2 * k + 1], grid[2 * k + 2])
        z_t = flow.interpolate(batch.z0, noise_for(batch, self.seed, self.name, step), times[0])
        target = self.target(self.teacher, z_t, times, batch)
        with self.autocast():
            x0 = self.student.denoise(z_t, times[0], batch.condition, batch.quality)
        loss = self.distillation(x0, target, times[0])
        terms, figures = self.pixel_terms(x0, batch)
        return loss + terms, {"velocity": float(loss.detach()), **figures}
