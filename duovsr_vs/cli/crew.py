"""Several worker processes on one machine: each makes runs of segments, and none of them changes a bit of any."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ..errors import DuoVsrError, VideoError
from .render import UnsteadyInputError

PATIENCE = 2
"""How often a worker may be lost before the job gives up: once may be bad luck, memory that is too small is not."""


class Worker:
    """One process, `duovsr_vs.cli.worker`, spoken to in lines of JSON."""

    def __init__(self, description: dict[str, Any], said: queue.Queue[tuple[Worker, dict[str, Any]]]):
        """said: gets everything that the worker says, and {"ended": its exit code} at last."""
        package = (__package__ or "duovsr_vs.cli").split(".")
        code = f"from {'.'.join([*package, 'worker'])} import main; main()"
        # A session of its own: Ctrl-C goes to this process alone, which then ends the workers.
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        self.description = description
        self.todo: range | None = None
        self._said = said
        self._tell(description)
        threading.Thread(target=self._listen, name="duovsr-worker", daemon=True).start()

    def give(self, todo: range) -> None:
        """Have a run of segments made."""
        self.todo = todo
        self._tell({"first": todo.start, "last": todo.stop - 1})

    def end(self) -> None:
        """The worker stops, whatever it is doing, and has stopped when this returns."""
        with suppress(OSError):
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                assert stream is not None
                stream.close()

    def _tell(self, value: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended, and its listener says so
            self._process.stdin.write(json.dumps(value) + "\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with suppress(OSError, ValueError):
            for line in self._process.stdout:
                self._said.put((self, json.loads(line)))
        self._said.put((self, {"ended": self._process.wait()}))


class Crew:
    """Makes the segments of one job that are missing."""

    def __init__(self, description: dict[str, Any], count: int, overrides: Sequence[dict[str, Any]] = ()):
        """description: as for `render_segment`.  count: of workers.  overrides: engine options of each worker that
        change no pixel (device, threads); without, the machine's threads are shared out.
        """
        import torch

        share = {"threads": max(1, torch.get_num_threads() // count)}
        given = description["request"]["options"]
        if given["threads"] is not None:
            share = {}
        each = list(overrides) or [share] * count
        self._descriptions = [
            {**description, "request": {**description["request"], "options": {**given, **more}}} for more in each
        ]
        self._said: queue.Queue[tuple[Worker, dict[str, Any]]] = queue.Queue()
        self._workers: list[Worker] = []
        self._todo: list[range] = []
        self._lost = 0

    def run(self, missing: Sequence[range], on_frame: Callable[[], None]) -> None:
        """Have all missing runs of segments made. Raises DuoVsrError, or UnsteadyInputError; all workers have ended.

        on_frame: called in this thread for each finished frame.
        """
        self._todo = [run for run in missing if run]
        segments = sum(len(run) for run in self._todo)
        try:
            for description in self._descriptions[:segments]:
                self._workers.append(Worker(description, self._said))
            while self._workers:
                self._hear(*self._said.get(), on_frame)
        finally:
            for worker in self._workers:
                worker.end()

    def _hear(self, worker: Worker, said: dict[str, Any], on_frame: Callable[[], None]) -> None:
        """React to one line of one worker."""
        if "frames" in said:
            for _ in range(int(said["frames"])):
                on_frame()
        elif "idle" in said:
            worker.todo = None
            if todo := self._next():
                worker.give(todo)
            else:
                self._workers.remove(worker)
                worker.end()
        elif "segment" in said and worker.todo:
            worker.todo = range(int(said["segment"]) + 1, worker.todo.stop)
        elif "unsteady" in said:
            raise UnsteadyInputError(int(said["unsteady"]))
        elif "error" in said:
            raise _error(said)
        elif "ended" in said and worker in self._workers:
            self._replace(worker, int(said["ended"]))

    def _next(self) -> range | None:
        """The next run to hand out: neighbours together, and smaller ones towards the end, so that all end at once."""
        if not self._todo:
            return None
        left = sum(len(run) for run in self._todo)
        longest = max(self._todo, key=len)
        size = max(1, -(-left // (2 * len(self._workers))))
        self._todo.remove(longest)
        if rest := longest[size:]:
            self._todo.append(rest)
        return longest[:size]

    def _replace(self, worker: Worker, code: int) -> None:
        """A worker has gone without a word: another one takes over what it had not finished."""
        self._workers.remove(worker)
        worker.end()
        self._lost += 1
        if self._lost > PATIENCE:
            raise VideoError(
                f"workers end without a word (code {code}); memory may be short, fewer --workers need less"
            )
        if worker.todo:
            self._todo.append(worker.todo)
        if self._todo:
            self._workers.append(Worker(worker.description, self._said))


def _error(said: dict[str, Any]) -> DuoVsrError:
    """A worker's error, of its own kind."""
    return _kinds(DuoVsrError).get(str(said.get("kind")), VideoError)(str(said["error"]))


def _kinds(base: type[DuoVsrError]) -> dict[str, type[DuoVsrError]]:
    """All kinds of errors by name."""
    kinds = {base.__name__: base}
    for child in base.__subclasses__():
        kinds |= _kinds(child)
    return kinds
