"""Times on a device, and the ceilings that they are held against: measured, never taken from a data sheet."""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch


def wait(device: torch.device) -> None:
    """Until the device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed[T](work: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """Seconds of wall time from an idle device to an idle device, and the result."""
    wait(device)
    start = time.perf_counter()
    result = work()
    wait(device)
    return time.perf_counter() - start, result


def typical(work: Callable[[], Any], device: torch.device, times: int = 5, warm: int = 2) -> float:
    """Median seconds of a small piece of work."""
    for _ in range(warm):
        work()
    return median(timed(work, device)[0] for _ in range(times))


def ceilings(device: torch.device) -> dict[str, float]:
    """TFLOP/s of a large bfloat16 product of random numbers, TB/s (read and written) of a large copy."""
    on_gpu = device.type == "cuda"
    side, count = (8192, 2**30) if on_gpu else (1024, 2**26)
    a, b = (torch.randn(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
    product = typical(lambda: [a @ b for _ in range(4)], device) / 4
    source = torch.ones(count, dtype=torch.bfloat16, device=device)
    target = torch.empty_like(source)
    copy = typical(lambda: target.copy_(source), device)
    return {"tflops": 2 * side**3 / product / 1e12, "tbytes": 2 * 2 * count / copy / 1e12}


def forget(device: torch.device) -> None:
    """Give back what is no longer used, and begin to watch the peak."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """Most that was allocated on the device since `forget`; on a CPU of the process since its start."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def name_of(device: torch.device) -> str:
    """`NVIDIA H200` or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
