"""`duovsr`: the commands. Nothing heavy is imported here; each handler imports what it needs."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from .. import __version__
from . import arguments as a
from .check import check_command
from .compare import compare_command
from .exits import guarded
from .models import app as models_app

app = typer.Typer(
    name="duovsr",
    help="Upscale video with a one-step diffusion model; frames, times, sound and tags come along.",
    epilog="Exit codes: 0 done, 1 refused or failed, 2 usage, 3 done but the input was damaged, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "SVT_LOG": "1"}
"""Set before torch and libav are loaded. PASSIVE: OpenMP's threads sleep while they wait; spinning, they take the cores
from decoder and encoder (measured: a run is eight times slower on two busy cores). SVT_LOG: no chatter on stderr."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"duovsr {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.", show_default=False)
    ] = False,
) -> None:
    pass


@app.command(no_args_is_help=True)
def upscale(
    sources: a.Sources,
    output: a.Output,
    model: a.Model = None,
    scale: a.Scale = 4,
    width: a.Width = None,
    height: a.Height = None,
    strength: a.Strength = 1.0,
    detail: a.Detail = None,
    seed: a.Seed = 0,
    no_scene_cut: a.NoSceneCut = False,
    start: a.Start = None,
    frames: a.Frames = None,
    preview: a.Preview = None,
    codec: a.Codec = None,
    crf: a.Crf = None,
    pix_fmt: a.PixFmt = None,
    encoder_options: a.EncoderOptions = None,
    matrix: a.Matrix = None,
    assume_progressive: a.AssumeProgressive = False,
    overwrite: a.Overwrite = False,
    resume: a.Resume = False,
    report: a.Report = None,
    device: a.Devices = "auto",
    precision: a.Precision = "auto",
    tile: a.Tile = 0,
    tile_overlap: a.TileOverlap = 0,
    vram: a.Vram = None,
    threads: a.Threads = None,
    workers: a.Workers = 1,
    ray: a.Ray = None,
    segment: a.Segment = None,
) -> None:
    """Upscale videos; sound, subtitles, times and tags come along. What breaks off goes on with --resume."""
    with guarded():
        from ..engine.options import Options
        from .batch import run
        from .request import Request, devices_in

        devices = devices_in(device)
        options = Options(
            model=model, scale=scale, width=width, height=height, strength=strength, detail=detail, seed=seed,
            device=devices[0], precision=precision, tile=tile, tile_overlap=tile_overlap, scene_cut=not no_scene_cut,
            vram=vram, threads=threads,
        )  # fmt: skip
        request = Request(
            source=sources[0], output=output, options=options, start=start, frames=frames, codec=codec, crf=crf,
            pix_fmt=pix_fmt, encoder_options=tuple(encoder_options or ()), matrix=matrix,
            assume_progressive=assume_progressive, overwrite=overwrite, resume=resume, report=report, workers=workers,
            devices=devices if len(devices) > 1 else (), ray=ray, segment=segment,
        )  # fmt: skip
        if preview is None:
            code = run(request, sources)
        else:
            from .preview import run as run_preview

            code = run_preview(request, sources, preview)
    raise typer.Exit(code)


@app.command()
def info(file: a.File = None, self_test: a.SelfTest = False) -> None:
    """Facts about a video or a model; without FILE, about this installation."""
    with guarded():
        from .info import run

        code = run(file, self_test)
    raise typer.Exit(code)


@app.command()
def bench(
    model: a.Model = None,
    size: a.BenchSize = "480x270",
    frames: a.BenchFrames = 48,
    device: a.Device = "auto",
    precision: a.Precision = "auto",
    tile: a.Tile = 0,
    threads: a.Threads = None,
    as_json: a.AsJson = False,
) -> None:
    """Time the engine alone, from float RGB to float RGB."""
    with guarded():
        from ..engine.options import Options
        from .bench import run

        run(Options(model=model, device=device, precision=precision, tile=tile, threads=threads), size, frames, as_json)


app.add_typer(models_app, name="models")
app.command(name="check", no_args_is_help=True)(check_command)
app.command(name="compare", no_args_is_help=True)(compare_command)


def set_environment() -> None:
    """What has to be set before anything heavy is imported; the user's own settings win."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text


def main() -> None:
    """Entry point of the `duovsr` command."""
    set_environment()
    try:
        app(prog_name="duovsr")
    except KeyboardInterrupt:
        sys.exit(130)
