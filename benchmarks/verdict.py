"""Means over clips, gains over the classical baselines, and the bars that a shipped model must reach."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from duovsr_vs.metrics.suite import METRICS

type Scores = dict[str, dict[str, dict[str, dict[str, float]]]]
"""clip -> kind -> method -> metric -> value."""

GAINS = {
    "clean": {"ssimulacra2": 12.0, "niqe": -1.3, "psnr_y": 0.8},
    "web": {"ssimulacra2": 2.0, "niqe": -1.2, "psnr_y": 0.25},
    "real": {"ssimulacra2": 2.2, "niqe": -1.2, "psnr_y": 0.25},
}
"""Least gain over Lanczos, mean over clips (NIQE: greatest, for lower is better)."""

WARP_TRUTH = {"clean": 1.0}
WARP_LANCZOS = {"web": 1.15, "real": 1.15}
COLOUR_SHIFT = 0.5
SHRINK_CLEAN = 50.0
STEP = 1.1


@dataclass(frozen=True)
class Bar:
    """One requirement: what was found, what is needed, and whether it is met."""

    kind: str
    name: str
    found: float
    needed: str
    met: bool


def means(scores: Scores) -> dict[str, dict[str, dict[str, float]]]:
    """kind -> method -> metric -> mean over the clips that have a value."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for kinds in scores.values():
        for kind, methods in kinds.items():
            for method, values in methods.items():
                for metric in values:
                    result.setdefault(kind, {}).setdefault(method, {}).setdefault(metric, 0.0)
    for kind, methods in result.items():
        for method, values in methods.items():
            for metric in values:
                values[metric] = _mean(k[kind][method][metric] for k in scores.values() if kind in k)
    return result


def _mean(values: Iterable[float]) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")


def gains(mean: dict[str, dict[str, dict[str, float]]], model: str, over: str) -> dict[str, dict[str, float]]:
    """kind -> metric -> model minus baseline."""
    result = {}
    for kind, methods in mean.items():
        result[kind] = {m: methods[model][m] - methods[over][m] for m in METRICS if m in methods[over]}
    return result


def warp_over_lanczos(scores: Scores, kind: str, model: str) -> float:
    """Mean over clips of E_warp over Lanczos's."""
    return _mean(k[kind][model]["e_warp"] / k[kind]["lanczos"]["e_warp"] for k in scores.values() if kind in k)


def bars(scores: Scores, model: str, checks: dict[str, dict[str, float]]) -> list[Bar]:
    """All requirements on a model. checks: clip -> what `modelrun.ModelRun.checks` found."""
    mean = means(scores)
    result: list[Bar] = []
    for kind in mean:
        result += _gain_bars(mean, kind, model)
        result += _other_bars(scores, mean[kind][model], kind, model)
    if checks:
        result += _check_bars(checks)
    return result


def _gain_bars(mean: dict[str, dict[str, dict[str, float]]], kind: str, model: str) -> list[Bar]:
    result = []
    over_lanczos, over_projected = gains(mean, model, "lanczos")[kind], gains(mean, model, "lanczos+2bp")[kind]
    for metric, least in GAINS.get(kind, {}).items():
        sign, word = (1.0, ">=") if least > 0 else (-1.0, "<=")
        gain, second = over_lanczos[metric], over_projected[metric]
        result.append(Bar(kind, f"{metric} over lanczos", gain, f"{word} {least:+g}", sign * gain >= sign * least))
        result.append(Bar(kind, f"{metric} over lanczos+2bp", second, f"{word[0]} 0", sign * second > 0))
    return result


def _other_bars(scores: Scores, own: dict[str, float], kind: str, model: str) -> list[Bar]:
    result = []
    if kind in WARP_TRUTH:
        ratio = own["e_warp_ratio"]
        result.append(Bar(kind, "E_warp / truth's", ratio, f"<= {WARP_TRUTH[kind]}", ratio <= WARP_TRUTH[kind]))
    if kind in WARP_LANCZOS:
        ratio = warp_over_lanczos(scores, kind, model)
        result.append(Bar(kind, "E_warp / lanczos's", ratio, f"<= {WARP_LANCZOS[kind]}", ratio <= WARP_LANCZOS[kind]))
    shift = own["colour_shift"]
    result.append(Bar(kind, "colour shift, 1/255", shift, f"< {COLOUR_SHIFT}", shift < COLOUR_SHIFT))
    if kind == "clean":
        shrink = own["shrink_psnr_float"]
        result.append(Bar(kind, "shrink-back, dB", shrink, f">= {SHRINK_CLEAN:g}", shrink >= SHRINK_CLEAN))
    return result


def _check_bars(checks: dict[str, dict[str, float]]) -> list[Bar]:
    equal = min(float(c["tiled_equal"]) for c in checks.values())
    step = max(c["tile_step"] for c in checks.values())
    still = max(c["static_std"] for c in checks.values())
    result = [
        Bar("all", "tiled equal to untiled (1: every clip)", equal, "1", equal == 1),
        Bar("all", "step at tile borders, worst clip", step, f"<= {STEP}", step <= STEP),
        Bar("all", "flicker of a static clip, 1/255, worst clip", still, "0", still == 0),
    ]
    windows = [c["window_step"] for c in checks.values() if "window_step" in c]
    if windows:
        result.append(Bar("all", "step at window borders, worst", max(windows), f"<= {STEP}", max(windows) <= STEP))
    return result
