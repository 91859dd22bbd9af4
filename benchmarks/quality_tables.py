"""Tables of the quality benchmark's record (what quality.json holds) for people: quality.md and the page share them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from quality_curve import MEASURES as CURVE
from quality_stages import MEASURES as STAGES
from tables import table

from duovsr_vs.metrics.suite import METRICS

HEADS = {
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
Record = Mapping[str, Any]


def number(metric: str, value: float, signed: bool = False) -> str:
    return f"{value:{'+' if signed else ''}.{_DIGITS.get(metric, 2)}f}"


def methods_table(methods: Mapping[str, Mapping[str, float]], metrics: Sequence[str] = METRICS) -> list[str]:
    """One line for each method; metrics: the columns."""
    rows = ([name, *(number(m, values[m]) for m in metrics)] for name, values in methods.items())
    return table(["", *(HEADS[m] for m in metrics)], rows)


def kinds_table(
    means: Mapping[str, Mapping[str, Mapping[str, float]]], metrics: Sequence[str], first: str = "method"
) -> list[str]:
    """One line for each method, and in each cell the kinds of LR beside each other: clean / web / real."""
    kinds = list(means)
    names = dict.fromkeys(name for methods in means.values() for name in methods)
    rows = []
    for name in names:
        found = [means[kind].get(name, {}) for kind in kinds]
        rows.append([name, *(" / ".join(number(m, f.get(m, float("nan"))) for f in found) for m in metrics)])
    return table([first, *(HEADS[m] for m in metrics)], rows)


def stages_table(record: Record) -> list[str]:
    return kinds_table(record["stages"]["means"], STAGES, "stage")


def curve_table(record: Record, model: str) -> list[str]:
    """Positions of both dials of one model."""
    return kinds_table({kind: models[model] for kind, models in record["curves"]["means"].items()}, CURVE, "dial")


def seeds_table(record: Record, model: str) -> list[str]:
    """By how much two seeds differ, and how much fine detail there is, for each kind of LR."""
    rows = []
    for kind, models in record["seeds"].items():
        for detail, value in models[model].items():
            rows.append([kind, detail, f"{value:.3f}"])
    return table(["LR", "detail", "std of two seeds, 1/255"], rows)


def bars_table(bars: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = ([b["kind"], b["name"], f"{b['found']:.3f}", b["needed"], "pass" if b["met"] else "FAIL"] for b in bars)
    return table(["LR", "what", "found", "needed", ""], rows)


def speed_table(speed: Record) -> list[str]:
    rows = []
    for label, ms in speed["ms_per_frame"].items():
        low, high = speed["range"][label]
        rows.append([label, f"{ms:.1f}", f"{low:.1f} to {high:.1f}", f"{speed['ms_per_megapixel'][label]:.0f}"])
    return table(["method", "ms per frame", "range", "ms per megapixel of output"], rows)


def clips_table(record: Record, metric: str) -> list[str]:
    """Every clip, kind and method; of NIQE the truth's own, too."""
    methods = list(dict.fromkeys(m for kinds in record["clips"].values() for s in kinds.values() for m in s))
    rows = []
    for clip, kinds in record["clips"].items():
        for kind, scores in kinds.items():
            truth = number(metric, record["ground_truth"][clip]["niqe"]) if metric == "niqe" else ""
            rows.append([clip, kind, *(number(metric, scores[m][metric]) for m in methods), truth])
    return table(["clip", "LR", *methods, "truth" if metric == "niqe" else ""], rows)
