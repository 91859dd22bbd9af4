"""What every family of models does for the engine: windows of LR frames to results of its own, and those to frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from .fit import Level


@dataclass(frozen=True, slots=True)
class Part[Result]:
    """One window's share of an output frame."""

    window: Result
    """What `Renderer.window` gave."""
    position: int
    """Of the frame in it."""
    weight: float
    """The weights of a frame's parts sum to 1."""


class Renderer[Result](ABC):
    """Runs a model in one precision on frames of one size. Frames of one window may be asked for side by side."""

    redone: int
    """Frames whose reduced-precision result was not finite and that were computed again in float32."""

    @abstractmethod
    def use(self, level: Level) -> None:
        """Make the frames that follow from other pieces."""

    @abstractmethod
    def window(self, frames: Tensor, first: int) -> Result:
        """What the t frames of a window become.

        frames: (t+2 3 h w) float32 RGB, the window with its two neighbours, on any device.  first: number in the clip
        that the window's first frame has on the grid, also where frames are repeated at a shot's end; may be negative.
        DuoVsrError if the model gives no numbers even in float32.
        """

    @abstractmethod
    def composed(self, parts: Sequence[Part[Result]], strength: float) -> Tensor:
        """One output frame of one or two windows' parts, R + strength·residual: (3 ≥4h ≥4w) float32, not clamped."""


@contextmanager
def repeatable_kernels(device: torch.device) -> Iterator[None]:
    """cuDNN's deterministic kernels without trials or reduced precision, for the time of one call on a GPU."""
    if device.type == "cpu":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
