"""Which curves a stage shows, what they are compared with, and what to look for in them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from training.report_log import StageLog
from training.report_plots import Curve, Panel

MACHINE = ("seconds", "samples_per_second", "tokens_per_second", "mfu", "wait", "memory_gb")
"""Figures about the machine, shown apart."""
FLAGS = ("stopped",)
"""Figures that are no curve; `findings` tells them in words."""
GAINS = {"psnr_y": "PSNR-Y", "ssimulacra2": "SSIMULACRA2", "niqe": "NIQE", "e_warp_ratio": "E_warp ratio"}
"""Measures whose gain over the base resampler is drawn over the steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Figures that belong into one plot."""

    title: str
    names: tuple[str, ...]
    """Figures; one that ends in * stands for all that begin so."""
    note: str
    lines: Mapping[str, float] = field(default_factory=dict)
    log: bool = False
    percent: bool = False


GROUPS = (
    Group(
        title="Gradient norm before clipping",
        names=("gradient*",),
        note="Above the dashed line it is scaled down to it. One spike is harmless; a norm that stays up is not.",
        log=True,
    ),
    Group(
        title="Logits of the heads, D(real) and D(fake)",
        names=("d_real", "d_fake"),
        note="Heads tell real from fake where the curves part. Beyond ±1 the hinge gives them no gradient.",
        lines={"hinge": 1, "": -1},
    ),
    Group(
        title="Saturated share of the logits",
        names=("saturated",),
        note="Logits beyond ±1. Near 100 % the heads have won and learn nothing more.",
        percent=True,
    ),
    Group(
        title="Balance ‖∂λ_G L_G/∂x̂‖ / ‖∂λ_D L_DMD/∂x̂‖",
        names=("ratio",),
        note="At 1 the GAN and distribution matching pull equally hard. This number carries over to another model; "
        "the weights λ do not.",
        lines={"equal": 1},
        log=True,
    ),
    Group(
        title="Preference: Δ of winner and loser",
        names=("delta_w", "delta_l"),
        note="Error against the truth minus the reference's. Good: the winner's falls, the loser's rises. "
        "A winner's above 0 means that the student only runs away from the losers.",
        lines={"reference": 0},
    ),
    Group(
        title="Implicit accuracy",
        names=("accuracy",),
        note="Pairs whose winner gained more than the loser. 50 % is a coin.",
        lines={"coin": 0.5},
        percent=True,
    ),
    Group(
        title="Guidance ‖v_c − v_neg‖ / ‖v_c‖",
        names=("guidance",),
        note="How far the quality label moves the velocity. Below 1 % guidance has nothing to amplify.",
        lines={"1 %": 0.01},
        log=True,
        percent=True,
    ),
    Group(
        title="Learning rate",
        names=("rate*",),
        note="Rises over the warm-up, then falls along a half cosine; progressive rounds each begin anew.",
    ),
    Group(title="Steps of the student", names=("steps",), note="Halved in each round, down to 1.", log=True),
)

LOSSES = {
    "latent": "Error of the latents against those of the truth.",
    "velocity": "Error of the velocity against its target.",
    "temporal": "What flickers along the motion of the truth.",
    "consistency": "What the output, shrunk again, misses of a clean LR.",
    "structure": "Structure and contrast that differ from the truth's, at four scales of the picture.",
    "dmd": "Distribution matching. Its gradient is normalised, so it does not shrink near its goal.",
    "gan": "Minus the mean logit of the student's output: below 0 the heads take it for real.",
    "features": "Distance of the score models' activations from those of the truth.",
    "fake": "Denoising error of the online score model on the student's output.",
    "heads": "Hinge loss of the heads; at 2 they know nothing.",
    "anchor": "Distance of the output from the winners.",
    "preference": "At ln 2 winner and loser are told apart no better than by the reference.",
}
"""What a loss says."""
LEVELS = {"heads": {"knows nothing": 2.0}, "preference": {"ln 2": math.log(2)}}
"""What a loss is compared with."""


def panels(stage: StageLog, settings: Mapping[str, Any]) -> list[Panel]:
    """Plots of a stage: each loss in one of its own, then the groups. settings: the stage's part of the recipe."""
    marks = [step for step, _ in stage.events]
    grouped = {name for group in GROUPS for name in _members(stage, group.names)} | {*MACHINE, *FLAGS}
    out = [
        Panel(
            title=name,
            curves={name: points},
            note=LOSSES.get(name, ""),
            lines=LEVELS.get(name, {}),
            marks=marks,
        )
        for name, points in stage.figures.items()
        if name not in grouped
    ]
    for group in GROUPS:
        curves = {name: stage.figures[name] for name in _members(stage, group.names)}
        if curves:
            lines = _clip(settings) if "gradient*" in group.names else group.lines
            out.append(_panel(group, curves, lines, marks))
    return out


def machine_panels(stage: StageLog) -> list[Panel]:
    """Plots of the machine's figures."""
    titles = {"seconds": "Seconds per update", "mfu": "MFU", "wait": "Waiting for data", "memory_gb": "Memory, GB"}
    return [
        Panel(
            title=titles.get(name, name.replace("_", " ")),
            curves={name: stage.figures[name]},
            percent=name in ("mfu", "wait"),
        )
        for name in MACHINE
        if name in stage.figures
    ]


def gain_panels(stage: StageLog) -> list[Panel]:
    """Gains over the base resampler as training goes on; nothing where a stage was measured only once."""
    if len(stage.evaluations) < 2:
        return []
    out = []
    for measure, title in GAINS.items():
        curves: dict[str, list[tuple[int, float]]] = {}
        for step, scores in sorted(stage.evaluations.items()):
            for name, value in scores.items():
                if name.startswith("+") and name.endswith(f"/{measure}"):
                    curves.setdefault(name[1:].split("/")[0], []).append((step, value))
        if curves:
            out.append(Panel(title=f"Gain over the base, {title}", curves=curves, lines={"base": 0.0}))
    return out


def _panel(group: Group, curves: Mapping[str, Curve], lines: Mapping[str, float], marks: list[int]) -> Panel:
    return Panel(
        title=group.title,
        curves=curves,
        note=group.note,
        lines=lines,
        log=group.log,
        marks=marks,
        percent=group.percent,
    )


def _members(stage: StageLog, names: tuple[str, ...]) -> list[str]:
    return [
        figure
        for figure in stage.figures
        if any(figure == name or (name.endswith("*") and figure.startswith(name[:-1])) for name in names)
    ]


def _clip(settings: Mapping[str, Any]) -> dict[str, float]:
    clip = settings.get("clip")
    return {"clip": float(clip)} if isinstance(clip, int | float) else {}
