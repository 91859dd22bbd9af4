"""Blocks whose weights wait in main memory: while one computes, the next one's are copied to the device.

On a GPU the copies run on a stream of their own, out of pinned memory, into two places that are used in turn. On a CPU
the same code copies, which is of use to tests alone. Weights are the same numbers wherever they lie, so no bit changes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import accumulate
from math import prod

import torch
from torch import Tensor, nn

ALIGNED = 64
"""Numbers; each tensor of a block begins at a multiple, as kernels like it."""
PLACES = 2


class Streamed(nn.ModuleList):
    """Blocks of equal shapes, in order, to be run through from the first to the last; holds two of them on the device.

    Each block that comes out of the iterator is usable until the next but one is asked for, on the current stream.
    """

    def __init__(self, blocks: nn.ModuleList, device: torch.device, dtype: torch.dtype):
        """blocks: are emptied, one after the other, so that the weights never lie in memory twice."""
        super().__init__()
        with torch.inference_mode(False), torch.no_grad():
            first = blocks[0]
            self._waiting = [packed(blocks.pop(0), dtype, device.type == "cuda") for _ in range(len(blocks))]
            self._places = [torch.empty_like(self._waiting[0], device=device) for _ in range(PLACES)]
            self.extend(unpacked(first, place) for place in self._places)
        self._copying = stream_of(device) if device.type == "cuda" else None

    @property
    def count(self) -> int:
        """Blocks in all; the list itself holds as many as lie on the device."""
        return len(self._waiting)

    def __iter__(self) -> Iterator[nn.Module]:
        self._copy(0)
        for number in range(self.count):
            arrived = self._event()
            if number + 1 < self.count:
                self._copy(number + 1)
            if arrived is not None:
                torch.cuda.current_stream(self._places[0].device).wait_event(arrived)
            yield self[number % PLACES]

    def _copy(self, number: int) -> None:
        """Start to copy a block to the place of the one before the last, when that has been computed."""
        place = self._places[number % PLACES]
        if self._copying is None:
            place.copy_(self._waiting[number])
            return
        self._copying.wait_stream(torch.cuda.current_stream(place.device))
        with torch.cuda.stream(self._copying):
            place.copy_(self._waiting[number], non_blocking=True)

    def _event(self) -> torch.cuda.Event | None:
        """When all copies that were started so far are done."""
        return None if self._copying is None else self._copying.record_event()


def stream_of(device: torch.device) -> torch.cuda.Stream:
    """A new one beside the current."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def tensors_of(block: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, also those that no file holds, in a fixed order."""
    return {**dict(block.named_parameters()), **dict(block.named_buffers())}


def starts(shapes: list[torch.Size]) -> list[int]:
    """Where each tensor begins in one row of numbers, and at last the length of the row."""
    return list(accumulate((-(-prod(shape) // ALIGNED) * ALIGNED for shape in shapes), initial=0))


def row_length(block: nn.Module) -> int:
    """Numbers of a block's row."""
    return starts([tensor.shape for tensor in tensors_of(block).values()])[-1]


def packed(block: nn.Module, dtype: torch.dtype, pinned: bool) -> Tensor:
    """All tensors of a block as one row in main memory."""
    tensors = list(tensors_of(block).values())
    begins = starts([tensor.shape for tensor in tensors])
    row = torch.zeros(begins[-1], dtype=dtype, pin_memory=pinned)
    for tensor, begin in zip(tensors, begins, strict=False):
        row[begin : begin + tensor.numel()].copy_(tensor.reshape(-1))
    return row


def unpacked(block: nn.Module, row: Tensor) -> nn.Module:
    """A copy of the block whose tensors are parts of the row."""
    tensors = tensors_of(block)
    memo: dict[int, object] = {id(tensor): None for tensor in tensors.values()}
    skeleton = copy.deepcopy(block, memo)
    begins = starts([tensor.shape for tensor in tensors.values()])
    for (name, tensor), begin in zip(tensors.items(), begins, strict=False):
        owner, _, leaf = name.rpartition(".")
        view = row[begin : begin + tensor.numel()].view(tensor.shape)
        kind = nn.Parameter(view, requires_grad=False) if isinstance(tensor, nn.Parameter) else view
        setattr(skeleton.get_submodule(owner), leaf, kind)
    return skeleton
