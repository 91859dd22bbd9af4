"""What the machine at hand has for a training: the speed of its matrix products and its free memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from duovsr_vs.engine.machine import resolve_device
from duovsr_vs.errors import OptionError

SIDES = {"cpu": (512, 1024), "cuda": (4096, 8192)}
"""Of the matrices whose products measure the peak: small ones stay in a core's cache, large ones suit many cores."""


@cache
def measured_peak(device: str, bf16: bool, seconds: float = 0.5) -> float | None:
    """FLOP/s of one device in a square matrix product, the best of `seconds`; None if the device is not here."""
    try:
        here = resolve_device(device)
    except (OptionError, RuntimeError):
        return None
    wait: Callable[[], None] = torch.cuda.synchronize if here.type == "cuda" else lambda: None
    best, end = 0.0, time.perf_counter() + seconds
    dtype = torch.bfloat16 if bf16 else torch.float32
    matrices = [torch.ones(side, side, dtype=dtype, device=here) for side in SIDES[here.type]]
    while time.perf_counter() < end or not best:
        for matrix in matrices:
            begin = time.perf_counter()
            _ = matrix @ matrix
            wait()
            best = max(best, 2 * len(matrix) ** 3 / (time.perf_counter() - begin))
    return best


def free_memory(device: str) -> int | None:
    """Bytes that this process can still have on a device; None where nobody knows."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(torch.device(device))[0] if torch.cuda.is_available() else None
    try:
        facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024 * int(facts["MemAvailable"].split()[0])
    except (OSError, KeyError):
        return None
    return min(free, _left_in_group(free))


def _left_in_group(free: int, folder: Path = Path("/sys/fs/cgroup")) -> int:
    """What a container's limit leaves, files in memory not counted; `free` without a limit."""
    try:
        limit = (folder / "memory.max").read_text().strip()
        facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return free if limit == "max" else int(limit) - int(facts["anon"])
    except (OSError, KeyError, ValueError):
        return free
