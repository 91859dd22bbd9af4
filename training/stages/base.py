"""What the loop needs of a stage: its learners, one update as a function of the step, and what it hands on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from duovsr_vs.model import flow
from duovsr_vs.model.codec import luma
from duovsr_vs.model.family import generator_of
from duovsr_vs.model.features import frames_of
from duovsr_vs.model.resample import enlarge
from training.batch import Batch
from training.data.dataset import PackedClips
from training.distributed import ALONE, World, settle, shard, whole
from training.families import WAN, config_of, family_of
from training.learner import Learner
from training.lora import adapted, load_own, own_state
from training.losses import consistency_loss, distillation_loss, robust_latent_loss, structure_loss, temporal_loss
from training.models import Model, encoder_of, in_pixels, moved
from training.recipes import Recipe
from training.stage_recipes import StageRecipe
from training.start import start_weights
from training.validate import Clip, Sample, upscale

START = "start"
"""Name under which the first stage is handed weights to begin with, if there are any."""
Figures = dict[str, float]
Weights = dict[str, Tensor]


def build(
    recipe: Recipe,
    weights: Weights | None = None,
    world: World = ALONE,
    train: bool = True,
    gather: str | None = None,
    base: Model | None = None,
) -> Model:
    """The recipe's model, from weights or from its seed, sharded over the ranks.

    train False: it gets no gradient.  gather: type of the weights that ranks send each other, None: the recipe's.
    base: frozen weights that it shares; it has adapters of its own, and `weights` are those.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        generator = generator_of(config_of(recipe.model)) if base is None else adapted(base, recipe.adapters)
    if weights is not None and base is None:
        generator.load_state_dict(weights)
    elif weights is not None:
        load_own(generator, weights)
    generator.freeze_codec()
    generator.network.recompute = recipe.recompute
    if not train:
        generator.eval().requires_grad_(False)
    moved(generator, world.device)
    if world.size == 1:
        is_flat = family_of(generator.config) is not WAN  # its convolutions are 3-D
        return generator.to(memory_format=torch.channels_last) if is_flat else generator
    shard(generator, world, gather or recipe.gather)  # slices of weights must be contiguous
    return generator


class Networks:
    """Builds the networks of a stage: each with weights of its own, or all with adapters on one set of frozen ones.

    handed: results of earlier stages by name; under START what the run begins with, which is what all share where the
    recipe has adapters.
    """

    def __init__(self, recipe: Recipe, handed: Mapping[str, Weights], world: World = ALONE):
        self.recipe, self.handed, self.world = recipe, handed, world
        alone = World(device=world.device)
        self.base = build(recipe, handed.get(START), alone, train=False) if recipe.adapters else None

    def first(self, *names: str) -> Weights | None:
        """The result of the first of these stages that is there; None: the stage starts anew, or on `base`."""
        names = names if self.base is not None else (*names, START)
        return next((self.handed[name] for name in names if name in self.handed), None)

    def make(self, weights: Weights | None, train: bool = True, gather: str | None = None) -> Model:
        """A network over all ranks, arguments as those of `build`."""
        return build(self.recipe, weights, self.world, train, gather, self.base)

    def alone(self, weights: Mapping[str, Tensor]) -> Model:
        """A whole frozen copy on this process."""
        return build(self.recipe, dict(weights), World(device=self.world.device), train=False, base=self.base)


class Stage(ABC):
    """One stage of a run.

    handed: weights that earlier stages handed on, by stage name. Everything random is drawn from (seed, stage, step,
    slot).
    """

    name: ClassVar[str]
    soft: float = 0.0
    drop: float = 0.0
    batches_per_step: int = 1
    pictures: ClassVar[bool] = False
    """Whether batches keep the pictures of the ground truth."""
    shown_steps: ClassVar[int] = 1
    """Steps of the flow in pictures; a model that is none of one step yet would only show a blur."""
    names: tuple[str, ...] = ()
    """Samples of the last batch, of a stage that makes its own."""

    def __init__(self, networks: Networks, settings: StageRecipe, student: Model):
        self.networks, self.recipe, self.world = networks, networks.recipe, networks.world
        self.seed, self.common, self.student = self.recipe.seed, settings, student
        self.parts = self.world.parts(settings.batch, settings.micro_batch)
        """Batches that come for one of the global batch: their gradients are added up."""
        self.steps = settings.steps
        self.learners = {"student": self.learner(student, settings.learning_rate, settings.steps)}
        self.kept: dict[str, Model] = {}
        """Networks that are not trained but change during the stage."""
        self.energy = student.energy if self.recipe.loss == "robust" else torch.ones_like(student.energy)
        """(c 1 1): what an error of each latent channel counts; 1 in the paper."""
        self.encoder = encoder_of(student, self.recipe.bf16)
        """What makes the latents of batches."""

    @classmethod
    def needs_of(cls, recipe: Recipe) -> tuple[str, ...]:
        """Stages whose results this one starts from."""
        return ()

    @classmethod
    def read_start(cls, path: Path, recipe: Recipe) -> Weights:
        """What a run that begins with this stage is given by a file."""
        return start_weights(path, recipe.model)

    def learner(self, network: torch.nn.Module, peak: float, steps: int) -> Learner:
        """A learner with the stage's common settings."""
        c = self.common
        return Learner(network, peak, steps, warmup=c.warmup, clip=c.clip, ema=c.ema, weight_decay=c.weight_decay)

    @property
    def finished(self) -> bool:
        """Whether further updates would be for nothing."""
        return False

    def keeps(self, done: int) -> bool:
        """Whether the weights after so many updates are kept for a later stage."""
        return False

    def prepare(self, clips: PackedClips, folder: Path) -> None:  # noqa: B027 (most stages need nothing)
        """What must be there before the first update, also of a resumed run; folder: the stage's."""

    @abstractmethod
    def update(self, step: int, batches: Iterator[Batch]) -> Figures:
        """One update of the student; takes `batches_per_step` batches, each in `parts`. Returns what to log."""

    def next_batch(self, batches: Iterator[Batch]) -> list[Batch]:
        """The parts of the next batch."""
        return [next(batches) for _ in range(self.parts)]

    def descend(self, name: str, step: int, losses: Iterable[tuple[Tensor, Figures]]) -> Figures:
        """One update of a learner by the losses of the parts of a batch, one graph at a time.

        Returns the means of their figures, and the gradient's norm as "gradient".
        """
        found: list[Figures] = []

        def graphs() -> Iterator[Tensor]:
            for loss, figures in losses:
                found.append(figures)
                yield loss

        gradient = self.learners[name].update(graphs(), step, self.parts)
        return {**mean_of(found), "gradient": gradient}

    def render(self, generator: Model, sample: Sample) -> Clip:
        """What evaluations and pictures show of the student, (t 4h 4w 3)."""
        return upscale(generator, sample.lr)

    def verdict(self, result: Model, held: PackedClips) -> str:
        """What else there is to say of the finished stage, of its result and held-out clips; "": nothing."""
        return ""

    def autocast(self, enabled: bool = True) -> AbstractContextManager[None]:
        """bfloat16 inside networks, if the recipe wants it. Where blocks are computed again, and weights are cast again
        with them, no casts are kept until the pass is over: half the weights' size for nothing."""
        kind, half = self.world.device.type, self.recipe.bf16 and enabled
        return torch.autocast(kind, torch.bfloat16, enabled=half, cache_enabled=not self.recipe.recompute)

    # -- state ------------------------------------------------------------------------------------------------------

    def state(self) -> Weights:
        """All tensors that updates read and change; they share memory with the stage."""
        out = {
            f"{key}.{name}": tensor
            for key, learner in self.learners.items()
            for name, tensor in learner.state().items()
        }
        for key, network in self.kept.items():
            own = dict(own_state(settle(network)))
            weights = dict(network.named_parameters())
            out |= {f"{key}.{name}": tensor.detach() for name, tensor in weights.items() if name in own}
        return out

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        with torch.no_grad():
            for name, tensor in self.state().items():
                tensor.copy_(state[name])

    def result(self) -> Weights:
        """Averaged weights of the student: what the stage hands on. With several ranks a collective operation."""
        fixed = {name: whole(t) for name, t in own_state(settle(self.student))}
        return {**fixed, **self.learners["student"].result()}

    def extras(self) -> dict[str, Weights]:
        """What else later stages may use, by file name."""
        return {}

    def averaged(self) -> Model:
        """A whole copy of the student with the averaged weights, on this process."""
        return self.networks.alone(self.result())

    # -- losses -----------------------------------------------------------------------------------------------------

    def pixel_terms(self, x0: Tensor, batch: Batch) -> tuple[Tensor, Figures]:
        """Weighted losses of a clean estimate in pixels: temporal, consistency, structure; none where weights are 0."""
        if not self.common.temporal and not self.common.consistency and not self.common.structure:
            return x0.new_zeros(()), {}
        student, condition = in_pixels(self.student, batch.condition)
        y = student.coefficients(x0, condition)
        with torch.no_grad():
            truth = student.coefficients(batch.z0, condition)
        return self.picture_terms(y, truth, batch)

    def picture_terms(self, y: Tensor, truth: Tensor, batch: Batch) -> tuple[Tensor, Figures]:
        """`pixel_terms` of normalised coefficients."""
        total, figures = y.new_zeros(()), {}
        student, condition = in_pixels(self.student, batch.condition)
        error = y.new_zeros(())
        if self.common.temporal or self.common.structure:
            error = student.pixels(y - truth, condition)
        if self.common.temporal:
            flicker = temporal_loss(error, batch.flow, batch.mask)
            total, figures["temporal"] = total + self.common.temporal * flicker, float(flicker.detach())
        if self.common.consistency:
            mismatch = frames_of(student.mismatch(y, condition), y.shape[1])
            missed = consistency_loss(mismatch, batch.clean)
            total, figures["consistency"] = total + self.common.consistency * missed, float(missed.detach())
        if self.common.structure:
            target = luma(enlarge(condition.base) + student.pixels(truth, condition))
            broken = structure_loss(target + luma(error), target)
            total, figures["structure"] = total + self.common.structure * broken, float(broken.detach())
        return total, figures

    def paired_loss(self, x0: Tensor, batch: Batch, t: Tensor) -> tuple[Tensor, Figures]:
        """Loss of latents against the ground truth plus `pixel_terms`."""
        latent = self.latent_loss(x0, batch.z0, t)
        terms, figures = self.pixel_terms(x0, batch)
        return latent + terms, {"latent": float(latent.detach()), **figures}

    def latent_loss(self, x0: Tensor, z0: Tensor, t: Tensor) -> Tensor:
        """⟨‖v − (ε − z0)‖²⟩ = ⟨(x̂0 − z0)²/t²⟩ as z_t is the same; robust: ⟨ρ(e·√d/t·(x̂0 − z0))⟩."""
        if self.recipe.loss == "robust":
            return robust_latent_loss(x0, z0, self.energy, flow.error_weight(t))
        return distillation_loss(x0, z0, self.energy, 1 / t)

    def distillation(self, x0: Tensor, target: Tensor, t: Tensor) -> Tensor:
        """⟨‖v − sg v*‖²⟩ = ⟨(x̂0 − sg x̂*)²/t²⟩ as x̂0 = z_t − t·v; ours counts errors as F sees them, times e."""
        return distillation_loss(x0, target, self.energy, self.velocity_weight(t))

    def velocity_weight(self, t: Tensor) -> Tensor:
        """What turns an error of x̂0 into one of v (1/t), or of F (√d/t) with the robust loss; (b,)."""
        return flow.error_weight(t) if self.recipe.loss == "robust" else 1 / t


def mean_of(found: Sequence[Figures]) -> Figures:
    """Of each figure over the parts that have it."""
    names = dict.fromkeys(name for figures in found for name in figures)
    every = {name: [figures[name] for figures in found if name in figures] for name in names}
    return {name: sum(values) / len(values) for name, values in every.items()}
