"""`duovsr check A B`: is everything of the source in the upscaled file, and are its pixels sound?"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import OptionError
from .exits import FAILED, guarded

if TYPE_CHECKING:
    from ..compare.check import Checked, CheckRequest
    from ..compare.findings import Finding, Status
    from ..compare.measure import Borders

MARKS: dict[Status, tuple[str, str]] = {
    "ok": ("ok", "green"),
    "doubtful": ("doubtful", "yellow"),
    "wrong": ("WRONG", "bold red"),
    "skipped": ("-", "dim"),
}
"""Word and style of each status in the table."""

Source = Annotated[str, typer.Argument(metavar="A", help="The source.", show_default=False)]
Upscaled = Annotated[str, typer.Argument(metavar="B", help="What was made of it.", show_default=False)]
Start = Annotated[str | None, typer.Option(help="First frame of A that B shows, or a time hh:mm:ss.")]
Frames = Annotated[str | None, typer.Option(help="How many frames of A it shows, or a duration.")]
Every = Annotated[int, typer.Option(help="Measure all pixels of every n-th frame; 0: of about 120 frames.", min=0)]
Model = Annotated[str | None, typer.Option(help="Model that made B: says where windows and tiles meet.")]
Window = Annotated[int | None, typer.Option(help="Frames from one window to the next; 0: no windows.", min=0)]
Tile = Annotated[int | None, typer.Option(help="Side of a tile in pixels of A; 0: no tiles.", min=0)]
Strict = Annotated[bool, typer.Option("--strict", help="Doubtful is wrong, too.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.", show_default=False)]


def check_command(
    source: Source,
    upscaled: Upscaled,
    start: Start = None,
    frames: Frames = None,
    every: Every = 0,
    model: Model = None,
    window: Window = None,
    tile: Tile = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Compare an upscaled file with its source; exit code 1 where something is wrong."""
    with guarded():
        from ..compare.check import CheckRequest

        places = BorderOptions(model, window, tile)
        request = CheckRequest(
            source=source, upscaled=upscaled, start=start, frames=frames, every=every, borders=places.resolve
        )
        code = run(request, strict, as_json)
    raise typer.Exit(code)


@dataclass(frozen=True, slots=True)
class BorderOptions:
    """--model, --window and --tile, as typed. Raises OptionError."""

    model: str | None
    window: int | None
    tile: int | None

    def __post_init__(self) -> None:
        if self.window == 1 or self.tile == 1:
            raise OptionError("--window and --tile: 0 for none, or 2 and more")

    def resolve(self, width: int, height: int) -> Borders:
        """Where seams could be in a source of that size: as told, else as the model has them. Raises ModelError."""
        from ..compare.measure import Borders

        own = Borders() if self.model is None else _borders_of(self.model, width, height)
        window = own.window if self.window is None else self.window
        return Borders(window, own.tile if self.tile is None else self.tile)


def _borders_of(model: str, width: int, height: int) -> Borders:
    from ..compare.measure import Borders
    from ..engine import wan_memory
    from ..engine.tiles import resolve_tile
    from ..model.config import ModelConfig
    from ..model.family import config_of
    from ..model.registry import describe, resolve

    config = config_of(json.dumps(describe(resolve(model))["config"]))
    limits = () if isinstance(config, ModelConfig) else (wan_memory.LARGEST_WHOLE, wan_memory.CHOSEN_TILE)
    tile, _ = resolve_tile(config, width, height, 0, 0, *limits)
    return Borders(config.stride if config.window > 1 else 0, tile)


def run(request: CheckRequest, strict: bool, as_json: bool) -> int:
    """Check and print; the exit code."""
    import av.logging

    from ..compare.check import run_check
    from ..compare.findings import passed
    from .progress import Progress

    av.logging.set_level(None)
    with Progress(None) as progress:

        def begin(total: int | None) -> None:
            progress.total = total

        checked = run_check(request, begin, progress.advance)
    fine = passed(checked.findings, strict)
    if as_json:
        print(json.dumps(_facts(request, checked, fine, strict), indent=2, allow_nan=False))
    else:
        _print_table(request, checked, fine)
    return 0 if fine else FAILED


def _facts(request: CheckRequest, checked: Checked, fine: bool, strict: bool) -> dict[str, Any]:
    findings = [_finite(finding.as_dict()) for finding in checked.findings]
    names = {"source": request.source, "upscaled": request.upscaled}
    return {**names, "fine": fine, "strict": strict, "every": checked.every, "findings": findings}


def _finite(value: Any) -> Any:
    """The same without infinities and NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print_table(request: CheckRequest, checked: Checked, fine: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("what", no_wrap=True)
    table.add_column("")
    table.add_column("found", overflow="fold")
    for finding in checked.findings:
        word, style = MARKS[finding.status]
        table.add_row(finding.name, Text(word, style), Text(finding.text))
    console = Console()
    console.print(Text(f"{request.upscaled}, made from {request.source}"), soft_wrap=True)
    console.print(table)
    console.print(Text(_conclusion(checked.findings, checked.every, fine)), soft_wrap=True)


def _conclusion(findings: list[Finding], every: int, fine: bool) -> str:
    counts = {status: sum(f.status == status for f in findings) for status in ("wrong", "doubtful")}
    said = [f"{count} {status}" for status, count in counts.items() if count]
    from ..compare.findings import every_nth

    sampled = "" if every == 1 else f"; pixels of {every_nth(every)} were measured"
    return f"{'fine' if fine else 'not fine'}: {', '.join(said) or 'nothing is wrong'}{sampled}"
