"""The machine class: within one class equal inputs give equal bits; across classes they may differ in the last one."""

from __future__ import annotations

import platform

import torch

from ..errors import OptionError


def cpu_instructions() -> str:
    """Best instruction set that torch's kernels use here, with bf16 arithmetic where there is any."""
    level = torch.backends.cpu.get_cpu_capability().lower()
    return f"{level}+bf16" if has_bfloat16_arithmetic() else level


def has_bfloat16_arithmetic() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware (AVX512-BF16, AMX, or Arm's)."""
    facts = torch.cpu.get_capabilities()
    return any(bool(facts.get(name, False)) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))


def machine_class(device: str = "cpu") -> str:
    """For example `x86_64 avx512+bf16, torch 2.15.0` or `NVIDIA H200, torch 2.15.0`."""
    version = torch.__version__.split("+")[0]
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(torch.device(device))}, torch {version}"
    return f"{platform.machine()} {cpu_instructions()}, torch {version}"


def resolve_device(name: str) -> torch.device:
    """auto: the first CUDA device if there is one, else the CPU. OptionError if a named device is absent."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise OptionError(f"device={name[:50]!r} is unknown; use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise OptionError(f"device={name!r}: {count} CUDA devices are here; use cpu, or see PyTorch's install page")
        return torch.device("cuda", device.index or 0)
    return device


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """auto: bfloat16 where the device multiplies it in hardware; else float16 on a GPU, float32 on a CPU."""
    if name != "auto":
        if name == "float16" and device.type == "cpu":
            raise OptionError("precision='float16' is slow and inexact on a CPU; use float32, bfloat16 or auto")
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    return torch.bfloat16 if has_bfloat16_arithmetic() else torch.float32
