"""SIGTERM and Ctrl-C: one sentence, and nothing is lost that the same command would not make again.

Between updates a run ends at once. Within an update it goes on to the update's end and saves; a second Ctrl-C ends it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GOES_ON = "the same command goes on"


class StoppedError(BaseException):
    """A run that was asked to stop; what it had is saved. `number` is the signal's.

    As KeyboardInterrupt it is no Exception: nobody on the way takes it for a clip that cannot be read.
    """

    def __init__(self, text: str, number: int):
        super().__init__(text)
        self.number = number


class Stops:
    """The signals that asked for a stop so far, and what that means now."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self._waits = False
        self._told = "stopped"

    def note(self, number: int, _: FrameType | None) -> None:
        """Handler. StoppedError unless the stop has to wait; KeyboardInterrupt at a second Ctrl-C."""
        again = bool(self.asked)
        self.asked.append(number)
        if not self._waits:
            self.raise_if_asked()
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt

    def raise_if_asked(self) -> None:
        """StoppedError with the first of the signals."""
        if self.asked:
            raise StoppedError(self._told, self.asked[0])

    @contextmanager
    def _state(self, waits: bool, told: str) -> Iterator[None]:
        before = self._waits, self._told
        self._waits, self._told = waits, told
        try:
            yield
        finally:
            self._waits, self._told = before


_now = Stops()
"""Of this process, as its signals are."""


@contextmanager
def stop_signals() -> Iterator[Stops]:
    """Handles both signals inside; within another one, or in a thread, nothing changes."""
    global _now
    wanted = [s for s in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(s) is not signal.SIG_IGN]
    is_inner = any(signal.getsignal(s) == _now.note for s in wanted)
    if is_inner or threading.current_thread() is not threading.main_thread():
        yield _now
        return
    _now = Stops()
    before = {number: signal.signal(number, _now.note) for number in wanted}
    try:
        yield _now
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _now = Stops()


@contextmanager
def at_once(doing: str = "", then: str = GOES_ON) -> Iterator[None]:
    """Inside, a stop ends the run: "stopped while {doing}; {then}". One that had to wait until here does so now."""
    with _now._state(False, f"stopped{doing and ' while '}{doing}; {then}"):
        _now.raise_if_asked()
        yield


@contextmanager
def later() -> Iterator[Stops]:
    """Inside, a stop waits until somebody looks at `asked`."""
    with _now._state(True, _now._told):
        yield _now
