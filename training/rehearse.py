"""An update of every stage as it is, on tensors that have shapes but no contents: what it allocates and computes.

The costs of `plan` are reckoned from passes; here the stages themselves run, optimizers included, with a model of any
size on any machine. Numbers that an update reads off its tensors (losses, norms) are 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from duovsr_vs.model.config import SCALE
from training.architecture import wanted_shapes
from training.batch import Batch
from training.costs import know_kernels
from training.families import family_of
from training.ledger import Ledger
from training.models import Seen
from training.passes import batches
from training.plan import AHEAD, GIGA, stage_plan
from training.plan_text import amount
from training.preference.pairs import Chosen
from training.recipes import Recipe
from training.stages import CLASSES
from training.stages.base import START, Stage
from training.stages.preference import Preference

PARTS = 2
"""Parts of a batch that are gone through: the first begins the gradients, the others find them there."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """One update of a stage, all on one process, its optimizers at work already."""

    stage: str
    flops: int
    standing: int
    """Bytes of what is there between updates: weights, averages, moments."""
    peak: int
    """The most that is there at a time, with batches ahead and the making of the next."""


class Contentless(FakeTensorMode):  # type: ignore[no-untyped-call]
    """Tensors without contents, of which every number that is asked for is 1."""

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1.0 if args[0].is_floating_point() else 1
        return super().dispatch(func, types, args, kwargs)


class _GivenPairs(Preference):
    """The stage with pairs of no contents."""

    batch: Batch

    def pairs_for(self, step: int, part: int = 0) -> tuple[Batch, Chosen]:
        like = self.batch.z0
        return self.batch, Chosen(torch.rand_like(like), torch.rand_like(like), torch.ones(len(like)))


def rehearsed(recipe: Recipe, name: str) -> Rehearsed:
    """An update of a stage. Not number 0, at which stage II also measures the ratio of its gradients."""
    know_kernels()
    cut, parts = _cut(replace(recipe, device="cpu"), name)
    cls: Callable[..., Stage] = _GivenPairs if name == Preference.name else CLASSES[name]
    with Contentless(allow_non_fake_inputs=True):
        handed = _handed(cut, name)  # in main memory, as results are that were read
        ledger = Ledger(tensor for weights in handed.values() for tensor in weights.values())
        with ledger:
            stage = cls(cut, handed)
            stage.state()  # moments as they are after an update
            standing = _begin(ledger)
            batch = _batch(stage)
            ready, making, encoding = ledger.now - standing, ledger.peak - ledger.now, ledger.flops
            _begin(ledger)
            if isinstance(stage, _GivenPairs):
                stage.batch = batch
            stage.update(1, repeat(batch))
    flops = ledger.flops + encoding * batches(name, cut) * stage.parts
    return Rehearsed(
        stage=name,
        flops=flops * parts // stage.parts,
        standing=standing,
        peak=ledger.peak + ready * (AHEAD + parts - 2) + making,
    )


def _begin(ledger: Ledger) -> int:
    """Count anew; returns the bytes that are there."""
    ledger.peak, ledger.flops = ledger.now, 0
    return ledger.now


def _cut(recipe: Recipe, name: str) -> tuple[Recipe, int]:
    """The recipe with a batch of few parts, and how many there were."""
    settings = recipe.stage(name)
    at_once = settings.micro_batch or settings.batch
    fields: dict[str, Any] = {name: replace(settings, batch=min(settings.batch, PARTS * at_once))}
    return replace(recipe, **fields), settings.batch // at_once


def _handed(recipe: Recipe, name: str) -> dict[str, dict[str, Tensor]]:
    """Results of earlier stages, and the start."""

    def made(rank: int) -> dict[str, Tensor]:
        return {key: torch.zeros(shape) for key, shape in wanted_shapes(recipe.model, rank).items()}

    needs = CLASSES[name].needs_of(recipe)
    start = {START: made(0)} if recipe.adapters or not needs else {}
    return start | {needed: made(recipe.adapters) for needed in needs}


@torch.no_grad()
def _batch(stage: Stage) -> Batch:
    """A part of a batch, as `prepare` makes it of pictures."""
    s, family = stage.common, family_of(stage.student.config)
    count = len(stage.world.slots(s.batch, stage.parts, 0))
    size = (SCALE * s.patch,) * 2
    moves = s.frames - 1 if family.in_pixels else 0
    hr = torch.rand(count, s.frames, 3, *size)
    condition: Seen = stage.encoder.condition(torch.rand(count, s.frames + 2, 3, s.patch, s.patch))
    return Batch(
        condition,
        stage.encoder.encode(hr, condition),
        torch.ones(count, dtype=torch.long),
        torch.ones(count),
        torch.rand(count, moves, 2, *size),
        torch.rand(count, moves, *size),
        range(count),
        pictures=hr if stage.pictures else None,
        steady=family.steady,
    )


def describe(recipe: Recipe) -> Iterator[str]:
    """A line per stage, as each is done: what it takes without contents, and what the plan says."""
    for name in recipe.stages:
        found, plan = rehearsed(recipe, name), stage_plan(recipe, name)
        memory = f"{found.peak / GIGA:.1f} GB at most, {found.standing / GIGA:.1f} GB between updates"
        apart = f"FLOPs {plan.flops / found.flops - 1:+.1%}, memory {plan.memory.total / found.peak - 1:+.1%}"
        yield f"{name}, one update without contents: {amount(found.flops)}FLOP, {memory}; the plan: {apart}"
