"""Frames side by side, each on a thread of its own: cores that share one small convolution wait for each other."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from ..interrupts import held_back

MOST = 4
"""Frames in flight at most; more cores than that share the work inside a frame."""
Job = Callable[[], Tensor]


def use_threads(count: int) -> None:
    """Set this thread's number of torch threads for good: torch takes over what was set last when it first looks."""
    torch.set_num_threads(count)
    torch.get_num_threads()


def frames_at_once(threads: int) -> int:
    """How many frames `Workers` makes side by side with so many threads."""
    return min(threads, MOST)


class Workers:
    """Runs jobs on `count` threads of `threads // count` torch threads each, and hands the results out in order.

    Which thread runs a job changes no bit of its result. threads: of the whole machine that may be used.
    """

    def __init__(self, threads: int):
        self.count = frames_at_once(threads)
        self._share = max(1, threads // self.count)
        self._pool: ThreadPoolExecutor | None = None

    def in_order(self, jobs: Iterable[Job]) -> Iterator[Tensor]:
        """Yield each job's result; at most `count` + 1 are taken from `jobs` before the first result is asked for."""
        if self.count == 1:
            for job in jobs:
                yield job()
            return
        pool = self._started()
        ahead: deque[Future[Tensor]] = deque()
        try:
            for job in jobs:
                ahead.append(pool.submit(job))
                if len(ahead) > self.count:  # one more than there are threads, so that none has to wait for the next
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()

    def _started(self) -> ThreadPoolExecutor:
        """The pool, with every thread set up: torch's number of threads is the caller's again afterwards."""
        if self._pool is None:
            before = torch.get_num_threads()
            ready = threading.Barrier(self.count)
            pool = ThreadPoolExecutor(self.count, "duovsr-frame", initializer=use_threads, initargs=(self._share,))
            with held_back():  # the interpreter waits at its end for threads that were started by halves
                for future in [pool.submit(ready.wait) for _ in range(self.count)]:
                    future.result()
                torch.set_num_threads(before)  # new threads of the host inherit what was set last
            self._pool = pool
        return self._pool
