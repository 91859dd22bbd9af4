"""What a piece of a model computes and moves: FLOPs and bytes of every operation, counted on tensors without data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

aten = torch.ops.aten


@dataclass
class Cost:
    """flops: 2 per multiply-add.  bytes: inputs and outputs of each operation; views are free."""

    flops: float = 0.0
    bytes: float = 0.0
    operations: int = 0

    def seconds(self, tera_flops: float, tera_bytes: float) -> float:
        """The least that a machine of such a rate needs, arithmetic and memory side by side (Williams et al. 2009)."""
        return max(self.flops / tera_flops, self.bytes / tera_bytes) / 1e12


def _product(left: Any, right: Any) -> float:
    """(… n k) by (… k m)."""
    return 2.0 * prod(left[:-1]) * left[-1] * right[-1]


def _convolution(args: Any, out: Tensor) -> float:
    """Every output value is a sum over the inputs of its group under the kernel."""
    weight = args[1].shape
    return 2.0 * out.numel() * prod(weight[1:])


_FLOPS: dict[Any, Callable[[Any, Any], float]] = {
    aten.mm: lambda args, out: _product(args[0].shape, args[1].shape),
    aten.addmm: lambda args, out: _product(args[1].shape, args[2].shape),
    aten.bmm: lambda args, out: _product(args[0].shape, args[1].shape),
    aten.baddbmm: lambda args, out: _product(args[1].shape, args[2].shape),
    aten.convolution: _convolution,
    aten.mkldnn_convolution: _convolution,
}
_FREE = {
    aten.view, aten._unsafe_view, aten.permute, aten.transpose, aten.t, aten.slice, aten.expand, aten.select,
    aten.unsqueeze, aten.squeeze, aten.split, aten.split_with_sizes, aten.unbind, aten.detach, aten.alias,
    aten.as_strided, aten.empty, aten.empty_like, aten.new_empty, aten.narrow, aten.unfold, aten.chunk,
}  # fmt: skip


class Counter(TorchDispatchMode):
    """Counts everything that runs within."""

    def __init__(self) -> None:
        super().__init__()
        self.cost = Cost()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet not in _FREE:
            given = {name: value for name, value in (kwargs or {}).items() if name != "out"}
            moved = [t for t in tree_flatten((args, given, out))[0] if isinstance(t, Tensor)]
            self.cost.bytes += sum(t.numel() * t.element_size() for t in moved)
            self.cost.operations += 1
        if packet in _FLOPS:
            self.cost.flops += _FLOPS[packet](args, out)
        return out


class Fused(TorchFunctionMode):
    """Attention and root mean square norms as a GPU's fused kernels do them. Results have no values."""

    def __init__(self, cost: Cost):
        super().__init__()
        self._cost = cost

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return self._attention(*args[:3])
        if func in (F.rms_norm, torch.rms_norm):
            x, weight = args[0], args[2] if len(args) > 2 else (kwargs or {}).get("weight")
            return self._counted(torch.empty_like(x), x, weight)
        return func(*args, **(kwargs or {}))

    def _attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Scores never reach memory."""
        keys, wide = k.shape[-2:]
        self._cost.flops += 2.0 * prod(q.shape[:-1]) * keys * (wide + v.shape[-1])
        return self._counted(q.new_empty(*q.shape[:-1], v.shape[-1]), q, k, v)

    def _counted(self, out: Tensor, *given: Tensor | None) -> Tensor:
        moved = [t for t in (*given, out) if t is not None]
        self._cost.bytes += sum(t.numel() * t.element_size() for t in moved)
        self._cost.operations += 1
        return out


def counted(work: Callable[[], Any]) -> tuple[Cost, Any]:
    """What a call costs, and its result. Its tensors may lie on the meta device."""
    with torch.no_grad(), Counter() as counter, Fused(counter.cost):
        result = work()
    return counter.cost, result
