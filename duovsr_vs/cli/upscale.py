"""`duovsr upscale` of one input: check, plan, say the plan, run, verify, rename."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from ..errors import OptionError, VideoError
from ..model.registry import resolve
from ..video.convert import ToRGB
from ..video.encoding import output_kind
from ..video.output import PendingOutput, exists
from ..video.pipeline import run as run_pipeline
from . import long
from .exits import DAMAGED, quiet, say
from .job import Job, open_job
from .long import Outcome
from .plan import plan_lines
from .progress import Progress, clock
from .render import opened_folder
from .report import Reporter
from .request import Request

if TYPE_CHECKING:
    from ..engine.upscaler import Upscaler


@dataclass(frozen=True, slots=True)
class Result:
    """How an input ended: the exit code of its run, and a word for a table."""

    code: int
    word: Literal["done", "there already", "damaged"]
    frames: int = 0
    seconds: float = 0.0


def run(request: Request, reporter: Reporter) -> Result:
    """Do the whole job. Raises DuoVsrError for everything that is refused."""
    quiet()
    with ExitStack() as stack:
        job, begun = _prepared(request, stack)
        if job is None:
            say(f"done     {request.output} is there already; --overwrite makes it again")
            return Result(0, "there already")
        if request.ray is not None and job.resumable:
            from .cluster import join

            join(request.ray)
        upscaler = job.upscaler()
        grid = long.grid_of(job, upscaler, begun)
        if request.ray is not None and grid is None:
            say("note     --ray: this job is not cut into segments, so that it is made here alone")
        for line in plan_lines(job, upscaler.plan, grid):
            say(line)
        progress = Progress(job.frames)
        if grid is None:
            outcome = _in_one_go(job, upscaler, progress, reporter, stack)
        else:
            outcome = long.run(job, upscaler, grid, progress, partial(reporter.check, job, upscaler.plan))
        if upscaler.memory_note:
            say(f"note     {upscaler.memory_note}")
        return _ended(job, outcome, progress)


def _prepared(request: Request, stack: ExitStack) -> tuple[Job | None, bool]:
    """The job and whether it goes on with segments that are there; no job where nothing is left to do."""
    images = output_kind(request.output) == "image"
    resolve(request.options.model)
    if request.output == "-":
        if request.resume:
            raise OptionError("--resume: what goes to stdout cannot be taken up again")
        return open_job(request, stack, None), False
    folder = opened_folder(request)
    begun = long.settle(request, folder)
    if request.resume and not begun and not request.overwrite and exists(request.output, images=images):
        return None, False
    overwrite = request.overwrite or (begun and images and folder.final() is not None)
    pending = PendingOutput(request.output, request.source, overwrite=overwrite, images=images)
    job = open_job(request, stack, pending)
    if begun and not job.resumable:
        raise VideoError(f"{request.output} was begun from a file; give that file, or --overwrite to begin again")
    return job, begun


def _in_one_go(job: Job, upscaler: Upscaler, progress: Progress, reporter: Reporter, stack: ExitStack) -> Outcome:
    """A short job or a stream: one writer at a temporary name."""
    if job.pending is not None:
        stack.enter_context(job.pending)
    with progress:
        written = execute(job, upscaler, progress)
    if job.pending is not None:
        reporter.check(job, upscaler.plan, job.pending.part, written)
        job.pending.commit()
        opened_folder(job.request).remove()  # of a longer job that this one replaces
    reader = job.reader
    damaged = bool(reader.missing or (reader.undecodable and job.to_end))
    return Outcome(written, upscaler.redone, reader.restamped, reader.missing, damaged)


def execute(job: Job, upscaler: Upscaler, progress: Progress) -> int:
    """The pipeline from decoder to checked file; the number of frames written."""
    from .engine_feed import process_for

    info, work = job.reader.info, job.work(upscaler, job.start, job.stop)
    writer = job.writer()
    try:
        to_rgb = ToRGB(info.layout, job.tags, info.width, info.height)
        process = process_for(upscaler, work.first, work.start, work.stop)
        written = run_pipeline(job.reader, to_rgb, process, writer, work, progress.advance)
        writer.finish()
    except BaseException:
        writer.abort()
        raise
    return written


def _ended(job: Job, outcome: Outcome, progress: Progress) -> Result:
    """The last lines, and the exit code."""
    where = "stdout" if job.request.output == "-" else job.request.output
    fps = f", {progress.fps:.2f} fps" if progress.fps else ""
    say(f"done     {outcome.written} frames in {clock(progress.seconds)}{fps}: {where}")
    if outcome.redone:
        say(
            f"note     {outcome.redone} frames were computed again in float32, because the faster result was not finite"
        )
    if outcome.restamped:
        say(f"note     {outcome.restamped} timestamps of the input did not increase and were replaced")
    if outcome.damaged:
        lost = f"{outcome.missing} frames are missing" if outcome.missing else "parts of it could not be decoded"
        say(f"duovsr: {job.reader.info.name} is damaged: {lost}; the {outcome.written} frames that decode were written")
        return Result(DAMAGED, "damaged", outcome.written, progress.seconds)
    return Result(0, "done", outcome.written, progress.seconds)
