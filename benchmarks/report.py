"""The quality benchmark's record for programs and its tables for people."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import quality_intervals
import quality_public
import quality_speed
import quality_tables as show
from baselines import MEANING
from cliprun import Result, Task
from quality_stages import COMPARED
from quality_tables import HEADS
from tables import table
from verdict import Rivals, Scores, bars, gains, mean_of, means, warp_over

NIQE_CHECK = (
    "NIQE: own code with BasicSR's pristine model; checked against the published values of the authors' MATLAB code on "
    "five TID2013 pictures (IQA-PyTorch's calibration): within 0.6 %; a slow derivation in the tests agrees to 1e-9."
)


def scores_of(results: Sequence[Result]) -> Scores:
    return {result.name: result.scores for result in results}


def record(results: Sequence[Result], tasks: Sequence[Task]) -> dict[str, Any]:
    """Everything measured, for JSON. tasks: those of the results, in their order."""
    task = tasks[0]
    scores = scores_of(results)
    mean, models = means(scores), list(results[0].plans)
    public = [m for m in quality_public.MEANING if m in next(iter(mean.values()))]
    shared: dict[str, Any] = {
        "niqe_check": NIQE_CHECK,
        "baselines": MEANING,
        "public": {name: quality_public.MEANING[name] for name in public},
        "models": results[0].plans,
        "regressions": list(task.regressions),
        "sizes": {result.name: {"lr": list(result.size), "frames": result.frames} for result in results},
        "ground_truth": {result.name: result.ground_truth for result in results},
        "clips": scores,
        "means": mean,
        "gains": {m: {over: gains(mean, m, over) for over in ("lanczos", "lanczos+2bp")} for m in models},
        "e_warp_over_lanczos": {m: {kind: warp_over(scores, kind, m, "lanczos") for kind in mean} for m in models},
        "checks": {m: _checks(results, m) for m in models},
        "bars": {
            m: [asdict(b) for b in bars(scores, m, _checks(results, m), _rivals(results, m, task, public))]
            for m in models
        },
    }
    if task.regressions:
        pairs = [(m, r) for m in models if (r := regression_of(task, m))]
        shared["against_regression"] = quality_intervals.compare(scores, pairs)
    return shared | _stages(results, task) | _curves(results) | _heavy(results, max(t.heavy for t in tasks))


def regression_of(task: Task, model: str) -> str | None:
    """The method that is the faithful end of a model's file; None where there is none but the model itself."""
    file = task.models[model].model
    return next((label for label, options in task.regressions.items() if options.model == file), None)


def _rivals(results: Sequence[Result], model: str, task: Task, public: Sequence[str]) -> Rivals:
    plan = results[0].plans[model]
    regression = regression_of(task, model)
    measured = {kind: models[model]["default"] for kind, models in _seeds(results).items()}
    return Rivals(plan["model_name"], regression, tuple(public), measured)


def _checks(results: Sequence[Result], model: str) -> dict[str, dict[str, Any]]:
    return {result.name: result.checks[model] for result in results}


def _stages(results: Sequence[Result], task: Task) -> dict[str, Any]:
    if task.stages is None:
        return {}
    scores: Scores = {result.name: result.stages for result in results}
    stages = task.stages
    return {
        "stages": {
            "frames": stages.frames,
            "guidance": stages.guidance,
            "preset": stages.preset,
            "missing": stages.missing(),
            "clips": scores,
            "means": means(scores),
            "compared": quality_intervals.compare(scores, COMPARED),
        }
    }


def _curves(results: Sequence[Result]) -> dict[str, Any]:
    """Means over clips of what the dials do."""
    kinds = list(results[0].curves)
    if not kinds:
        return {}
    mean: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
    for model in results[0].curves[kinds[0]]:
        one = means({result.name: {kind: result.curves[kind][model] for kind in kinds} for result in results})
        for kind in kinds:
            mean[kind][model] = one[kind]
    return {"curves": {"clips": {r.name: r.curves for r in results}, "means": mean}, "seeds": _seeds(results)}


def _seeds(results: Sequence[Result]) -> dict[str, dict[str, dict[str, float]]]:
    """kind -> model -> detail -> deviation of two seeds, mean over clips."""
    return {
        kind: {
            model: {detail: mean_of(r.seeds[kind][model][detail] for r in results) for detail in values}
            for model, values in models.items()
        }
        for kind, models in results[0].seeds.items()
    }


def _heavy(results: Sequence[Result], frames: int) -> dict[str, Any]:
    """What the large public networks reach on the one clip on which they were measured."""
    found = [result for result in results if any(quality_public.HEAVY.keys() & s.keys() for s in result.heavy.values())]
    return {"heavy": {"clip": found[0].name, "frames": frames, "scores": found[0].heavy}} if found else {}


# -- tables -----------------------------------------------------------------------------------------------------


def tables(record: dict[str, Any]) -> str:
    """All tables as markdown."""
    machine = record["machine"]
    lines = [f"{len(record['clips'])} clips; {machine['processor']}, {machine['cores']} cores"]
    lines += [f"{name}: {text}" for name, text in {**record["baselines"], **record["public"]}.items()]
    lines += [model_line(label, plan) for label, plan in record["models"].items()]
    lines += [NIQE_CHECK, *record["notes"], ""]
    for kind, methods in record["means"].items():
        lines += [f"## {kind}: mean over clips", *show.methods_table(methods), ""]
    for model in record["models"]:
        lines += [f"## {model}: gains", *_gains_table(record, model), ""]
        lines += [f"## {model}: bars", *show.bars_table(record["bars"][model]), ""]
        lines += [f"## {model}: checks per clip", *_checks_table(record["checks"][model]), ""]
        if "curves" in record:
            lines += [f"## {model}: dials", *show.curve_table(record, model), "", *show.seeds_table(record, model), ""]
    lines += _more(record)
    for metric in ("ssimulacra2", "niqe", "psnr_y", "e_warp_ratio"):
        lines += [f"## {HEADS[metric]} per clip", *show.clips_table(record, metric), ""]
    return "\n".join(lines)


def _more(record: dict[str, Any]) -> list[str]:
    """What was measured only where it was asked for."""
    lines: list[str] = []
    if "against_regression" in record:
        compared = quality_intervals.compared_table(record["against_regression"])
        lines += ["## against the regression", *compared, ""]
    if "stages" in record:
        stages = record["stages"]
        lines += [f"## stages: first {stages['frames']} frames", *show.stages_table(record), ""]
        lines += ["## stage against stage", *quality_intervals.compared_table(stages["compared"]), ""]
    if "speed" in record:
        lines += ["## speed", *show.speed_table(record["speed"]), "", *quality_speed.lines_of(record["speed"]), ""]
    return lines


def model_line(label: str, plan: dict[str, Any]) -> str:
    """What a model's pixels depend on."""
    what = f"{plan['model_name']} {plan['model_hash']}, {plan['precision']}, detail {plan['detail']:g}"
    return f"{label}: {what}, strength {plan['strength']:g}, {plan['machine']}"


def _gains_table(record: dict[str, Any], model: str) -> list[str]:
    chosen = ("ssimulacra2", "niqe", "psnr_y", "ssim", "detail_ratio")
    rows = []
    for over, kinds in record["gains"][model].items():
        for kind, values in kinds.items():
            rows.append([kind, over, *(show.number(m, values[m], signed=True) for m in chosen)])
    return table(["LR", "over", *(HEADS[m] for m in chosen)], rows)


def _checks_table(checks: dict[str, dict[str, Any]]) -> list[str]:
    names = list(next(iter(checks.values())))
    rows = (
        [clip, *(f"{float(found.get(name, float('nan'))):.4g}" for name in names)] for clip, found in checks.items()
    )
    return table(["clip", *names], rows)
