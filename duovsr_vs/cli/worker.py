"""A worker process: a job on the first line of stdin, then runs of segments to make; what happens, in lines on stdout.

Lines are JSON objects. In: the description, then {"first": 3, "last": 5}. Out: {"idle": true} when there is nothing to
do, {"frames": 12}, {"segment": 3}, {"error": "a sentence", "kind": "VideoError"}, {"unsteady": 120}.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

from ..errors import DuoVsrError
from .exits import quiet
from .main import set_environment

INTERVAL = 0.5
"""Seconds between two lines about frames."""


class Teller:
    """Says what happens; frames are counted and told now and then."""

    def __init__(self) -> None:
        self._frames = 0
        self._told = time.monotonic()
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # whatever a library prints is not a line of ours

    def tell(self, value: dict[str, Any]) -> None:
        """One line."""
        self._out.write(json.dumps(value) + "\n")
        self._out.flush()

    def frame(self) -> None:
        """One more frame is written."""
        self._frames += 1
        if time.monotonic() - self._told >= INTERVAL:
            self.flush()

    def segment(self, index: int) -> None:
        """One more segment is finished."""
        self.flush()
        self.tell({"segment": index})

    def flush(self) -> None:
        """Tell the frames that have not been told."""
        if self._frames:
            self.tell({"frames": self._frames})
        self._frames, self._told = 0, time.monotonic()


def main() -> None:
    """Serve until stdin ends."""
    set_environment()
    teller = Teller()
    lines = iter(_orders())
    try:
        _serve(json.loads(next(lines)), lines, teller)
    except DuoVsrError as error:
        teller.tell({"error": str(error), "kind": type(error).__name__})
    except MemoryError:
        teller.tell({"error": "there is not enough memory; use fewer --workers or a smaller --tile", "kind": ""})
    except BrokenPipeError:
        pass  # whoever gave the orders has gone


def _serve(description: dict[str, Any], lines: Any, teller: Teller) -> None:
    from .render import Station, UnsteadyInputError

    quiet()
    with Station(description) as station:
        teller.tell({"idle": True})
        for line in lines:
            order = json.loads(line)
            try:
                station.render(int(order["first"]), int(order["last"]), teller.frame, teller.segment)
            except UnsteadyInputError as found:
                teller.tell({"unsteady": found.number})
                return
            teller.flush()
            teller.tell({"idle": True})


def _orders() -> Any:
    """Lines of stdin, read by a thread that ends the process with them: its orders come from a process that lives."""
    import queue

    waiting: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            waiting.put(line)
        os._exit(1)

    threading.Thread(target=listen, name="duovsr-orders", daemon=True).start()
    while True:
        yield waiting.get()
