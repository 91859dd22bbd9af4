"""Stage I, second half: two steps of the teacher become one of the student, until one is left (arXiv 2202.00512)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from duovsr_vs.model import flow
from duovsr_vs.model.generator import Generator
from training.batch import Batch, random_source, shared_noise
from training.losses import distillation_loss
from training.recipes import Recipe
from training.stages.base import Figures, Stage, Weights, build


class Progressive(Stage):
    """v* = (z_t − z_t'')/(t − t'') from two Euler steps of the teacher on the grid, L = ‖v_S − sg v*‖²."""

    name = "progressive"
    needs = ("guided",)

    def __init__(self, recipe: Recipe, handed: Mapping[str, Weights]):
        super().__init__(recipe, recipe.progressive, build(recipe, handed["guided"]))
        self.steps = recipe.progressive.steps * recipe.progressive.rounds
        self.learners["student"].steps = recipe.progressive.steps
        self.teacher = build(recipe, handed["guided"]).eval().requires_grad_(False)
        self.kept["teacher"] = self.teacher

    def student_steps(self, step: int) -> int:
        """Steps of the student in the round that an update belongs to: start/2, …, 1."""
        return self.recipe.progressive.start_steps >> (step // self.recipe.progressive.steps + 1)

    def begin_round(self) -> None:
        """The student so far becomes the teacher."""
        student = self.learners["student"]
        weights = self.result()
        for network in (self.student, self.teacher):
            network.load_state_dict(weights)
        student.reset_average()
        student.optimizer.state.clear()

    @torch.no_grad()
    def target(self, teacher: Generator, z_t: Tensor, times: Tensor, batch: Batch) -> Tensor:
        """x̂* = z_t − t·v*; times (3 b): t > t' > t''."""
        t, middle, end = times
        with self.autocast():
            v = teacher.velocity(z_t, t, batch.condition, batch.quality)
            z_middle = z_t + flow.expand(middle - t, z_t) * v
            v = teacher.velocity(z_middle, middle, batch.condition, batch.quality)
        z_end = z_middle + flow.expand(end - middle, z_t) * v
        v_star = (z_t - z_end) / flow.expand(t - end, z_t)
        return flow.x0_from_velocity(z_t, v_star, t)

    def update(self, step: int, batches: Iterator[Batch]) -> Figures:
        batch, settings = next(batches), self.recipe.progressive
        within, count = step % settings.steps, self.student_steps(step)
        if within == 0 and step > 0:
            self.begin_round()
        source = random_source(self.seed, self.name, "k", step)
        k = torch.randint(count, (batch.z0.shape[0],), generator=source)
        grid = flow.time_grid(2 * count, settings.shift)
        times = torch.stack([grid[2 * k], grid[2 * k + 1], grid[2 * k + 2]]).to(batch.z0.device)
        z_t = flow.interpolate(batch.z0, shared_noise(batch.z0, self.seed, self.name, step), times[0])
        target = self.target(self.teacher, z_t, times, batch)
        with self.autocast():
            x0 = self.student.denoise(z_t, times[0], batch.condition, batch.quality)
        loss = distillation_loss(x0, target, self.energy, flow.error_weight(times[0]))
        terms, figures = self.pixel_terms(x0, batch)
        gradient = self.learners["student"].update(loss + terms, within)
        return {
            "velocity": float(loss.detach()),
            **figures,
            "gradient": gradient,
            "steps": count,
        }
