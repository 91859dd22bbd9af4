"""Every stage of the training on one clip: what a student shows in one step, a teacher in many, the codec at best.

The trainer's own sampling, in float32 and without the engine, from the stage files that `checkpoints/MODEL` holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cache import Cache, file_hash, source_hash

import duovsr_vs.metrics
import duovsr_vs.model
import training
from duovsr_vs.errors import ModelError, OptionError
from duovsr_vs.metrics.colour import Clip
from duovsr_vs.metrics.suite import GroundTruth, score_clip
from duovsr_vs.model.checkpoint import filled, misfits
from duovsr_vs.model.config import ModelConfig
from duovsr_vs.model.family import PRESETS, generator_of
from duovsr_vs.model.generator import Generator
from training.checkpoints import read_tensors
from training.families import SOFT_CLASS
from training.samples import sampled
from training.validate import Sample, reconstructed, upscale

SCALE, SEED = 4, 0
MEASURES = ("psnr_y", "ssimulacra2", "niqe", "e_warp", "e_warp_ratio", "detail_ratio")
STEPS = (1, 4, 16, 50)
TEACHER, HALF, ONE, TWO, THREE, REGRESSION, CODEC = (
    "teacher",
    "Stage I, first half",
    "Stage I",
    "Stage I + II",
    "Stage I + II + III",
    "regression",
    "codec ceiling",
)


@dataclass(frozen=True)
class Row:
    """One line of the table of stages."""

    label: str
    stage: str
    """Name of the stage whose file it comes from."""
    steps: int = 1
    guided: bool = False
    codec: bool = False
    """The ground truth there and back through the codec instead of a sample."""


def stepped(label: str, steps: int, guided: bool = False) -> str:
    """teacher, 4 steps, guided."""
    return f"{label}, {steps} step{'s' if steps > 1 else ''}{', guided' if guided else ''}"


ROWS = (
    Row(CODEC, "regression", codec=True),
    *(Row(stepped(TEACHER, n), "teacher", n) for n in STEPS),
    *(Row(stepped(TEACHER, n, True), "teacher", n, guided=True) for n in STEPS),
    *(Row(stepped(HALF, n), "guided", n) for n in (1, 4)),
    Row(ONE, "progressive"),
    Row(TWO, "dual_stream"),
    Row(THREE, "preference"),
    Row(REGRESSION, "regression"),
)
COMPARED = ((ONE, stepped(TEACHER, 1)), (TWO, ONE), (THREE, TWO))
"""Each stage against the one before it: the first against what the teacher gives at as many steps."""


@dataclass(frozen=True)
class Stages:
    """What to measure; plain values, so that another process can be told."""

    folder: Path
    preset: str
    frames: int = 4
    """First frames of each clip: many steps are slow."""
    guidance: float = 2.0
    """w of v = (1 + w)·v_c − w·v_soft."""

    def file(self, row: Row) -> Path:
        return self.folder / f"{row.stage}.safetensors"

    def rows(self) -> list[Row]:
        """Those whose file is there."""
        return [row for row in ROWS if self.file(row).is_file()]

    def missing(self) -> list[str]:
        """A sentence for each file that is not there."""
        stages = dict.fromkeys(row.stage for row in ROWS if not self.file(row).is_file())
        return [
            f"{stage}.safetensors is not in {self.folder.name}/, so left out: "
            + "; ".join(row.label for row in ROWS if row.stage == stage)
            for stage in stages
        ]


def open_stages(folder: Path, preset: str | None, frames: int, guidance: float) -> Stages:
    """Checked before the first clip. preset: None for the one that the folder is named after. OptionError."""
    name = preset or folder.resolve().name
    config = PRESETS.get(name)
    if not isinstance(config, ModelConfig):
        known = ", ".join(n for n, c in PRESETS.items() if isinstance(c, ModelConfig))
        raise OptionError(f"--stages {folder}: no model is named {name}; give --preset, one of {known}")
    if config.quality_classes <= SOFT_CLASS + 1:
        raise OptionError(f"--stages {folder}: {name} has no class of soft targets to be guided away from")
    if frames < 2:
        raise OptionError(f"--stage-frames {frames}: 2 or more are needed, for E_warp compares neighbours")
    stages = Stages(folder, name, frames, guidance)
    if not stages.rows():
        raise OptionError(f"--stages {folder}: no stage file is there, such as {folder / 'teacher.safetensors'}")
    for path in {stages.file(row) for row in stages.rows()}:
        network(path, name)
    return stages


def network(path: Path, preset: str) -> Generator:
    """The model of a stage file, ready to run. ModelError where it does not fit the preset."""
    config = PRESETS[preset]
    weights = read_tensors(path)
    with torch.device("meta"):
        wrong = misfits(generator_of(config), weights)
    if wrong:
        raise ModelError(f"{path} is no stage file of {preset}: {wrong}; name the right --preset")
    made = filled(config, weights).eval().requires_grad_(False)
    assert isinstance(made, Generator)
    return made


def even(clip: Clip, unit: int) -> Clip:
    """The clip with its last row or column repeated until both sides are multiples of `unit`."""
    h, w = (-size % unit for size in clip.shape[1:3])
    return np.pad(clip, ((0, 0), (0, h), (0, w), (0, 0)), mode="edge")


def shown(model: Generator, row: Row, stages: Stages, lr: Clip, gt: Clip, facts: GroundTruth) -> Clip:
    """What a row of the table shows of a clip, (t 4h 4w 3) uint8; gt is looked at for the codec alone."""
    small = even(lr, 2)
    if row.codec:
        out = reconstructed(model, Sample("", small, even(gt, 2 * SCALE), facts, {}))
    elif row.steps == 1 and not row.guided:
        out = upscale(model, small, SEED)
    else:
        out = sampled(model, small, row.steps, SEED, SOFT_CLASS if row.guided else None, stages.guidance)
    return out[:, : gt.shape[1], : gt.shape[2]]


type Scores = dict[str, dict[str, float]]


def measure(
    stages: Stages,
    cache: Cache,
    key: tuple[Any, ...],
    lr: Clip,
    gt: Clip,
    facts: GroundTruth,
    others: Mapping[str, Any],
) -> Scores:
    """Label -> measures of every stage, and of `others` (label -> function of the LR clip) on the same frames.

    lr, gt: the first `stages.frames` frames, and facts theirs.  key: what they come from.
    """
    scores: Scores = {}
    code = _code()
    for row in stages.rows():
        full = (*key, "stage", row, stages.guidance if row.guided else 0, file_hash(stages.file(row)), MEASURES, code)
        found = cache.scores(full)
        if found is None:
            out = shown(network(stages.file(row), stages.preset), row, stages, lr, gt, facts)
            found = score_clip(gt, lr, out, facts, MEASURES)
            cache.keep_scores(full, found)
        scores[row.label] = found
    for label, make in others.items():
        scores[label] = score_clip(gt, lr, make(lr), facts, MEASURES)
    return scores


def timed(stages: Stages, lr: Clip) -> dict[str, Callable[[], Any]]:
    """Label -> a call that samples the clip once: the teacher by steps, and the last student that there is in one."""
    rows = stages.rows()
    chosen = [row for row in rows if row.stage == "teacher" and not row.guided]
    chosen += [row for row in rows if row.label in (ONE, TWO, THREE)][-1:]
    models = {row.stage: network(stages.file(row), stages.preset) for row in chosen}
    blank = np.zeros((len(lr), lr.shape[1] * SCALE, lr.shape[2] * SCALE, 3), np.uint8)
    facts = GroundTruth(None, float("nan"), float("nan"), float("nan"))
    return {
        row.label: lambda row=row: shown(models[row.stage], row, stages, lr, blank, facts)  # type: ignore[misc]
        for row in chosen
    }


def _code() -> str:
    """Of what the scores depend on beside files and clips."""
    folder = Path(training.__file__).parent
    files = [folder / name for name in ("samples.py", "validate.py", "models.py", "losses.py", "batch.py")]
    packages = [Path(str(package.__file__)).parent for package in (duovsr_vs.metrics, duovsr_vs.model)]
    return "".join([*map(file_hash, files), *map(source_hash, packages), file_hash(Path(__file__)), torch.__version__])
