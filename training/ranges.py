"""What values a field of a recipe may have, and the sentence for one that it may not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from duovsr_vs.errors import DuoVsrError


class RecipeError(DuoVsrError):
    """A recipe that makes no sense. No ValueError: the command line's parser would put a frame around those."""


@dataclass(frozen=True, slots=True)
class Range:
    """Finite numbers that hold, and how a sentence says so."""

    words: str
    holds: Callable[[float], bool]


COUNT = Range("1 or more", lambda x: x >= 1)
NATURAL = Range("0 or more", lambda x: x >= 0)
POSITIVE = Range("above 0", lambda x: x > 0)
SHARE = Range("from 0 to 1", lambda x: 0 <= x <= 1)
PART = Range("above 0 and at most 1", lambda x: 0 < x <= 1)
DECAY = Range("from 0 to below 1", lambda x: 0 <= x < 1)
SEVERAL = Range("2 or more", lambda x: x >= 2)
FINITE = Range("a finite number", lambda _: True)


def require(recipe: object, **allowed: Range) -> None:
    """RecipeError that gives value and range of the first field that is out of its own; recipe: of one of the classes
    in recipes.py and stage_recipes.py. A field of several numbers is in range if each of them is."""
    for name, range_ in allowed.items():
        value = getattr(recipe, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(math.isfinite(x) and range_.holds(x) for x in numbers):
            finite = all(math.isfinite(x) for x in numbers)
            raise refused(recipe, name, f"it must be {range_.words if finite else FINITE.words}")


def refused(recipe: object, name: str, why: str) -> RecipeError:
    """The error for a field: what was found, then why that is none."""
    value = getattr(recipe, name)
    return RecipeError(f"{_stage_of(recipe)}{name} is {value!r}; {why}")


def _stage_of(recipe: object) -> str:
    """DualStreamRecipe -> "dual_stream."; nothing for the recipe of the run and for what all stages have."""
    name = type(recipe).__name__.removesuffix("Recipe").removesuffix("Stage")
    words = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).removeprefix("_")
    return f"{words}." if words else ""
