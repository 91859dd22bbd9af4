"""Which pairs an update learns from: those of the stage's start, and from the middle on those of the student then.

A round is made when it begins and read when a stopped run goes on, so nothing depends on where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from duovsr_vs.model.checkpoint import model_hash
from training.checkpoints import TrainingError, read_facts
from training.data.dataset import PackedClips
from training.distributed import World
from training.preference.groups import Judging, Makers
from training.preference.pairs import Pairs, make_pairs
from training.recipes import Recipe
from training.stage_recipes import PreferenceRecipe
from training.stopping import at_once

Weights = Mapping[str, Tensor]
MADE_BY = (
    *("pairs", "candidates", "truth_share", "noise_scale", "latent_gain", "mixed", "patch", "frames"),
    "ranker_updates",
    *("rank_ssimulacra2", "rank_niqe", "rank_model", "rank_logit", "rank_warp"),
)
"""Fields of the recipe that pairs depend on; with another β the same ones serve again."""


def round_of(step: int, settings: PreferenceRecipe) -> int:
    """Update before which the pairs of an update are made: 0, or the one at `refresh` of the stage."""
    middle = max(1, round(settings.refresh * settings.steps))
    return middle if settings.refresh < 1 and step >= middle else 0


def mark(recipe: Recipe, handed: Mapping[str, Weights], files: Sequence[Path], clips: PackedClips) -> str:
    """What every round depends on that is known before the stage begins, 16 hex digits.

    files: what stage II left for candidates and their judge.
    """
    fields = asdict(recipe.preference)
    known: list[object] = [fields[name] for name in MADE_BY]
    known += [recipe.seed, recipe.video_share, recipe.lr_kinds, recipe.model]
    known += [[row.source, row.shard, row.hr_offset] for row in clips.rows]
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
    for name in sorted(handed):
        digest.update(model_hash(on_cpu(handed[name]), name).encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def on_cpu(weights: Weights) -> dict[str, Tensor]:
    """Weights where files and hashes want them."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()
    }


@dataclass(slots=True)
class Rounds:
    """The rounds of one run of the stage."""

    recipe: Recipe
    clips: PackedClips
    folder: Path
    """Of the stage."""
    run: str
    """Of `mark`."""
    world: World
    makers: Callable[[Weights], Makers]
    """Who makes and judges candidates, by the student's weights."""
    _open: Pairs | None = None

    def path(self, number: int) -> Path:
        """Where the pairs of a round are kept."""
        return self.folder / f"pairs-{number}.safetensors"

    def begin(self, number: int, student: Weights) -> None:
        """Candidates of this student, judged by the first rank; a file that came of the very same is kept."""
        path, weights = self.path(number), on_cpu(student)
        marks = {"round": str(number), "run": self.run, "student": model_hash(weights, "")}
        if self.world.is_first and not (path.is_file() and marks.items() <= read_facts(path).items()):
            path.parent.mkdir(parents=True, exist_ok=True)
            with at_once("preference made its pairs"):
                make_pairs(path, Judging.of(self.recipe, self.clips, number), self.makers(weights), marks)
        self.world.barrier()
        self._open = None

    def pairs(self, step: int) -> Pairs:
        """The pairs of an update. TrainingError: the file of a round that has begun is gone, or is another run's."""
        path = self.path(round_of(step, self.recipe.preference))
        if self._open is None or self._open.path != path:
            if not path.is_file() or read_facts(path).get("run") != self.run:
                raise TrainingError(
                    f"{path} is missing or comes from another run, and the weights that made it are gone; "
                    f"delete {self.folder / 'checkpoints'}: the stage then starts anew"
                )
            self._open = Pairs(path)
        return self._open
