"""Curves of a run as inline SVG: small, one question each, readable on light and on dark ground."""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

Curve = Sequence[tuple[int, float]]
"""(step, value), NaN where the value was not finite."""
INK = "#010203"
"""Stands for the page's text colour: matplotlib cannot say `currentColor`."""
COLOURS = ("#3d85d8", "#d9772b", "#3a9d5d", "#b45fbd", "#c2504f", "#8a8f98")
MOST = 200
"""Points that a curve keeps; in a longer one each stands for several, with a band from their least to their most."""
LARGEST = 1e30
"""What a plot shows of anything larger: beyond that the arithmetic of axes overflows."""
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "duovsr",  # equal runs give equal pages
    "text.parse_math": False,
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.formatter.useoffset": False,  # 0.69312, not 2e−5 + 0.6931
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One plot and the sentence under it."""

    title: str
    curves: Mapping[str, Curve]
    """By label."""
    note: str = ""
    """What to look for, plain text."""
    lines: Mapping[str, float] = field(default_factory=dict)
    """Values to compare with, by label: dashed."""
    log: bool = False
    """Logarithmic, where all values are above 0 and far apart."""
    marks: Sequence[int] = ()
    """Steps at which something happened: dotted."""
    percent: bool = False
    """Shares, shown as per cent."""


def thinned(curve: Curve, most: int = MOST) -> tuple[list[float], list[float], list[float], list[float]]:
    """(steps, means, least, greatest) of at most `most` groups of neighbouring points; NaN where none is finite."""
    size = max(1, math.ceil(len(curve) / most))
    groups = [curve[start : start + size] for start in range(0, len(curve), size)]
    steps, means, least, greatest = [], [], [], []
    for group in groups:
        values = [min(max(value, -LARGEST), LARGEST) for _, value in group if math.isfinite(value)] or [math.nan]
        steps.append(sum(step for step, _ in group) / len(group))
        means.append(sum(values) / len(values))
        least.append(min(values))
        greatest.append(max(values))
    return steps, means, least, greatest


def draw(panel: Panel) -> str:
    """The plot as an <svg> element, 4 by 2.3 inches, scaling with its box."""
    with rc_context(STYLE):
        figure = Figure(figsize=(4, 2.3), layout="constrained")
        _fill(figure.subplots(), panel)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(out.getvalue(), panel.title)


def _fill(axes: Axes, panel: Panel) -> None:
    factor = 100 if panel.percent else 1
    for colour, (label, curve) in zip(_cycle(len(panel.curves)), panel.curves.items(), strict=True):
        steps, means, least, greatest = thinned([(step, factor * value) for step, value in curve])
        axes.plot(steps, means, color=colour, linewidth=1.3, marker="o" if len(steps) < 12 else "", markersize=3)
        if len(curve) > len(steps):
            axes.fill_between(steps, least, greatest, color=colour, alpha=0.18, linewidth=0)
        axes.lines[-1].set_label(label)
    for label, value in panel.lines.items():
        axes.axhline(factor * value, color=INK, alpha=0.55, linewidth=0.9, linestyle="--", label=label)
    for step in panel.marks:
        axes.axvline(step, color=INK, alpha=0.35, linewidth=0.7, linestyle=":")
    if panel.log:
        values = [value for curve in panel.curves.values() for _, value in curve if math.isfinite(value)]
        _decades(axes, [factor * value for value in (*values, *panel.lines.values())])
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    if all(float(value).is_integer() for curve in panel.curves.values() for _, value in curve if math.isfinite(value)):
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.set_ylabel("%" if panel.percent else "")
    if len(panel.curves) + len(panel.lines) > 1:
        axes.legend(loc="best", ncols=2)


def _decades(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis, where the values are above 0 and further apart than 1 to 4."""
    if not values or min(values) <= 0 or max(values) < 4 * min(values):
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(values) < 100 * min(values) else (1,)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _cycle(count: int) -> list[str]:
    return [COLOURS[n % len(COLOURS)] for n in range(count)]


def _inline(text: str, title: str) -> str:
    """The bare element: the page's own ink and font, no address of anything outside, a name for screen readers."""
    text = text[text.index("<svg") :].replace(INK, "currentColor").replace("xlink:href", "href")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)  # 0.01 pt is enough
    text = re.sub(r"font-family: [^;]*; ", "", text)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)
    text = re.sub(r' id="[A-Za-z0-9]+_\d+"', "", text)  # nothing refers to these
    own = hashlib.sha256(text.encode()).hexdigest()[:8]  # a plot must not use the clip path of one that is folded away
    text = re.sub(r'( id="|url\(#| href="#)', rf"\g<1>{own}-", text)
    name = re.sub(r"[^\w \-.,/()|‖∂λ]", "", title)
    return text.replace("<svg ", f'<svg role="img" aria-label="{name}" ', 1)
