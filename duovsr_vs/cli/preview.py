"""`duovsr upscale --preview SECONDS`: a few moments with the job's own options, a page to look at, and an estimate."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OptionError, VideoError
from ..model.registry import resolve
from ..video.colour import parse_matrix
from ..video.encoding import output_kind
from ..video.output import PendingOutput, write_error
from ..video.sequence import is_pattern
from .exits import quiet, say
from .job import USUAL_RATE, Job, open_job
from .plan import plan_lines
from .progress import Progress, clock
from .request import Request
from .upscale import execute

if TYPE_CHECKING:
    from ..compare.gather import Entry
    from ..compare.moments import Moment
    from ..engine.upscaler import Upscaler

FRAMES_ONLY = ("y4m", "image")
"""Kinds of output whose preview is the page alone: nothing plays them, or they fill a disk."""


class _Timed(Progress):
    """Also tells how long frames take, without what comes before the first one."""

    def __init__(self, total: int):
        super().__init__(total)
        self.times: list[float] = []

    def advance(self) -> None:
        """One more frame is written."""
        super().advance()
        self.times.append(time.monotonic())


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A moment, where its clip lies until it gets its name, how to read that, and seconds a frame."""

    moment: Moment
    pending: PendingOutput
    path: str
    seconds: float


def run(request: Request, sources: Sequence[str], seconds: float) -> int:
    """Render, compare, estimate; the exit code. The output's name and what is begun of it are not touched.

    seconds: of each moment. Raises DuoVsrError for everything that is refused.
    """
    _refuse(request, sources)
    quiet()
    resolve(request.options.model)
    images = output_kind(request.output) == "image"
    PendingOutput(request.output, request.source, overwrite=True, images=images)  # what the job would be refused for
    page = PendingOutput(str(_beside(request.output, 0)), request.source, overwrite=request.overwrite)
    with ExitStack() as stack:
        job = open_job(request, stack, None)
        upscaler = job.upscaler()
        for line in plan_lines(job, upscaler.plan):
            say(line)
        source, chosen = _moments(job, seconds)
        for moment in chosen:
            say(f"preview  frames {moment.first} to {moment.stop - 1}, {moment.name}")
        rendered = _render_all(job, upscaler, chosen, stack)
        estimate = _estimate(job, rendered)
        stack.enter_context(page)
        _write_page(page, job, source, rendered, estimate, _told(upscaler))
        kept = [] if job.kind in FRAMES_ONLY else [one.pending for one in rendered]
        for pending in (*kept, page):
            pending.commit()
    say(f"estimate {estimate}")
    say(f"done     {', '.join(str(pending.path) for pending in (page, *kept))}")
    return 0


def _refuse(request: Request, sources: Sequence[str]) -> None:
    if len(sources) > 1 or Path(sources[0]).is_dir():
        raise OptionError("--preview looks at one video; give one INPUT")
    if request.source == "-":
        raise OptionError("--preview reads its input more than once, so it cannot read from stdin; name a file")
    if request.output == "-" or request.output.endswith("/") or Path(request.output).is_dir():
        raise OptionError(f"-o {request.output}: --preview needs the name of a file, such as -o out.mkv")
    if request.resume or request.report:
        name = "--resume" if request.resume else "--report"
        raise OptionError(f"--preview does not make the output, so {name} says nothing; leave one out")


def _beside(output: str, number: int) -> Path:
    """Name of the page (0) or of a moment's clip, beside the output."""
    path = Path(output)
    if is_pattern(output):
        return path.with_name(f"preview-{number}-{path.name}" if number else "preview.html")
    return path.with_name(f"{path.stem}.preview-{number}{path.suffix}" if number else f"{path.stem}.preview.html")


def _moments(job: Job, seconds: float) -> tuple[Entry, list[Moment]]:
    """The source as it is compared, and where to look: with --start there alone, else where it pays."""
    from ..compare.gather import entry_of
    from ..compare.moments import Moment, moments

    request, rate = job.request, float(job.reader.info.rate or USUAL_RATE)
    matrix = None if request.matrix is None else parse_matrix(request.matrix)
    name = Path(request.source).name
    source = entry_of(request.source, name, "source", scan=job.reader.scan, matrix=matrix)
    stop = job.start + (job.frames or 1)
    length = max(1, round(seconds * rate))
    if request.start is not None:
        return source, [Moment("where --start lies", job.start, min(job.start + length, stop))]
    return source, moments(source, job.start, stop, length)


def _render_all(job: Job, upscaler: Upscaler, chosen: Sequence[Moment], stack: ExitStack) -> list[_Rendered]:
    """Every moment under a temporary name; they are gone when the stack closes, unless they get their own."""
    names = [str(_beside(job.request.output, number)) for number in range(1, len(chosen) + 1)]
    images, overwrite = job.kind == "image", job.request.overwrite or job.kind in FRAMES_ONLY
    places = [PendingOutput(name, job.request.source, overwrite=overwrite, images=images) for name in names]
    progress = _Timed(sum(moment.stop - moment.first for moment in chosen))
    with progress:
        return [
            _render(job.request, moment, stack.enter_context(pending), upscaler, progress)
            for moment, pending in zip(chosen, places, strict=True)
        ]


def _render(
    request: Request, moment: Moment, pending: PendingOutput, upscaler: Upscaler, progress: _Timed
) -> _Rendered:
    count = moment.stop - moment.first
    part = replace(request, output=str(pending.path), start=str(moment.first), frames=str(count))
    began, done = time.monotonic(), len(progress.times)
    with ExitStack() as stack:
        written = execute(open_job(part, stack, pending), upscaler, progress)
    if not written:
        raise VideoError(f"{request.source}: frames {moment.first} to {moment.stop - 1} cannot be decoded")
    ended = time.monotonic()
    spent = (ended - progress.times[done]) / (written - 1) if written > 1 else ended - began
    path = pending.part / pending.path.name if pending.part.is_dir() else pending.part
    return _Rendered(moment, pending, str(path), spent)


def _write_page(
    page: PendingOutput, job: Job, source: Entry, rendered: Sequence[_Rendered], estimate: str, told: str
) -> None:
    from ..compare.gather import entry_of
    from ..compare.preview import preview_page

    name = Path(job.request.output).name
    made = [(one.moment, entry_of(one.path, name, "clip", first=one.moment.first)) for one in rendered]
    data = preview_page(source, made, f"Preview of {name}", f"{estimate[0].upper()}{estimate[1:]}.", [told])
    try:
        page.part.write_bytes(data)
    except OSError as error:
        raise write_error(error, str(page.path)) from None


def _told(upscaler: Upscaler) -> str:
    """What the page says of the run."""
    plan = upscaler.plan
    model = f"{plan.model_name}, strength {plan.strength:g}, detail {plan.detail:g}, seed {plan.seed}"
    return f"Model {model}; {plan.machine}, {plan.precision}."


def _estimate(job: Job, rendered: Sequence[_Rendered]) -> str:
    """Time and size of the whole job, in words."""
    from ..compare.estimate import KEY_DISTANCE, Made, packets_of, video_bytes

    frames = job.frames or 1
    counts = [one.moment.stop - one.moment.first for one in rendered]
    pace = sum(n * one.seconds for n, one in zip(counts, rendered, strict=True)) / sum(counts)
    source = packets_of(job.request.source, job.reader.stream.index)
    parts = [Made(one.moment, packets_of(one.path)) for one in rendered]
    video = video_bytes(source, parts, (job.start, job.start + frames), KEY_DISTANCE)
    total = video + _copied(job, source.others, frames)
    size = f"{total / 1e9:.2g} GB" if total >= 1e9 else f"{max(total / 1e6, 0.1):.2g} MB"
    plural, shared = "s" if frames > 1 else "", job.request.workers > 1 or job.request.ray is not None
    speed = f"{1 / pace:.2f} fps{' in one process' if shared else ''}"
    return f"the whole job, {frames} frame{plural}: about {clock(frames * pace)} ({speed}), about {size}"


def _copied(job: Job, others: dict[int, int], frames: int) -> float:
    """Bytes of the streams that come along, for the part of the input that is made."""
    if job.kind in FRAMES_ONLY:
        return 0.0
    taken = sum(size for index, size in others.items() if index not in job.copier.left_out)
    return taken * frames / max(job.reader.total or frames, 1)
