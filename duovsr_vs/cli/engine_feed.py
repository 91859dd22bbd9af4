"""The engine as a stage of the video pipeline: arrays in, arrays out, for a whole clip or for a part of one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..engine.upscaler import Upscaler
from ..video.pipeline import Process

Array = NDArray[np.float32]
_UNKNOWN = 2**40
"""Stands for a length that is not known yet."""


def process_for(upscaler: Upscaler, first: int, start: int, stop: int | None) -> Process:
    """Output frames [start, stop) of a clip, from input frames [first, …); a part has the pixels of the whole."""

    def whole(frames: Iterator[Array]) -> Iterator[Array]:
        stream = upscaler.stream(torch.from_numpy(frame) for frame in frames)
        return (frame.numpy() for frame in islice(stream, stop))

    def part(frames: Iterator[Array]) -> Iterator[Array]:
        return (frame.numpy() for frame in _part(upscaler, frames, first, start, stop))

    return whole if start == 0 else part


def _part(upscaler: Upscaler, frames: Iterator[Array], first: int, start: int, stop: int | None) -> Iterator[Tensor]:
    """The chunk grid of the whole clip, beginning in its middle; holds the input frames of one chunk."""
    held: list[Tensor] = []
    n, total = start, _UNKNOWN
    while n < (total if stop is None else min(stop, total)):
        edge = (n // upscaler.chunk + 1) * upscaler.chunk
        edge = edge if stop is None else min(edge, stop)
        needed = upscaler.inputs(n, edge, total)[1]
        while total == _UNKNOWN and first + len(held) < needed:
            frame = next(frames, None)
            if frame is None:
                total = first + len(held)
            else:
                held.append(torch.from_numpy(frame))
        edge = min(edge, total)
        if n >= edge:
            return
        yield from upscaler.chunk_frames(held, first, n, edge, total)
        n = edge
        keep = max(upscaler.inputs(n, n + 1, _UNKNOWN)[0], first)
        del held[: keep - first]
        first = keep
