"""One measurement of the engine's memory, in a process of its own: started by `memory.py --estimates`.

Reads a JSON object from the command line: {"write": {preset: file}} makes model files with random weights;
{"model", "width", "height", "frames", "options"} upscales so many frames and prints what it took and what was expected.
"""

import gc
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from duovsr_vs.engine.options import Options
from duovsr_vs.engine.upscaler import Upscaler
from duovsr_vs.model.checkpoint import FAITHFUL, save
from duovsr_vs.model.config import PRESETS
from duovsr_vs.model.generator import Generator

WARM_SIZE = 32
"""Side of frames after which all libraries are loaded."""


def status(name: str) -> int:
    """Bytes of a line of Linux's account of this process: VmRSS now, VmHWM at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def noise(width: int, height: int, frames: int) -> Iterator[Tensor]:
    """Frames that are made as they are asked for."""
    source = torch.Generator().manual_seed(0)
    for _ in range(frames):
        yield torch.rand(3, height, width, generator=source)


def upscale(options: Options, width: int, height: int, frames: int) -> Upscaler:
    upscaler = Upscaler(options, width, height)
    for _ in upscaler.stream(noise(width, height, frames)):
        pass
    return upscaler


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """What the frames took beyond what the libraries had taken after frames of the smallest size."""
    given = spec["options"]
    options = Options(model=spec["model"], **given)
    warm = upscale(Options(model=spec["model"], **(given | {"tile": 0})), WARM_SIZE, WARM_SIZE, 2)
    device = warm.plan.device
    del warm
    gc.collect()
    if device == "cpu":
        before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
        plan = upscale(options, spec["width"], spec["height"], spec["frames"]).plan
        peak = status("VmHWM") - before
    else:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        plan = upscale(options, spec["width"], spec["height"], spec["frames"]).plan
        peak = torch.cuda.max_memory_reserved(device)
    return {"peak": peak, "expected": plan.memory_bytes, "plan": plan.as_dict()}


def main() -> None:
    spec = json.loads(sys.argv[1])
    for preset, file in spec.get("write", {}).items():
        torch.manual_seed(0)
        weights = Generator(PRESETS[preset]).state_dict()
        save(Path(file), PRESETS[preset], {FAITHFUL: weights}, {"stages": ["random weights"]})
    if "write" not in spec:
        print(json.dumps(measure(spec)))


if __name__ == "__main__":
    main()
