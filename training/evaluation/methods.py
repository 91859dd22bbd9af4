"""What turns LR clips into HR ones: the classical resamplers, and models through the engine, as users get them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from duovsr_vs.engine.options import Options
from duovsr_vs.engine.plan import Plan
from duovsr_vs.engine.upscaler import Upscaler
from duovsr_vs.metrics.resample import resize
from duovsr_vs.model.checkpoint import DETAILED, FAITHFUL, save
from duovsr_vs.model.config import SCALE
from duovsr_vs.model.family import PRESETS
from duovsr_vs.model.registry import known, resolve
from duovsr_vs.model.resample import back_project, enlarge
from training.checkpoints import TrainingError
from training.data.arrays import U8
from training.export import ONE_STEP, last_stage
from training.lora import rank_of
from training.results import Results

LANCZOS, BASE = "lanczos", "base"
MEANING = {
    LANCZOS: "Lanczos with 3 lobes, as zimg (VapourSynth) has it",
    BASE: "bicubic and two back-projections: what the engine adds its residual to",
}
_BACK_PROJECTIONS = 2
_RECIPE = "recipe.json"
_FAITHFUL = "regression"
"""The stage whose weights are the faithful end of the detail dial."""
_PROBE_SIDE = 64


class Method(Protocol):
    """A name in the tables, and clips of LR -> clips four times as large."""

    @property
    def label(self) -> str: ...

    def upscale(self, lr: U8) -> U8:
        """(t, h, w, 3) -> (t, 4h, 4w, 3), rounded to 8 bits once."""


@dataclass(frozen=True, slots=True)
class Resampler:
    """A classical method, frame by frame."""

    label: str
    frame: Callable[[U8], U8]

    def upscale(self, lr: U8) -> U8:
        return np.stack([self.frame(frame) for frame in lr])


def _lanczos(frame: U8) -> U8:
    large = resize(frame, frame.shape[0] * SCALE, frame.shape[1] * SCALE, "lanczos3")
    rounded: U8 = np.clip(np.rint(large), 0, 255).astype(np.uint8)
    return rounded


def _base(frame: U8) -> U8:
    return _picture(enlarge(back_project(_tensor(frame), _BACK_PROJECTIONS)[0]))


RESAMPLERS = (Resampler(LANCZOS, _lanczos), Resampler(BASE, _base))


def _tensor(frame: U8) -> Tensor:
    """(h, w, 3) -> (3 h w) float32 in [0, 1]."""
    return rearrange(torch.from_numpy(frame.copy()), "h w c -> c h w").contiguous().float() / 255


def _picture(frame: Tensor) -> U8:
    """Inverse of `_tensor`, rounded and clamped."""
    picture: U8 = rearrange((frame * 255).round().clamp(0, 255).to(torch.uint8), "c h w -> h w c").numpy()
    return picture


class Model:
    """A model file with its options; the engine is made for each frame size and the last one kept.

    Raises a DuoVsrError where file and options do not fit each other or this machine.
    """

    def __init__(self, label: str, options: Options):
        self.label, self.options = label, options
        self.plan: Plan = Upscaler(options, _PROBE_SIDE, _PROBE_SIDE).plan
        self._engine: Upscaler | None = None

    def upscale(self, lr: U8) -> U8:
        return np.stack([_picture(frame) for frame in self._engine_for(lr).stream(map(_tensor, lr))])

    def _engine_for(self, lr: U8) -> Upscaler:
        height, width = lr.shape[1:3]
        if self._engine is None or (self._engine.plan.width, self._engine.plan.height) != (width, height):
            self._engine = Upscaler(self.options, width, height)
        return self._engine

    def facts(self) -> dict[str, str | float]:
        """What its pixels depend on."""
        names = ("model_name", "model_hash", "detail", "strength", "seed", "precision", "machine")
        return {name: getattr(self.plan, name) for name in names}


def open_models(
    names: Sequence[str], details: Sequence[float | None], options: Options, folder: Path
) -> Iterator[Model]:
    """Models under labels of their own. names: shipped names, model files, run folders or one stage's folder in a run.

    details: position of each detail dial; None: the file's default, 1 for a run.  folder: for files made of runs.
    """
    taken: set[str] = set(MEANING)
    for number, (name, detail) in enumerate(zip(names, details, strict=True)):
        if name in known() or not Path(name).is_dir():
            path = resolve(name)
            label = path.stem
        else:
            path, label = _file_of(Path(name), folder / str(number))
        label += "" if detail is None else f" d={detail:g}"
        while label in taken:
            label += "'"
        taken.add(label)
        yield Model(label, replace(options, model=str(path.resolve()), detail=detail))


def _file_of(folder: Path, out: Path) -> tuple[Path, str]:
    """Model file of a run's last finished one-step stage, or of the stage whose folder is given; and its label."""
    run, stage = (folder, None) if (folder / _RECIPE).is_file() else (folder.resolve().parent, folder.name)
    if not (run / _RECIPE).is_file():
        raise TrainingError(f"{folder} is no run folder: it holds no {_RECIPE}; name a run, or a stage's folder in it")
    if stage is not None and stage not in ONE_STEP:
        raise TrainingError(f"{folder}: no stage that makes pictures in one step; name one of {', '.join(ONE_STEP)}")
    results = Results(run)
    stage = stage or last_stage(results)
    preset = json.loads((run / _RECIPE).read_text()).get("model")
    if preset not in PRESETS:
        raise TrainingError(f"{run / _RECIPE} names the model {preset!r}; known are {', '.join(PRESETS)}")
    sets = {DETAILED: results.weights(stage)}
    if rank_of(sets[DETAILED]):
        raise TrainingError(
            f"{folder} holds adapters, which are nothing without the weights that they were trained on; export the run "
            "with --from FILE, and evaluate what that writes"
        )
    if stage != _FAITHFUL and results.own(_FAITHFUL).is_file():
        sets[FAITHFUL] = results.weights(_FAITHFUL)
    out.mkdir(parents=True)
    name = run.resolve().name
    path = out / f"{name}-{stage}.safetensors"
    save(path, PRESETS[preset].with_values(default_detail=1.0), sets, {"stages": [stage]})
    return path, f"{name}/{stage}"
