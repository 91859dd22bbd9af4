"""The finished parts of a long job: a grid of frame numbers, and the folder beside the output where they are kept.

A segment is a file of its own (or a folder of images) with a closed group of pictures, and a record beside it that is
written last: without a valid record there is no segment. So a job may be killed at any moment, several processes may
make different segments, and what is there is always whole.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Any

from ..errors import VideoError
from ..interrupts import held_back
from .manifest import Facts, file_digest, read_json, write_json
from .output import sync, write_error

MANIFEST, FINAL, UNSTEADY, LOCK = "manifest.json", "final.json", "unsteady.json", "lock"


@dataclass(frozen=True, slots=True)
class Grid:
    """Output frames [start, stop) in segments that end at multiples of `length`, counted in frames of the input."""

    start: int
    stop: int
    length: int

    @property
    def count(self) -> int:
        """Number of segments."""
        return max(-(-self.stop // self.length) - self.start // self.length, 1)

    def frames(self, index: int) -> tuple[int, int]:
        """[start, stop) of a segment."""
        first = self.start // self.length + index
        return max(first * self.length, self.start), min((first + 1) * self.length, self.stop)

    def index_of(self, number: int) -> int:
        """The segment of a frame; the last one also takes what lies behind it."""
        return min(number // self.length - self.start // self.length, self.count - 1)


@dataclass(slots=True, kw_only=True)
class Record:
    """What a finished segment is.

    stamps, durations: of its frames in display order, in the input's time base, as they are to be written.  order: of
    each packet in the file, which frame of the segment it is.  frames_digest: SHA-256 of the samples that the encoder
    got.  files: name, bytes and SHA-256 of each file.  short: the input ended in it.  counters: what happened on the
    way.
    """

    stamps: list[int] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    frames_digest: str = ""
    files: list[tuple[str, int, str]] = field(default_factory=list)
    short: bool = False
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def delay(self) -> int:
        """Packets by which decoding runs ahead of display."""
        return max((position - rank for position, rank in enumerate(self.order)), default=0)

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """A record from its file; None where there is none that makes sense."""
        facts = read_json(path)
        if facts is None or facts.keys() != {f.name for f in fields(cls)}:
            return None
        try:
            record = cls(**facts)
            record.files = [(str(name), int(size), str(digest)) for name, size, digest in record.files]
            frames = len(record.stamps)
            lists = (record.stamps, record.durations, record.order)
            sound = all(type(numbers) is list for numbers in lists) and len(record.durations) == frames
            sound = sound and all(type(n) is int and -(2**63) <= n < 2**63 for n in chain(*lists))
            whole = sorted(record.order) == list(range(frames)) or not record.order
            counted = isinstance(record.counters, dict) and all(type(n) is int for n in record.counters.values())
            return record if sound and whole and counted else None
        except (TypeError, ValueError, OverflowError):
            return None


class SegmentFolder:
    """The segments of one job on the disk."""

    def __init__(self, path: Path, name: str):
        """path: the folder, which need not exist.  name: what people call the output."""
        self.path, self._name = path, name
        self._own = f"{os.getpid()}-{secrets.token_hex(4)}"  # parts of several machines must not meet

    def begin(self, manifest: Facts) -> None:
        """Write down what the job is; what was in the (locked) folder is thrown away. Raises VideoError."""
        try:
            (self.path / MANIFEST).unlink(missing_ok=True)
            for entry in [entry for entry in self.path.iterdir() if entry.name != LOCK]:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        except OSError as error:
            raise write_error(error, str(self.path)) from None
        write_json(self.path / MANIFEST, manifest)

    def manifest(self) -> Facts | None:
        """What the job is; None where no job has begun."""
        return read_json(self.path / MANIFEST)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The folder is there, and nobody else works in it meanwhile; it goes when it holds no manifest in the end.

        Raises VideoError when somebody else works in it.
        """
        mine = False
        with ExitStack() as stack:
            try:
                with held_back():  # what this makes, the end of this takes away
                    mine = self._taken(stack)
                if not mine:
                    raise VideoError(f"{self._name} is being written by another duovsr; wait for it, or end it first")
                self.clear_parts()
                yield
            finally:
                if mine:
                    self.clear_parts()
                    if self.manifest() is None:  # ended before anything had begun
                        self.remove()

    def part(self, index: int) -> Path:
        """Where a process writes a segment that is not finished."""
        return self.path / f"{index:06}.{self._own}.part"

    def paths(self, record: Record) -> list[Path]:
        """The files of a finished segment."""
        return [self.path / name for name, _, _ in record.files]

    def commit(self, index: int, part: Path, suffix: str, record: Record) -> None:
        """A segment is whole: give it its name (`000012` and suffix) and write its record. Raises VideoError.

        What another worker, which may have been taken for lost, has finished meanwhile stays.
        """
        if self.record(index) is not None:
            _throw_away(part)
            return
        target = self.path / f"{index:06}{suffix}"
        try:
            self.drop(index)
            if part.is_dir():
                shutil.rmtree(target, ignore_errors=True)  # left without a record by a run that was killed
            files = sorted(part.iterdir()) if part.is_dir() else [part]
            for file in files:
                sync(file)
            sums = [(file.stat().st_size, file_digest(file)) for file in files]
            part.replace(target)
        except OSError as error:
            raise write_error(error, self._name) from None
        names = [f"{target.name}/{file.name}" for file in files] if target.is_dir() else [target.name]
        record.files = [(name, *facts) for name, facts in zip(names, sums, strict=True)]
        write_json(self._record(index), asdict(record))

    def commit_nothing(self, index: int) -> None:
        """The input has ended before this segment."""
        write_json(self._record(index), asdict(Record(short=True)))

    def record(self, index: int, *, complete: bool = True) -> Record | None:
        """Of a finished segment, None where it has to be made. complete: its files are there in the right sizes."""
        record = Record.read(self._record(index))
        if record is None or not all(
            name.startswith(f"{index:06}") and ".." not in name for name, _, _ in record.files
        ):
            return None
        there = not complete or all(self._is_there(name, size) for name, size, _ in record.files)
        return record if there else None

    def is_intact(self, index: int) -> bool:
        """Whether the files of a finished segment are bit by bit what was written."""
        record = self.record(index)
        try:
            return record is not None and all(file_digest(self.path / n) == digest for n, _, digest in record.files)
        except OSError:
            return False

    def finished(self, count: int) -> list[int]:
        """Which of the first `count` segments are there."""
        return [index for index in range(count) if self.record(index) is not None]

    def drop(self, index: int) -> None:
        """Forget a segment: its record goes first."""
        self._record(index).unlink(missing_ok=True)

    def final(self) -> Facts | None:
        """What was about to be put in place when the last run ended; None if it was not so far."""
        return read_json(self.path / FINAL)

    def mark_final(self, facts: Facts) -> None:
        """All segments are made and joined; only names are to be given. Raises VideoError."""
        write_json(self.path / FINAL, facts)

    @property
    def unsteady(self) -> bool:
        """Whether frames of the input were met that do not decode: it is then read from its beginning only."""
        return (self.path / UNSTEADY).exists()

    def mark_unsteady(self) -> None:
        """From now on the input is read from its beginning."""
        write_json(self.path / UNSTEADY, {})

    def clear_parts(self) -> None:
        """Remove what was not finished."""
        for part in self.path.glob("*.part"):
            _throw_away(part)

    def remove(self) -> None:
        """Remove the folder; its manifest goes first, so that what is left of it is never taken for a job."""
        (self.path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def _taken(self, stack: ExitStack) -> bool:
        """Make the folder and take its lock, until the stack is closed; False: somebody has it. Raises VideoError."""
        try:
            self.path.mkdir(exist_ok=True)
            return _lock(stack.enter_context((self.path / LOCK).open("a")))
        except OSError as error:
            raise write_error(error, str(self.path)) from None

    def _record(self, index: int) -> Path:
        return self.path / f"{index:06}.json"

    def _is_there(self, name: str, size: int) -> bool:
        try:
            return (self.path / name).stat().st_size == size
        except OSError:
            return False


def _throw_away(part: Path) -> None:
    shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)


def _lock(file: Any) -> bool:
    """Take an advisory lock that ends with the process; file systems without locks are trusted."""
    with suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
    return True
