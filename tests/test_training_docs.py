"""docs/method.md names files, functions and fields: each is there, so that a reader finds what an equation became."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from duovsr_vs.model.family import PRESETS
from training.presets import RECIPES
from training.recipes import STAGES, Recipe

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "method.md").read_text()
SOURCES = {path: path.read_text() for part in ("training", "duovsr_vs") for path in (ROOT / part).rglob("*.py")}
CODE = "\n".join(SOURCES.values())
SMOKE = RECIPES["smoke"]
FIELDS = {f.name for f in fields(Recipe)} | {f.name for stage in STAGES for f in fields(SMOKE.stage(stage))}
OTHERS = {*STAGES, *RECIPES, *PRESETS, "pack", "null", "velocity", "both", "detail", "web", "real", "no_grad"}
"""Words in the same type that are no code: stages, recipes, models, values."""


def quoted() -> list[str]:
    """Everything between backticks."""
    return sorted(set(re.findall(r"`([^`\n]+)`", TEXT)))


def defined(name: str) -> bool:
    """`Class.method`, where the method is that class's own or a base's, or a function, class or field."""
    owner, _, last = name.rpartition(".")
    if owner in STAGES or owner == "*" or (not owner and last in FIELDS | OTHERS):
        return last in FIELDS | OTHERS
    there = rf"^\s*(def {last}\(|class {last}\b|def {last}\[)"
    is_owned = not owner or re.search(rf"^class {owner}\b", CODE, re.MULTILINE)
    return bool(is_owned and re.search(there, CODE, re.MULTILINE))


def test_every_file_that_the_page_names_is_there() -> None:
    named = [word for word in quoted() if word.endswith(".py") or "/" in word]
    places = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("*/**/*") if path.suffix in (".py", ".md")]
    folders = {Path(place).parent.as_posix() + "/" for place in places}
    missing = [
        word
        for word in named
        if "<" not in word and word not in folders and not any(f"/{place}".endswith(f"/{word}") for place in places)
    ]
    assert len(named) > 20 and missing == []


def test_every_function_and_field_that_the_page_names_is_there() -> None:
    words = [word for word in quoted() if not word.endswith(".py")]
    names = [word for word in words if re.fullmatch(r"([A-Za-z_]\w*|\*)?\.?[A-Za-z_]\w*", word)]
    names = [f"*{word}" if word.startswith(".") else word for word in names]
    missing = [name for name in names if not defined(name)]
    assert len(names) > 40 and missing == []


@pytest.mark.parametrize("number", range(1, 29))
def test_the_list_of_traps_is_whole(number: int) -> None:
    assert re.search(rf"^{number}\. ", TEXT, re.MULTILINE)
