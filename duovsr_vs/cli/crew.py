"""Workers that share the segments of a long job, none of which changes a bit of any: here, processes of one machine."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ..errors import DuoVsrError, VideoError
from ..interrupts import held_back
from .exits import say
from .render import UnsteadyInputError
from .request import Request

PATIENCE = 2
"""How often in a row a worker may be lost and replaced: once may be bad luck, memory that is too small is not."""


class Worker(ABC):
    """Somebody who makes segments and says what happens, in the words of `duovsr_vs.cli.worker`."""

    def __init__(self, name: str, description: dict[str, Any]):
        """name: what people call it.  description: as for `render_segment`."""
        self.name, self.description = name, description
        self.todo: range | None = None
        self.ready = False
        self.losses = 0

    @abstractmethod
    def give(self, todo: range) -> None:
        """Have a run of segments made."""

    @abstractmethod
    def end(self) -> None:
        """The worker stops, whatever it is doing; what it had begun is nobody's."""


Said = queue.SimpleQueue[tuple[Worker | None, dict[str, Any]]]
"""Everything that workers say, and {"ended": exit code} at the last; None: an interrupt has come. A simple queue is the
kind into which a signal handler may put something.
"""


class LocalWorker(Worker):
    """A process of this machine, spoken to in lines of JSON."""

    def __init__(self, name: str, description: dict[str, Any], said: Said):
        super().__init__(name, description)
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
        self._said = said
        self._tell(description)
        threading.Thread(target=self._listen, name="duovsr-worker", daemon=True).start()

    def give(self, todo: range) -> None:
        self.todo = todo
        self._tell({"first": todo.start, "last": todo.stop - 1})

    def end(self) -> None:
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


class Crew(ABC):
    """Makes the segments of one job that are missing, by workers of some kind."""

    def __init__(self) -> None:
        self._said: Said = queue.SimpleQueue()
        self._workers: list[Worker] = []
        self._todo: list[range] = []
        self._failed: tuple[int, DuoVsrError] | None = None
        self.made: set[int] = set()
        """Segments that workers have finished."""

    @abstractmethod
    def hire(self, segments: int) -> list[Worker]:
        """The first workers, no more than there are segments. Raises DuoVsrError where there is nobody."""

    @abstractmethod
    def successor(self, worker: Worker) -> Worker | None:
        """Who takes the place of a lost worker."""

    def run(self, missing: Sequence[range], on_frame: Callable[[], None]) -> None:
        """Have all missing runs of segments made. Raises DuoVsrError, or UnsteadyInputError; all workers have ended.

        on_frame: called in this thread for each finished frame. An error is that of the earliest segment that has one,
        as if one process had made them in order.
        """
        self._todo = [run for run in missing if run]
        with held_back(lambda: self._said.put((None, {}))):
            try:
                self._workers = self.hire(sum(len(run) for run in self._todo))
                while self._goes_on():
                    worker, said = self._said.get()
                    if worker is None:
                        break
                    self._hear(worker, said, on_frame)
            finally:
                for worker in self._workers:
                    worker.end()
        if self._failed is not None:
            raise self._failed[1]

    def _goes_on(self) -> bool:
        """Whether there is something to wait for; behind a segment that fails there is not."""
        runs = [*self._todo, *(worker.todo for worker in self._workers if worker.todo)]
        return bool(self._workers) and any(self._failed is None or run.start < self._failed[0] for run in runs)

    def _hear(self, worker: Worker, said: dict[str, Any], on_frame: Callable[[], None]) -> None:
        """React to one line of one worker."""
        if worker not in self._workers:
            return
        if "frames" in said:
            for _ in range(int(said["frames"])):
                on_frame()
        elif "idle" in said:
            worker.ready, worker.todo = True, None
            self._hand_out()
        elif "segment" in said and worker.todo:
            self.made.add(int(said["segment"]))
            worker.todo, worker.losses = range(int(said["segment"]) + 1, worker.todo.stop), 0
        elif "note" in said:
            say(f"note     {worker.name}: {said['note']}")
        elif "unsteady" in said:
            raise UnsteadyInputError(int(said["unsteady"]))
        elif "error" in said:
            self._fail(worker, _error(said))
        elif "ended" in said:
            self._replace(worker, said)

    def _hand_out(self) -> None:
        """Something to do for everybody who waits for it, as long as there is some."""
        for worker in self._workers:
            if worker.ready and worker.todo is None and (todo := self._next()):
                worker.give(todo)

    def _next(self) -> range | None:
        """The next run to hand out: the earliest, neighbours together, smaller ones towards the end, so that all end at
        once; after an error only what lies before it.
        """
        runs = [run for run in self._todo if self._failed is None or run.start < self._failed[0]]
        if not runs:
            return None
        first = min(runs, key=lambda run: run.start)
        size = max(1, -(-sum(map(len, runs)) // (2 * len(self._workers))))
        self._todo.remove(first)
        if rest := first[size:]:
            self._todo.append(rest)
        return first[:size]

    def _fail(self, worker: Worker, error: DuoVsrError) -> None:
        """A worker cannot even begin: the others go on without it. Or there is an error in what it makes."""
        self._workers.remove(worker)
        worker.end()
        if not worker.ready:
            refusal = f"{worker.name} takes no part: {error}"
            if not self._workers:
                raise type(error)(refusal)
            say(f"note     {refusal}")
            return
        at = worker.todo.start if worker.todo is not None else 0
        if self._failed is None or at < self._failed[0]:
            self._failed = at, error

    def _replace(self, worker: Worker, said: dict[str, Any]) -> None:
        """A worker has gone without a word: another one takes over what it had not finished."""
        self._workers.remove(worker)
        worker.end()
        if worker.todo:
            self._todo.append(worker.todo)
        if not self._todo:
            return
        follower = self.successor(worker) if worker.losses < PATIENCE else None
        if follower is not None:
            follower.losses = worker.losses + 1
            self._workers.append(follower)
        elif not self._workers:
            raise VideoError(
                f"workers end without a word ({said.get('why') or 'code ' + str(said['ended'])}); memory may be short, "
                "fewer --workers need less"
            )
        self._hand_out()


class LocalCrew(Crew):
    """Processes of this machine."""

    def __init__(self, description: dict[str, Any], count: int, devices: Sequence[str] = ()):
        """description: as for `render_segment`.  count: of workers, for each device.  devices: for a worker each;
        without, that of the job. Threads of the CPU are shared out.
        """
        import torch

        super().__init__()
        given = description["request"]["options"]
        total = count * max(len(devices), 1)
        share = {} if given["threads"] is not None else {"threads": max(1, torch.get_num_threads() // total)}
        each = [{"device": device, **share} for device in (devices or [given["device"]])]
        self._descriptions = [with_options(description, more) for more in each * count]

    def hire(self, segments: int) -> list[Worker]:
        numbered = enumerate(self._descriptions[:segments], 1)
        return [LocalWorker(f"worker {number}", description, self._said) for number, description in numbered]

    def successor(self, worker: Worker) -> Worker | None:
        return LocalWorker(worker.name, worker.description, self._said)


def devices_of(request: Request) -> tuple[str, ...]:
    """Devices of this machine that a job may use beside each other; empty: the one that its options name.

    `cuda` alone means all GPUs of the first one's kind: others would not give the same bits.
    """
    if request.devices or request.options.device != "cuda":
        return request.devices
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    alike = tuple(f"cuda:{index}" for index, name in enumerate(names) if name == names[0])
    return alike if len(alike) > 1 else ()


def with_options(description: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """A description with other engine options, such as change no pixel (device, threads)."""
    request = description["request"]
    return {**description, "request": {**request, "options": {**request["options"], **more}}}


def _error(said: dict[str, Any]) -> DuoVsrError:
    """A worker's error, of its own kind."""
    return _kinds(DuoVsrError).get(str(said.get("kind")), VideoError)(str(said["error"]))


def _kinds(base: type[DuoVsrError]) -> dict[str, type[DuoVsrError]]:
    """All kinds of errors by name."""
    kinds = {base.__name__: base}
    for child in base.__subclasses__():
        kinds |= _kinds(child)
    return kinds
