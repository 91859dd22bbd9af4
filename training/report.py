"""`python -m training report`: one self-contained page about a run, finished or not."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from duovsr_vs.errors import DuoVsrError
from training import report_page as html
from training.report_curves import gain_panels, machine_panels, panels
from training.report_log import StageLog, is_stage, read_recipe, read_run
from training.report_page import Cell
from training.report_verdict import duration, findings, on_waiting, percent, quantity, summary, weighted
from training.watch import LOG

MEASURES = {
    "psnr_y": ("PSNR-Y, dB ↑", 1),
    "psnr_rgb": ("PSNR, dB ↑", 1),
    "ssim": ("SSIM ↑", 1),
    "ssimulacra2": ("SSIMULACRA2 ↑", 1),
    "lpips": ("LPIPS ↓", -1),
    "niqe": ("NIQE ↓", -1),
    "e_warp": ("E_warp ↓", -1),
    "e_warp_ratio": ("E_warp ÷ the truth's", 0),
    "detail_ratio": ("Detail ÷ the truth's", 0),
    "shrink_psnr": ("PSNR shrunk against the LR, dB", 0),
    "colour_shift": ("Colour shift ↓", -1),
}
"""Title and direction of a measure: 1 more is better, −1 less is better, 0 neither; an LR that is damaged is not what
an output should shrink to."""
SAMPLES_SHOW = (
    "Middle frame at 1:1; under it one row of its pixels over the frames, time runs down: "
    "there what flickers is jagged."
)


class ReportError(DuoVsrError):
    """A folder that no report can be made of."""


def read(run: Path) -> tuple[dict[str, Any], list[StageLog]]:
    """Recipe and stages of a run. ReportError if there is nothing to show."""
    if not run.is_dir():
        raise ReportError(f"{run} is no folder; give the run folder, that is what --out of a training was")
    recipe = read_recipe(run)
    stages = read_run(run, recipe)
    if not stages and is_stage(run):
        raise ReportError(f"{run} is the folder of one stage; give the run folder above it, {run.resolve().parent}")
    if not stages:
        raise ReportError(f"{run} holds no stage with a {LOG}; train first, with --out {run}")
    return recipe, stages


def build(run: Path) -> str:
    """The page of a run folder."""
    recipe, stages = read(run)
    shown = html.pictures({stage.name: stage.samples for stage in stages})
    parts = overview(run, recipe, stages)
    for stage in stages:
        parts += section(stage, recipe, shown[stage.name])
    if recipe:
        text = json.dumps(recipe, indent=1, sort_keys=True)
        parts += [html.heading(2, "Recipe", "Recipe"), html.folded("All fields", [html.preformatted(text)])]
    return html.page(f"Training run {run.resolve().name}", parts)


def overview(run: Path, recipe: Mapping[str, Any], stages: Sequence[StageLog]) -> list[str]:
    """Facts, what asks for a look, a table of the stages, and the measures at the end of each."""
    listed = recipe.get("stages")
    there = {stage.name for stage in stages}
    missing = [name for name in (listed if isinstance(listed, list) else ()) if name not in there]
    notes = [f"{stage.name}: {text}" for stage in stages for text in findings(stage)]
    if missing:
        names = ", ".join(map(str, missing))
        notes.insert(0, f"Nothing is here of: {names}. They are still to come, or came from another folder by --from.")
    return [
        html.heading(1, f"Training run {run.resolve().name}"),
        html.navigation([*(stage.name for stage in stages), *(["Recipe"] if recipe else [])]),
        html.facts(summary(recipe, stages)),
        html.paragraph(on_waiting(stages)),
        html.notes(notes),
        html.heading(2, "Stages"),
        stage_table(stages),
        html.paragraph("Time of updates; evaluations and checkpoints are not counted.", quiet=True),
        *ends(stages),
    ]


def stage_table(stages: Sequence[StageLog]) -> str:
    """Updates, time and speed of each stage; "–" where the log is silent."""
    columns = {
        "samples/s": ("samples_per_second", quantity),
        "tokens/s": ("tokens_per_second", quantity),
        "MFU": ("mfu", percent),
        "waiting": ("wait", percent),
        "memory, GB": ("memory_gb", quantity),
    }
    rows = []
    for stage in stages:
        seconds = stage.mean("seconds")
        cells = [
            Cell("finished" if stage.finished else "under way, or stopped"),
            Cell(str(stage.last)),
            Cell(duration(stage.hours) if seconds is not None else "–"),
            Cell("–" if seconds is None else quantity(seconds)),
        ]
        for name, form in columns.values():
            value = weighted([stage], name)
            cells.append(Cell("–" if value is None else form(value)))
        rows.append((stage.name, cells))
    return html.table(["stage", "", "updates", "time", "s/update", *columns], rows)


def ends(stages: Sequence[StageLog]) -> list[str]:
    """A table for each kind of LR: the measures at each stage's last evaluation, under those of the base resampler."""
    last = {stage.name: stage.evaluations[max(stage.evaluations)] for stage in stages if stage.evaluations}
    parts = [html.heading(2, "Measures at the end of each stage")]
    if not last:
        return [*parts, html.paragraph("No stage has been evaluated yet.")]
    for kind in kinds_of(last.values()):
        names = measures_of(last.values())
        base = next(scores for scores in last.values() if any(key.startswith(f"{kind}/") for key in scores))
        rows = [("base resampler", [Cell(number(base_of(base, f"{kind}/{name}")), "") for name in names])]
        rows += [(stage, [cell(scores, kind, name) for name in names]) for stage, scores in last.items()]
        parts += [html.heading(3, f"LR: {kind}"), html.table(["", *map(title, names)], rows)]
    if not same_base(last.values()):
        parts.append(html.paragraph("Stages were measured on different clips: compare their gains, not their values."))
    return [*parts, html.paragraph("Small: the gain over the base resampler on the same clips.", quiet=True)]


def same_base(evaluations: Iterable[Mapping[str, float]]) -> bool:
    """Whether the base resampler measures the same in all: then they are of the same clips."""
    known: dict[str, float] = {}
    for scores in evaluations:
        found = {key: base_of(scores, key) for key in scores if not key.startswith("+")}
        shared = [key for key, value in found.items() if math.isfinite(value) and key in known]
        if any(not math.isclose(found[key], known[key], rel_tol=1e-4, abs_tol=1e-4) for key in shared):
            return False
        known |= {key: value for key, value in found.items() if math.isfinite(value)}
    return True


def section(stage: StageLog, recipe: Mapping[str, Any], pictures: str) -> list[str]:
    """Everything about one stage."""
    settings = recipe.get(stage.name)
    state = "finished" if stage.finished else "not finished"
    parts = [
        html.heading(2, stage.name, stage.name),
        html.paragraph(f"{state}, {stage.last} updates, {duration(stage.hours)}", quiet=True),
        html.notes(findings(stage)),
    ]
    curves = panels(stage, settings if isinstance(settings, dict) else {})
    parts.append(html.plots(curves) if curves else html.paragraph("Its log holds no figures."))
    if stage.events:
        parts += [html.heading(3, "Events"), html.listing([f"step {step}: {text}" for step, text in stage.events])]
    parts += [html.heading(3, "Measures"), stage_measures(stage), html.plots(gain_panels(stage))]
    if pictures:
        parts += [html.heading(3, "Samples at fixed clips"), html.paragraph(SAMPLES_SHOW, quiet=True), pictures]
    machine = machine_panels(stage)
    return [*parts, html.folded("Speed and memory", [html.plots(machine)])] if machine else parts


def stage_measures(stage: StageLog) -> str:
    """The last evaluation: a row for each measure, a column for each kind of LR."""
    if not stage.evaluations:
        return html.paragraph("Not evaluated yet.")
    step = max(stage.evaluations)
    scores = stage.evaluations[step]
    kinds = kinds_of([scores])
    rows = [(title(name), [cell(scores, kind, name) for kind in kinds]) for name in measures_of([scores])]
    return html.table([f"step {step}", *kinds], rows)


def kinds_of(evaluations: Any) -> list[str]:
    """Kinds of LR, in the order in which they were measured."""
    keys = (key for scores in evaluations for key in scores if not key.startswith("+") and "/" in key)
    return list(dict.fromkeys(key.split("/")[0] for key in keys))


def measures_of(evaluations: Any) -> list[str]:
    """Measures, in the order of MEASURES, unknown ones last."""
    keys = (key for scores in evaluations for key in scores if not key.startswith("+") and "/" in key)
    found = dict.fromkeys(key.split("/", 1)[1] for key in keys)
    return [name for name in MEASURES if name in found] + [name for name in found if name not in MEASURES]


def title(measure: str) -> str:
    """How a measure is headed."""
    return MEASURES.get(measure, (measure, 0))[0]


def base_of(scores: Mapping[str, float], key: str) -> float:
    """The base resampler's value: the model's less its gain."""
    return scores.get(key, math.nan) - scores.get(f"+{key}", math.nan)


def cell(scores: Mapping[str, float], kind: str, measure: str) -> Cell:
    """A value with its gain over the base, which is good or bad where the measure has a direction."""
    value, gain = (scores.get(f"{sign}{kind}/{measure}", math.nan) for sign in ("", "+"))
    if not math.isfinite(gain):
        return Cell(number(value), "")
    shown = signed(gain, digits(value))
    direction = MEASURES.get(measure, (measure, 0))[1]
    good = None if direction == 0 or round(gain, digits(value)) == 0 else gain * direction > 0
    return Cell(number(value), shown, good)


def number(value: float) -> str:
    """Two digits after the point, three below 1, "–" for none."""
    return f"{value:.{digits(value)}f}".replace("-", "−") if math.isfinite(value) else "–"


def signed(value: float, places: int) -> str:
    """With + or −."""
    return f"{value:+.{places}f}".replace("-", "−")


def digits(value: float) -> int:
    """After the point."""
    return 2 if abs(value) >= 1 else 3


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m training report`."""
    parser = argparse.ArgumentParser(prog="python -m training report", description=__doc__)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("-o", "--out", type=Path, help="page to write (default: RUN/report.html)")
    options = parser.parse_args(argv)
    text = build(options.run)
    out = options.out or options.run / "report.html"
    if out.is_dir():
        raise ReportError(f"--out {out} is a folder; name the page to write, for example {out / 'report.html'}")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(out)
    print(f"{out}: {len(text.encode()) / 1e6:.1f} MB; open it in a browser")
    return 0
