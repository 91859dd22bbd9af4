"""Ctrl-C and SIGTERM arrive between any two instructions of the main thread, be it that a lock has just been taken."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_raised = _listening = False
INTERRUPTED = 130
"""Exit code."""
IMPATIENT = 1.0
"""Seconds after which a second interrupt no longer waits for anything; sooner it is a key that was held down."""


def listen() -> None:
    """From now on both raise KeyboardInterrupt in the main thread; SIGINT only where it is not ignored (`cmd &`)."""
    global _raised, _listening
    _raised, _listening = False, True
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _raised
    _raised = True
    raise KeyboardInterrupt


@contextmanager
def held_back(on_arrival: Callable[[], None] = lambda: None) -> Iterator[None]:
    """What arrives inside is handled on leaving: for work that shares locks or open files with other threads.

    on_arrival: called at once, by the signal handler; it may set flags, and must take no lock. Only handlers written in
    Python are held back, and only in the main thread: elsewhere none ever runs. A second one ends a program that
    listens at once, whatever it leaves behind: a window of a large model may take minutes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if _raised:  # in code that swallows exceptions: a callback of a library, an object that was being deleted
        raise KeyboardInterrupt
    arrived: list[tuple[int, FrameType | None]] = []
    first = time.monotonic()

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if not arrived:
            first = time.monotonic()
        elif _listening and time.monotonic() - first > IMPATIENT:
            os._exit(INTERRUPTED)
        arrived.append((number, frame))
        on_arrival()

    handlers = {number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}
    with suppress(ValueError):  # a host's interpreter whose main thread may not set any
        for number in handlers:
            signal.signal(number, remember)
    try:
        yield
    finally:
        with suppress(ValueError):
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if arrived:
            handlers[signal.Signals(arrived[0][0])](*arrived[0])
