"""From measures to findings: where the limits lie, and why there."""

from __future__ import annotations

import numpy as np

from ..metrics.borders import Step, window_step
from ..metrics.flicker import mean_of
from .findings import Finding, Status, counted, listed, verdict
from .measure import Borders, Measures

LEVELS: tuple[Status, Status] = ("doubtful", "wrong")
"""What the two limits of each measure stand for."""
SHRINK_BACK = 32.0, 26.0
"""Mean PSNR in dB below which the upscaled clip doubtfully, or surely not, shows what its source shows. The
built-in model, encoded, has 43 to 46 on clean sources and 35 to 38 on compressed and noisy ones; the ground truth
itself has 28 to 30 against the latter, since it lacks their blocks and noise."""
DRIFT = 1.0, 2.0
DRIFT_WORST = 2.0, 4.0
"""CIEDE2000 of the clip, and of its worst frame: 1 is just visible side by side, twice that without a comparison."""
UNSTEADY, EXCESS, RATIO = (0.5, 0.6), (0.1, 0.25), (1.0, 1.5)
"""What makes flicker doubtful or wrong, all three together: the share of the additions that does not travel with the
picture (true high resolution 0.02-0.53, new noise 0.71 and more), E_warp above the source's (0.1 is noise of about two
8-bit steps), and E_warp over the source's."""
STEP, SURE = (1.1, 1.25), 3.0
"""Step at window and tile borders over elsewhere, over the source's own; and how many standard errors from 1 count."""


def _grade(value: float, limits: tuple[float, float], falling: bool = False) -> Status:
    """ok up to the first limit, doubtful up to the second. falling: small values are the bad ones."""
    sign = -1 if falling else 1
    if sign * value > sign * limits[1]:
        return "wrong"
    return "doubtful" if sign * value > sign * limits[0] else "ok"


def _worse(one: Status, other: Status) -> Status:
    order: list[Status] = ["skipped", "ok", "doubtful", "wrong"]
    return max(one, other, key=order.index)


def judge(measures: Measures, borders: Borders) -> list[Finding]:
    """A finding for each measure of the pixels."""
    return [
        _shrink_back(measures),
        _drift(measures),
        _flicker(measures),
        _windows(measures, borders),
        _tiles(measures, borders),
        _frames("black", measures.black, "black, or have black places, where the source has light"),
        _frames("frozen", measures.frozen, "repeat the one before while the source moves"),
        _frames("not finite", measures.infinite, "hold infinite values or none at all"),
    ]


def _shrink_back(measures: Measures) -> Finding:
    if not measures.samples:
        return Finding("shrink-back", "skipped", "no frame to measure")
    values = [sample.shrink_back for sample in measures.samples]
    mean, worst = float(np.mean(values)), min(measures.samples, key=lambda sample: sample.shrink_back)
    facts = {
        "mean_db": mean, "worst_db": worst.shrink_back, "worst_frame": worst.number, "frames_measured": len(values),
    }  # fmt: skip
    text = f"{mean:.1f} dB, worst {worst.shrink_back:.1f} dB in frame {worst.number}"
    return Finding("shrink-back", _grade(mean, SHRINK_BACK, falling=True), text, facts)


def _drift(measures: Measures) -> Finding:
    if not measures.samples:
        return Finding("colour", "skipped", "no frame to measure")
    mean = float(np.mean([sample.drift for sample in measures.samples]))
    worst = max(measures.samples, key=lambda sample: sample.drift)
    status = _worse(_grade(mean, DRIFT), _grade(worst.drift, DRIFT_WORST))
    text = f"CIEDE2000 {mean:.2f}, worst {worst.drift:.2f} in frame {worst.number}"
    return Finding("colour", status, text, {"mean": mean, "worst": worst.drift, "worst_frame": worst.number})


def _flicker(measures: Measures) -> Finding:
    pairs = [pair for pair in measures.flickers if pair.known]
    if not pairs:
        return Finding("flicker", "skipped", "no pair of frames whose motion is known")
    mean = mean_of(pairs)
    ratio = mean.error / mean.source if mean.source > 0 else float("inf") if mean.excess > 0 else 1.0
    status: Status = "ok"
    for level, limits in zip(LEVELS, zip(UNSTEADY, EXCESS, RATIO, strict=True), strict=True):
        if all(value > limit for value, limit in zip((mean.unsteady, mean.excess, ratio), limits, strict=True)):
            status = level
    facts = {
        "e_warp": mean.error, "e_warp_source": mean.source, "e_warp_excess": mean.excess, "unsteady": mean.unsteady,
        "pairs_measured": len(pairs),
    }  # fmt: skip
    share = f"{100 * min(max(mean.unsteady, 0.0), 1.0):.0f} % of what was added does not move with the picture"
    return Finding("flicker", status, f"E_warp {mean.excess:+.2f} on the source's {mean.source:.2f}; {share}", facts)


def _windows(measures: Measures, borders: Borders) -> Finding:
    if not borders.window:
        return Finding("window steps", "skipped", "no windows: give --window or --model")
    changes = np.asarray(measures.source_changes), np.asarray(measures.changes)
    return _step("window steps", [window_step(*changes, borders.window)], f"every {borders.window} frames")


def _tiles(measures: Measures, borders: Borders) -> Finding:
    if not borders.tile:
        return Finding("tile steps", "skipped", "no tiles: give --tile or --model")
    return _step("tile steps", [steps.step for steps in measures.tiles], f"every {borders.tile} source pixels")


def _step(name: str, steps: list[Step], where: str) -> Finding:
    known = [step for step in steps if np.isfinite(step.ratio)]
    if not known:
        return Finding(name, "skipped", f"no border {where}, or nothing beside it")
    sure = [step for step in known if step.deviations > SURE]
    worst = max(sure or known, key=lambda step: step.ratio)
    status = _grade(worst.ratio, STEP) if sure else "ok"
    text = f"{worst.ratio:.3f} of the source's own, {where}"
    return Finding(name, status, text, {"ratio": worst.ratio, "deviations": worst.deviations})


def _frames(name: str, numbers: list[int], what: str) -> Finding:
    text = f"{counted(len(numbers), 'frame')} {what}: {listed(numbers)}" if numbers else "none"
    return Finding(name, verdict(numbers), text, {"frames": numbers[:1000], "count": len(numbers)})
