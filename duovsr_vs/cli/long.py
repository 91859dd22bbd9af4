"""A long job: begun or taken up again, made segment by segment, joined, checked, renamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DuoVsrError, VideoError
from ..video.join import Joiner
from ..video.manifest import Facts, differences
from ..video.output import put_in_place
from ..video.segments import Grid, SegmentFolder
from .exits import say
from .job import Job, described
from .progress import Progress
from .render import Station, UnsteadyInputError, opened_folder
from .request import Request

if TYPE_CHECKING:
    from ..engine.upscaler import Upscaler
    from .crew import Crew


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has made: frames, those of them computed again in float32, replaced timestamps, frames that are
    missing, and whether anything of the input could not be decoded.
    """

    written: int
    redone: int
    restamped: int
    missing: int
    damaged: bool


def settle(request: Request, folder: SegmentFolder) -> bool:
    """Whether an output has been begun in segments. What a job that was killed after its last rename left is cleared.

    Raises VideoError when it has been begun and is neither to be resumed nor to be begun again.
    """
    manifest = unfinished(folder, request.output)
    if manifest is not None and not request.resume and not request.overwrite:
        raise VideoError(
            f"{request.output} was begun before ({_kept(folder, _grid_of(manifest))}); give --resume to go on, or "
            "--overwrite to begin again"
        )
    return manifest is not None and request.resume


def unfinished(folder: SegmentFolder, output: str) -> Facts | None:
    """The manifest of an output that is not finished. Beside a finished one a folder is only left over: it goes.

    Raises VideoError when another duovsr works in that folder.
    """
    manifest, final = folder.manifest(), folder.final()
    finished = final is not None and final == _facts(Path(output))
    if not folder.path.is_dir() or not (manifest is None or finished):
        return manifest
    with folder.locked():  # without a manifest: left by a clean-up that was killed, or about to be begun
        folder.remove()
    return None


def grid_of(job: Job, upscaler: Upscaler, begun: bool) -> Grid | None:
    """The segments of a job; None for one that is written in one go. begun: its folder says how long they are."""
    if not job.resumable:
        return None
    manifest = opened_folder(job.request).manifest() if begun else None
    grid = job.grid(upscaler, job.request.segment or (_grid_of(manifest).length if manifest else None))
    # Images get their names one by one: the folder tells a run that follows whether all have theirs.
    return grid if grid.count > 1 or begun or (job.kind == "image" and job.frames != 1) else None


def run(job: Job, upscaler: Upscaler, grid: Grid, progress: Progress, check: Callable[[Path, int], None]) -> Outcome:
    """Make, join, check and rename. Raises DuoVsrError and KeyboardInterrupt with what is kept in their text.

    check: looks at the finished file, of so many frames, before it gets its name.
    """
    folder, identity = opened_folder(job.request), job.identity(upscaler.plan, grid)
    with folder.locked():
        begun = _resumed(job, folder, grid, identity)
        with _keeping(folder, grid):
            if not begun:
                folder.begin(described(job.request, identity))
            moving = _moving(job, folder)
            if not moving:
                progress.ready(sum(_frames(folder, index) for index in folder.finished(grid.count)))
                with progress:
                    _make(job, upscaler, grid, identity, folder, progress)
            joiner = Joiner(folder, grid.count, job.request.output, moving=moving)
            _finish(job, folder, joiner, check)
        folder.remove()
    counters, expected = joiner.counters(), grid.stop - grid.start
    cut_off = job.reader.scan.cut_off if job.reader.scan and job.to_end else 0
    missing = max(expected - joiner.frames, 0) + cut_off
    damaged = bool(missing or (job.to_end and counters.get("undecodable")))
    return Outcome(joiner.frames, counters.get("redone", 0), counters.get("restamped", 0), missing, damaged)


def _resumed(job: Job, folder: SegmentFolder, grid: Grid, identity: Facts) -> bool:
    """Whether this job has been begun: it is compared with the manifest, and every finished segment is looked at."""
    manifest = folder.manifest() if job.request.resume else None
    if manifest is None:
        return False
    if changed := differences(manifest.get("identity", {}), identity):
        raise VideoError(
            f"{job.request.output} was begun with something else: {'; '.join(changed)}; give the same again, or "
            "--overwrite without --resume to begin again"
        )
    if _moving(job, folder):
        return True
    broken = [index for index in folder.finished(grid.count) if not folder.is_intact(index)]
    for index in broken:
        folder.drop(index)
    note = f", {len(broken)} were damaged and are made again" if broken else ""
    say(f"resumed  {_kept(folder, grid)}{note}")
    return True


def _moving(job: Job, folder: SegmentFolder) -> bool:
    """Whether images are being given their names: from then on only that is to be done."""
    return job.kind == "image" and folder.final() is not None


def _make(job: Job, upscaler: Upscaler, grid: Grid, identity: Facts, folder: SegmentFolder, progress: Progress) -> None:
    """Make all segments that are missing, here or by workers."""
    with Station.of(job, upscaler, grid) as station:
        before: list[range] = []
        while missing := _missing(folder, grid):
            if missing == before:
                raise VideoError(f"{folder.path}: segments that were just made cannot be read again; check the disk")
            before = missing
            split = not folder.unsteady and sum(len(run) for run in missing) > 1
            crew = _crew(job, upscaler, described(job.request, identity), folder) if split else None
            try:
                if crew is not None:
                    crew.run(missing, progress.advance)
                else:
                    station.render(missing[0][0], missing[0][-1], progress.advance)
            except UnsteadyInputError as found:
                _read_from_beginning(folder, grid, grid.index_of(found.number))
                before = []


def _crew(job: Job, upscaler: Upscaler, description: Facts, folder: SegmentFolder) -> Crew | None:
    """Who shares the segments; None where this process makes them alone."""
    from .crew import LocalCrew, devices_of

    if job.request.ray is not None:
        from .cluster import ClusterCrew

        return ClusterCrew(description, job.request.workers, upscaler.plan.device, folder)
    devices = devices_of(job.request)
    count = job.request.workers * max(len(devices), 1)
    return LocalCrew(description, job.request.workers, devices) if count > 1 else None


def _missing(folder: SegmentFolder, grid: Grid) -> list[range]:
    """Runs of segments that have to be made; a segment that ended early with others behind it is one of them."""
    records = [folder.record(index) for index in range(grid.count)]
    for index, record in enumerate(records):
        if record is not None and record.short and any(later and later.stamps for later in records[index + 1 :]):
            _read_from_beginning(folder, grid, index)
            return _missing(folder, grid)
    runs: list[range] = []
    for index in (index for index, record in enumerate(records) if record is None):
        joined = runs and runs[-1].stop == index
        runs[-1:] = [range(runs[-1].start, index + 1)] if joined else [*runs[-1:], range(index, index + 1)]
    return runs


def _read_from_beginning(folder: SegmentFolder, grid: Grid, index: int) -> None:
    """Frames are counted from now on, one segment after the other; those behind the first gap or from `index` on were
    made by the numbers of the packet table.
    """
    folder.mark_unsteady()
    gap = next((n for n in range(grid.count) if folder.record(n) is None), grid.count)
    for later in range(min(gap, index), grid.count):
        folder.drop(later)


def _finish(job: Job, folder: SegmentFolder, joiner: Joiner, check: Callable[[Path, int], None]) -> None:
    """The finished output under its name. Images have been checked one by one."""
    output = Path(job.request.output)
    if job.kind == "image":
        folder.mark_final({"moving": True})
        joiner.move_images(output)
        return
    part = folder.path / "joined.part"
    joiner.join(part, job.kind, job.video(), job.encoding, job.request.source, job.span)
    check(part, joiner.frames)
    folder.mark_final(_facts(part) or {})
    put_in_place([part], output, images=False)


@contextmanager
def _keeping(folder: SegmentFolder, grid: Grid) -> Iterator[None]:
    """Whatever ends the run early: say what is kept, or leave nothing where nothing is finished."""
    try:
        yield
    except BaseException as error:
        if folder.manifest() is None or not (folder.finished(grid.count) or folder.final()):
            folder.remove()
            raise
        kept = f"{_kept(folder, grid)}; the same command with --resume goes on"
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(kept) from None
        if isinstance(error, DuoVsrError):
            raise type(error)(f"{error}; {kept}") from error
        raise


def _kept(folder: SegmentFolder, grid: Grid) -> str:
    count = len(folder.finished(grid.count))
    return f"{count} of {grid.count} segments are finished"


def _grid_of(manifest: Facts) -> Grid:
    """The grid of a manifest; an empty one when it makes no sense."""
    try:
        grid = Grid(**{name: int(value) for name, value in manifest["identity"]["part"].items()})
    except (KeyError, TypeError, ValueError, AttributeError):
        return Grid(0, 0, 1)
    return grid if grid.length > 0 else Grid(0, 0, 1)


def _frames(folder: SegmentFolder, index: int) -> int:
    record = folder.record(index)
    return len(record.stamps) if record else 0


def _facts(path: Path) -> Facts | None:
    """What tells a finished file from another one of its name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return {"bytes": found.st_size, "modified": found.st_mtime_ns}
