"""Shared by the filter's tests: clips from tensors and back."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import vapoursynth as vs
from torch import Tensor

from duovsr_vs.engine.options import Options
from duovsr_vs.engine.upscaler import Upscaler

core = vs.core


def clip_of(frames: Sequence[Tensor]) -> vs.VideoNode:
    """An RGBS clip of (3 h w) float32 frames; frame n carries the property `number` = n."""
    _, height, width = frames[0].shape
    blank = core.std.BlankClip(width=width, height=height, format=vs.RGBS, length=len(frames))

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        made = f.copy()
        made.props["number"] = n
        for plane in range(3):
            np.copyto(np.asarray(made[plane]), frames[n][plane].numpy())
        return made

    return core.std.ModifyFrame(blank, blank, fill)


def tensor_of(frame: vs.VideoFrame) -> Tensor:
    """The planes of a frame whose planes have one size, (planes h w)."""
    return torch.from_numpy(np.stack([np.asarray(frame[plane]) for plane in range(frame.format.num_planes)]))


def frames_of(clip: vs.VideoNode) -> Iterator[vs.VideoFrame]:
    """Like `clip.frames(close=True)`, which collects garbage at its end: with torch loaded, a tenth of a second."""
    for future in [clip.get_frame_async(n) for n in range(clip.num_frames)]:
        with future.result() as frame:
            yield frame


def tensors_of(clip: vs.VideoNode) -> list[Tensor]:
    return [tensor_of(frame) for frame in frames_of(clip)]


def planes_of(frame: vs.VideoFrame) -> list[bytes]:
    return [np.asarray(frame[plane]).tobytes() for plane in range(frame.format.num_planes)]


def fetch(clip: vs.VideoNode, order: Iterable[int]) -> dict[int, list[bytes]]:
    """All frames at once in that order, as many in flight as there are; {number: planes}."""
    pending = [(n, clip.get_frame_async(n)) for n in order]
    found: dict[int, list[bytes]] = {}
    for n, future in pending:
        with future.result() as frame:
            planes = planes_of(frame)
        assert found.setdefault(n, planes) == planes
    return found


def orders(total: int) -> dict[str, list[int]]:
    shuffled = list(range(total))
    random.Random(1).shuffle(shuffled)
    return {
        "forward": list(range(total)),
        "backward": list(range(total))[::-1],
        "shuffled": shuffled,
        "twice": [n for n in range(total) for _ in range(2)],
    }


def engine_frames(
    frames: list[Tensor],
    model: Path,
    change: Callable[[Options], Options] = lambda o: o,
    cuts: list[bool] | None = None,
) -> list[Tensor]:
    """What the engine alone makes of the frames."""
    options = change(Options(model=str(model)))
    height, width = frames[0].shape[1:]
    return list(Upscaler(options, width, height).stream(frames, cuts=cuts))
