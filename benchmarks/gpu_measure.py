"""One row of `gpu.py`: a path's parts timed one by one, then whole windows in a row, with and without transfers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from gpu_clock import forget, peak_bytes, timed
from gpu_engine import frames_per_second
from gpu_paths import OneBlock, Path, path_of
from torch import Tensor
from traffic import counted

from duovsr_vs.engine.kernels import attention_kernels
from duovsr_vs.engine.pixels import bytes_from_rgb
from duovsr_vs.engine.renderer import repeatable_kernels
from duovsr_vs.engine.transfer import downloaded, uploaded

PARTS = ("upload", "condition", "transformer", "decode", "compose", "download")
LOOP = 2.5
"""Seconds that a loop of whole windows should take."""
MOST = {"cuda": 128, "cpu": 16}
"""New frames of such a loop, at most."""
LONG = 8.0
"""A window that takes longer, seconds, is timed once and cold."""


@dataclass
class Row:
    """What was found for one preset, form and size.

    ms: milliseconds per new frame of each part, with the device idle before and after it. fps_device: whole windows in
    a row, from LR bytes to HR bytes on the device; fps_whole: from and to the host's memory, with the form `engine` in
    floats. note: why it is not there.
    """

    preset: str
    form: str
    size: tuple[int, int]
    ms: dict[str, float] = field(default_factory=dict)
    fps_device: float = 0.0
    fps_whole: float = 0.0
    peak_gb: float = 0.0
    tflop_per_frame: float = 0.0
    note: str = ""

    @property
    def tflops(self) -> float:
        """Achieved, of the counted ones."""
        return self.tflop_per_frame * self.fps_device

    def record(self) -> dict[str, Any]:
        return asdict(self) | {"tflops": self.tflops}


def measure(row: Row, config: Any, device: torch.device) -> None:
    """Fill in a row. What fails becomes its note, so that the others go on."""
    forget(device)
    try:
        if row.form == "engine":
            row.fps_whole = frames_per_second(config, *row.size, device)
        else:
            _measure(row, config, device)
    except Exception as error:  # out of memory, a kernel that is not there: the rest is still worth having
        row.note = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    row.peak_gb = peak_bytes(device) / 1e9
    forget(device)


def _measure(row: Row, config: Any, device: torch.device) -> None:
    with torch.inference_mode(), repeatable_kernels(device), attention_kernels(device):
        _timed(row, path_of(config, row.form, *row.size, device), device)


def _timed(row: Row, path: Path, device: torch.device) -> None:
    forget(device)  # what only building took does not count
    first, cold = _parts(path, device)
    if first > LONG:
        row.ms, row.note = cold, "one window, cold"
        seconds = (sum(cold.values()) - cold["upload"] - cold["download"]) / 1000
        row.fps_device, row.fps_whole = 1 / seconds, 1000 / sum(cold.values())
        return
    again, row.ms = _parts(path, device)
    count = max(1, min(int(LOOP / again), MOST[device.type] // path.new))
    row.fps_device = _loop(path, count, device, transfers=False)
    row.fps_whole = _loop(path, count, device, transfers=True)


def _parts(path: Path, device: torch.device) -> tuple[float, dict[str, float]]:
    """Seconds of a window, and the parts' milliseconds per new frame."""
    host = path.host()
    seconds = dict.fromkeys(PARTS, 0.0)
    seconds["upload"], lr = timed(lambda: path.floats(host.to(device)), device)
    seconds["condition"], condition = timed(lambda: path.condition(lr), device)
    seconds["transformer"], z = timed(lambda: path.network(condition), device)
    seconds["decode"], made = timed(partial(path.decode, z, condition), device)
    del z
    for n in range(path.new):
        took, frame = timed(partial(_bytes, path, made, condition, n), device)
        seconds["compose"] += took
        seconds["download"] += timed(frame.cpu, device)[0]
    return sum(seconds.values()), {name: 1000 * took / path.new for name, took in seconds.items()}


def _bytes(path: Path, made: Any, condition: Any, n: int) -> Tensor:
    return bytes_from_rgb(path.frame(made, condition, n))


def _loop(path: Path, count: int, device: torch.device, transfers: bool) -> float:
    """Frames per second of so many windows in a row."""
    host = [path.host(n) for n in range(min(count, 2))]
    near = [raw.to(device) for raw in host]

    def windows() -> Iterator[Tensor]:
        for n in range(count):
            yield (host if transfers else near)[n % len(host)]

    def run() -> None:
        source: Iterable[Tensor] = windows()
        if transfers:
            source = uploaded(source, device) if path.beside else (raw.to(device) for raw in source)
        frames = path.frames(source)
        if transfers:
            frames = downloaded(frames, device) if path.beside else (frame.cpu() for frame in frames)
        for _ in frames:
            pass

    return count * path.new / timed(run, device)[0]


def measure_block(row: Row, config: Any, device: torch.device) -> None:
    """Fill in a row for one block with patch embedding and head: milliseconds per frame of five."""
    forget(device)
    try:
        with torch.inference_mode():
            block = OneBlock(config, row.form, *row.size, device)
            cost, _ = counted(block)  # the first call, which is not timed
            block()
            seconds, _ = timed(block, device)
    except Exception as error:
        row.note = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return
    row.tflop_per_frame = cost.flops / block.frames / 1e12
    row.ms, row.fps_device = {"transformer": 1000 * seconds / block.frames}, block.frames / seconds
    row.peak_gb = peak_bytes(device) / 1e9
