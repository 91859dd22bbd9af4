"""`duovsr upscale`: check, plan, say the plan, run, verify, rename."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from ..errors import OptionError
from ..model.registry import resolve
from ..video.colour import parse_matrix, resolve_matrix
from ..video.convert import ToRGB
from ..video.encoding import choose, output_kind, parse_options
from ..video.interval import parse_position, resolve_interval
from ..video.output import PendingOutput
from ..video.pipeline import run as run_pipeline
from ..video.reader import VideoReader
from ..video.sequence import is_pattern
from ..video.writer import Writer
from .exits import DAMAGED, say
from .job import Job, Request
from .plan import plan_lines
from .progress import Progress, clock

if TYPE_CHECKING:
    from ..engine.upscaler import Upscaler


def run(request: Request) -> int:
    """Do the whole job; the exit code. Raises DuoVsrError for everything that is refused."""
    _quiet()
    with ExitStack() as stack:
        job = _prepared(request, stack)
        upscaler = job.upscaler()
        for line in plan_lines(job, upscaler.plan):
            say(line)
        if job.pending is not None:
            stack.enter_context(job.pending)
        with Progress(job.frames) as progress:
            written = _execute(job, upscaler, job.writer(), progress)
        if job.pending is not None:
            job.pending.commit()
        return _report(job, written, progress, upscaler.redone)


def _prepared(request: Request, stack: ExitStack) -> Job:
    """Everything that can be checked before torch is imported."""
    kind = output_kind(request.output)
    start, length = parse_position("--start", request.start), parse_position("--frames", request.frames)
    matrix = None if request.matrix is None else parse_matrix(request.matrix)
    extra = parse_options(request.encoder_options)
    resolve(request.options.model)
    pending = None
    if request.output != "-":
        pending = PendingOutput(request.output, request.source, overwrite=request.overwrite, images=kind == "image")
    reader = stack.enter_context(VideoReader(request.source, assume_progressive=request.assume_progressive))
    info = reader.info
    tags, matrix_note = resolve_matrix(info.tags, info.layout, info.height, matrix)
    size = request.options.output_size(info.width, info.height)
    encoding = choose(
        request.output, info.layout, tags, size,
        codec=request.codec, crf=request.crf, pix_fmt=request.pix_fmt, options=extra,
    )  # fmt: skip
    pts = reader.scan.pts if reader.scan else ()
    part = resolve_interval(start, length, pts=pts, total=reader.total, time_base=info.time_base, rate=info.rate)
    job = Job(request, kind, reader, pending, tags, matrix_note, encoding, size, *part)
    if kind == "image" and not is_pattern(request.output) and job.frames != 1:
        count = "an unknown number of" if job.frames is None else job.frames
        raise OptionError(
            f"{request.output} is one image and there are {count} frames; name out/%05d.png, or --frames 1"
        )
    return job


def _execute(job: Job, upscaler: Upscaler, writer: Writer, progress: Progress) -> int:
    """The pipeline from decoder to checked file; the number of frames written."""
    from .engine_feed import process_for

    info, work = job.reader.info, job.work(upscaler)
    try:
        to_rgb = ToRGB(info.layout, job.tags, info.width, info.height)
        process = process_for(upscaler, work.first, work.start, work.stop)
        written = run_pipeline(job.reader, to_rgb, process, writer, work, progress.advance)
        writer.finish()
    except BaseException:
        writer.abort()
        raise
    return written


def _report(job: Job, written: int, progress: Progress, redone: int) -> int:
    """The last lines, and the exit code."""
    name, reader = job.request.output, job.reader
    where = "stdout" if name == "-" else name
    say(f"done     {written} frames in {clock(progress.seconds)}, {written / progress.seconds:.2f} fps: {where}")
    if redone:
        say(f"note     {redone} frames were computed again in float32, because the faster result was not finite")
    if reader.restamped:
        say(f"note     {reader.restamped} timestamps of the input did not increase and were replaced")
    if reader.missing or (reader.undecodable and job.to_end):
        lost = f"{reader.missing} frames are missing" if reader.missing else "parts of it could not be decoded"
        say(f"duovsr: {reader.info.name} is damaged: {lost}; the {written} frames that decode were written")
        return DAMAGED
    return 0


def _quiet() -> None:
    """libav writes no lines of its own; what matters arrives as an error."""
    import av.logging

    av.logging.set_level(None)
