"""What the loop needs of a stage: its learners, one update as a function of the step, and what it hands on."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import ClassVar

import torch
from torch import Tensor

from duovsr_vs.model.config import PRESETS
from duovsr_vs.model.features import frames_of
from duovsr_vs.model.generator import Generator
from training.batch import Batch
from training.learner import Learner
from training.losses import consistency_loss, robust_latent_loss, temporal_loss
from training.recipes import Recipe, StageRecipe

START = "start"
"""Name under which the regression is handed weights to begin with, if there are any."""
Figures = dict[str, float]
Weights = dict[str, Tensor]


def build(recipe: Recipe, weights: Weights | None = None) -> Generator:
    """The recipe's model, from weights or from its seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        generator = Generator(PRESETS[recipe.model])
    if weights is not None:
        generator.load_state_dict(weights)
    generator.to(memory_format=torch.channels_last)
    return generator.to(recipe.device)


def frozen(recipe: Recipe, weights: Weights) -> Generator:
    """A model that gets no gradient."""
    return build(recipe, weights).eval().requires_grad_(False)


class Stage(ABC):
    """One stage of a run.

    handed: weights that earlier stages handed on, by stage name. Everything random is drawn from (seed, stage, step).
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    """Stages whose results this one starts from."""
    soft: float = 0.0
    drop: float = 0.0
    batches_per_step: int = 1

    def __init__(self, recipe: Recipe, settings: StageRecipe, student: Generator):
        self.recipe, self.seed = recipe, recipe.seed
        self.common = settings
        self.student = student
        self.steps = settings.steps
        self.learners = {"student": self.learner(student, settings.learning_rate, settings.steps)}
        self.kept: dict[str, Generator] = {}
        """Networks that are not trained but change during the stage."""
        spread = student.deviation / student.deviation.square().mean().sqrt()
        self.energy = spread
        """(96 1 1): deviation of each latent channel over their root mean square."""

    def learner(self, network: torch.nn.Module, peak: float, steps: int) -> Learner:
        """A learner with the stage's common settings."""
        c = self.common
        return Learner(network, peak, steps, warmup=c.warmup, clip=c.clip, ema=c.ema)

    @abstractmethod
    def update(self, step: int, batches: Iterator[Batch]) -> Figures:
        """One update of the student; takes `batches_per_step` batches. Returns what is worth logging."""

    def autocast(self) -> AbstractContextManager[None]:
        """bfloat16 inside networks, if the recipe wants it."""
        return torch.autocast(torch.device(self.recipe.device).type, torch.bfloat16, enabled=self.recipe.bf16)

    def state(self) -> Weights:
        """All tensors that updates read and change."""
        out = {
            f"{key}.{name}": tensor
            for key, learner in self.learners.items()
            for name, tensor in learner.state().items()
        }
        for key, network in self.kept.items():
            out |= {f"{key}.{name}": tensor for name, tensor in network.state_dict().items()}
        return out

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""

        def of(key: str) -> Weights:
            return {name.removeprefix(f"{key}."): t for name, t in state.items() if name.startswith(f"{key}.")}

        for key, learner in self.learners.items():
            learner.load_state(of(key))
        for key, network in self.kept.items():
            network.load_state_dict(of(key))

    def result(self) -> Weights:
        """Averaged weights of the student: what the stage hands on."""
        return {name: tensor.clone() for name, tensor in self.learners["student"].average.items()}

    def averaged(self) -> Generator:
        """A copy of the student with the averaged weights."""
        twin = copy.deepcopy(self.student)
        twin.load_state_dict(self.result())
        return twin.eval().requires_grad_(False)

    def pixel_terms(self, x0: Tensor, batch: Batch) -> tuple[Tensor, Figures]:
        """Weighted temporal and consistency losses of a clean estimate, in pixels."""
        error = self.student.decode(x0 - batch.z0, batch.condition)
        flicker = temporal_loss(error, batch.flow, batch.mask)
        mismatch = self.student.mismatch(x0, batch.condition)
        missed = consistency_loss(frames_of(mismatch, x0.shape[1]), batch.clean)
        figures = {"temporal": float(flicker.detach()), "consistency": float(missed.detach())}
        return self.common.temporal * flicker + self.common.consistency * missed, figures

    def paired_loss(self, x0: Tensor, batch: Batch, weight: Tensor | None = None) -> tuple[Tensor, Figures]:
        """Robust latent loss against the ground truth plus `pixel_terms`."""
        latent = robust_latent_loss(x0, batch.z0, self.energy, weight)
        terms, figures = self.pixel_terms(x0, batch)
        return latent + terms, {"latent": float(latent.detach()), **figures}
