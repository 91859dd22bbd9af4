"""What code would take of memory, without taking it: it runs on tensors without data, and their sizes are counted."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from .steady import SteadyOperations


class Tally(TorchDispatchMode):
    """Bytes of the tensors that come and go; those of `known` tensors count for nothing."""

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class Fused(TorchFunctionMode):
    """Attention as kernels compute it, without the matrix of all pairs, and on a GPU norms; gives no numbers."""

    def __init__(self, on_cpu: bool) -> None:
        super().__init__()
        self._single = {F.scaled_dot_product_attention, *([] if on_cpu else [F.rms_norm])}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self._single:
            return torch.empty_like(args[0])
        return func(*args, **(kwargs or {}))


def peak(run: Callable[[], object], known: Iterable[Tensor], on_cpu: bool) -> int:
    """Most bytes alive at once while `run` runs, besides the known tensors, such as weights and inputs.

    on_cpu: what is one kernel on a GPU may be several operations.
    """
    tally = Tally(known)
    steady = SteadyOperations() if on_cpu else nullcontext()
    with torch.inference_mode(), steady, Fused(on_cpu), tally:
        result = run()
    del result
    return tally.peak
