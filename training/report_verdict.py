"""What a run's figures mean in plain words: its cost, whether data was the limit, and what asks for a look."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from training.report_log import StageLog

SMALL_WAIT, LARGE_WAIT = 0.02, 0.1
"""Shares of the time that waiting for data may take: nothing to gain below the first, much above the second."""
WEAK_GUIDANCE = 0.01
WON = 4.0
"""D(real) − D(fake) from which on the heads need a penalty (training stage dual_stream)."""
SATURATED = 0.9
UNBALANCED = 10.0


def summary(recipe: Mapping[str, Any], stages: Sequence[StageLog]) -> dict[str, str]:
    """The run in a few short facts; "not logged" where the log is silent."""
    machines = list(dict.fromkeys(machine for stage in stages for machine in stage.machines))
    hours = sum(stage.hours for stage in stages)
    finished = sum(stage.finished for stage in stages)
    return {
        "Recipe": str(recipe.get("name", "not known: recipe.json is missing or damaged")),
        "Model": f"{recipe.get('model', 'not known')}, seed {recipe.get('seed', 'not known')}",
        "Machine": "; ".join(machines) or f"not logged; device {recipe.get('device', 'not known')}",
        "Stages": f"{finished} of {len(stages)} finished",
        "Updates took": duration(hours),
        "Samples/s": _or_silent(weighted(stages, "samples_per_second"), quantity),
        "MFU": _or_silent(weighted(stages, "mfu"), percent),
        "Waiting for data": _or_silent(weighted(stages, "wait"), percent),
    }


def duration(hours: float) -> str:
    """Hours in words: "3.2 h", "14 min", "9.1 s"."""
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 1 else f"{hours * 3600:.1f} s"


def percent(share: float) -> str:
    """A share of 1 as "7.3 %"; small ones as "0.04 %"."""
    if 0 < share < 0.0001:
        return "less than 0.01 %"
    return f"{100 * share:.2f} %" if 0 < share < 0.001 else f"{100 * share:.1f} %"


def quantity(value: float) -> str:
    """Three digits that count, whole from a hundred on, thousands apart."""
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.3g}"


def weighted(stages: Sequence[StageLog], name: str) -> float | None:
    """Mean of a figure over the time that the stages took, or over the stages where no time is known."""
    known = [(mean, stage.hours) for stage in stages if (mean := stage.mean(name)) is not None]
    total = sum(hours for _, hours in known)
    if not known:
        return None
    if total == 0:
        return sum(mean for mean, _ in known) / len(known)
    return sum(mean * hours for mean, hours in known) / total


def on_waiting(stages: Sequence[StageLog]) -> str:
    """Whether data was the limit."""
    share = weighted(stages, "wait")
    if share is None:
        return "The log does not say how long updates waited for data."
    said = f"Updates waited for data {percent(share)} of the time"
    if share < SMALL_WAIT:
        return f"{said}: data was not the limit."
    if share < LARGE_WAIT:
        return f"{said}: data was hardly the limit; ready-made LR variants in the pack would save that little."
    return f"{said}: data was a limit. Pack with ready-made LR variants (pack --lr), or put the pack on a faster disk."


def findings(stage: StageLog) -> list[str]:
    """What asks for a look, one sentence each."""
    out = []
    if stage.broken:
        out.append(f"{stage.broken} line(s) of {stage.folder.name}/log.jsonl make no sense and are left out.")
    for name, points in stage.figures.items():
        bad = [step for step, value in points if not math.isfinite(value)]
        if bad:
            steps = ", ".join(map(str, bad[:5])) + (" and more" if len(bad) > 5 else "")
            out.append(f"{name} was not a finite number at step {steps}.")
    return out + _on_heads(stage) + _on_preference(stage) + _on_guidance(stage)


def _on_heads(stage: StageLog) -> list[str]:
    """The GAN's balance in the last quarter of the stage."""
    out = []
    real, fake, saturated, ratio = map(stage.recent, ("d_real", "d_fake", "saturated", "ratio"))
    if real is not None and fake is not None and real - fake > WON:
        out.append(f"The heads have won: D(real) − D(fake) is {real - fake:.1f} at the end; a penalty above {WON:g}.")
    if saturated is not None and saturated > SATURATED:
        out.append(f"{percent(saturated)} of the logits are saturated at the end: the heads hardly learn any more.")
    if ratio is not None and ratio > UNBALANCED:
        out.append(f"At the end the GAN pulls {ratio:.0f} times as hard as distribution matching; lower its weight.")
    if ratio is not None and 0 <= ratio < 1 / UNBALANCED:
        out.append(f"At the end the GAN pulls only {ratio:.2g} times as hard as distribution matching.")
    return out


def _on_preference(stage: StageLog) -> list[str]:
    out = []
    winner, stopped = stage.recent("delta_w"), stage.values("stopped")
    if winner is not None and winner > 0:
        out.append(f"Δ of the winners is above 0 at the end ({winner:.2g}): the student leaves what was preferred.")
    if stopped and stopped[-1] > 0:
        out.append("The stage stopped by itself, because Δ of the winners stayed above 0.")
    return out


def _on_guidance(stage: StageLog) -> list[str]:
    guidance = stage.mean("guidance")
    if guidance is None or guidance >= WEAK_GUIDANCE:
        return []
    return [
        f"The label moves the velocity by {percent(guidance)} only; below 1 % guidance changes nothing to speak of."
    ]


def _or_silent(value: float | None, form: Callable[[float], str]) -> str:
    return "not logged" if value is None else form(value)
