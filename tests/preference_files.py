"""Stage III for tests: a small recipe, what is handed to it, and a stage before its first update."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from training_files import same, weights

from training.checkpoints import read_facts
from training.data.dataset import PackedClips
from training.presets import SMOKE
from training.recipes import Recipe
from training.stage_recipes import PreferenceRecipe
from training.stages.dual_stream import blend
from training.stages.preference import Preference

RECIPE = replace(
    SMOKE,
    bf16=False,
    preference=PreferenceRecipe(
        steps=6, learning_rate=1e-4, batch=2, patch=16, pairs=6, candidates=4, refresh=1.0, temporal=0.1, rank_model=0.0
    ),
)
REGRESSION = weights(1)
HANDED = {"regression": REGRESSION, "dual_stream": blend(REGRESSION, weights(2), 0.3)}


def changed(**fields: Any) -> Recipe:
    return replace(RECIPE, preference=replace(RECIPE.preference, **fields))


def begun(recipe: Recipe, clips: PackedClips, folder: Path) -> Preference:
    stage = Preference(recipe, HANDED)
    stage.prepare(clips, folder)
    return stage


def equal_files(a: Path, b: Path) -> bool:
    return same(load_file(a), load_file(b)) and read_facts(a) == read_facts(b)
