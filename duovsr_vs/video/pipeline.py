"""Decoding, processing and encoding at the same time: three stages, small queues between them, one order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..interrupts import held_back
from .convert import ToRGB
from .memory import Trimmer
from .reader import Frame, VideoReader
from .writer import Writer

Process = Callable[[Iterator[NDArray[np.float32]]], Iterator[NDArray[np.float32]]]
"""Takes (3, h, w) frames, gives one (3, H, W) frame for each wanted output frame, in order."""
_Done = tuple[NDArray[np.float32], int, int, int]
"""An output frame, its number, timestamp and duration."""
READ_AHEAD = 4
"""Input frames waiting between decoder and engine."""
WRITE_BEHIND = 2
"""Output frames waiting between engine and encoder (25 MB each at 1080p)."""
POLL = 0.1
"""Seconds within which a stage that waits sees that all are to stop."""


class Stopped(Exception):  # noqa: N818 (not an error: another stage has one)
    """Another stage has ended; raised by a channel's `put` and `get`."""


class Channel[T]:
    """A bounded queue between two threads that can be closed by the giver and stopped by anyone."""

    def __init__(self, size: int):
        self._items: deque[T] = deque()
        self._size = size
        self._changed = threading.Condition()
        self._closed = False
        self.stopped = False

    def put(self, item: T) -> None:
        """Wait for room, then add. Raises Stopped."""
        with self._changed:
            self._wait_for(lambda: len(self._items) < self._size)
            self._items.append(item)
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more will be put."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Everybody gets Stopped, within POLL seconds. Takes no lock: signal handlers may call it."""
        self.stopped = True

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._wait_for(lambda: bool(self._items) or self._closed)
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item

    def _wait_for(self, met: Callable[[], bool]) -> None:
        while not self.stopped and not self._changed.wait_for(met, POLL):
            pass
        if self.stopped:
            raise Stopped


@dataclass(frozen=True, slots=True)
class Work:
    """Which frames: read [first, last), write [start, stop); None is the end of the input.

    until: seconds up to which other streams are read when the end is cut.  shift: taken from every timestamp.
    rewind: decode from the beginning of the input, without a jump.  check: sees each frame that is read, may raise.
    """

    first: int = 0
    last: int | None = None
    start: int = 0
    stop: int | None = None
    until: Fraction | None = None
    shift: int = 0
    rewind: bool = False
    check: Callable[[Frame], None] | None = None


class _Stages:
    """The threads of one run and the first error that one of them met."""

    def __init__(self, channels: Iterable[Channel[Any]]):
        self._channels = list(channels)
        self._threads: list[threading.Thread] = []
        self.error: BaseException | None = None

    def start(self, name: str, body: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                body()
            except Stopped:
                pass
            except BaseException as error:
                self.error = self.error or error
                self.stop()

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        for channel in self._channels:
            channel.stop()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


@dataclass(slots=True)
class _Run:
    """One run: what its two threads do, and what they share."""

    reader: VideoReader
    to_rgb: ToRGB
    writer: Writer
    work: Work
    on_frame: Callable[[], None]
    read: Channel[NDArray[np.float32]] = field(default_factory=lambda: Channel(READ_AHEAD))
    done: Channel[_Done] = field(default_factory=lambda: Channel(WRITE_BEHIND))
    stamps: deque[tuple[int, int, int]] = field(default_factory=deque)
    """Number, timestamp and duration of the frames that have been read and will be written."""
    written: int = 0

    def decode(self) -> None:
        work = self.work
        for frame in self.reader.frames(0 if work.rewind else work.first, work.last):
            if frame.number < work.first:
                continue
            if work.check is not None:
                work.check(frame)
            if frame.number >= work.start and (work.stop is None or frame.number < work.stop):
                self.stamps.append((frame.number, frame.pts - work.shift, frame.duration))
            self.read.put(self.to_rgb(frame.image))
        if work.until is not None:
            self.reader.drain(work.until)
        self.read.close()

    def encode(self) -> None:
        trimmer = Trimmer()
        for rgb, number, pts, duration in self.done:
            self.copy_packets()
            self.writer.write(rgb, number, pts, duration)
            self.written += 1
            trimmer.passed(rgb.nbytes)
            self.on_frame()

    def copy_packets(self) -> None:
        """Hand over what the reader has met of the other streams."""
        packets = self.reader.packets
        self.writer.copy([packets.popleft() for _ in range(len(packets))])


def run(
    reader: VideoReader, to_rgb: ToRGB, process: Process, writer: Writer, work: Work, on_frame: Callable[[], None]
) -> int:
    """Run a job to the end of its frames and return how many were written; `writer.finish` is left to the caller.

    process runs in the calling thread.  on_frame is called by the writing thread after each frame. The first error of
    any stage is raised; memory is bounded by the two queues and by what process holds. An interrupt ends the run after
    the frame that is being made: nobody touches reader and writer any more when it is raised.
    """
    this = _Run(reader, to_rgb, writer, work, on_frame)
    stages = _Stages([this.read, this.done])
    with held_back(stages.stop):
        try:
            stages.start("decode", this.decode)
            stages.start("encode", this.encode)
            with suppress(Stopped):
                for rgb in process(iter(this.read)):
                    this.done.put((rgb, *this.stamps.popleft()))
                this.done.close()
        except BaseException:
            stages.stop()
            raise
        finally:
            if this.read.stopped:
                reader.give_up()
            stages.join()
    if stages.error is not None:
        raise stages.error
    this.copy_packets()
    return this.written
