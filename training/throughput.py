"""How fast a stage trains: samples, tokens and FLOPs per second, and what share of the time it waits for data."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


def peak_memory() -> float:
    """The most memory held so far, in GB: of the GPU if one is in use, else of this process. NaN where nobody knows."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024) / 1e9


class Throughput:
    """Bookkeeping around updates and around waiting for data.

    flops_per_update, samples_per_update, tokens_per_update: of the whole run, all processes together (`plan.cost_of`).
    peak: FLOP/s that all devices together can do, None if unknown.  clock: seconds.  memory: GB.

        for step, batches in …:
            with throughput.update():
                stage.update(step, throughput.batches(batches))
        log(throughput.figures())
    """

    def __init__(
        self,
        flops_per_update: float,
        samples_per_update: int,
        tokens_per_update: int,
        peak: float | None,
        clock: Callable[[], float] = time.perf_counter,
        memory: Callable[[], float] = peak_memory,
    ):
        self.flops, self.samples, self.tokens = flops_per_update, samples_per_update, tokens_per_update
        self.peak, self._clock, self._memory = peak, clock, memory
        self._updates, self._seconds, self._waited = 0, 0.0, 0.0

    @contextmanager
    def update(self) -> Iterator[None]:
        """Around one update, the waiting for its data included. One that fails does not count."""
        begin = self._clock()
        yield
        self._seconds += self._clock() - begin
        self._updates += 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what waits for data, inside of `update`."""
        begin = self._clock()
        yield
        self._waited += self._clock() - begin

    def batches[T](self, source: Iterator[T]) -> Iterator[T]:
        """The same batches, with the waiting for each counted."""
        while True:
            with self.waiting():
                batch = next(source, None)
            if batch is None:
                return
            yield batch

    def figures(self) -> dict[str, float]:
        """Of the updates since the last call; empty if there were none.

        seconds: per update.  wait: share of them spent waiting for data, 0 to 1.  samples_per_second,
        tokens_per_second.  mfu: FLOPs done per second as a share of the peak; left out if the peak is unknown.
        memory_gb: the most memory held so far.
        """
        count, seconds, waited = self._updates, self._seconds, self._waited
        self._updates, self._seconds, self._waited = 0, 0.0, 0.0
        if not count or seconds <= 0:
            return {}
        found = {
            "seconds": seconds / count,
            "wait": waited / seconds,
            "samples_per_second": count * self.samples / seconds,
            "tokens_per_second": count * self.tokens / seconds,
            "memory_gb": self._memory(),
        }
        if self.peak:
            found["mfu"] = count * self.flops / seconds / self.peak
        return found
