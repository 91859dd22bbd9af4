"""When memory runs out in the middle of a run: the frame is made again from smaller pieces, and so are the next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from ..errors import DuoVsrError
from .fit import Demand, Level, next_level, tile_to_name

SIGNS = (
    "not enough memory", "defaultcpuallocator", "out of memory", "bad_alloc", "cannot allocate memory",
    "could not create a primitive", "could not execute a primitive",
)  # fmt: skip
"""What the texts of RuntimeErrors say that torch and oneDNN raise where memory runs out on a CPU."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the GPU or in main memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


class Fallback:
    """Steps from level to level as memory runs out. Any number of threads may use an object."""

    def __init__(self, demand: Demand, level: Level, exact: bool, use: Callable[[Level], None]):
        """exact: tiles change no pixel.  use: is called with each new level."""
        self.level, self.steps, self._first = level, 0, level
        self._demand, self._exact, self._use = demand, exact, use
        self._stepping, self._alone = threading.Lock(), threading.Lock()

    @property
    def note(self) -> str | None:
        """One sentence for the end of a run, None where memory sufficed."""
        if not self.steps:
            return None
        times = "once" if self.steps == 1 else f"{self.steps} times"
        return f"memory ran out {times}; the frames from there on were made from {self._pieces()}, with the same pixels"

    def run(self, make: Callable[[], Tensor]) -> Tensor:
        """`make()`, again and again from smaller pieces. DuoVsrError where there are none or they are not allowed."""
        while True:
            level = self.level
            try:
                with self._turn(level):
                    return make()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Out here the error is gone, and with it the half-made frame that its traceback held.
            self._step(level)

    def _turn(self, level: Level) -> AbstractContextManager[object]:
        """One frame at a time, once that has become necessary."""
        return self._alone if self.steps and level.in_flight == 1 else nullcontext()

    def _step(self, failed: Level) -> None:
        """To the next level, unless another frame has already gone there since `failed` was tried."""
        with self._stepping:
            if self.level != failed:
                return
            if not self._demand.on_cpu:
                torch.cuda.empty_cache()
            level = next_level(self._demand, failed, self._exact)
            if level is None:
                raise DuoVsrError(self._refusal(failed))
            self.level, self.steps = level, self.steps + 1
            self._use(level)

    def _pieces(self) -> str:
        """What frames are made from now."""
        tiles = f"tiles of {self.level.tile}" if self.level.tile else "whole frames"
        also = ["one frame at a time"] if self.level.in_flight != self._first.in_flight else []
        also += ["weights in main memory"] if self.level.offload else []
        return ", ".join([tiles, *also])

    def _refusal(self, failed: Level) -> str:
        size = f"{self._demand.width}x{self._demand.height}"
        text = f"there is not enough memory for frames of {size}, made from {self._pieces()}"
        tile = None if self._exact else tile_to_name(self._demand, failed)
        if tile is not None:
            return f"{text}; give --tile {tile}"
        return f"{text}; close other programs, give smaller frames, or --precision bfloat16"
