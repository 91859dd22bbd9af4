"""One loop for all stages: batches ahead of time, checkpoints that a stop cannot spoil, a log, evaluation.

A stage's folder holds `state.safetensors` (everything that updates change, replaced whole), `log.jsonl`, and at the end
`result.safetensors`: the averaged weights that are handed on. Which batch, noise and time an update uses depends on
(seed, stage, step) alone, so a resumed run continues bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from duovsr_vs.engine.machine import resolve_device
from duovsr_vs.errors import DuoVsrError, OptionError
from duovsr_vs.model.config import PRESETS
from training.batch import Batch, prepare
from training.data.dataset import PackedClips
from training.data.prefetch import Prefetch
from training.recipes import STAGES, Recipe
from training.stages import build_stage
from training.stages.base import Figures, Stage, Weights
from training.validate import Validation

RESULT, STATE, LOG = "result.safetensors", "state.safetensors", "log.jsonl"


class TrainingError(DuoVsrError):
    """A run that cannot start or go on, and what to do about it."""


def fingerprint(recipe: Recipe, stage: str) -> str:
    """What must be equal for a stage to go on where it stopped."""
    text = json.dumps(
        [recipe.model, recipe.seed, recipe.video_share, recipe.bf16, asdict(recipe.stage(stage))], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Replace a file at once, so that a stop leaves the old or the new one."""
    part = path.with_name(path.name + ".part")
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, part, dict(facts))
    part.replace(path)


def read_facts(path: Path) -> dict[str, str]:
    """Metadata of a file that `write_tensors` wrote."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise TrainingError(f"{path} is damaged ({error}); delete it") from error


def result_of(folder: Path, stage: str) -> Weights:
    """Weights that a finished stage handed on. TrainingError if it is not finished."""
    path = folder / stage / RESULT
    if not path.is_file():
        raise TrainingError(
            f"{path} is missing: the stage {stage} comes first; run it, or name the folder that holds it"
        )
    return load_file(path)


class Run:
    """A run folder: goes through stages, resuming each where it stopped."""

    def __init__(
        self,
        recipe: Recipe,
        data: Path,
        out: Path,
        say: Callable[[str], None] = print,
        start: Path | None = None,
    ):
        self.recipe, self.out, self.say, self.start = recipe, out, say, start
        self.train = PackedClips(data, "train")
        self.data = data
        self._validation: Validation | None = None
        try:
            resolve_device(recipe.device)
        except RuntimeError as error:
            raise OptionError(f"--device {recipe.device}: {str(error).splitlines()[0]}; use cpu or cuda") from error

    @property
    def validation(self) -> Validation:
        """Held-out clips, measured once for the base resampler."""
        if self._validation is None:
            self._validation = Validation(PackedClips(self.data, "val"), PRESETS[self.recipe.model].back_projections)
        return self._validation

    def all_stages(self) -> None:
        """Every stage in order; finished ones are left alone."""
        for name in STAGES:
            self.stage(name)

    def stage(self, name: str) -> None:
        """One stage from where it stands to its end."""
        folder = self.out / name
        mark = fingerprint(self.recipe, name)
        if (folder / RESULT).exists():
            self._check(folder / RESULT, mark)
            self.say(f"{name}: finished before")
            return
        folder.mkdir(parents=True, exist_ok=True)
        start = self._start(name)
        before = 0 if start is None or self.start is None else int(read_facts(self.start).get("steps", 0))
        stage = build_stage(name, self.recipe, self.out, result_of, start)
        first = self._resume(stage, folder / STATE, mark)
        (self.out / "recipe.json").write_text(self.recipe.to_json() + "\n")
        _ = self.validation  # clips that cannot be measured are found before the training, not after it
        self._train(stage, folder, first, mark)
        scores = self.validation.measure(stage.averaged())
        self._log(folder, stage.steps, {"evaluation": scores})
        self.say(f"{name}: {_in_words(scores)}")
        write_tensors(folder / RESULT, stage.result(), {"recipe": mark, "steps": str(before + stage.steps)})
        (folder / STATE).unlink(missing_ok=True)

    def _start(self, name: str) -> Weights | None:
        """Weights that a regression begins with, from the result of another run."""
        if self.start is None or name != STAGES[0]:
            return None
        try:
            return load_file(self.start)
        except (SafetensorError, OSError) as error:
            raise TrainingError(f"--start {self.start}: {error}; give a {RESULT} of another run") from error

    def _check(self, path: Path, mark: str) -> None:
        if read_facts(path).get("recipe") != mark:
            raise TrainingError(
                f"{path} comes from another recipe; give another --out, or delete the folder of that stage"
            )

    def _resume(self, stage: Stage, path: Path, mark: str) -> int:
        if not path.exists():
            return 0
        self._check(path, mark)
        try:
            stage.load_state(load_file(path))
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise TrainingError(f"{path} is damaged ({error}); delete it, the stage then starts anew") from error
        return int(read_facts(path)["step"])

    def _batches(self, stage: Stage, first: int) -> Prefetch[Batch]:
        settings, seed = stage.common, self.recipe.seed

        def make(index: int) -> Batch:
            salt = STAGES.index(stage.name) * 1_000_000 + index
            arrays = self.train.batch(seed, salt, settings.batch, settings.patch, video_share=self.recipe.video_share)
            return prepare(stage.student, arrays, seed, salt, stage.soft, stage.drop)

        return Prefetch(make, first=first * stage.batches_per_step, depth=3)

    def _train(self, stage: Stage, folder: Path, first: int, mark: str) -> None:
        recipe, begin = self.recipe, time.perf_counter()
        sums: dict[str, list[float]] = {}
        with self._batches(stage, first) as batches:
            for step in range(first, stage.steps):
                _collect(sums, stage.update(step, batches))
                done = step + 1
                if done % recipe.log_every == 0 or done == stage.steps:
                    seconds = (time.perf_counter() - begin) / (done - first)
                    figures = {name: sum(v) / len(v) for name, v in sums.items()} | {"seconds": seconds}
                    self._log(folder, done, figures)
                    self._tell(stage, done, figures)
                    sums = {}
                if done % recipe.save_every == 0 or done == stage.steps:
                    write_tensors(folder / STATE, stage.state(), {"recipe": mark, "step": str(done)})
                if done % recipe.evaluate_every == 0 and done < stage.steps:
                    scores = self.validation.measure(stage.averaged())
                    self._log(folder, done, {"evaluation": scores})
                    self.say(f"{stage.name} {done}: {_in_words(scores)}")

    def _tell(self, stage: Stage, done: int, figures: Figures) -> None:
        left = figures["seconds"] * (stage.steps - done) / 60
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        self.say(f"{stage.name} {done}/{stage.steps}  {shown}  {left:.1f} min left")

    @staticmethod
    def _log(folder: Path, step: int, figures: Mapping[str, object]) -> None:
        with (folder / LOG).open("a") as file:
            file.write(json.dumps({"step": step, **_finite(figures)}) + "\n")


def _finite(figures: Mapping[str, object]) -> dict[str, object]:
    """What is not a number becomes null: JSON knows no NaN."""
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in figures.items()}


def _collect(sums: dict[str, list[float]], figures: Figures) -> None:
    for name, value in figures.items():
        sums.setdefault(name, []).append(value)


def _in_words(scores: Mapping[str, float]) -> str:
    kinds = dict.fromkeys(key.split("/")[0] for key in scores if not key.startswith("+"))
    parts = [
        f"{kind}: PSNR-Y {scores[f'+{kind}/psnr_y']:+.2f}, SSIMULACRA2 {scores[f'+{kind}/ssimulacra2']:+.2f}, "
        f"NIQE {scores[f'+{kind}/niqe']:+.2f}, E_warp ratio {scores[f'{kind}/e_warp_ratio']:.2f}"
        for kind in kinds
    ]
    return "against the base resampler, " + "; ".join(parts)
