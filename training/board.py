"""TensorBoard's event file, written by whoever calls: a disk that is full is then an error here, not in a thread."""

from __future__ import annotations

import errno
import io
import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


class WholeFile(io.FileIO):
    """Unbuffered; what does not fit whole is an OSError at once, where a plain file would keep its first part."""

    def write(self, data: Any) -> int:
        if super().write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(data)


class Board:
    """A new events.out.tfevents.* in a folder; what earlier ones hold from step `first` + 1 on no longer counts.

    Every call writes at once. OSError: it cannot.
    """

    def __init__(self, folder: Path, first: int):
        from tensorboard.compat.proto import event_pb2  # type: ignore[import-untyped]

        self._event = event_pb2.Event
        self._file, self._records = _new_file(folder)
        self._write(first + 1, file_version="brain.Event:2")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(first + 1, session_log=start)

    def scalar(self, name: str, value: float, step: int) -> None:
        """A number."""
        self._write(step, summary=_summaries().scalar(name, value))

    def image(self, name: str, picture: npt.NDArray[np.uint8], step: int) -> None:
        """(h w 3) RGB."""
        self._write(step, summary=_summaries().image(name, picture, dataformats="HWC"))

    def text(self, name: str, text: str, step: int) -> None:
        """Markdown."""
        self._write(step, summary=_summaries().text(name, text))

    def close(self) -> None:
        """Nothing is on its way: all has been written."""
        self._file.close()

    def _write(self, step: int, **content: Any) -> None:
        event = self._event(wall_time=time.time(), step=step, **content)
        self._records.write(event.SerializeToString())


def _summaries() -> Any:
    """What makes the records; importing it takes a second, which dry runs need not spend."""
    from torch.utils.tensorboard import summary

    return summary


def _new_file(folder: Path) -> tuple[WholeFile, Any]:
    """One of a name of its own, and what puts records into it."""
    from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

    stem = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}"
    for number in range(10_000):
        try:
            file = WholeFile(folder / f"{stem}.{number}", "x")
        except FileExistsError:
            continue
        return file, RecordWriter(file)
    raise FileExistsError(f"{folder} has too many files named {stem}")
