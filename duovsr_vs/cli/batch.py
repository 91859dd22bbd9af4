"""Several inputs, folders of them: one after the other, a failure stops only its own, a table at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import DuoVsrError, OptionError, VideoError
from ..model.registry import resolve
from ..video.encoding import MUXERS
from ..video.output import exists
from ..video.sequence import is_pattern
from .exits import DAMAGED, FAILED, say
from .long import unfinished
from .progress import clock
from .render import opened_folder
from .report import Reporter
from .request import Request
from .upscale import Result
from .upscale import run as run_one

VIDEOS = frozenset({
    ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg",
    ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".qt", ".ts", ".vob", ".webm", ".wmv", ".y4m",
})  # fmt: skip
"""Suffixes of what is looked for in folders; files that are named are tried whatever they are called."""
OWN_SUFFIX = frozenset(suffix for suffix, kind in MUXERS.items() if kind != "y4m")
OTHERWISE = ".mkv"
"""An output has its input's suffix where it can be written, else this one."""


@dataclass(frozen=True, slots=True)
class Target:
    """One input and where its output goes."""

    source: str
    output: Path


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    source: str
    word: str
    text: str


def run(request: Request, sources: Sequence[str]) -> int:
    """Upscale one input to the output of the request, or several into it as a folder; the exit code."""
    reporter = Reporter(request.report)
    if not _is_batch(sources, request.output):
        result = run_one(request, reporter)
        _tell(reporter, request.source, request.output, result)
        reporter.write()
        return result.code
    targets = targets_of(sources, request.output)
    resolve(request.options.model)
    rows: list[Row] = []
    codes: list[int] = []
    try:
        for number, target in enumerate(targets, 1):
            say(f"[{number}/{len(targets)}]    {target.source}")
            code, row = _one(request, target, targets[: number - 1], reporter)
            codes.append(code)
            rows.append(row)
    finally:
        reporter.write()
        for row in rows:
            say(f"{row.word:<8} {row.source}: {row.text}")
    return FAILED if FAILED in codes else DAMAGED if DAMAGED in codes else 0


def targets_of(sources: Sequence[str], output: str) -> list[Target]:
    """Inputs in the order given, folders resolved recursively and sorted. Raises OptionError."""
    folder = Path(output)
    if output == "-" or folder.is_file() or (not output.endswith(("/", os.sep)) and not folder.is_dir()):
        raise OptionError(f"-o {output}: several inputs need a folder, such as -o upscaled/")
    targets = []
    for source in sources:
        if source == "-" or (is_pattern(source) and not Path(source).exists()):
            raise OptionError(
                f"{source}: for stdin and image sequences name an output of their own, such as -o out.mkv"
            )
        path = Path(source)
        if path.is_dir():
            if folder.is_dir() and path.samefile(folder):
                raise OptionError(f"-o {output}: that is the folder of the inputs; name another one")
            targets += [_target(file, folder / file.parent.relative_to(path)) for file in _videos(path, folder)]
        else:
            targets.append(_target(path, folder))
    if not targets:
        raise OptionError(f"there is no video in {', '.join(sources)}; files of other names can be given one by one")
    return targets


def _is_batch(sources: Sequence[str], output: str) -> bool:
    """Whether the output is a folder for several files."""
    named = output.endswith(("/", os.sep)) or (output != "-" and Path(output).is_dir())
    return len(sources) > 1 or named or (sources[0] != "-" and Path(sources[0]).is_dir())


def _target(source: Path, folder: Path) -> Target:
    suffix = source.suffix if source.suffix.lower() in OWN_SUFFIX else OTHERWISE
    return Target(str(source), folder / f"{source.stem}{suffix}")


def _videos(folder: Path, without: Path) -> Iterator[Path]:
    """Videos in a folder and below it; not in hidden folders, nor in the one that is written to."""
    for here, folders, files in os.walk(folder):
        at = Path(here)
        inside = [name for name in sorted(folders) if not name.startswith(".")]
        folders[:] = [name for name in inside if not (without.is_dir() and (at / name).samefile(without))]
        wanted = [name for name in sorted(files) if Path(name).suffix.lower() in VIDEOS]
        yield from (at / name for name in wanted if not name.startswith("."))


def _one(request: Request, target: Target, earlier: Sequence[Target], reporter: Reporter) -> tuple[int, Row]:
    """Upscale one of several; the code that its run alone would end with, and what is said of it."""
    output = str(target.output)
    try:
        for other in earlier:
            if other.output == target.output:
                raise VideoError(f"{other.source} becomes {output}, too; upscale this one into another folder")
        target.output.parent.mkdir(parents=True, exist_ok=True)
        own = replace(request, source=target.source, output=output)
        if exists(output) and not request.overwrite and unfinished(opened_folder(own), output) is None:
            result = Result(0, "there already")
        else:
            result = run_one(own, reporter)
    except (DuoVsrError, OSError, MemoryError) as error:
        text = str(error) or "there is not enough memory"
        say(f"duovsr: {text}")
        reporter.add(target.source, output, result="failed", code=FAILED, error=text)
        return FAILED, Row(target.source, "failed", text)
    _tell(reporter, target.source, output, result)
    frames = f"{result.frames} frames in {clock(result.seconds)}: {output}"
    text = f"{output} is there already" if result.word == "there already" else frames
    return result.code, Row(target.source, "skipped" if result.word == "there already" else result.word, text)


def _tell(reporter: Reporter, source: str, output: str, result: Result) -> None:
    reporter.add(
        source, output, result=result.word, code=result.code, frames=result.frames, seconds=round(result.seconds, 3)
    )  # fmt: skip
