"""The ablation as one picture: every direction of the paper with its interval, measure by measure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from ablation_arms import ARMS
from ablation_figures import AGREES, DISAGREES, OPEN
from ablation_scores import LEAD, MEASURES, SECOND

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {AGREES: "#1b7837", DISAGREES: "#b2182b", OPEN: "#7f7f7f"}
PANELS = (LEAD, SECOND, "texture", "detail_gap", "psnr_y")
WINDOW = 15
"""Updates over which the curves of gradient norms are averaged."""


def draw(
    found: dict[str, dict[str, dict[str, Any]]], norms: dict[str, dict[int, list[float]]], head: str, path: Path
) -> None:
    """found: of `ablation_figures.comparisons`. norms: arm -> seed -> gradient norm of each update of stage II."""
    figure, axes = plt.subplots(2, 3, figsize=(12.5, 6.4), layout="constrained")
    for axis, name in zip(axes.flat, PANELS, strict=False):
        _forest(axis, name, found, labels=axis in axes[:, 0])
    _gradients(axes.flat[len(PANELS)], norms)
    handles = [plt.Line2D([], [], color=colour, marker="o", label=text) for text, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(head, fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _forest(axis: Any, name: str, found: dict[str, dict[str, dict[str, Any]]], labels: bool) -> None:
    """Differences turned so that the paper's claim lies to the right of zero; small dots are the seeds."""
    title, sign = MEASURES[name]
    for row, measures in enumerate(found.values()):
        entry = measures[name]
        colour = COLOURS[entry["verdict"]]
        ends = sorted((sign * entry["low"], sign * entry["high"]))
        axis.plot(ends, [row, row], color=colour, linewidth=2.5, solid_capstyle="butt")
        axis.plot(sign * entry["mean"], row, "o", color=colour)
        axis.plot(sign * np.array(entry["per_seed"]), np.full(len(entry["per_seed"]), row + 0.25), ".", color=colour)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(found)), list(found) if labels else [""] * len(found))
    axis.set_ylim(len(found) - 0.4, -0.6)
    axis.set_title(title + {LEAD: " (lead)", SECOND: " (second)"}.get(name, ""), fontsize=10)
    axis.set_xlabel("gain in the paper's direction →", fontsize=8)
    axis.tick_params(labelsize=8)


def _gradients(axis: Any, norms: dict[str, dict[int, list[float]]]) -> None:
    titles = {arm.name: arm.title for arm in ARMS}
    for arm, colour in (("full", "#2166ac"), ("no_stage_1", "#d6604d")):
        for n, values in enumerate(norms.get(arm, {}).values()):
            width = min(WINDOW, len(values))
            smooth = np.convolve(values, np.full(width, 1 / width), "valid")
            axis.plot(np.arange(len(smooth)) + width, smooth, color=colour, label="" if n else titles[arm], linewidth=1)
    axis.set_title(f"Norm of stage II's gradient, mean of {WINDOW} updates", fontsize=10)
    axis.set_xlabel("update", fontsize=8)
    axis.set_ylim(bottom=0)
    axis.tick_params(labelsize=8)
    if norms:
        axis.legend(fontsize=8, frameon=False)
