"""A model as ComfyUI holds it: seen, moved and evicted by its memory manager."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import torch
from comfy.model_patcher import CoreModelPatcher
from comfy_api.latest import io

from ..duovsr_vs.engine import family
from ..duovsr_vs.engine.fit import Demand, fitting
from ..duovsr_vs.engine.machine import resolve_precision
from ..duovsr_vs.engine.options import Options
from ..duovsr_vs.engine.upscaler import Upscaler
from ..duovsr_vs.model.checkpoint import LoadedModel, load

CATEGORY = "video/DUO-VSR"
DuoModel = io.Custom("DUOVSR_MODEL")


def best_device() -> torch.device:
    """ComfyUI's device where the engine knows it (CUDA, ROCm); the CPU elsewhere."""
    device: torch.device = mm.get_torch_device()
    return device if device.type == "cuda" else torch.device("cpu")


@dataclass(frozen=True, slots=True)
class NodeModel:
    """What goes from node to node."""

    path: Path
    precision: str
    loaded: LoadedModel
    patcher: Any

    @classmethod
    def of(cls, path: Path, precision: str, detail: float | None) -> NodeModel:
        """Read a model file; ModelError and OptionError say what is wrong with it."""
        with torch.random.fork_rng(devices=[]):  # other nodes draw from torch's own generator, too
            loaded = load(path, detail)
        device = best_device()
        offload = mm.unet_offload_device() if device.type == "cuda" else device
        return cls(
            path, precision, loaded, CoreModelPatcher(loaded.generator, load_device=device, offload_device=offload)
        )

    def upscaler(self, size: tuple[int, int], chosen: dict[str, Any]) -> Upscaler:
        """An engine for frames of one size (width, height), its model on the device. chosen: fields of `Options`."""
        device = self.patcher.load_device
        options = Options(
            model=str(self.path), device=str(device), precision=self._precision(device), **_without_zero(chosen)
        )
        demand = self._demand(options, *size)
        needed = fitting(demand, options, 1).needs(demand)
        if device.type == "cuda" and demand.own_weights:
            mm.free_memory(needed, device)  # the large model stays in main memory; the engine brings what it needs
        else:
            mm.load_models_gpu([self.patcher], memory_required=needed, force_full_load=True)
        return Upscaler(options, *size, replace(self.loaded, generator=self.patcher.model))

    def _precision(self, device: torch.device) -> str:
        """What was asked for; by itself what ComfyUI holds for right on this device."""
        if self.precision != "auto" or device.type == "cpu":
            return self.precision
        if mm.should_use_bf16(device):
            return "bfloat16"
        return "float16" if mm.should_use_fp16(device) else "float32"

    def _demand(self, options: Options, width: int, height: int) -> Demand:
        """What ComfyUI has to make room for."""
        device = self.patcher.load_device
        dtype = resolve_precision(options.precision, device)
        return family.demand(self.loaded, options, width, height, dtype, device.type == "cpu")


def _without_zero(chosen: dict[str, Any]) -> dict[str, Any]:
    """Widgets cannot be absent: a width or height of 0, or an empty text, is none."""
    return {name: value for name, value in chosen.items() if value or name not in ("width", "height", "vram")}
