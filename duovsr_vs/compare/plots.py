"""Plots over time as SVG that stands in a page: its colours, light or dark, are the page's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 480, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 34
_DASHES = ("2 3", "", "8 4", "5 2 1 2", "12 3 3 3", "14 4")
"""A pattern for each line, so that they can be told apart without colours."""


@dataclass(frozen=True, slots=True)
class Line:
    """points: (frame, value), ascending.  clip: number of the clip, which gives the colour."""

    name: str
    clip: int
    points: Sequence[tuple[int, float]]


def swatch(clip: int) -> str:
    """A short piece of a clip's line, for tables and legends."""
    dash = _DASHES[clip % len(_DASHES)]
    return (
        '<svg class="swatch" width="28" height="10" aria-hidden="true">'
        f'<line x1="1" y1="5" x2="27" y2="5" class="c{clip % 6}" stroke-dasharray="{dash}"/></svg>'
    )


@dataclass(frozen=True, slots=True)
class Scale:
    """What the axis of values shows at least: a value that lies on it, and how much it spans."""

    span: float
    value: float | None = None


def plot(title: str, unit: str, lines: Sequence[Line], frames: tuple[int, int], scale: Scale) -> str:
    """An SVG element. title, unit: of the plot, for screen readers.  frames: first and last of the time axis.

    Lines without a finite value are left out; "" where none is left.
    """
    kept = [Line(x.name, x.clip, [(n, v) for n, v in x.points if math.isfinite(v)]) for x in lines]
    kept = [line for line in kept if line.points]
    if not kept:
        return ""
    values = [value for line in kept for _, value in line.points]
    low, high = min(values), max(values)
    if scale.value is not None:
        low, high = min(low, scale.value), max(high, scale.value)
    missing = max(scale.span - (high - low), 0.0) / 2
    ticks, digits = _ticks(low - missing * (scale.value != low), high + missing * (2 if scale.value == low else 1))
    low, high = ticks[0], ticks[-1]
    across = _Axis(frames[0], max(frames[1], frames[0] + 1), _LEFT, WIDTH - _RIGHT)
    down = _Axis(low, high, HEIGHT - _BOTTOM, _TOP)
    body = [_grid(ticks, digits, down), _times(frames, across)]
    body += [_curve(line, across, down, digits) for line in kept]
    body.append(f'<line class="now" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}" x1="{_LEFT}" x2="{_LEFT}"/>')
    text = escape(f"{title}, {unit}: {'; '.join(_in_words(line, digits) for line in kept)}")
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text}" data-x0="{_LEFT}" '
        f'data-x1="{WIDTH - _RIGHT}" data-first="{frames[0]}" data-last="{max(frames[1], frames[0] + 1)}">'
        f"{''.join(body)}</svg>"
    )


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def _ticks(low: float, high: float, wanted: int = 4) -> tuple[list[float], int]:
    """Round numbers that enclose a range, and how many digits after the point they need."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return [n * step for n in range(first, last + 1)], digits


def _grid(ticks: Sequence[float], digits: int, down: _Axis) -> str:
    lines = []
    for tick in ticks:
        y = down(tick)
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        lines.append(f'<text x="{_LEFT - 6}" y="{y + 3.5}" text-anchor="end">{tick:.{digits}f}</text>')
    return "".join(lines)


def _times(frames: tuple[int, int], across: _Axis) -> str:
    ticks, _ = _ticks(frames[0], max(frames[1], frames[0] + 4))
    numbers = [round(tick) for tick in ticks if frames[0] <= tick <= frames[1]]
    texts = [f'<text x="{across(n)}" y="{HEIGHT - _BOTTOM + 15}" text-anchor="middle">{n}</text>' for n in numbers]
    texts.append(f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 3}" text-anchor="middle">frame</text>')
    return "".join(texts)


def _curve(line: Line, across: _Axis, down: _Axis, digits: int) -> str:
    dash = _DASHES[line.clip % len(_DASHES)]
    places = [(across(n), down(value), n, value) for n, value in line.points]
    path = " ".join(f"{x},{y}" for x, y, _, _ in places)
    name = escape(line.name)
    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="2.2"><title>{name}, frame {n}: {value:.{digits + 1}f}</title></circle>'
        for x, y, n, value in places
    )
    return f'<g class="c{line.clip % 6}"><polyline points="{path}" stroke-dasharray="{dash}"/>{dots}</g>'


def _in_words(line: Line, digits: int) -> str:
    values = [value for _, value in line.points]
    return f"{line.name} from {min(values):.{digits + 1}f} to {max(values):.{digits + 1}f}"
