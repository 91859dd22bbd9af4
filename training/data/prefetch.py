"""Batches made ahead of time in a thread; which batch comes is still a function of the step alone."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType


class Prefetch[T]:
    """Calls make(step) for first, first + stride, ... in a background thread and hands the results out in order.

    make: for instance lambda step: clips.batch(seed, step, 8, 48). depth: batches held ready.
    An error in `make` is raised by `next` at its step. Use it in a `with` statement, or call `close`.
    """

    def __init__(self, make: Callable[[int], T], first: int = 0, depth: int = 4, stride: int = 1):
        self._make, self._first, self._stride = make, first, stride
        self._ready: queue.Queue[T | BaseException] = queue.Queue(max(1, depth))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        step = self._first
        while not self._stop.is_set():
            try:
                item: T | BaseException = self._make(step)
            except BaseException as error:
                item = error
            while not self._stop.is_set():
                try:
                    self._ready.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if isinstance(item, BaseException):
                return
            step += self._stride

    def __iter__(self) -> Prefetch[T]:
        return self

    def __next__(self) -> T:
        if self._stop.is_set():
            raise StopIteration
        item = self._ready.get()
        if isinstance(item, BaseException):
            self.close()
            raise item
        return item

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
