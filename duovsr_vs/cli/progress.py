"""How far a run is: a bar on a terminal, a plain line now and then elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from .exits import say

PLAIN_INTERVAL = 10.0
"""Seconds between two plain lines."""


class Progress:
    """Counts frames; `advance` may be called from any one thread."""

    def __init__(self, total: int | None):
        """total: frames to come; None: unknown, then there is no time left to tell."""
        self.total = total
        self.done = 0
        self._ready = 0
        self._began = self._said = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def ready(self, frames: int) -> None:
        """So many frames were there before the run began; they count as done and not as fast."""
        self.done = self._ready = frames

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            self._bar = _bar(self.total is not None)
            self._task = self._bar.add_task("", total=self.total, completed=self._ready, fps="")
            self._bar.start()
        self._began = self._said = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began

    @property
    def fps(self) -> float:
        """Frames per second so far."""
        return (self.done - self._ready) / max(self.seconds, 1e-9)

    def advance(self) -> None:
        """One more frame is written."""
        self.done += 1
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, fps=f"{self.fps:.2f} fps")
        elif now - self._said >= PLAIN_INTERVAL:
            self._said = now
            say(self._line())

    def _line(self) -> str:
        if self.total is None:
            return f"{self.done} frames, {self.fps:.2f} fps"
        left = max(self.total - self.done, 0) / max(self.fps, 1e-9)
        return f"{self.done} of {self.total} frames, {self.fps:.2f} fps, {clock(left)} left"


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _bar(known: bool) -> Any:
    from rich import progress as rich
    from rich.console import Console

    columns: list[Any] = [rich.BarColumn(), rich.TextColumn("{task.completed:.0f}/{task.total:.0f} frames")]
    if not known:
        columns = [rich.SpinnerColumn(), rich.TextColumn("{task.completed:.0f} frames")]
    columns += [rich.TextColumn("{task.fields[fps]}"), rich.TimeElapsedColumn()]
    columns += [rich.TextColumn("left"), rich.TimeRemainingColumn(compact=True)] if known else []
    return rich.Progress(*columns, console=Console(stderr=True), transient=False)
