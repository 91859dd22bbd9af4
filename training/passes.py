"""Which networks an update of each stage runs, how often, and why: the table that costs, memory and time come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from training.costs import Mode
from training.families import RESIDUAL, config_of, family_of, has_learned_codec
from training.recipes import Recipe
from training.stage_recipes import DualStreamRecipe, StageRecipe


@dataclass(frozen=True, slots=True)
class Pass:
    """Of one part over one batch."""

    part: str
    """A network (student, teacher, real, fake, reference, heads, codec) or what has no weights (see `costs`)."""
    mode: Mode
    times: int
    """Within its graph."""
    why: str
    graph: str = "student"
    """Passes of one graph are in memory together."""
    rounds: int = 1
    """How often that graph is built in one update of the student."""
    full: bool = False
    """In float32 whatever the recipe says."""

    @property
    def count(self) -> int:
        """How often it is done in one update of the student."""
        return self.times * self.rounds


def passes(stage: str, recipe: Recipe) -> tuple[Pass, ...]:
    """All passes of one update of a stage."""
    return tuple(_TABLE[stage](recipe))


def batches(stage: str, recipe: Recipe) -> int:
    """Batches that one update takes."""
    settings = recipe.stage(stage)
    return settings.aux_per_student + 1 if isinstance(settings, DualStreamRecipe) else 1


def updates(stage: str, recipe: Recipe) -> int:
    """Updates of the student in the whole stage."""
    settings = recipe.stage(stage)
    rounds: int = getattr(settings, "rounds", 1)
    return settings.steps * rounds


def _truth(recipe: Recipe, rounds: int = 1) -> Pass:
    if family_of(config_of(recipe.model)) is RESIDUAL:  # its latents are made in float32
        return Pass("encode", "forward", 1, "latents of the ground truth", rounds=rounds, full=True)
    return Pass("encode", "forward", 2, "latents of the ground truth, and of the LR enlarged", "batch", rounds)


def _pixels(recipe: Recipe, settings: StageRecipe) -> Iterator[Pass]:
    """The terms in pixels, where they have a weight."""
    if has_learned_codec(config_of(recipe.model)) and _has_pixels(settings):
        yield Pass("decode", "through", 1, "coefficients of the student's latents", full=True)
        yield Pass("decode", "forward", 1, "those of the truth's", full=True)
    yield from _in_pixels(settings)


def _has_pixels(settings: StageRecipe) -> bool:
    return settings.temporal > 0 or settings.consistency > 0 or settings.structure > 0


def _in_pixels(settings: StageRecipe) -> Iterator[Pass]:
    if settings.temporal > 0 or settings.structure > 0:
        yield Pass("temporal", "through", 1, "flicker and structure are seen in pixels, of one error", full=True)
    if settings.consistency > 0:
        yield Pass("consistency", "through", 1, "what the output, shrunk, misses of the LR", full=True)
    if settings.structure > 0:
        yield Pass("structure", "through", 1, "structure and contrast beside the truth's", full=True)


def _autoencoder(recipe: Recipe) -> Iterator[Pass]:
    yield Pass("transform", "forward", 1, "normalised coefficients of the ground truth", full=True)
    yield Pass("codec", "train", 1, "those, encoded and decoded")
    yield from _in_pixels(recipe.autoencoder)


def _regression(recipe: Recipe) -> Iterator[Pass]:
    yield _truth(recipe)
    yield Pass("student", "train", 1, "x̂0 of pure noise against the ground truth")
    yield from _pixels(recipe, recipe.regression)


def _teacher(recipe: Recipe) -> Iterator[Pass]:
    yield _truth(recipe)
    yield Pass("student", "train", 1, "x̂0 of noised latents against the ground truth")
    yield from _pixels(recipe, recipe.teacher)


def _guided(recipe: Recipe) -> Iterator[Pass]:
    yield _truth(recipe)
    yield Pass("teacher", "forward", 2, "v_c and v_neg of the guided target")
    yield Pass("student", "train", 1, "v against the guided target")


def _progressive(recipe: Recipe) -> Iterator[Pass]:
    yield _truth(recipe)
    yield Pass("teacher", "forward", 2, "two steps, which are the target")
    yield Pass("student", "train", 1, "one step against the two")
    yield from _pixels(recipe, recipe.progressive)


def _dual_stream(recipe: Recipe) -> Iterator[Pass]:
    """Score models work in float32 where the student learns from them."""
    s = recipe.dual_stream
    plays = s.adversarial > 0 or s.feature > 0
    yield _truth(recipe, s.aux_per_student + 1)
    yield from _auxiliary(s, plays)
    yield Pass("student", "train", 1, "x̂ with its graph")
    for name in ("real", "fake"):
        if plays and s.taps in (name, "both"):
            why = "x̂0 for matching; gradients reach x̂ through the features"
            yield Pass(name, "through", 1, why, full=True)
        else:
            yield Pass(name, "forward", 1, "x̂0 for matching", full=True)
        if plays:
            yield Pass(name, "forward", 1, "features of the truth, to be matched", full=True)
    if plays:
        yield Pass("heads", "through", 1, "logits of x̂", full=True)
    yield from _pixels(recipe, s)


def _auxiliary(settings: DualStreamRecipe, plays: bool) -> Iterator[Pass]:
    """Updates of fake score and heads, each on its own batch."""
    rounds = settings.aux_per_student
    yield Pass("student", "forward", 1, "x̂, without a graph", "fake", rounds)
    yield Pass("fake", "train", 1, "F follows what the student makes", "fake", rounds)
    if not plays:
        return
    for name in ("real", "fake"):
        yield Pass(name, "forward", 2, "features of x̂ and of the truth", "heads", rounds)
    yield Pass("heads", "train", 2, "logits of x̂ and of the truth", "heads", rounds, full=True)
    if settings.smoothness > 0:
        yield Pass(
            "heads", "train", 1, "logits of the truth's features with a little noise", "heads", rounds, full=True
        )


def _preference(recipe: Recipe) -> Iterator[Pass]:
    yield _truth(recipe)
    yield Pass("reference", "forward", 2, "errors of winner and loser where the stage began", full=True)
    yield Pass("student", "train", 2, "the same now; what counts are small differences", full=True)
    yield Pass("student", "train", 1, "x̂ stays near the winner")
    yield from _pixels(recipe, recipe.preference)


def _light(recipe: Recipe) -> Iterator[Pass]:
    yield _truth(recipe)
    yield Pass("autoencoder", "forward", 1, "what the autoencoder decodes of the truth's latents")
    yield Pass("pair", "train", 1, "latents of the LR, and frames of the truth's latents")
    yield Pass("features", "through", 1, "activations of the decoded frames")
    yield Pass("features", "forward", 1, "those of the truth")


_TABLE: dict[str, Callable[[Recipe], Iterator[Pass]]] = {
    "autoencoder": _autoencoder,
    "regression": _regression,
    "teacher": _teacher,
    "guided": _guided,
    "progressive": _progressive,
    "dual_stream": _dual_stream,
    "preference": _preference,
    "light": _light,
}
