"""Kernels that do the same, timed beside each other at the shapes of `base`: what the fast path's choices rest on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from gpu_clock import forget, timed, typical
from torch.nn.attention import SDPBackend, sdpa_kernel

from duovsr_vs.engine.renderer import repeatable_kernels
from duovsr_vs.model.wan.blocks import Cache, CausalConv
from duovsr_vs.model.wan.fast_autoencoder import FlatConv

BF16 = torch.bfloat16
LAYERS = {"96 channels, 1080p": (96, 1080, 1920), "384 channels, 1080p/4": (384, 270, 480)}
"""Causal 3x3x3 convolutions of the autoencoder: channels, rows, columns, on four frames."""
HEADS = {
    "windows of 6x16x16 tokens": (40, 12, 1536, 128),
    "places of a frame at 1080p/8, one head": (1, 1, 135 * 240, 384),
}
"""Attention: batch, heads, tokens, width of a head."""
BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION,
            "efficient": SDPBackend.EFFICIENT_ATTENTION}  # fmt: skip
Choice = dict[str, Any]


def choices(device: torch.device, say: Callable[[Choice], None], scale: int = 1) -> list[Choice]:
    """What each kernel takes; scale: sides and tokens are divided by it, for machines without a GPU."""
    found: list[Choice] = []
    with torch.inference_mode(), repeatable_kernels(device):
        for name, (channels, height, width) in LAYERS.items():
            found += _convolutions(name, channels, height // scale, width // scale, device)
        for name, (batch, heads, tokens, wide) in HEADS.items():
            found += _attentions(name, (batch, heads, tokens // scale**2, wide), device)
    for choice in found:
        say(choice)
    return found


def _convolutions(name: str, channels: int, height: int, width: int, device: torch.device) -> list[Choice]:
    layer = CausalConv(channels, channels, 3).to(device, BF16)
    last = CausalConv(channels, channels, 3).to(device, BF16).to(memory_format=torch.channels_last_3d)
    flat, volume = FlatConv(layer), FlatConv(layer, beside=False)
    x = torch.randn(1, channels, 4, height, width, dtype=BF16, device=device)
    beside = x.contiguous(memory_format=torch.channels_last_3d)
    pictures = x[0].transpose(0, 1).contiguous(memory_format=torch.channels_last)
    ways: dict[str, Callable[[], Any]] = {
        "3-D": lambda: layer(x, Cache()),
        "3-D, channels last": lambda: last(beside, Cache()),
        "pictures, 3-D": lambda: volume(pictures, Cache()),
        "pictures, 2-D over three frames": lambda: flat(pictures, Cache()),
    }
    flops = 2 * 27 * channels**2 * 4 * height * width
    return [_timed(f"convolution, {name}", way, work, flops, device) for way, work in ways.items()]


def _attentions(name: str, shape: tuple[int, ...], device: torch.device) -> list[Choice]:
    q, k, v = (torch.randn(shape, dtype=BF16, device=device) for _ in range(3))
    batch, heads, tokens, wide = shape
    flops = 4 * batch * heads * tokens**2 * wide

    def by(backend: SDPBackend) -> Callable[[], Any]:
        def work() -> Any:
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v)

        return work

    ways = {way: by(backend) for way, backend in BACKENDS.items()} if device.type == "cuda" else {}
    ways["torch's own choice"] = lambda: F.scaled_dot_product_attention(q, k, v)
    ways["products and softmax in rows"] = lambda: in_rows(q, k, v)
    return [_timed(f"attention, {name}", way, work, flops, device) for way, work in ways.items()]


def in_rows(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rows: int = 4096) -> torch.Tensor:
    """Attention by plain products, some queries after the others."""
    parts = []
    for part in (q * q.shape[-1] ** -0.5).split(rows, 2):
        parts.append(torch.softmax(part @ k.transpose(2, 3), -1) @ v)
    return torch.cat(parts, 2)


def _timed(what: str, way: str, work: Callable[[], Any], flops: float, device: torch.device) -> Choice:
    """Milliseconds and TFLOP/s, or why not."""
    choice: Choice = {"what": what, "way": way, "ms": None, "tflops": None, "note": ""}
    try:
        cold, _ = timed(work, device)
        seconds = cold if cold > 1 else typical(work, device, times=3, warm=1)
        choice |= {"ms": 1000 * seconds, "tflops": flops / seconds / 1e12}
    except Exception as error:  # a kernel that cannot do this shape, or memory that is not there
        choice["note"] = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    forget(device)
    return choice
