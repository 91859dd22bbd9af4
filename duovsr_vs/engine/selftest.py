"""The golden frame: what a model must give for a known input, checked on the user's own machine."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..errors import ModelError
from ..model.checkpoint import read_golden
from .options import Options
from .upscaler import Upscaler


def middle_frame(path: Path, frames: Tensor, precision: str = "float32") -> Tensor:
    """(n 3 h w) uint8 LR frames -> the middle output frame, (3 4h 4w) float32, on the CPU with the file's defaults."""
    upscaler = Upscaler(
        Options(model=str(path), device="cpu", precision=precision, scene_cut=False), frames.shape[-1], frames.shape[-2]
    )
    clip = [frame.float() / 255 for frame in frames]
    return list(upscaler.stream(clip))[len(clip) // 2]


def run(path: Path) -> str:
    """One sentence on how far the model is from its golden frame. ModelError if it is too far, or has none."""
    golden = read_golden(path)
    if golden is None:
        raise ModelError(f"{path} carries no golden frame, so there is nothing to test it against; export it again")
    difference = (middle_frame(path, golden.frames) - golden.output.float()).abs().max()
    worst = float(torch.nan_to_num(difference, nan=float("inf")))
    if worst > golden.tolerance:
        raise ModelError(
            f"{path} gives a frame that differs by {worst:.2g} from its golden frame, "
            f"{golden.tolerance:.2g} is allowed; "
            "fetch the model again, and report it if that does not help"
        )
    return f"{path.name} gives its golden frame: greatest difference {worst:.2g}, {golden.tolerance:.2g} is allowed"
