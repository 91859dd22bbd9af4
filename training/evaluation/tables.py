"""The results for people: one table per kind of LR, and one of the differences with their intervals."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from duovsr_vs.metrics.bootstrap import FEWEST, Interval
from training.evaluation.findings import Findings, Values, mean_of

HEADS = {
    "psnr_y": "PSNR-Y ↑",
    "psnr_rgb": "PSNR-RGB ↑",
    "ssim": "SSIM ↑",
    "ssimulacra2": "SSIMU2 ↑",
    "niqe": "NIQE ↓",
    "e_warp": "E_warp ↓",
    "e_warp_ratio": "E_warp /truth",
    "detail_ratio": "detail /truth",
    "shrink_psnr": "shrink dB ↑",
    "colour_shift": "colour ↓",
}
_DIGITS = {"ssim": 4, "ssimulacra2": 1, "shrink_psnr": 1, "e_warp": 3, "colour_shift": 3}
_WIDE = 160
"""Columns where the output is no terminal."""


def show(findings: Findings, lower: Collection[str], console: Console | None = None) -> None:
    """Print all tables. lower: further measures (pyiqa's) of which less is better."""
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, _WIDE)
    heads = {m: HEADS.get(m) or f"{m} {'↓' if m in lower else '↑'}" for m in findings.measures}
    for kind, differences in findings.differences().items():
        console.print(_clips(findings, kind, heads))
        console.print(_gains(findings, kind, differences, heads))


def _table(title: str, heads: Sequence[str], left: int = 1) -> Table:
    """A table whose first `left` columns are names."""
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, head in enumerate(heads):
        table.add_column(head, justify="left" if i < left else "right", no_wrap=i < left)
    return table


def _clips(findings: Findings, kind: str, heads: dict[str, str]) -> Table:
    """The model on each clip, then the means of all methods."""
    clips = findings.scores[kind]
    table = _table(f"{kind}: {findings.model} on each clip, then means", ["", *heads.values()])
    for name, methods in clips.items():
        table.add_row(escape(name), *_cells(methods[findings.model], heads))
    table.add_section()
    if findings.truth:
        own = {m: mean_of(findings.truth[name].get(m, math.nan) for name in clips) for m in heads}
        table.add_row("mean of the ground truth", *_cells(own, heads))
    for method, values in findings.means()[kind].items():
        style = "bold" if method == findings.model else None
        table.add_row(escape(f"mean of {method}"), *_cells(values, heads), style=style)
    return table


def _gains(findings: Findings, kind: str, differences: dict[str, dict[str, Interval]], heads: dict[str, str]) -> Table:
    """Model minus each other method, with the interval."""
    table = _table(f"{kind}: {findings.model} minus …, mean and 95 % interval", ["", *(escape(o) for o in differences)])
    for measure, head in heads.items():
        table.add_row(head, *(in_words(measure, others[measure]) for others in differences.values()))
    return table


def in_words(measure: str, found: Interval) -> str:
    """+0.52 [+0.31, +0.70], and what speaks against believing it."""
    if not found.count:
        return "-"
    text = _number(measure, found.mean, sign=True)
    if found.groups < FEWEST:
        return f"{text} too few clips"
    text += escape(f" [{_number(measure, found.low, sign=True)}, {_number(measure, found.high, sign=True)}]")
    return text if found.resolved else f"{text} not resolved"


def _cells(values: Values, measures: Collection[str]) -> list[str]:
    return [_number(m, values.get(m, math.nan)) for m in measures]


def _number(measure: str, value: float, sign: bool = False) -> str:
    """Rounded as the measure deserves; empty where there is none."""
    return "" if math.isnan(value) else f"{value:{'+' if sign else ''}.{_DIGITS.get(measure, 2)}f}"
