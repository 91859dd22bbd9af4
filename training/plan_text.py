"""A plan in words: for people a line per stage and what does not fit, for programs one line of JSON."""

from __future__ import annotations

import io
import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from training.plan import GIGA, Plan, StagePlan, plan
from training.recipes import Recipe


def duration(seconds: float | None) -> str:
    """For people: 40 s, 12 min, 3.4 h, 2.1 d."""
    if seconds is None:
        return "unknown"
    for unit, size, limit in (("s", 1, 90), ("min", 60, 90 * 60), ("h", 3600, 48 * 3600)):
        if seconds < limit:
            return f"{seconds / size:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86400:.1f} d"


def amount(count: float) -> str:
    """Three digits and a prefix: 25.9 G, 3.03 T."""
    for prefix, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {prefix}"
    return f"{count:.3g}"


def as_text(found: Plan) -> str:
    """The plan as one line of JSON; then for people: a line per stage, totals, and what will not fit."""
    table = Table(*_HEAD, box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for s in found.stages:
        table.add_row(*_row(s))
    total = amount(sum(s.total_flops for s in found.stages))
    table.add_row("all", "", f"{sum(s.updates for s in found.stages)}", *[""] * 4, total, duration(found.seconds))
    text = io.StringIO()
    Console(file=text, width=160, color_system=None).print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    return "\n".join([as_json(found), "", _machine(found), *lines, _largest(found), *found.trouble()])


_HEAD = ("stage", "weights (* trained)", "updates", "FLOPs/update", "samples", "tokens", "memory", "FLOPs", "time")


def _row(s: StagePlan) -> tuple[str, ...]:
    """A stage under `_HEAD`; samples and tokens are those of one update."""
    networks = ", ".join(f"{name} {amount(count)}" for name, count in s.parameters.items())
    per_update = (amount(s.flops), f"{s.samples}", f"{s.tokens}", f"{s.memory.total / GIGA:.2f} GB")
    return (s.stage, networks, f"{s.updates}", *per_update, amount(s.total_flops), duration(s.seconds))


def _machine(found: Plan) -> str:
    """What times and memory were reckoned with."""
    where = f"{found.model}, {found.processes} process{'es' * (found.processes > 1)} on {found.device}"
    free = "" if found.free is None else f"; {found.free / GIGA:.1f} GB of memory are free"
    if found.peak is None:
        return f"{where}: this device is not here, so times are unknown; give --peak TFLOPS of one device{free}"
    reached = f"of which updates are taken to reach {found.efficiency:.0%}"
    return f"{where}: {amount(found.peak)}FLOP/s at most, {reached}{free}"


def _largest(found: Plan) -> str:
    """What the memory of the stage that needs most consists of."""
    most = max(found.stages, key=lambda s: s.memory.total)
    parts: dict[str, int] = asdict(most.memory)
    listed = ", ".join(f"{name} {amount(size)}B" for name, size in parts.items() if size)
    return f"memory of {most.stage} on each process: {listed}"


def as_json(found: Plan) -> str:
    """All of it but the table of passes, on one line."""
    out = asdict(found)
    for stage in out["stages"]:
        del stage["passes"]
    return json.dumps(out)


def describe(recipe: Recipe, world_size: int = 1, peak: float | None = None) -> str:
    """What `--dry-run` prints below the recipe. peak: FLOP/s of one device; measured here if None."""
    return as_text(plan(recipe, world_size, peak))
