"""The ablation as one picture: every direction of the paper with its interval, measure by measure.

    python benchmarks/ablation_plot.py [benchmarks/results/ablation.json]

draws ablation.png beside the results of an ablation that is done.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from ablation_arms import ARMS
from ablation_figures import AGREES, DISAGREES, OPEN, summary
from ablation_scores import LEAD, MEASURES, SECOND

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter

RESULTS = Path(__file__).resolve().parent / "results" / "ablation.json"
COLOURS = {AGREES: "#1b7837", DISAGREES: "#b2182b", OPEN: "#7f7f7f"}
PANELS = (LEAD, SECOND, "texture", "detail_gap", "psnr_y")
Found = dict[str, dict[str, dict[str, Any]]]
"""What `ablation_figures.comparisons` finds."""


def draw(record: dict[str, Any], path: Path) -> None:
    """record: of ablation.json."""
    found = record["comparisons"]
    figure, axes = plt.subplots(2, 3, figsize=(12.5, 6.4), layout="constrained")
    for axis, name in zip(axes.flat, PANELS, strict=False):
        _forest(axis, name, found, labels=axis in axes[:, 0])
    _gradients(axes.flat[len(PANELS)], record["gradients"])
    handles = [plt.Line2D([], [], color=colour, marker="o", label=text) for text, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(summary(record), fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _forest(axis: Any, name: str, found: Found, labels: bool) -> None:
    """Differences turned so that the paper's claim lies to the right of zero; small dots are the seeds.

    Beyond the usual interval the axis is logarithmic: a training that diverged lies far out and squeezes nothing.
    """
    title, sign = MEASURES[name]
    for row, measures in enumerate(found.values()):
        entry = measures[name]
        colour = COLOURS[entry["verdict"]]
        ends = sorted((sign * entry["low"], sign * entry["high"]))
        axis.plot(ends, [row, row], color=colour, linewidth=2.5, solid_capstyle="butt")
        axis.plot(sign * entry["mean"], row, "o", color=colour)
        axis.plot(sign * np.array(entry["per_seed"]), np.full(len(entry["per_seed"]), row + 0.25), ".", color=colour)
    axis.axvline(0, color="black", linewidth=0.8)
    _stretch(axis, [max(abs(m[name]["low"]), abs(m[name]["high"])) for m in found.values()])
    axis.set_yticks(range(len(found)), list(found) if labels else [""] * len(found))
    axis.set_ylim(len(found) - 0.4, -0.6)
    axis.set_title(title + {LEAD: " (lead)", SECOND: " (second)"}.get(name, ""), fontsize=10)
    axis.set_xlabel("gain in the paper's direction → (linear where grey)", fontsize=8)
    axis.tick_params(labelsize=8)


def _stretch(axis: Any, ends: list[float]) -> None:
    """Linear up to a round figure near the usual one of `ends`, logarithmic beyond."""
    ends = [end for end in ends if np.isfinite(end)]
    if not ends:  # a trial run resolves nothing
        return
    usual, farthest = float(np.median(ends)), max(ends)
    if not (usual > 0 and farthest > 2 * usual):
        return
    step = 10 ** np.floor(np.log10(usual))
    edge = float(step * max(n for n in (1, 2, 5) if n * step <= usual))
    axis.set_xscale("symlog", linthresh=edge, linscale=1.5)
    beyond = 10.0 ** np.arange(np.floor(np.log10(edge)) + 1, np.ceil(np.log10(farthest)))
    marks = [edge, *(mark for mark in beyond if mark > 2 * edge)]
    axis.set_xticks([*(-mark for mark in marks), 0, *marks])
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.axvspan(-edge, edge, color="black", alpha=0.04, linewidth=0)
    shown = np.concatenate([np.asarray(line.get_xdata(), float) for line in axis.lines])
    axis.set_xlim(min(-edge, 1.5 * np.nanmin(shown)), max(edge, 1.5 * np.nanmax(shown)))


def _gradients(axis: Any, gradients: dict[str, dict[str, list[float]]]) -> None:
    """Mean norm of stage II's gradient of each seed, and what one update is usually off it."""
    titles = {arm.name: arm.title for arm in ARMS}
    rows = [(titles[arm], found) for arm, found in gradients.items()]
    for row, (_, found) in enumerate(rows):
        for n, (mean, variance) in enumerate(zip(found["mean"], found["variance"], strict=True)):
            place = row + 0.2 * (n - (len(found["mean"]) - 1) / 2)
            axis.plot([mean, mean + variance**0.5], [place, place], color="#92b4d4", linewidth=1.5)
            axis.plot(mean, place, ".", color="#2166ac")
    axis.set_xscale("log")
    axis.set_yticks(range(len(rows)), [title.replace(", ", ",\n") for title, _ in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_title("norm of stage II's gradient", fontsize=10)
    axis.set_xlabel("mean of each seed, and one deviation more", fontsize=8)
    axis.tick_params(labelsize=8)


if __name__ == "__main__":
    results = Path(sys.argv[1]) if sys.argv[1:] else RESULTS
    draw(json.loads(results.read_text()), results.with_suffix(".png"))
