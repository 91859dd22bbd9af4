"""How long each method of the quality benchmark takes for a frame, all in one process, one after the other, again and
again, so that all meet the same machine.

The models run through the engine as users get them, with as many threads as torch takes by itself; the stages run by
the trainer's code in float32, where one step and many are compared.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median
from typing import Any

import quality_public
import quality_stages
from baselines import METHODS, enlarge
from cliprun import SCALE, Task, load_maker
from modelrun import ModelRun

from duovsr_vs.engine.options import Options
from duovsr_vs.metrics.colour import Clip

FRAMES, FEW = 8, 2
"""Frames of a call: of the fast methods, and of the others."""
REPEATS = 3


def measure(task: Task) -> dict[str, Any]:
    """Times on the task's clip, measured in a process of its own that has the whole machine's threads."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(time_methods, task).result()


def time_methods(task: Task) -> dict[str, Any]:
    """Milliseconds for a frame and for a megapixel of output, the median of the repetitions after one to warm up."""
    gt = load_maker(task.maker).read_video(task.clip, count=min(task.frames, FRAMES))
    lr: Clip = load_maker(task.maker).make_lr(gt, task.kinds[0], SCALE, name=task.clip.stem)
    calls = _calls(task, lr)
    before = _load()
    taken: dict[str, list[float]] = {label: [] for label in calls}
    for _ in range(1 + REPEATS):
        for label, (frames, call) in calls.items():
            start = time.perf_counter()
            call()
            taken[label].append(1000 * (time.perf_counter() - start) / frames)
    height, width = lr.shape[1:3]
    pixels = height * width * SCALE**2 / 1e6
    milliseconds = {label: median(times[1:]) for label, times in taken.items()}
    return {
        "clip": task.clip.stem,
        "width": width,
        "height": height,
        "load_before": before,
        "ms_per_frame": milliseconds,
        "ms_per_megapixel": {label: ms / pixels for label, ms in milliseconds.items()},
        "range": {label: [min(times[1:]), max(times[1:])] for label, times in taken.items()},
        "stages": [label for label in calls if label in {row.label for row in quality_stages.ROWS}],
    }


def _calls(task: Task, lr: Clip) -> dict[str, tuple[int, Callable[[], Any]]]:
    """Label -> frames of a call, and the call."""
    few = lr[:FEW]
    calls: dict[str, tuple[int, Callable[[], Any]]] = {m: (len(lr), _bound(_baseline(m), lr)) for m in METHODS}
    if task.public:
        for label, make in quality_public.methods(quality_public.LIGHT).items():
            calls[label] = (len(few), _bound(make, few))
    for label, options in task.models.items():
        calls[label] = (len(lr), _bound(_engine(options), lr))
    if task.stages is not None:
        calls |= {label: (len(few), call) for label, call in quality_stages.timed(task.stages, few).items()}
    return calls


def _bound(function: Callable[[Clip], Any], lr: Clip) -> Callable[[], Any]:
    return lambda: function(lr)


def _baseline(method: str) -> Callable[[Clip], Clip]:
    return lambda lr: enlarge(lr, method, SCALE)


def _engine(options: Options) -> Callable[[Clip], Any]:
    run = ModelRun(options)
    return lambda lr: list(run.frames(lr))


def _load() -> float:
    """Load average of the last minute; NaN where the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def lines_of(speed: dict[str, Any]) -> list[str]:
    """The ratio of one step to the teacher's most steps, in a sentence; [] where stages were not timed."""
    stages = {label: speed["ms_per_frame"][label] for label in speed["stages"]}
    students = [label for label in stages if not label.startswith(quality_stages.TEACHER)]
    most = quality_stages.stepped(quality_stages.TEACHER, quality_stages.STEPS[-1])
    if not students or most not in stages:
        return []
    one = stages[students[-1]]
    return [
        f"One step ({students[-1]}) takes {one:.1f} ms a frame, the teacher's {quality_stages.STEPS[-1]} steps "
        f"{stages[most]:.1f} ms: {stages[most] / one:.1f} times as long, both by the trainer's code in float32, "
        "conversion and decoding included."
    ]
