"""`duovsr compare A B [C...] -o page.html`: clips of the same film side by side, to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ..errors import OptionError
from .exits import guarded, say

if TYPE_CHECKING:
    from ..compare.comparison import Comparison, Kind

KINDS: dict[str, Kind] = {".html": "page", ".htm": "page", ".png": "strip"}

Clips = Annotated[
    list[str], typer.Argument(metavar="A B [C]", help="The source, then what was made of it.", show_default=False)
]
Output = Annotated[str, typer.Option("--output", "-o", help="page.html, or strip.png for crops side by side.")]
Truth = Annotated[
    str | None, typer.Option(help="The large original, if there is one: to be shown and measured against.")
]
Frames = Annotated[int | None, typer.Option(help="Pictures, evenly over the part (default: 12, in a strip 3).")]
At = Annotated[str | None, typer.Option(help="Pictures of these frames or times instead: 0,40,0:01:30.")]
Start = Annotated[str | None, typer.Option(help="First frame of the part, or a time (default: all, or the middle).")]
Length = Annotated[str | None, typer.Option(help="Frames of the part, or a duration.")]
CropOption = Annotated[
    str | None, typer.Option("--crop", help="WIDTHxHEIGHT+LEFT+TOP (default: where most moves, up to 960x540).")
]
Full = Annotated[bool, typer.Option("--full", help="Whole pictures.", show_default=False)]
Enlarge = Annotated[str, typer.Option(help="How small clips are enlarged: bicubic, lanczos or nearest.")]
Lossless = Annotated[bool, typer.Option("--lossless", help="PNG instead of JPEG in the page.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.", show_default=False)]


def compare_command(
    clips: Clips,
    output: Output,
    truth: Truth = None,
    frames: Frames = None,
    at: At = None,
    start: Start = None,
    length: Length = None,
    crop: CropOption = None,
    full: Full = False,
    enlarge: Enlarge = "bicubic",
    lossless: Lossless = False,
    overwrite: Overwrite = False,
) -> None:
    """Make one page, or a strip of pictures, that shows clips of the same film side by side."""
    with guarded():
        kind = _kind(output)
        if enlarge not in ("bicubic", "lanczos", "nearest"):
            raise OptionError(f"--enlarge {enlarge}: bicubic, lanczos or nearest is needed")
        from ..compare.comparison import Comparison
        from ..compare.pictures import Enlarge as How

        request = Comparison(
            paths=clips, kind=kind, truth=truth, frames=frames, at=at, start=start, length=length, crop=crop,
            full=full, enlarge=cast(How, enlarge), lossless=lossless,
        )  # fmt: skip
        run(request, output, overwrite)


def _kind(output: str) -> Kind:
    kind = KINDS.get(Path(output).suffix.lower())
    if kind is None:
        raise OptionError(f"{output}: a page (.html) or a strip of pictures (.png) can be made; name one of them")
    return kind


def run(request: Comparison, output: str, overwrite: bool) -> None:
    """Make the comparison and write it; the name never holds a partial file."""
    import av.logging

    from ..compare.comparison import make
    from ..video.output import PendingOutput, write_error
    from .progress import Progress

    av.logging.set_level(None)
    request.check()
    inputs = [*request.paths, *([request.truth] if request.truth else [])]
    for path in inputs:  # none of them may be the output
        pending = PendingOutput(output, path, overwrite=overwrite)
    with Progress(None) as progress:

        def begin(total: int) -> None:
            progress.total = total

        made = make(request, begin, progress.advance)
    with pending:
        try:
            pending.part.write_bytes(made.data)
        except OSError as error:
            raise write_error(error, output) from None
        pending.commit()
    for line in made.lines:
        say(line)
    say(f"done     {output}: {len(made.data) / 1e6:.1f} MB")
