"""Means over clips, gains over other methods, and the bars that a shipped model must reach."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from duovsr_vs.metrics.suite import METRICS

type Scores = dict[str, dict[str, dict[str, dict[str, float]]]]
"""clip -> kind -> method -> metric -> value."""
type Means = dict[str, dict[str, dict[str, float]]]
"""kind -> method -> metric -> value."""

LANCZOS, PROJECTED = "lanczos", "lanczos+2bp"
LOWER = frozenset({"niqe", "e_warp"})
"""Measures of which less is better."""

OVER_LANCZOS = {
    "nano": {
        "clean": {"ssimulacra2": 14.0, "niqe": -1.8, "psnr_y": 0.9},
        "web": {"ssimulacra2": 3.5, "niqe": -1.8, "psnr_y": 0.3},
        "real": {"ssimulacra2": 4.0, "niqe": -1.8, "psnr_y": 0.3},
    },
    "small": {
        "clean": {"ssimulacra2": 19.0, "niqe": -2.4, "psnr_y": 1.5},
        "web": {"ssimulacra2": 6.0, "niqe": -2.4, "psnr_y": 0.5},
        "real": {"ssimulacra2": 7.0, "niqe": -2.4, "psnr_y": 0.6},
    },
}
"""Model -> kind -> least gain over Lanczos, mean over clips (NIQE: greatest, for lower is better)."""
WARP_LANCZOS = {"nano": 1.1, "small": 1.0}
"""Greatest E_warp over Lanczos's where the truth's own is not the bar."""
WARP_TRUTH = {"clean": 0.8}
"""Kind -> greatest E_warp over the truth's own."""
OVER_PROJECTED = {"ssimulacra2": 0.0, "niqe": 0.0, "psnr_y": 0.0}
"""Over Lanczos with two back-projections a model must simply be better, on every clip of `clean` in SSIMULACRA2."""
OVER_PUBLIC = {
    "clean": {"ssimulacra2": 15.0, "niqe": 0.7, "psnr_y": 1.5},
    "web": {"ssimulacra2": 3.0, "niqe": 0.7, "psnr_y": 0.5},
    "real": {"ssimulacra2": 5.0, "niqe": 0.7, "psnr_y": 0.5},
}
"""Over the public light network with the most SSIMULACRA2; E_warp must be lower."""
OVER_REGRESSION = {"ssimulacra2": -1.0, "niqe": -0.6, "psnr_y": -0.3}
WARP_REGRESSION = 1.3
COLOUR_SHIFT = 0.5
SHRINK_CLEAN = 50.0
DETAIL_RATIO = (0.8, 1.1)
"""Fine detail over the truth's."""
SEED_STD = 0.3
"""Least deviation of two seeds in textured areas, 1/255: below it the model is no generator."""
STEP = 1.1


@dataclass(frozen=True)
class Bar:
    """One requirement: what was found, what is needed, and whether it is met."""

    kind: str
    name: str
    found: float
    needed: str
    met: bool


@dataclass(frozen=True)
class Rivals:
    """What else a model is held against; what is None or empty was not measured, and has no bars."""

    preset: str = "nano"
    """Whose figures are asked for; another name than the known ones has nano's."""
    regression: str | None = None
    """The method that is the one-step regression of the same network."""
    public: tuple[str, ...] = ()
    """Methods that are public light networks."""
    seed_std: Mapping[str, float] = field(default_factory=dict)
    """kind -> what two seeds differ by, 1/255."""


def means(scores: Scores) -> Means:
    """kind -> method -> metric -> mean over the clips that have a value."""
    names: dict[str, dict[str, dict[str, None]]] = {}
    for kinds in scores.values():
        for kind, methods in kinds.items():
            for method, values in methods.items():
                names.setdefault(kind, {}).setdefault(method, {}).update(dict.fromkeys(values))
    return {
        kind: {
            method: {
                metric: mean_of(
                    k[kind][method].get(metric, np.nan) for k in scores.values() if method in k.get(kind, {})
                )
                for metric in metrics
            }
            for method, metrics in methods.items()
        }
        for kind, methods in names.items()
    }


def mean_of(values: Iterable[float]) -> float:
    """Mean of what is not NaN; NaN of nothing."""
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")


def gains(mean: Means, model: str, over: str) -> dict[str, dict[str, float]]:
    """kind -> metric -> model minus baseline."""
    result = {}
    for kind, methods in mean.items():
        result[kind] = {m: methods[model][m] - methods[over][m] for m in METRICS if m in methods[over]}
    return result


def warp_over(scores: Scores, kind: str, model: str, other: str) -> float:
    """Mean over clips of E_warp over another method's."""
    return mean_of(k[kind][model]["e_warp"] / k[kind][other]["e_warp"] for k in scores.values() if kind in k)


def worst_gain(scores: Scores, kind: str, model: str, other: str) -> float:
    """Least gain in SSIMULACRA2 of a clip."""
    return min(k[kind][model]["ssimulacra2"] - k[kind][other]["ssimulacra2"] for k in scores.values() if kind in k)


def bars(
    scores: Scores, model: str, checks: Mapping[str, Mapping[str, Any]], rivals: Rivals | None = None
) -> list[Bar]:
    """All requirements on a model. checks: clip -> what `modelrun.ModelRun.checks` found."""
    mean, rivals = means(scores), rivals or Rivals()
    result: list[Bar] = []
    for kind in mean:
        result += _over_lanczos(scores, mean, kind, model, rivals.preset)
        result += _over_projected(scores, mean, kind, model)
        if rivals.public:
            result += _over_public(mean, kind, model, rivals.public)
        if rivals.regression is not None:
            result += _over_regression(scores, mean, kind, model, rivals.regression)
        result += _own(mean[kind][model], kind, rivals.seed_std.get(kind))
    return result + (_check_bars(checks) if checks else [])


def _gain(mean: Means, kind: str, model: str, other: str, metric: str, least: float, strict: bool = False) -> Bar:
    """model − other against a bound: from below, or from above where less is better."""
    found = mean[kind][model][metric] - mean[kind][other][metric]
    sign, word = (-1.0, "<") if metric in LOWER else (1.0, ">")
    met = sign * found > sign * least if strict else sign * found >= sign * least
    bound = f"{least:g}" if least == 0 else f"{least:+g}"
    return Bar(kind, f"{metric} - {other}'s", found, f"{word if strict else word + '='} {bound}", met)


def _at_most(kind: str, name: str, found: float, bound: float) -> Bar:
    return Bar(kind, name, found, f"<= {bound:g}", found <= bound)


def _over_lanczos(scores: Scores, mean: Means, kind: str, model: str, preset: str) -> list[Bar]:
    preset = preset if preset in OVER_LANCZOS else "nano"
    needed = OVER_LANCZOS[preset].get(kind, {})
    result = [_gain(mean, kind, model, LANCZOS, metric, least) for metric, least in needed.items()]
    if kind in WARP_TRUTH:
        result.append(_at_most(kind, "E_warp / truth's", mean[kind][model]["e_warp_ratio"], WARP_TRUTH[kind]))
        worst = worst_gain(scores, kind, model, LANCZOS)
        result.append(Bar(kind, "ssimulacra2 - lanczos's, worst clip", worst, ">= 0", worst >= 0))
    else:
        ratio = warp_over(scores, kind, model, LANCZOS)
        result.append(_at_most(kind, "E_warp / lanczos's", ratio, WARP_LANCZOS[preset]))
    return result


def _over_projected(scores: Scores, mean: Means, kind: str, model: str) -> list[Bar]:
    result = [_gain(mean, kind, model, PROJECTED, m, least, strict=True) for m, least in OVER_PROJECTED.items()]
    if kind == "clean":
        worst = worst_gain(scores, kind, model, PROJECTED)
        result.append(Bar(kind, f"ssimulacra2 - {PROJECTED}'s, worst clip", worst, "> 0", worst > 0))
    return result


def best_public(mean: Means, kind: str, public: Iterable[str]) -> str:
    """The public network with the most SSIMULACRA2."""
    return max(public, key=lambda name: mean[kind][name]["ssimulacra2"])


def _over_public(mean: Means, kind: str, model: str, public: Iterable[str]) -> list[Bar]:
    best = best_public(mean, kind, public)
    result = [_gain(mean, kind, model, best, metric, least) for metric, least in OVER_PUBLIC.get(kind, {}).items()]
    return [*result, _gain(mean, kind, model, best, "e_warp", 0.0, strict=True)]


def _over_regression(scores: Scores, mean: Means, kind: str, model: str, regression: str) -> list[Bar]:
    result = [_gain(mean, kind, model, regression, metric, least) for metric, least in OVER_REGRESSION.items()]
    ratio = warp_over(scores, kind, model, regression)
    return [*result, _at_most(kind, f"E_warp / {regression}'s", ratio, WARP_REGRESSION)]


def _own(own: dict[str, float], kind: str, seed_std: float | None) -> list[Bar]:
    """What is asked of a model whatever the others do."""
    low, high = DETAIL_RATIO
    detail, shift = own["detail_ratio"], own["colour_shift"]
    result = [
        Bar(kind, "fine detail / truth's", detail, f"{low:g} to {high:g}", low <= detail <= high),
        Bar(kind, "colour shift, 1/255", shift, f"< {COLOUR_SHIFT}", shift < COLOUR_SHIFT),
    ]
    if seed_std is not None:
        name = "two seeds in textured areas, std, 1/255"
        result.append(Bar(kind, name, seed_std, f">= {SEED_STD:g}", seed_std >= SEED_STD))
    if kind == "clean":
        shrink = own["shrink_psnr_float"]
        result.append(Bar(kind, "shrink-back, dB", shrink, f">= {SHRINK_CLEAN:g}", shrink >= SHRINK_CLEAN))
    return result


def _check_bars(checks: Mapping[str, Mapping[str, Any]]) -> list[Bar]:
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
