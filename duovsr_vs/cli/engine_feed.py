"""The engine as a stage of the video pipeline: arrays in, arrays out, for a whole clip or for a part of one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from ..engine.upscaler import Upscaler
from ..video.pipeline import Process

Array = NDArray[np.float32]


def inputs_for(upscaler: Upscaler, start: int, stop: int, total: int) -> tuple[int, int]:
    """[first, last) input frames to give to `process_for`; first is a multiple of the model's stride.

    total: frames of the clip, or more where that is not known.
    """
    low, high = upscaler.inputs(start, stop, total)
    stride = max(upscaler.plan.window - upscaler.plan.overlap, 1)
    return low // stride * stride, high


def process_for(upscaler: Upscaler, first: int, start: int, stop: int | None) -> Process:
    """Output frames [start, stop) of a clip, from input frames [first, …) as `inputs_for` gives them.

    A part has the pixels of the whole: it begins at a multiple of the stride, so the grid of windows is the clip's, and
    every frame that is wanted has all its neighbours. What lies before `start` is computed and dropped.
    """
    end = None if stop is None else stop - first

    def process(frames: Iterator[Array]) -> Iterator[Array]:
        stream = upscaler.stream(torch.from_numpy(frame) for frame in frames)
        return (frame.numpy() for frame in islice(stream, start - first, end))

    return process
