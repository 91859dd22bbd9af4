"""What the dials do: measures over `detail` and `strength`, and by how much two seeds differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from modelrun import ModelRun

from duovsr_vs.engine.options import Options
from duovsr_vs.metrics.colour import Clip, luma
from duovsr_vs.metrics.suite import GroundTruth, score_clip
from duovsr_vs.model.checkpoint import DETAILED, FAITHFUL
from duovsr_vs.model.registry import read_header, resolve

DETAILS = (0.0, 0.25, 0.5, 0.75, 1.0)
STRENGTHS = (0.0, 0.5, 1.0)
MEASURES = ("ssimulacra2", "niqe", "psnr_y", "e_warp", "e_warp_ratio", "detail_ratio")
SHOWN = {"ssimulacra2": "SSIMULACRA2 ↑", "niqe": "NIQE ↓", "psnr_y": "PSNR-Y, dB ↑", "e_warp": "E_warp ↓"}
"""What the plot shows."""
SEED_FRAMES = 2
TEXTURED = 0.25
"""Share of a frame, that with the most fine detail in the ground truth, which counts as textured."""


def has_dial(model: str | None) -> bool:
    """Whether a file holds two sets of weights."""
    names = list(read_header(resolve(model)))
    return all(any(name.startswith(f"{prefix}.") for name in names) for prefix in (FAITHFUL, DETAILED))


def positions(options: Options) -> dict[str, Options]:
    """Name of a position -> options: along `detail`, where there is that dial, and along `strength` at its default."""
    found = {f"detail {d:g}": replace(options, detail=d) for d in DETAILS} if has_dial(options.model) else {}
    return found | {f"strength {s:g}": replace(options, strength=s) for s in STRENGTHS}


def measure(
    run: ModelRun, lr: Clip, gt: Clip, facts: GroundTruth, step: int, known: Mapping[Options, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Position -> measures.  known: those of options that have been measured already."""
    scores: dict[Options, dict[str, float]] = {}
    for options in positions(run.options).values():
        if options in known:
            scores[options] = {name: known[options][name] for name in MEASURES}
        elif options not in scores:
            scores[options] = score_clip(gt, lr, run.upscale(lr, options)[0], facts, MEASURES, step)
    return {name: scores[options] for name, options in positions(run.options).items()}


def seeds(run: ModelRun, lr: Clip, gt: Clip) -> dict[str, float]:
    """Deviation (1/255) of outputs of two seeds in textured areas: at the model's own detail, and at 1."""
    chosen = {"default": run.options}
    if has_dial(run.options.model):
        chosen["detail 1"] = replace(run.options, detail=1.0)
    return {name: _seed_std(run, lr[:SEED_FRAMES], gt[:SEED_FRAMES], options) for name, options in chosen.items()}


def _seed_std(run: ModelRun, lr: Clip, gt: Clip, options: Options) -> float:
    """√⟨(x − x')²/2⟩ over places and channels, before rounding."""
    first, second = (run.frames(lr, replace(options, seed=options.seed + n)) for n in (0, 1))
    squares = [
        np.square(a - b)[textured(truth)].mean(dtype=np.float64) / 2
        for a, b, truth in zip(first, second, gt, strict=True)
    ]
    return float(np.sqrt(np.mean(squares)))


def textured(frame: np.ndarray) -> np.ndarray:
    """(H, W) bool of a frame (H, W, 3): where its local energy above the LR's band is in the top quarter."""
    y = luma(frame, rounded=False)
    energy = cv2.blur(np.square(y - cv2.GaussianBlur(y, (0, 0), 1.5)), (9, 9))
    mask: np.ndarray = energy >= np.quantile(energy, 1 - TEXTURED)
    return mask


def draw(curves: Mapping[str, Mapping[str, Mapping[str, float]]], default: float, path: Path) -> None:
    """Measures over `detail`, one panel each.  curves: kind -> position -> measures (means over clips)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(SHOWN), figsize=(11, 2.8), layout="constrained")
    for axis, (name, title) in zip(axes.flat, SHOWN.items(), strict=True):
        for kind, values in curves.items():
            axis.plot(DETAILS, [_change(values, d, name) for d in DETAILS], marker="o", markersize=3, label=kind)
        axis.axvline(default, color="black", linewidth=0.8, linestyle=":")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("detail", fontsize=8)
        axis.tick_params(labelsize=8)
    axes.flat[0].set_ylabel("change from detail 0", fontsize=8)
    axes.flat[0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _change(values: Mapping[str, Mapping[str, float]], detail: float, name: str) -> Any:
    return values[f"detail {detail:g}"][name] - values["detail 0"][name]
