"""Work beside other work on a GPU: copies to and from pinned memory, and a second stream.

On a CPU the same calls run one after another and nothing is copied.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves


class Pending[T]:
    """What a side stream was asked for."""

    def __init__(self, value: T, event: torch.cuda.Event | None):
        self._value, self._event = value, event

    def result(self) -> T:
        """For work on the current stream, which waits for it; the caller does not."""
        if self._event is not None:
            found = _on_device(self._value)
            stream = torch.cuda.current_stream(found[0].device if found else None)
            stream.wait_event(self._event)
            for tensor in found:
                tensor.record_stream(stream)
        return self._value

    def finished(self) -> T:
        """For the host, which waits."""
        if self._event is not None:
            self._event.synchronize()
        return self._value


class SideStream:
    """A second stream of a GPU. Memory that it uses is not shared with the first, so peaks add up."""

    def __init__(self, device: torch.device):
        on_gpu = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]

    def run[T](self, work: Callable[..., T], *given: Tensor) -> Pending[T]:
        """Begin work(*given). given: every device tensor that it uses; what they wait for, it waits for, too."""
        if self._stream is None:
            return Pending(work(*given), None)
        if given:
            self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            value = work(*given)
            event = self._stream.record_event()
        for tensor in given:
            tensor.record_stream(self._stream)
        return Pending(value, event)


def _on_device(value: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor) and leaf.is_cuda]


def uploaded(frames: Iterable[Tensor], device: torch.device, ahead: int = 1) -> Iterator[Tensor]:
    """Frames from the host on the device, in order; `ahead` more are on their way while one is worked on."""
    side, waiting = SideStream(device), deque[Pending[Tensor]]()
    for frame in frames:
        waiting.append(side.run(lambda: _up(frame, device)))  # noqa: B023 (called at once)
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def downloaded(frames: Iterable[Tensor], device: torch.device, behind: int = 1) -> Iterator[Tensor]:
    """Frames from the device on the host, in order; while one is copied, `behind` more are being made.

    On a GPU they lie in pinned memory of their own.
    """
    side, waiting = SideStream(device), deque[Pending[Tensor]]()
    for frame in frames:
        waiting.append(side.run(_down, frame))
        if len(waiting) > behind:
            yield waiting.popleft().finished()
    while waiting:
        yield waiting.popleft().finished()


def _up(frame: Tensor, device: torch.device) -> Tensor:
    return frame if device.type != "cuda" else frame.pin_memory().to(device, non_blocking=True)


def _down(frame: Tensor) -> Tensor:
    if not frame.is_cuda:
        return frame
    host = torch.empty(frame.shape, dtype=frame.dtype, pin_memory=True)
    return host.copy_(frame, non_blocking=True)
