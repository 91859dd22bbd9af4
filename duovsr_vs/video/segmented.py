"""Writing in segments: each by a fresh encoder with the same settings, closed and checked before the next begins."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import av
import numpy as np
from numpy.typing import NDArray

from .encoding import Encoding
from .memory import Trimmer
from .output import write_error
from .segments import Grid, Record, SegmentFolder
from .streams import Span, StreamCopier
from .writer import ContainerWriter, ImageWriter, OutputVideo

CARRIER = "matroska"
"""What segments are written in: it holds nearly every codec and all that is said about its frames."""


class Segment(Protocol):
    """A writer of one segment; `record` may be called after `finish`."""

    suffix: str

    def write(self, rgb: NDArray[np.float32], number: int, pts: int, duration: int) -> None: ...
    def finish(self) -> None: ...
    def abort(self) -> None: ...
    def record(self) -> Record: ...


class VideoSegment(ContainerWriter):
    """A segment of a video: frames of the video stream alone, with their true timestamps."""

    def __init__(self, path: Path, name: str, video: OutputVideo, encoding: Encoding, carrier: str, **more: Any):
        """path: the temporary file.  carrier: its muxer.  more: what ContainerWriter takes beyond this."""
        nothing = StreamCopier(SimpleNamespace(streams=()), -1, carrier, Span())
        bare = replace(video, metadata=None, stream_metadata=None, chapters=())
        self.suffix = ".mkv" if carrier == CARRIER else f".{carrier}"
        self._given = Record()
        self._order: list[int] = []
        self._digest = hashlib.sha256()
        super().__init__(path, carrier, name, bare, encoding, nothing, **more)

    def write(self, rgb: NDArray[np.float32], number: int, pts: int, duration: int) -> None:
        self._given.stamps.append(pts)
        self._given.durations.append(duration)
        super().write(rgb, number, pts, duration)

    def record(self) -> Record:
        """What was written; the timestamps of its packets tell which frame each of them is."""
        ranks = {position: rank for rank, position in enumerate(sorted(range(len(self._order)), key=self._stamp))}
        self._given.order = [ranks[position] for position in range(len(self._order))]
        self._given.frames_digest = self._digest.hexdigest()
        return self._given

    def _stamp(self, position: int) -> int:
        return self._order[position]

    def _mux(self, frame: av.VideoFrame | None) -> None:
        if frame is not None:
            digest_frame(self._digest, frame)
        try:
            for packet in self._encoded(frame):
                self._order.append(packet.pts)
                self._container.mux_one(packet)
        except av.EOFError:
            return
        except (av.FFmpegError, OSError, ValueError) as error:
            raise write_error(error, self._name) from None


class ImageSegment(ImageWriter):
    """A segment of an image sequence: a folder of images that already have their names."""

    suffix = ""

    def __init__(self, path: Path, pattern: str, video: OutputVideo, encoding: Encoding, first: int, **more: Any):
        """path: the temporary folder, which is made.  first: what the clip's frame 0 is called."""
        shutil.rmtree(path, ignore_errors=True)
        try:
            path.mkdir()
        except OSError as error:
            raise write_error(error, pattern) from None
        super().__init__(path, pattern, video, encoding, first, **more)
        self._given = Record()
        self._digest = hashlib.sha256()

    def write(self, rgb: NDArray[np.float32], number: int, pts: int, duration: int) -> None:
        self._given.stamps.append(pts)
        self._given.durations.append(duration)
        super().write(rgb, number, pts, duration)

    def record(self) -> Record:
        """What was written."""
        self._given.frames_digest = self._digest.hexdigest()
        return self._given

    def _encode(self, frame: av.VideoFrame) -> bytes:
        digest_frame(self._digest, frame)
        return super()._encode(frame)


class SegmentedWriter:
    """A writer that closes its segment at every boundary of a grid and begins the next one."""

    def __init__(
        self, folder: SegmentFolder, grid: Grid, make: Callable[[Path], Segment],
        counters: Callable[[], dict[str, int]], on_segment: Callable[[int], None],
    ):  # fmt: skip
        """make: opens a segment at a temporary path.  counters: what has happened so far, of which each record gets
        its share.  on_segment: told the index of each finished segment.
        """
        self._folder, self._grid, self._make, self._on_segment = folder, grid, make, on_segment
        self._counters, self._before = counters, counters()
        self._segment: Segment | None = None
        self._trimmer = Trimmer()
        self._index = -1
        self._written = 0

    def write(self, rgb: NDArray[np.float32], number: int, pts: int, duration: int) -> None:
        """One frame; the first of a segment closes the one before."""
        index = self._grid.index_of(number)
        if self._segment is None or index != self._index:
            self._close(short=False)
            self._index, self._written = index, 0
            self._segment = self._make(self._folder.part(index))
        self._written += 1
        self._segment.write(rgb, number, pts, duration)

    def copy(self, packets: Iterable[Any]) -> None:
        """Dropped: the other streams are copied when the segments are joined."""
        for _ in packets:
            pass

    def finish(self) -> None:
        """Close the last segment, whether or not it has all its frames."""
        if self._segment is not None:
            start, stop = self._grid.frames(self._index)
            self._close(short=self._written < stop - start)

    def abort(self) -> None:
        """Throw the unfinished segment away."""
        if self._segment is not None:
            self._segment.abort()
            self._segment = None
        part = self._folder.part(self._index)
        shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)

    def _close(self, short: bool) -> None:
        segment = self._segment
        if segment is None:
            return
        segment.finish()
        self._segment = None
        record, now = segment.record(), self._counters()
        record.short = short
        record.counters = {name: now[name] - self._before[name] for name in now}
        self._before = now
        self._folder.commit(self._index, self._folder.part(self._index), segment.suffix, record)
        self._trimmer.now()  # an encoder has ended; without this, every segment leaves a little behind
        self._on_segment(self._index)


def carrier_of(encoding: Encoding, muxer: str) -> str:
    """What the segments of an output are written in: Matroska, or where that does not hold the codec, the output's."""
    try:
        with av.open(io.BytesIO(), "w", format=CARRIER) as trial:
            trial.add_stream(encoding.codec, rate=25)
    except (av.FFmpegError, ValueError):
        return muxer
    return CARRIER


def digest_frame(digest: Any, frame: av.VideoFrame) -> None:
    """Add the samples of a frame to a checksum, row by row as they are in memory but without the padding."""
    components, fmt = frame.format.components, frame.format
    for index, plane in enumerate(frame.planes):
        inside = [c for c in components if c.plane == index]
        if len(frame.planes) == 1 and len(components) > 1:
            wide = frame.width * fmt.padded_bits_per_pixel // 8
        else:
            wide = sum(c.width * -(-c.bits // 8) for c in inside)
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height]
        digest.update(np.ascontiguousarray(rows[:, :wide]))
