"""Making segments of a long job: in this process, in a worker process, or anywhere that sees input and output folder.

`render_segment(description, index)` is all that another machine needs: the description is plain JSON (the manifest of
the job), the result is the path of a finished segment, and which process makes it changes no bit of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..errors import VideoError
from ..video.convert import ToRGB
from ..video.manifest import differences
from ..video.output import segment_folder
from ..video.pipeline import Work
from ..video.pipeline import run as run_pipeline
from ..video.reader import Frame, VideoReader
from ..video.segmented import ImageSegment, Segment, SegmentedWriter, VideoSegment, carrier_of
from ..video.segments import Grid, SegmentFolder
from .job import Job, open_job
from .request import Request

if TYPE_CHECKING:
    from ..engine.upscaler import Upscaler

COUNTERS = ("restamped", "undecodable", "redone")
"""What is counted for each segment: replaced timestamps, damaged packets, frames computed again in float32."""

SEEN_AFTER = 10
"""Seconds after which a file on shared storage is seen everywhere."""


class UnsteadyInputError(Exception):
    """A frame is not where the packet table has it: some before it did not decode. From there on frames can only be
    counted from the input's beginning, in one pass. number: of the first such frame.  Never seen by users.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def render_segment(description: dict[str, Any], index: int) -> str:
    """Make one segment and return the path of its first file, "" if the input ends before it; done already: only that.

    description: what `job.described` gives. Raises DuoVsrError, also when this machine would not give the same bits,
    and UnsteadyInputError when the input has to be read in one pass.
    """
    with Station(description) as station:
        record = station.folder.record(index)
        if record is None:
            station.render(index, index)
            record = station.folder.record(index)
        files = station.folder.paths(record) if record else []
    return str(files[0]) if files else ""


def opened_folder(request: Request) -> SegmentFolder:
    """The folder of a request's segments, which need not exist."""
    return SegmentFolder(segment_folder(request.output), request.output)


def see_to_sharing(description: dict[str, Any]) -> None:
    """Where a description says so ("shared", the name of a file beside the segments), look whether this machine sees
    the folder of the others. Raises VideoError.
    """
    if "shared" not in description:
        return
    folder = opened_folder(Request.from_dict(description["request"])).path
    for _ in range(SEEN_AFTER):
        with suppress(OSError):
            if folder / description["shared"] in folder.iterdir():  # network file systems look again for a listing
                return
        time.sleep(1)
    raise VideoError(
        f"{folder} is not the folder that the others work in; input, model and output must lie on storage that all "
        "machines share, under the same names"
    )


class Station:
    """A place where segments of one job are made: its open input and its engine. Used as a context manager."""

    def __init__(self, description: dict[str, Any]):
        """Opens the input and loads the model. Raises VideoError where it is another job, folder or machine class."""
        self._stack = ExitStack()
        try:
            see_to_sharing(description)
            request = Request.from_dict(description["request"])
            job = open_job(request, self._stack, None)
            self._set(job, job.upscaler(), Grid(**description["identity"]["part"]), opened_folder(request))
            changed = differences(description["identity"], job.identity(self._upscaler.plan, self.grid))
        except BaseException:
            self._stack.close()
            raise
        if changed:
            self._stack.close()
            raise VideoError(f"{request.output}: this is not what was begun: {'; '.join(changed)}")

    @classmethod
    def of(cls, job: Job, upscaler: Upscaler, grid: Grid) -> Station:
        """One for a job that is open in this process."""
        station = cls.__new__(cls)
        station._stack = ExitStack()
        station._set(job, upscaler, grid, opened_folder(job.request))
        return station

    def _set(self, job: Job, upscaler: Upscaler, grid: Grid, folder: SegmentFolder) -> None:
        self.job, self.grid, self.folder, self._upscaler = job, grid, folder, upscaler
        self._carrier = carrier_of(job.encoding, job.kind)
        self._fresh = True

    def __enter__(self) -> Station:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def render(
        self,
        first: int,
        last: int,
        on_frame: Callable[[], None] = lambda: None,
        on_segment: Callable[[int], None] = lambda index: None,
    ) -> None:
        """Make the segments first to last in one pass over the input. Raises as `render_segment` does.

        on_frame, on_segment: called by the writing thread after each frame and each finished segment.
        """
        with ExitStack() as stack:
            reader = self._reader(stack)
            info, opening = reader.info, partial(self._segment, alpha=self.job.alpha(reader))
            work = self._work(first, last, reader)
            writer = SegmentedWriter(self.folder, self.grid, opening, partial(self._counters, reader), on_segment)
            try:
                to_rgb = ToRGB(info.layout, self.job.tags, info.width, info.height)
                written = run_pipeline(reader, to_rgb, self._process(work), writer, work, on_frame)
                writer.finish()
            except BaseException:
                writer.abort()
                raise
        if written < self.grid.frames(last)[1] - self.grid.frames(first)[0]:
            self._mark_end(first, last, written)

    def _reader(self, stack: ExitStack) -> VideoReader:
        """The job's own reader once, then new ones: each gives its frames one time."""
        if self._fresh:
            self._fresh = False
            return self.job.reader
        request, table = self.job.request, self.job.reader.scan
        return stack.enter_context(
            VideoReader(request.source, assume_progressive=request.assume_progressive, scan=table)
        )

    def _work(self, first: int, last: int, reader: VideoReader) -> Work:
        """What to read for some segments; the last one of an input goes on to its end."""
        start, stop = self.grid.frames(first)[0], self.grid.frames(last)[1]
        to_end = self.job.to_end and last == self.grid.count - 1
        work = self.job.work(self._upscaler, start, None if to_end else stop)
        counting = self.folder.unsteady
        table = () if counting or reader.scan is None else reader.scan.pts
        watch, reader.watch = reader.watch, None

        def check(frame: Frame) -> None:
            if watch is not None:
                watch(frame)
            if table and (frame.number >= len(table) or table[frame.number] != frame.pts):
                raise UnsteadyInputError(frame.number)

        return Work(work.first, work.last, start, work.stop, None, self.job.shift, counting, check)

    def _process(self, work: Work) -> Any:
        from .engine_feed import process_for

        return process_for(self._upscaler, work.first, work.start, work.stop)

    def _segment(self, part: Path, alpha: Any) -> Segment:
        job, name = self.job, self.job.request.output
        if job.kind == "image":
            return ImageSegment(part, Path(name).name, job.video(), job.encoding, job.first_number, alpha=alpha)
        return VideoSegment(part, name, job.video(), job.encoding, self._carrier, alpha=alpha)

    def _counters(self, reader: VideoReader) -> dict[str, int]:
        values = (reader.restamped, reader.undecodable, self._upscaler.redone)
        return dict(zip(COUNTERS, values, strict=True))

    def _mark_end(self, first: int, last: int, written: int) -> None:
        """The input ended early: segments behind its end are finished without a frame."""
        reached = self.grid.frames(first)[0] + written
        for index in range(first, last + 1):
            if self.grid.frames(index)[0] >= reached:
                self.folder.commit_nothing(index)
