"""How a recipe is spread over GPUs that are not here: micro-batches and adapters that fit, hours and memory of a stage.

Nothing is measured: FLOPs and memory are counted, the peak is the card's, and what updates reach of it is assumed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from training.plan import GIGA, StagePlan, efficiency, stage_plan
from training.plan_text import amount, duration
from training.recipes import Recipe

FLEETS = (1, 8, 64)
"""GPUs for which plans are printed unless a number is given."""
RANKS = (512, 256, 128, 64)
"""Adapters that are tried where whole weights do not fit."""
FULL_AT = 0.85
"""Share of a card's memory that is planned with: libraries, buffers and fragments have the rest."""


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU: bytes of memory and FLOP/s in dense bfloat16 products."""

    memory: float = 80e9
    peak: float = 990e12


H100 = Card()
"""The peak also of H200, which has 141 GB."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A recipe with batches, micro-batches and adapters that suit so many cards."""

    recipe: Recipe
    gpus: int
    card: Card
    stages: tuple[StagePlan, ...]

    @property
    def fits(self) -> bool:
        """Whether every stage does."""
        return all(stage.memory.total <= FULL_AT * self.card.memory for stage in self.stages)

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(stage.seconds or 0.0 for stage in self.stages)


def spread(recipe: Recipe, gpus: int, card: Card = H100) -> Spread:
    """With the recipe's own adapters, or with whole weights; if those do not fit, with the largest adapters that do."""
    ranks = (recipe.adapters,) if recipe.adapters else (0, *RANKS)
    tried = (_spread(replace(recipe, adapters=rank), gpus, card) for rank in ranks)
    found = next(tried)
    for other in tried:
        if found.fits:
            break
        found = other
    return found


def _spread(recipe: Recipe, gpus: int, card: Card) -> Spread:
    plans = []
    for name in recipe.stages:
        recipe, plan = _stage(recipe, name, gpus, card)
        plans.append(plan)
    return Spread(recipe, gpus, card, tuple(plans))


def _stage(recipe: Recipe, name: str, gpus: int, card: Card) -> tuple[Recipe, StagePlan]:
    """The largest micro-batch that fits, else 1; a batch that the cards cannot divide grows to a multiple."""
    settings = recipe.stage(name)
    batch = -(-settings.batch // gpus) * gpus
    sizes = [n for n in range(batch // gpus, 0, -1) if (batch // gpus) % n == 0]
    for size in sizes:
        fields: dict[str, Any] = {name: replace(settings, batch=batch, micro_batch=size)}
        chosen = replace(recipe, **fields)
        plan = stage_plan(chosen, name, gpus, gpus * card.peak)
        if plan.memory.total <= FULL_AT * card.memory:
            break
    return chosen, plan


# -- in words ---------------------------------------------------------------------------------------------------


def as_text(found: Spread, asked: Recipe) -> str:
    """A headline, a line per stage, and the options that make the run so."""
    table = Table(*_HEAD, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for stage in found.stages:
        table.add_row(*_row(stage, found.gpus))
    table.add_row("all", *[""] * (len(_HEAD) - 2), duration(found.seconds))
    text = io.StringIO()
    Console(file=text, width=140, color_system=None).print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    return "\n".join([_headline(found), *lines, *_notes(found, asked)])


_HEAD = ("stage", "updates", "batch", "parts", "GB per GPU", "of it activations", "TFLOP/update", "s/update", "time")


def _row(stage: StagePlan, gpus: int) -> tuple[str, ...]:
    """Under `_HEAD`; batch as GPUs x parts x micro-batch."""
    memory = stage.memory
    return (
        stage.stage,
        f"{stage.updates}",
        f"{gpus * stage.parts * stage.micro_batch}",
        f"{stage.parts} x {stage.micro_batch}",
        f"{memory.total / GIGA:.1f}",
        f"{memory.activations / GIGA:.1f}",
        f"{stage.flops / 1e12:.0f}",
        f"{(stage.seconds or 0) / stage.updates:.1f}",
        duration(stage.seconds),
    )


def _headline(found: Spread) -> str:
    many, rank = found.gpus > 1, found.recipe.adapters
    weights = f"adapters of rank {rank} on one set of weights" if rank else "whole weights"
    how = "sharded block by block (FSDP2)" if many else "not sharded"
    mfu = f"at an assumed MFU of {efficiency(found.recipe):.0%} of {amount(found.card.peak)}FLOP/s"
    cards = f"{found.gpus} GPU{'s' * many} of {found.card.memory / GIGA:.0f} GB"
    return f"{found.recipe.model} on {cards}: {weights}, {how}; {mfu}"


def _notes(found: Spread, asked: Recipe) -> Iterator[str]:
    options = _options(found.recipe, asked)
    if options:
        yield f"options: {' '.join(options)}"
    for stage in found.stages:
        if stage.memory.total > FULL_AT * found.card.memory:
            yield (
                f"{stage.stage} needs {stage.memory.total / GIGA:.0f} GB and does not fit: give smaller "
                f"--{stage.stage.replace('_', '-')}.patch or .frames, or more GPUs"
            )


def _options(chosen: Recipe, asked: Recipe) -> list[str]:
    """What differs, as the command line has it."""
    found = [f"--adapters {chosen.adapters}"] if chosen.adapters != asked.adapters else []
    for name in chosen.stages:
        for field in ("batch", "micro_batch"):
            value = getattr(chosen.stage(name), field)
            if value != getattr(asked.stage(name), field):
                found.append(f"--{name.replace('_', '-')}.{field.replace('_', '-')} {value}")
    return found


def describe(recipe: Recipe, fleets: Sequence[int] = FLEETS, card: Card = H100) -> str:
    """Plans for so many cards each, under each other."""
    return "\n\n".join(as_text(spread(recipe, gpus, card), recipe) for gpus in fleets)
