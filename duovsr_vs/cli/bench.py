"""`duovsr bench`: the engine alone, float RGB in memory to float RGB in memory."""

from __future__ import annotations

import json
import re
import time

import torch
from torch import Tensor

from ..engine.options import Options
from ..engine.upscaler import Upscaler
from ..errors import OptionError

WARM_UP = 4
"""Frames before the clock starts: memory is allocated and kernels are chosen there."""


def run(options: Options, size: str, frames: int, as_json: bool) -> None:
    """Print frames per second, the core time of a frame and the plan they belong to."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size)
    if match is None:
        raise OptionError(f"--size {size[:100]}: width x height is needed, such as 480x270")
    upscaler = Upscaler(options, int(match[1]), int(match[2]))
    clip = _clip(WARM_UP + frames, int(match[2]), int(match[1]))
    wall = core = 0.0
    for n, _ in enumerate(upscaler.stream(clip), 1):
        if n == WARM_UP:
            wall, core = time.perf_counter(), time.process_time()
    wall, core = time.perf_counter() - wall, time.process_time() - core
    result = {"frames": frames, "seconds": wall, "fps": frames / wall, "core_ms_per_frame": 1000 * core / frames}
    if as_json:
        print(json.dumps({**result, "plan": upscaler.plan.as_dict()}, indent=2))
        return
    print("\n".join(upscaler.plan.lines()))
    print(f"speed    {result['fps']:.2f} fps, {result['core_ms_per_frame']:.1f} core-ms a frame, {frames} frames")


def _clip(frames: int, height: int, width: int) -> list[Tensor]:
    """Moving soft shapes, (3 h w) float32 in [0, 1]; eight different frames, again and again."""
    rows, columns = torch.linspace(0, 20, height)[:, None], torch.linspace(0, 30, width)[None]
    phases = torch.arange(3)[:, None, None]
    shapes = [0.5 + 0.4 * torch.sin(rows + 0.3 * n + phases) * torch.cos(columns - 0.2 * n) for n in range(8)]
    return [shapes[n % 8].float().contiguous() for n in range(frames)]
