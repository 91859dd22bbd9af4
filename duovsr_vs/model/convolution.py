"""Convolutions whose every output value is the same in any crop of the frame and on any number of threads.

On a CPU torch hands a convolution to oneDNN or to its own im2col and matrix product, by batch, size and number of
threads, and the two round differently. At run time oneDNN is therefore called by name; in training, where gradients are
needed and nobody compares bits, and on other devices, the choice is torch's.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@cache
def known_types() -> tuple[torch.dtype, ...]:
    """Number types that oneDNN convolves on this CPU; without AVX512 it refuses bfloat16."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return ()
    wide = "AVX512" in torch.backends.cpu.get_cpu_capability()
    return (torch.float32, torch.bfloat16) if wide else (torch.float32,)


def chosen_by_name(x: Tensor) -> bool:
    """Whether oneDNN is called directly."""
    return x.device.type == "cpu" and torch.is_inference_mode_enabled() and x.dtype in known_types()


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(n c h w) with (k c s s), s odd, zero beyond the frame -> (n k h w)."""
    pad = weight.shape[-1] // 2
    if chosen_by_name(x):
        out: Tensor = torch.mkldnn_convolution(x, weight, bias, [pad, pad], [1, 1], [1, 1], 1)
        return out
    return F.conv2d(x, weight, bias, padding=pad)


def convolve_with(layer: nn.Module, x: Tensor) -> Tensor:
    """A convolution layer; a host's own kind of layer is called as it is, since it may manage its weights."""
    if type(layer) is nn.Conv2d and chosen_by_name(x):
        return convolve(x, layer.weight, layer.bias)
    out: Tensor = layer(x)
    return out
