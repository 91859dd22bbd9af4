"""What code computes and holds while it runs, with real tensors or with such that have no contents."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry

from duovsr_vs.engine.tally import Tally


class Ledger(Tally):  # type: ignore[no-untyped-call]
    """Bytes of the tensors that come and go, those of `known` tensors apart, and FLOPs of convolutions, matrix products
    and attention, a multiply-add counted as 2.

    The formulas are torch's, but not its FlopCounterMode: that one follows modules, and its hooks hold what recomputed
    blocks compute until the backward pass is over, so that nothing could be said of memory.
    """

    flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:  # asked a thousand times for a block, and nothing happens
            return args[0].fake_device
        out = super().__torch_dispatch__(func, types, args, kwargs)
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.flops += int(formula(*args, **(kwargs or {}), out_val=out))
        return out


class Span:
    """What modules that follow each other take of a pass: FLOPs there and back, bytes left for the way back."""

    def __init__(self, ledger: Ledger, first: nn.Module, last: nn.Module):
        self._ledger = ledger
        self._marks: dict[str, tuple[int, int]] = {}
        self._hooks = [first.register_forward_pre_hook(self._enter), last.register_forward_hook(self._leave)]

    def _mark(self, name: str) -> None:
        self._marks[name] = (self._ledger.flops, self._ledger.now)

    def _enter(self, _: nn.Module, given: tuple[Any, ...]) -> None:
        self._passes("enter", given[0], "returned")

    def _leave(self, _: nn.Module, given: tuple[Any, ...], result: Tensor) -> None:
        self._passes("leave", result, "return")

    def _passes(self, name: str, tensor: Tensor, back: str) -> None:
        if name in self._marks:  # the block is computed again
            return
        self._mark(name)
        if tensor.requires_grad:
            tensor.register_hook(lambda _: self._mark(back))  # type: ignore[no-untyped-call]

    def taken(self) -> tuple[int, int]:
        """FLOPs and bytes; the hooks are gone then."""
        for hook in self._hooks:
            hook.remove()
        (begin, before), (end, after) = self._marks["enter"], self._marks["leave"]
        back, returned = (self._marks.get(name, (0, 0))[0] for name in ("return", "returned"))
        return end - begin + returned - back, after - before
