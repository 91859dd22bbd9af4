"""One clip of the quality benchmark: every kind of LR, every method, all measures, and what the pictures need."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import cv2
import numpy as np
from baselines import METHODS, enlarge
from cache import Cache, file_hash, source_hash
from modelrun import ModelRun
from sheet import Panel

import duovsr_vs.metrics
from duovsr_vs.engine.options import Options
from duovsr_vs.errors import OptionError
from duovsr_vs.metrics.colour import Clip, luma
from duovsr_vs.metrics.suite import METRICS, GroundTruth, score_clip

SCALE = 4


@dataclass(frozen=True)
class Task:
    """What one process does; plain values, so that it can be sent to another."""

    clip: Path
    maker: Path
    kinds: tuple[str, ...]
    frames: int
    models: dict[str, Options]
    """Label in the tables -> options."""
    step: int
    cache: Path | None


@dataclass
class Result:
    name: str
    scores: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """kind -> method -> metric -> value."""
    ground_truth: dict[str, float] = field(default_factory=dict)
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    plans: dict[str, dict[str, Any]] = field(default_factory=dict)
    panels: dict[str, list[Panel]] = field(default_factory=dict)
    """kind -> pictures, in the order of the sheet's columns."""


def load_maker(path: Path) -> ModuleType:
    """The data set's own make_lr.py, loaded by path. OptionError if it is not there."""
    spec = importlib.util.spec_from_file_location("make_lr", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise OptionError(f"{path} does not exist; --data needs a folder with eval_public/ and make_lr.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_clip(task: Task, say: Callable[[str], None] = lambda _: None) -> Result:
    """Measure all methods on one clip; `say` hears of each kind that is done."""
    cv2.setNumThreads(1)  # the process is this benchmark's own
    maker, cache, result = load_maker(task.maker), Cache(task.cache), Result(task.clip.stem)
    gt = maker.read_video(task.clip, count=task.frames)
    key = (file_hash(task.clip), len(gt), file_hash(task.maker), av.__version__)
    facts = GroundTruth.measure(gt, step=task.step)
    result.ground_truth = {"niqe": facts.niqe, "e_warp": facts.e_warp, "detail": facts.detail}
    runs = {label: ModelRun(options) for label, options in task.models.items()}
    where = _busy_place(gt[len(gt) // 2])
    for kind in task.kinds:
        lr = cache.clip((*key, kind))
        if lr is None:
            lr = maker.make_lr(gt, kind, SCALE, name=task.clip.stem)
            cache.keep_clip((*key, kind), lr)
        result.scores[kind] = {m: _baseline(cache, (*key, kind), m, gt, lr, facts, task.step) for m in METHODS}
        nearest = lr.repeat(SCALE, axis=1).repeat(SCALE, axis=2)
        panels = [Panel.cut("LR", nearest, where), Panel.cut("Lanczos", enlarge(lr, "lanczos"), where)]
        for label, run in runs.items():
            out, shrink = run.upscale(lr)
            scores = score_clip(gt, lr, out, facts, step=task.step)
            result.scores[kind][label] = scores | {"shrink_psnr_float": shrink}
            panels.append(Panel.cut(label, out, where))
            if kind == task.kinds[0]:
                result.plans[label] = run.engine(lr).plan.as_dict()
                result.checks[label] = run.checks(lr)
        result.panels[kind] = [*panels, Panel.cut("truth", gt, where)]
        say(f"{task.clip.stem} {kind}")
    return result


def _baseline(
    cache: Cache, key: tuple[Any, ...], method: str, gt: Clip, lr: Clip, facts: GroundTruth, step: int
) -> dict[str, float]:
    """Scores of a classical method, from the cache where nothing that they come from has changed."""
    metrics = source_hash(Path(duovsr_vs.metrics.__file__).parent)
    own = file_hash(Path(__file__).with_name("baselines.py"))
    full = (*key, method, step, metrics, own, cv2.__version__, METRICS)
    scores = cache.scores(full)
    if scores is None:
        scores = score_clip(gt, lr, enlarge(lr, method, SCALE), facts, step=step)
        cache.keep_scores(full, scores)
    return scores


def _busy_place(frame: np.ndarray) -> tuple[int, int]:
    """Centre (y, x) of the part with the most fine detail, found in the ground truth, so the same for every method."""
    y = luma(frame, rounded=False)
    detail = np.abs(y - cv2.GaussianBlur(y, (0, 0), 1.5))
    mean = cv2.blur(np.minimum(detail, 12.0), (129, 97), borderType=cv2.BORDER_CONSTANT)
    place = np.unravel_index(int(mean.argmax()), mean.shape)
    return int(place[0]), int(place[1])
