"""One clip of the quality benchmark: every kind of LR, every method, all measures, and what the pictures need."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import cv2
import numpy as np
import quality_curve
import quality_public
import quality_stages
from baselines import METHODS, enlarge
from cache import Cache, file_hash, source_hash
from modelrun import ModelRun
from sheet import CROP, Panel

import duovsr_vs.metrics
from duovsr_vs.engine.options import Options
from duovsr_vs.errors import OptionError
from duovsr_vs.metrics.colour import Clip, luma
from duovsr_vs.metrics.suite import METRICS, GroundTruth, score_clip

SCALE = 4
type Scores = dict[str, dict[str, float]]
"""method -> metric -> value."""


@dataclass(frozen=True)
class Task:
    """What one process does; plain values, so that it can be sent to another."""

    clip: Path
    maker: Path
    kinds: tuple[str, ...]
    frames: int
    models: Mapping[str, Options]
    """Label in the tables -> options."""
    step: int
    cache: Path | None
    regressions: Mapping[str, Options] = field(default_factory=dict)
    """Label -> options of the faithful end of a model."""
    stages: quality_stages.Stages | None = None
    public: bool = False
    heavy: int = 0
    """Frames on which the large public networks are measured, too; 0: not on this clip."""
    curve: bool = False


@dataclass
class Result:
    name: str
    size: tuple[int, int] = (0, 0)
    """Width and height of the LR."""
    frames: int = 0
    scores: dict[str, Scores] = field(default_factory=dict)
    """kind -> method -> metric -> value."""
    ground_truth: dict[str, float] = field(default_factory=dict)
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    plans: dict[str, dict[str, Any]] = field(default_factory=dict)
    stages: dict[str, Scores] = field(default_factory=dict)
    heavy: dict[str, Scores] = field(default_factory=dict)
    curves: dict[str, dict[str, Scores]] = field(default_factory=dict)
    """kind -> model -> position of a dial -> metric -> value."""
    seeds: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """kind -> model -> detail -> deviation of two seeds."""
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
    run = _ClipRun(task)
    for kind in task.kinds:
        run.measure(kind)
        say(f"{task.clip.stem} {kind}")
    return run.result


class _ClipRun:
    """One clip, its ground truth measured once; results and panels gather in `result`."""

    def __init__(self, task: Task):
        self.task, self.cache = task, Cache(task.cache)
        self.maker = load_maker(task.maker)
        self.gt: Clip = self.maker.read_video(task.clip, count=task.frames)
        self.key = (file_hash(task.clip), len(self.gt), file_hash(task.maker), av.__version__)
        self.facts = GroundTruth.measure(self.gt, step=task.step)
        self.where = _busy_place(self.gt[len(self.gt) // 2])
        self.runs = {label: ModelRun(options) for label, options in task.models.items()}
        self.regressions = {label: ModelRun(options) for label, options in task.regressions.items()}
        h, w = self.gt.shape[1:3]
        self.result = Result(task.clip.stem, (w // SCALE, h // SCALE), len(self.gt))
        facts = self.facts
        self.result.ground_truth = {"niqe": facts.niqe, "e_warp": facts.e_warp, "detail": facts.detail}
        self.few: dict[int, GroundTruth] = {}

    def measure(self, kind: str) -> None:
        lr = self._lr(kind)
        scores = self.result.scores[kind] = {m: self._baseline(kind, m, lr) for m in METHODS}
        nearest = lr.repeat(SCALE, axis=1).repeat(SCALE, axis=2)
        panels = [Panel.cut("LR", nearest, self.where)]
        panels += [self._panel(label, enlarge(lr, m)) for label, m in SHOWN_BASELINES.items()]
        for label, make in quality_public.methods(quality_public.LIGHT if self.task.public else {}).items():
            scores[label], panel = self._public(kind, label, make, lr)
            panels.append(panel)
        for label, run in self.regressions.items():
            panels.append(self._model(kind, label, run, lr))
        for label, run in self.runs.items():
            panels.append(self._model(kind, label, run, lr))
            if kind == self.task.kinds[0]:
                self.result.plans[label] = run.engine(lr).plan.as_dict()
                self.result.checks[label] = run.checks(lr)
        if self.task.curve:
            panels += self._curve(kind, lr)
        self.result.panels[kind] = [*panels, self._panel("truth", self.gt)]
        if self.task.stages is not None:
            self._stages(self.task.stages, kind, lr)
        if self.task.heavy:
            self._heavy(kind, lr)

    def _lr(self, kind: str) -> Clip:
        lr = self.cache.clip((*self.key, kind))
        if lr is None:
            made: Clip = self.maker.make_lr(self.gt, kind, SCALE, name=self.task.clip.stem)
            self.cache.keep_clip((*self.key, kind), made)
            return made
        return lr

    def _panel(self, label: str, clip: Clip) -> Panel:
        return Panel.cut(label, clip, self.where)

    def _baseline(self, kind: str, method: str, lr: Clip) -> dict[str, float]:
        """Scores of a classical method, from the cache where nothing that they come from has changed."""
        own = file_hash(Path(__file__).with_name("baselines.py"))
        full = (*self.key, kind, method, self.task.step, _metrics(), own, cv2.__version__, METRICS)
        scores = self.cache.scores(full)
        if scores is None:
            scores = score_clip(self.gt, lr, enlarge(lr, method, SCALE), self.facts, step=self.task.step)
            self.cache.keep_scores(full, scores)
        return scores

    def _public(self, kind: str, label: str, make: Callable[[Clip], Clip], lr: Clip) -> tuple[dict[str, float], Panel]:
        """Scores and panel of a public network, from the cache likewise."""
        own = (label, quality_public.available(), cv2.__version__)
        full = (*self.key, kind, own, self.task.step, _metrics(), METRICS)
        picture = (*self.key, kind, own, CROP)
        scores = self.cache.scores(full)
        crop, profile = (self.cache.clip((*picture, part)) for part in ("crop", "profile"))
        if scores is None or crop is None or profile is None:
            out = make(lr)
            scores, panel = score_clip(self.gt, lr, out, self.facts, step=self.task.step), self._panel(label, out)
            self.cache.keep_scores(full, scores)
            self.cache.keep_clip((*picture, "crop"), panel.crop)
            self.cache.keep_clip((*picture, "profile"), panel.profile)
            return scores, panel
        return scores, Panel(label, crop, profile)

    def _model(self, kind: str, label: str, run: ModelRun, lr: Clip) -> Panel:
        out, shrink = run.upscale(lr)
        scores = score_clip(self.gt, lr, out, self.facts, step=self.task.step)
        self.result.scores[kind][label] = scores | {"shrink_psnr_float": shrink}
        return self._panel(label, out)

    def _curve(self, kind: str, lr: Clip) -> list[Panel]:
        """Measures along the dials, and what the far end of the first model's detail dial looks like."""
        scores, panels = self.result.scores[kind], []
        known = {o: scores[m] for m, o in (*self.task.regressions.items(), *self.task.models.items())}
        for label, run in self.runs.items():
            found = quality_curve.measure(run, lr, self.gt, self.facts, self.task.step, known)
            self.result.curves.setdefault(kind, {})[label] = found
            self.result.seeds.setdefault(kind, {})[label] = quality_curve.seeds(run, lr, self.gt)
            if "detail 1" in found and not panels:
                far = quality_curve.positions(run.options)["detail 1"]
                panels.append(self._panel("detail 1", run.upscale(lr, far)[0]))
        return panels

    def _stages(self, stages: quality_stages.Stages, kind: str, lr: Clip) -> None:
        """The stages on the first frames, and some other methods on the same ones."""
        n = stages.frames
        others: dict[str, Callable[[Clip], Clip]] = {m: _enlarger(m) for m in ("lanczos", "lanczos+2bp")}
        others |= {label: _upscaler(run) for label, run in self.runs.items()}
        self.result.stages[kind] = quality_stages.measure(
            stages, self.cache, (*self.key, kind, n), lr[:n], self.gt[:n], self._facts(n), others
        )

    def _heavy(self, kind: str, lr: Clip) -> None:
        """The large public networks, the light ones and the models on the first frames of this clip."""
        n = self.task.heavy
        gt, small, facts, found = self.gt[:n], lr[:n], self._facts(n), {}
        for label, make in quality_public.methods(quality_public.HEAVY).items():
            key = (*self.key, kind, n, label, quality_public.available(), _metrics(), METRICS, cv2.__version__)
            scores = self.cache.scores(key)
            if scores is None:
                scores = score_clip(gt, small, make(small), facts)
                self.cache.keep_scores(key, scores)
            found[label] = scores
        others = {"lanczos": _enlarger("lanczos")} | quality_public.methods(quality_public.LIGHT)
        others |= {label: _upscaler(run) for label, run in self.runs.items()}
        self.result.heavy[kind] = found | {m: score_clip(gt, small, f(small), facts) for m, f in others.items()}

    def _facts(self, frames: int) -> GroundTruth:
        if frames not in self.few:
            self.few[frames] = GroundTruth.measure(self.gt[:frames])
        return self.few[frames]


SHOWN_BASELINES = {"Lanczos": "lanczos", "Lanczos + 2bp": "lanczos+2bp"}


def _enlarger(method: str) -> Callable[[Clip], Clip]:
    return lambda lr: enlarge(lr, method, SCALE)


def _upscaler(run: ModelRun) -> Callable[[Clip], Clip]:
    return lambda lr: run.upscale(lr)[0]


def _metrics() -> str:
    return source_hash(Path(duovsr_vs.metrics.__file__).parent)


def _busy_place(frame: np.ndarray) -> tuple[int, int]:
    """Centre (y, x) of the part with the most fine detail, found in the ground truth, so the same for every method."""
    y = luma(frame, rounded=False)
    detail = np.abs(y - cv2.GaussianBlur(y, (0, 0), 1.5))
    mean = cv2.blur(np.minimum(detail, 12.0), (129, 97), borderType=cv2.BORDER_CONSTANT)
    place = np.unravel_index(int(mean.argmax()), mean.shape)
    return int(place[0]), int(place[1])
