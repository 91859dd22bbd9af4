"""The quality benchmark's record for programs and its tables for people."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from baselines import MEANING
from cliprun import Result
from tables import table
from verdict import bars, gains, means, warp_over_lanczos

from duovsr_vs.metrics.suite import METRICS

NIQE_CHECK = (
    "NIQE: own code with BasicSR's pristine model; checked against the published values of the authors' MATLAB code on "
    "five TID2013 pictures (IQA-PyTorch's calibration): within 0.6 %; a slow derivation in the tests agrees to 1e-9."
)
_HEADS = {
    "psnr_y": "PSNR-Y",
    "psnr_rgb": "PSNR-RGB",
    "ssim": "SSIM",
    "ssimulacra2": "SSIMULACRA2",
    "niqe": "NIQE",
    "e_warp": "E_warp",
    "e_warp_ratio": "E_warp / truth's",
    "detail_ratio": "detail / truth's",
    "shrink_psnr": "shrink-back dB",
    "colour_shift": "colour shift",
    "grid_step": "8 px step",
}
_DIGITS = {"ssimulacra2": 1, "shrink_psnr": 1, "ssim": 4, "e_warp": 3, "colour_shift": 3, "grid_step": 3}


def scores_of(results: Sequence[Result]) -> dict[str, Any]:
    return {result.name: result.scores for result in results}


def record(results: Sequence[Result]) -> dict[str, Any]:
    """Everything measured, for JSON."""
    scores = scores_of(results)
    mean = means(scores)
    models = list(results[0].plans)
    return {
        "niqe_check": NIQE_CHECK,
        "baselines": MEANING,
        "models": results[0].plans,
        "ground_truth": {result.name: result.ground_truth for result in results},
        "clips": scores,
        "means": mean,
        "gains": {m: {over: gains(mean, m, over) for over in ("lanczos", "lanczos+2bp")} for m in models},
        "e_warp_over_lanczos": {m: {kind: warp_over_lanczos(scores, kind, m) for kind in mean} for m in models},
        "checks": {m: {result.name: result.checks[m] for result in results} for m in models},
        "bars": {m: [asdict(bar) for bar in bars(scores, m, _checks(results, m))] for m in models},
    }


def _checks(results: Sequence[Result], model: str) -> dict[str, dict[str, Any]]:
    return {result.name: result.checks[model] for result in results}


def _number(metric: str, value: float, signed: bool = False) -> str:
    return f"{value:{'+' if signed else ''}.{_DIGITS.get(metric, 2)}f}"


def tables(results: Sequence[Result], machine: dict[str, Any]) -> str:
    """All tables as markdown."""
    scores = scores_of(results)
    mean = means(scores)
    lines = [f"{len(results)} clips; {machine['processor']}, {machine['cores']} cores"]
    lines += [f"{name}: {text}" for name, text in MEANING.items()]
    lines += [_model_line(label, plan) for label, plan in results[0].plans.items()] + [NIQE_CHECK, ""]
    for kind, methods in mean.items():
        lines += [f"## {kind}: mean over clips", *_methods_table(methods), ""]
    for model in results[0].plans:
        lines += [f"## {model}: gains", *_gains_table(mean, model), ""]
        lines += [f"## {model}: bars", *_bars_table(results, model), ""]
        lines += [f"## {model}: checks per clip", *_checks_table(results, model), ""]
    for metric in ("ssimulacra2", "niqe", "psnr_y", "e_warp_ratio"):
        lines += [f"## {_HEADS[metric]} per clip", *_clips_table(results, metric), ""]
    return "\n".join(lines)


def _model_line(label: str, plan: dict[str, Any]) -> str:
    what = f"{plan['model_name']} {plan['model_hash']}, {plan['precision']}, detail {plan['detail']:g}"
    return f"{label}: {what}, strength {plan['strength']:g}, {plan['machine']}"


def _methods_table(methods: dict[str, dict[str, float]]) -> list[str]:
    head = ["", *(_HEADS[m] for m in METRICS)]
    return table(head, ([name, *(_number(m, values[m]) for m in METRICS)] for name, values in methods.items()))


def _gains_table(mean: dict[str, Any], model: str) -> list[str]:
    chosen = ("ssimulacra2", "niqe", "psnr_y", "ssim", "detail_ratio")
    rows = []
    for over in ("lanczos", "lanczos+2bp"):
        for kind, values in gains(mean, model, over).items():
            rows.append([kind, over, *(_number(m, values[m], signed=True) for m in chosen)])
    return table(["LR", "over", *(_HEADS[m] for m in chosen)], rows)


def _bars_table(results: Sequence[Result], model: str) -> list[str]:
    found = bars(scores_of(results), model, _checks(results, model))
    rows = ([b.kind, b.name, f"{b.found:.3f}", b.needed, "pass" if b.met else "FAIL"] for b in found)
    return table(["LR", "what", "found", "needed", ""], rows)


def _checks_table(results: Sequence[Result], model: str) -> list[str]:
    names = list(results[0].checks[model])
    rows = ([r.name, *(f"{float(r.checks[model].get(name, float('nan'))):.4g}" for name in names)] for r in results)
    return table(["clip", *names], rows)


def _clips_table(results: Sequence[Result], metric: str) -> list[str]:
    methods = list(next(iter(results[0].scores.values())))
    rows = []
    for r in results:
        for kind, scores in r.scores.items():
            truth = _number(metric, r.ground_truth["niqe"]) if metric == "niqe" else ""
            rows.append([r.name, kind, *(_number(metric, scores[m][metric]) for m in methods), truth])
    head = ["clip", "LR", *methods, "truth" if metric == "niqe" else ""]
    return table(head, rows)
