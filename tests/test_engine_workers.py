"""Frames side by side: results in order, nothing taken too early, the host's number of threads left alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from duovsr_vs.engine.workers import MOST, Job, Workers


def slow_first(n: int) -> Tensor:
    """Job n; earlier ones take longer, so that they would come out last."""
    time.sleep(0.002 * (12 - n))
    return torch.tensor(n)


def jobs(count: int, taken: list[int]) -> Iterator[Job]:
    for n in range(count):
        taken.append(n)
        yield partial(slow_first, n)


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_results_come_in_order(threads: int) -> None:
    assert [int(r) for r in Workers(threads).in_order(jobs(12, []))] == list(range(12))


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_no_more_jobs_are_taken_than_the_threads_and_one(threads: int) -> None:
    taken: list[int] = []
    workers = Workers(threads)
    for done, _ in enumerate(workers.in_order(jobs(12, taken)), 1):
        assert len(taken) <= done + workers.count
    assert workers.count == min(threads, MOST)


def test_an_error_comes_at_its_place_and_the_next_run_works() -> None:
    def fail() -> Tensor:
        raise ValueError("job 2")

    workers, got = Workers(2), []
    with pytest.raises(ValueError, match="job 2"):
        for result in workers.in_order([partial(slow_first, 0), partial(slow_first, 1), fail, partial(slow_first, 3)]):
            got.append(int(result))
    assert got == [0, 1]
    assert [int(r) for r in workers.in_order(jobs(3, []))] == [0, 1, 2]


def test_leaving_early_drops_what_has_not_begun() -> None:
    taken: list[int] = []
    results = Workers(2).in_order(jobs(12, taken))
    next(results)
    results.close()
    assert len(taken) <= 4


def test_the_callers_and_new_threads_keep_their_number_of_torch_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        inside = [int(r) for r in Workers(2).in_order([lambda: torch.tensor(torch.get_num_threads())] * 4)]
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert (inside, torch.get_num_threads(), found) == ([1] * 4, 3, [3])
    finally:
        torch.set_num_threads(before)
