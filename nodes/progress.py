"""Work that shows its progress and that Cancel ends within a second."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Full, Queue
from typing import Any

import comfy.model_management as mm
import comfy.utils
import numpy as np
from PIL import Image
from torch import Tensor

PATIENCE = 0.1
"""Seconds between two looks at whether Cancel was pressed."""
PREVIEW_SECONDS = 1.0
PREVIEW_SIDE = 512
_END = object()


class Bar:
    """ComfyUI's progress bar, with a picture now and then."""

    def __init__(self, total: int):
        self._bar, self._total, self._done, self._shown = comfy.utils.ProgressBar(total), total, 0, 0.0

    def advance(self, frame: Tensor | None = None) -> None:
        """One frame more is done; frame: (3 h w) in [0, 1], to show."""
        self._done += 1
        picture = None
        if frame is not None and time.monotonic() - self._shown > PREVIEW_SECONDS:
            self._shown = time.monotonic()
            picture = ("JPEG", _small(frame), PREVIEW_SIDE)
        self._bar.update_absolute(self._done, max(self._total, self._done), picture)


def _small(frame: Tensor) -> Image.Image:
    """Every nth pixel, so that a preview costs nothing."""
    step = max(1, -(-max(frame.shape[-2:]) // PREVIEW_SIDE))
    pixels = frame[:, ::step, ::step].clamp(0, 1).mul(255).round().byte().movedim(0, -1)
    return Image.fromarray(np.ascontiguousarray(pixels.cpu().numpy()))


class _Maker[T]:
    """Takes items from an iterator on a thread of its own; the next one is begun when the last was taken."""

    def __init__(self, items: Iterator[T]):
        self._items, self._stopped, self.taken = items, threading.Event(), threading.Event()
        self.taken.set()
        self.queue: Queue[Any] = Queue(1)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="duovsr-node", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            while self._wanted() and (item := next(self._items, _END)) is not _END:
                self.queue.put(item)
                del item  # it is large, and the next one is made meanwhile
        except BaseException as error:  # raised again where the items are used
            self.error = error
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()
            with suppress(Full):  # only where nobody listens any more
                self.queue.put_nowait(_END)

    def _wanted(self) -> bool:
        """Wait until the last item was taken. False if nobody wants another."""
        while not self._stopped.is_set():
            if self.taken.wait(PATIENCE):
                self.taken.clear()
                return True
        return False

    def stop(self) -> None:
        """The item that is being made is the last."""
        self._stopped.set()
        self._thread.join(PATIENCE)


@contextmanager
def noted(engine: Any) -> Iterator[None]:
    """Afterwards the console says where memory ran out and smaller pieces served."""
    yield
    for note in filter(None, [engine.memory_note]):
        logging.warning("DUO-VSR: %s", note)


@contextmanager
def cancellable[T](items: Iterator[T]) -> Iterator[Iterator[T]]:
    """The same items; Cancel is noticed while one is being made, which may take long on a CPU."""
    maker = _Maker(items)
    try:
        yield _looked_after(maker)
    finally:
        maker.stop()


def _looked_after[T](maker: _Maker[T]) -> Iterator[T]:
    while True:
        mm.throw_exception_if_processing_interrupted()
        try:
            item = maker.queue.get(timeout=PATIENCE)
        except Empty:
            continue
        maker.taken.set()
        if item is _END:
            break
        yield item
        del item
    if maker.error is not None:
        raise maker.error


def tell(node: Any, text: str) -> None:
    """Show a text on a node that is being executed; where there is no server, nobody looks."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None and node.hidden.unique_id is not None:
        server.send_progress_text(text, node.hidden.unique_id)
