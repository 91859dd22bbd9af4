"""A frame's pixels do not depend on what was asked before, how the job was split, or how many threads there are."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise
from pathlib import Path

import pytest
import torch
from conftest import synthetic_clip
from torch import Tensor

from duovsr_vs.engine.machine import has_bfloat16_arithmetic
from duovsr_vs.engine.options import Options
from duovsr_vs.engine.upscaler import Upscaler

CUT = 7
"""A cut in every clip, so that shots are found anew in every part of a job."""


@dataclass(frozen=True)
class Case:
    """One model, precision and size, with a clip for it."""

    model: Path
    precision: str
    width: int
    height: int
    count: int

    def upscaler(self) -> Upscaler:
        options = Options(model=str(self.model), device="cpu", precision=self.precision, seed=3)
        return Upscaler(options, self.width, self.height)

    @property
    def clip(self) -> list[Tensor]:
        return synthetic_clip(self.count, self.height, self.width, cut=CUT)


KINDS = [
    ("tiny", precision, width, height)
    for precision in ("float32", "bfloat16")
    for width, height in ((121, 69), (17, 31), (48, 32))
] + [
    ("toy", "float32", 24, 20),
    ("toy", "bfloat16", 31, 17),
    ("toy-learned", "float32", 48, 32),
    ("toy-learned", "bfloat16", 17, 31),
]


@pytest.fixture(params=KINDS, ids=lambda kind: "-".join(map(str, kind)))
def case(request: pytest.FixtureRequest, tiny_model: Path, toy_model: Path, learned_model: Path) -> Case:
    name, precision, width, height = request.param
    if precision == "bfloat16" and not has_bfloat16_arithmetic():
        pytest.skip("this CPU has no bfloat16 arithmetic")
    model = {"tiny": tiny_model, "toy": toy_model, "toy-learned": learned_model}[name]
    count = 34 if name == "toy" else 10
    return Case(model, precision, width, height, count)


pytestmark = pytest.mark.usefixtures("one_torch_thread")


def digest(frame: Tensor) -> str:
    return hashlib.sha256(frame.contiguous().numpy().tobytes()).hexdigest()


def ask(upscaler: Upscaler, clip: Sequence[Tensor], start: int, stop: int) -> list[str]:
    """Digests of the output frames [start, stop), from no more input frames than are needed."""
    first, last = upscaler.inputs(start, stop, len(clip))
    return [digest(frame) for frame in upscaler.chunk_frames(clip[first:last], first, start, stop, len(clip))]


@cache
def expected(case: Case) -> list[str]:
    """Digests of all frames, streamed in order by one thread."""
    return [digest(frame) for frame in case.upscaler().stream(case.clip)]


def some_frames(case: Case) -> list[int]:
    """All frames of a short clip; of a long one those around cut, windows' borders and ends."""
    return list(range(case.count)) if case.count < 20 else [0, 6, 7, 12, 16, 20, 33]


ORDERS: dict[str, Callable[[list[int]], list[int]]] = {
    "ascending": lambda frames: frames,
    "reversed": lambda frames: frames[::-1],
    "random": lambda frames: random.Random(1).sample(frames, len(frames)),
    "twice": lambda frames: [n for n in frames[:3] for _ in range(2)],
}


def test_frames_differ_from_each_other(case: Case) -> None:
    assert len(set(expected(case))) == case.count


@pytest.mark.parametrize("order", ORDERS)
def test_order_of_requests(case: Case, order: str) -> None:
    upscaler, clip = case.upscaler(), case.clip
    for n in ORDERS[order](some_frames(case)):
        assert ask(upscaler, clip, n, n + 1) == [expected(case)[n]], f"frame {n}"


@pytest.mark.parametrize("split", ["one piece", "halves", "uneven", "engine's chunks"])
def test_splits_of_the_job(case: Case, split: str) -> None:
    upscaler = case.upscaler()
    inner = {
        "one piece": [],
        "halves": [case.count // 2],
        "uneven": [1, 2, 7, case.count - 1],
        "engine's chunks": list(range(upscaler.chunk, case.count, upscaler.chunk)),
    }[split]
    found = [ask(upscaler, case.clip, a, b) for a, b in pairwise([0, *sorted(set(inner)), case.count])]
    assert list(chain.from_iterable(found)) == expected(case)


def test_given_frames_beyond_the_needed_ones_change_nothing(case: Case) -> None:
    clip, n = case.clip, case.count // 2
    more = case.upscaler().chunk_frames(clip, 0, n, n + 1, len(clip))
    assert [digest(frame) for frame in more] == [expected(case)[n]]


def test_cuts_that_are_told_are_as_good_as_cuts_that_are_found(case: Case) -> None:
    told = [n == CUT for n in range(case.count)]
    assert [digest(frame) for frame in case.upscaler().stream(case.clip, told)] == expected(case)


@pytest.mark.parametrize("count", [1, 2, 8, 16])
def test_python_threads(case: Case, count: int) -> None:
    """Each thread has an upscaler of its own and takes whatever frame is next."""
    own, clip, wanted = threading.local(), case.clip, expected(case)

    def start() -> None:
        torch.set_num_threads(1)
        own.upscaler = case.upscaler()

    frames = random.Random(count).sample(some_frames(case), len(some_frames(case)))
    with ThreadPoolExecutor(count, initializer=start) as pool:
        found = list(pool.map(lambda n: ask(own.upscaler, clip, n, n + 1), frames))
    assert found == [[wanted[n]] for n in frames]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_threads_of_torch(case: Case, count: int) -> None:
    torch.set_num_threads(count)
    upscaler = case.upscaler()
    assert upscaler.plan.threads == count
    for n in (0, CUT, case.count - 1):
        assert ask(upscaler, case.clip, n, n + 1) == [expected_alone(case)[n]], f"frame {n}"


def expected_alone(case: Case) -> list[str]:
    """`expected`, certainly computed by one thread."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    wanted = expected(case)
    torch.set_num_threads(count)
    return wanted
