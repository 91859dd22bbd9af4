"""On a CPU, operations of the `base` family whose bits hang on the number of threads, by ones whose do not.

Torch chooses among convolutions by type, size and threads; oneDNN is called by name instead. SiLU and GELU are computed
otherwise at the ends of what each thread was given than inside; exp and products are not, so both are made of those.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..model.convolution import known_types

GELU_RATE, GELU_CUBIC = 2 * (2 / torch.pi) ** 0.5, 0.044715
"""tanh's argument in GELU is ½·rate·(x + cubic·x³)."""


class SteadyOperations(TorchFunctionMode):
    """Replaces them for the time that it is entered."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is F.silu:
            return silu(args[0])
        if func is F.gelu and given.get("approximate") == "tanh":
            return gelu(args[0])
        axes = {F.conv2d: 2, F.conv3d: 3}.get(func)
        if axes is not None and args[0].is_cpu and args[0].dtype in known_types():
            return _convolved(axes, *args, **given)
        return func(*args, **given)


def steady_operations(device: torch.device) -> AbstractContextManager[object]:
    """What makes results equal for any number of threads; on other devices there is no such number."""
    return SteadyOperations() if device.type == "cpu" else nullcontext()


def silu(x: Tensor) -> Tensor:
    """x / (1 + e^−x), in float32."""
    return _switched(x, lambda wide: wide.neg())


def gelu(x: Tensor) -> Tensor:
    """x·½(1 + tanh(½u)) = x / (1 + e^−u), u = rate·(x + cubic·x³), in float32."""
    return _switched(x, lambda wide: wide.square().mul_(GELU_CUBIC).add_(1).mul_(wide).mul_(-GELU_RATE))


def _switched(x: Tensor, exponent: Callable[[Tensor], Tensor]) -> Tensor:
    wide = x.float()
    return exponent(wide).exp_().add_(1).reciprocal_().mul_(wide).to(x.dtype)


def _convolved(
    axes: int, x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    pads, strides, dilations = (
        [value] * axes if isinstance(value, int) else list(value) for value in (padding, stride, dilation)
    )
    out: Tensor = torch.mkldnn_convolution(x, weight, bias, pads, strides, dilations, groups)
    return out
