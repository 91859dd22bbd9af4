"""What a finished stage hands on, RUN/<stage>/result.safetensors, and whether two of them belong together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from duovsr_vs.model.config import PRESETS
from duovsr_vs.model.generator import Generator
from training.checkpoints import TrainingError, read_facts, read_tensors
from training.recipes import STAGES, Recipe
from training.stages.base import Weights

RESULT = "result.safetensors"
WEIGHTY = ("model", "seed", "video_share", "lr_kinds", "loss", "bf16", "gather")
"""Fields of a recipe, beside those of the stage, that change what an update does."""


def fingerprint(recipe: Recipe, stage: str) -> str:
    """What must be equal for a stage to go on where it stopped."""
    general = {name: getattr(recipe, name) for name in WEIGHTY}
    text = json.dumps([general, asdict(recipe.stage(stage))], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
        places = [self.own(stage)]
        if self.earlier is not None:
            places += [self.earlier / stage / RESULT, self.earlier / f"{stage}.safetensors"]
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
            check_architecture(weights, self.recipe.model, path)
        return weights

    def finished(self) -> list[str]:
        """Stages that this run has finished, in order."""
        return [stage for stage in STAGES if self.own(stage).is_file()]

    def check(self, stage: str, mark: str, inputs: Mapping[str, Weights]) -> None:
        """TrainingError: the result was made by another recipe, or from other results than are there now."""
        facts = read_facts(self.own(stage))
        if facts.get("recipe") != mark:
            raise TrainingError(
                f"{self.own(stage)} comes from another recipe; give another --out, or delete the folder of that stage"
            )
        made_from = json.loads(facts.get("inputs", "{}"))
        for name in made_from:
            if name in inputs and made_from[name] != digest(inputs[name]):
                raise TrainingError(
                    f"{self.own(stage)} was made from another result of {name} than is there now; delete the folder of "
                    f"{stage} and of the stages behind it"
                )


def check_architecture(weights: Mapping[str, Tensor], model: str, path: Path) -> None:
    """TrainingError: the weights are not those of the preset; the first difference is named."""
    wanted = {name: tuple(t.shape) for name, t in Generator(PRESETS[model]).state_dict().items()}
    found = {name: tuple(t.shape) for name, t in weights.items()}
    if wanted == found:
        return
    name = sorted(set(wanted.items()) ^ set(found.items()))[0][0]
    raise TrainingError(
        f"{path} holds weights of another architecture than {model}: {name} is {found.get(name, 'missing')} there and "
        f"{wanted.get(name, 'unknown')} in {model}; give a file of that preset, or another --model"
    )
