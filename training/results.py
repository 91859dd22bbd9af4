"""What a finished stage hands on, RUN/<stage>/result.safetensors, and whether two of them belong together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from torch import Tensor

from training.architecture import check_architecture
from training.checkpoints import TrainingError, read_facts, read_tensors
from training.data.dataset import PackedClips
from training.recipes import STAGES, Recipe
from training.stages.base import Weights

RESULT = "result.safetensors"
WEIGHTY = ("model", "adapters", "seed", "video_share", "lr_kinds", "loss", "bf16", "gather")
"""Fields of a recipe, beside those of the stage, that change what an update does."""
FREE = ("micro_batch",)
"""Fields of a stage that do not, but for rounding."""


def choices(recipe: Recipe, stage: str) -> dict[str, str]:
    """What must be equal for a stage to go on where it stopped, as text by field.

    Fields at their default are left out: a field that comes with a later version changes nothing for runs without it.
    """
    found = {field.name: getattr(recipe, field.name) for field in fields(recipe) if field.name in WEIGHTY}
    own = recipe.stage(stage)
    found |= {f"{stage}.{field.name}": getattr(own, field.name) for field in fields(own) if field.name not in FREE}
    known = {field.name: field.default for field in fields(recipe)}
    known |= {f"{stage}.{field.name}": field.default for field in fields(own)}
    return {name: repr(value) for name, value in sorted(found.items()) if value != known[name]}


def fingerprint(recipe: Recipe, stage: str) -> str:
    """`choices` as one line."""
    return json.dumps(choices(recipe, stage), sort_keys=True)


def differing(mark: str | None, other: str | None) -> str:
    """In words: the fields in which two fingerprints differ."""
    try:
        a, b = json.loads(mark or ""), json.loads(other or "")
        names = sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
    except (ValueError, AttributeError):
        return ""
    shown = [f"{name} was {a.get(name, 'the default')}, is {b.get(name, 'the default')}" for name in names[:4]]
    return f" ({'; '.join(shown)})" if shown else ""


def data_mark(clips: PackedClips) -> str:
    """Of the clips of a pack's split."""
    rows = [(row.clip, row.source, row.frames, row.height, row.width) for row in clips.rows]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def digest(weights: Mapping[str, Tensor]) -> str:
    """Of names and values."""
    sha = hashlib.sha256()
    for name in sorted(weights):
        sha.update(name.encode())
        sha.update(weights[name].detach().cpu().float().contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]


class Results:
    """The results of a run folder, and of a folder of stage files that the run goes on from.

    earlier: another run folder, or a folder with <stage>.safetensors, for stages that this run has not made itself.
    """

    def __init__(self, folder: Path, recipe: Recipe | None = None, earlier: Path | None = None):
        self.folder, self.recipe, self.earlier = folder, recipe, earlier
        if earlier is not None and not earlier.is_dir():
            raise TrainingError(f"--from {earlier}: there is no such folder; name a run, or a folder of stage files")

    def own(self, stage: str) -> Path:
        """Where this run's result of a stage is or will be."""
        return self.folder / stage / RESULT

    def path(self, stage: str) -> Path:
        """The file that holds a stage's result. TrainingError: no stage has made it; says which command would."""
        places = [self.own(stage), *self._earlier(stage)]
        for place in places:
            if place.is_file():
                return place
        name = self.recipe.name if self.recipe else "RECIPE"
        raise TrainingError(
            f"{places[0]} is missing: the stage {stage} comes first. Make it with: python -m training {stage} "
            f"--recipe {name} --data DIR --out {self.folder}, or give --from a folder that holds {stage}.safetensors"
        )

    def weights(self, stage: str) -> Weights:
        """Weights that a finished stage handed on. TrainingError: missing, or of another architecture."""
        path = self.path(stage)
        weights = read_tensors(path)
        if self.recipe is not None:
            check_architecture(weights, self.recipe.model, path, self.recipe.adapters)
        return weights

    def is_earlier(self, stage: str) -> bool:
        """Whether the result of a stage is there, and not this run's own."""
        return not self.own(stage).is_file() and any(place.is_file() for place in self._earlier(stage))

    def _earlier(self, stage: str) -> list[Path]:
        if self.earlier is None:
            return []
        return [self.earlier / stage / RESULT, self.earlier / f"{stage}.safetensors"]

    def finished(self) -> list[str]:
        """Stages that this run has finished, in order."""
        return [stage for stage in STAGES if self.own(stage).is_file()]

    def check(self, stage: str, mark: str, inputs: Mapping[str, Weights]) -> None:
        """TrainingError: the result was made by another recipe, or from other results than are there now."""
        facts = read_facts(self.own(stage))
        if facts.get("recipe") != mark:
            where = differing(facts.get("recipe"), mark)
            raise TrainingError(
                f"{self.own(stage)} comes from another recipe{where}; give another --out, or delete the folder of that "
                "stage"
            )
        made_from = json.loads(facts.get("inputs", "{}"))
        for name in made_from:
            if name in inputs and made_from[name] != digest(inputs[name]):
                raise TrainingError(
                    f"{self.own(stage)} was made from another result of {name} than is there now; delete the folder of "
                    f"{stage} and of the stages behind it"
                )
