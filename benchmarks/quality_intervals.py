"""Is one method better than another by more than the luck of which clips were there? Paired, over clips."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tables import table
from verdict import LOWER, Scores

from duovsr_vs.metrics.bootstrap import FEWEST, Interval, paired_interval

MEASURES = {"niqe": "NIQE ↓", "ssimulacra2": "SSIMULACRA2 ↑", "psnr_y": "PSNR-Y, dB ↑", "e_warp": "E_warp ↓"}


def intervals(scores: Scores, kind: str, method: str, other: str) -> dict[str, Interval]:
    """Measure -> mean of method − other with its 95 % interval, over the clips that have both."""
    clips = [k[kind] for k in scores.values() if {method, other} <= set(k.get(kind, {}))]
    return {m: paired_interval([c[method][m] - c[other][m] for c in clips]) for m in MEASURES}


def compare(scores: Scores, pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """One entry for each pair and kind of LR of which both methods were measured."""
    kinds = dict.fromkeys(kind for k in scores.values() for kind in k)
    return [
        {"method": method, "other": other, "kind": kind}
        | {m: asdict(i) | {"verdict": verdict(m, i)} for m, i in intervals(scores, kind, method, other).items()}
        for method, other in pairs
        for kind in kinds
        if any({method, other} <= set(k.get(kind, {})) for k in scores.values())
    ]


def verdict(measure: str, found: Interval) -> str:
    """better, worse, or open: the interval holds zero, or there are too few clips to say."""
    if not found.resolved:
        return "open"
    return "better" if (found.mean < 0) == (measure in LOWER) else "worse"


def compared_table(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Differences with intervals and verdicts."""
    rows = [[f"{e['method']} − {e['other']}", e["kind"], *(_cell(e[m]) for m in MEASURES)] for e in entries]
    return table(["", "LR", *MEASURES.values()], rows)


def _cell(found: dict[str, Any]) -> str:
    if found["groups"] < FEWEST:
        return f"{found['mean']:+.3g}, too few clips"
    return f"{found['mean']:+.3g} [{found['low']:+.3g}, {found['high']:+.3g}] {found['verdict']}"
