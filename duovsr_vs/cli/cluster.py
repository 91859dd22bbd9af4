"""Workers on the nodes of a Ray cluster (extra `cluster`): the same segments, on storage that all nodes share.

What travels over the cluster is text: a job's description, numbers of segments, and what workers say. On a node an
actor of ours starts the worker process that a single machine has, too, and passes on its lines.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..errors import DuoVsrError, OptionError
from ..video.segments import SegmentFolder
from .crew import Crew, LocalWorker, Said, Worker, with_options
from .exits import say
from .render import SEEN_AFTER

ANSWER, STARTING, LISTENING = 5, 30, 1
"""Seconds for a connection, until a worker that has not started is spoken of, and between two questions to one."""


class ClusterError(DuoVsrError):
    """A cluster that cannot be used."""


def join(address: str) -> None:
    """Take part in a cluster until this process ends. Raises ClusterError or OptionError.

    address: `host:port` of its head, `auto` for the one that this machine belongs to, `local` for one of its own.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray = _ray()
    if ray.is_initialized():
        return
    if address not in ("auto", "local"):
        _knock(address)
    handler = signal.getsignal(signal.SIGTERM)
    own = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
    except (ConnectionError, RuntimeError, ValueError, SystemExit) as error:
        raise ClusterError(
            f"--ray {address}: no cluster can be joined there ({_first_line(error)}); `ray start --head "
            "--include-dashboard=false` begins one, `ray start --address=HOST:PORT` adds a machine, and duovsr runs on "
            "one of them"
        ) from None
    finally:
        signal.signal(signal.SIGTERM, handler)  # Ray has put its own in its place
    with suppress(AttributeError):  # it prints pages about nodes that are lost, past every setting
        ray._private.worker.print_to_stdstream = lambda *arguments, **more: None


@dataclass(frozen=True, slots=True)
class Place:
    """Where one worker fits: a node (its id and what people call it), which of its workers, and its share of it."""

    node: str
    host: str
    number: int
    cpus: float
    gpus: float


def places(cuda: bool, each: int) -> list[Place]:
    """All places of the cluster: `each` for a GPU of every node, or for every node."""
    found: list[Place] = []
    gpu = 1 / each if cuda else 0
    for node in _ray().nodes():
        resources = node["Resources"]
        cpus, gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0))
        count = (gpus if cuda else 1) * each if node["Alive"] and cpus else 0
        share = max(1, cpus // count) if count else 0
        found += [
            Place(node["NodeID"], f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})", number, share, gpu)
            for number in range(count)
        ]
    return sorted(found, key=lambda place: place.number)


class Post:
    """On a node: starts a worker process, passes on what it is told and what it says. All values are JSON."""

    def __init__(self, description: str):
        self._said: Said = queue.SimpleQueue()
        self._worker = LocalWorker("", json.loads(description), self._said)

    def give(self, first: int, stop: int) -> None:
        """Have a run of segments made."""
        self._worker.give(range(first, stop))

    def hear(self) -> list[str]:
        """What the worker has said since the last call; waits a little for it."""
        lines: list[str] = []
        with suppress(queue.Empty):
            lines.append(json.dumps(self._said.get(timeout=LISTENING)[1]))
            while True:
                lines.append(json.dumps(self._said.get_nowait()[1]))
        return lines


class ClusterWorker(Worker):
    """A worker on a node of the cluster."""

    def __init__(self, place: Place, description: dict[str, Any], said: Said):
        super().__init__(f"node {place.host}", description)
        self.place, self._said, self._ended = place, said, False
        ray = _ray()
        where = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(place.node, soft=False)
        options = {"num_cpus": place.cpus, "num_gpus": place.gpus, "scheduling_strategy": where}
        actor = ray.remote(Post).options(max_concurrency=2, max_restarts=0, **options)
        self._actor = actor.remote(json.dumps(description))
        threading.Thread(target=self._listen, name="duovsr-node", daemon=True).start()

    def give(self, todo: range) -> None:
        self.todo = todo
        self._actor.give.remote(todo.start, todo.stop)

    def end(self) -> None:
        self._ended = True
        with suppress(Exception):  # it has ended with its node
            _ray().kill(self._actor)

    def _listen(self) -> None:
        ray = _ray()
        try:
            lines = self._actor.hear.remote()
            if not ray.wait([lines], timeout=STARTING)[0]:
                self._said.put((self, {"note": "no word yet; it may be busy with other work"}))
            while not self._ended:
                for line in ray.get(lines):
                    self._said.put((self, json.loads(line)))
                lines = self._actor.hear.remote()
        except Exception as error:  # a lost node has many names in Ray
            self._said.put((self, {"ended": -1, "why": _first_line(error)}))


class ClusterCrew(Crew):
    """Workers on all nodes of the cluster that this process has joined."""

    def __init__(self, description: dict[str, Any], each: int, device: str, folder: SegmentFolder):
        """description: as for `render_segment`.  each: workers of a node, or of each of its GPUs.  device: of the job;
        on a GPU others take part with theirs.  folder: of the segments.
        """
        super().__init__()
        self._each, self._cuda, self._folder = each, device.startswith("cuda"), folder
        self._sign = folder.path / f"shared-{secrets.token_hex(8)}.part"
        own = with_options(description, {"device": "cuda" if self._cuda else "cpu"})
        self._description = {**own, "shared": self._sign.name}

    def run(self, missing: Sequence[range], on_frame: Callable[[], None]) -> None:
        self._sign.touch()
        try:
            super().run(missing, on_frame)
        finally:
            self._sign.unlink(missing_ok=True)
        self.see()

    def hire(self, segments: int) -> list[Worker]:
        found = places(self._cuda, self._each)
        if not found:
            raise ClusterError(f"no node of the cluster has {'a GPU' if self._cuda else 'a processor'} to give")
        hosts = sorted({place.host for place in found})
        say(f"cluster  {len(found)} worker{'s' if len(found) > 1 else ''} on {', '.join(hosts)}")
        return [self._worker(place) for place in found[:segments]]

    def successor(self, worker: Worker) -> Worker | None:
        """On the same node, or where that has gone, on one that has joined since or has no worker."""
        assert isinstance(worker, ClusterWorker)
        say(f"note     {worker.name}: its worker is lost; what it had not finished is made again")
        taken = {other.place for other in self._workers if isinstance(other, ClusterWorker)}
        free = [place for place in places(self._cuda, self._each) if place not in taken]
        if not free:
            return None
        return self._worker(worker.place if worker.place in free else free[0])

    def _worker(self, place: Place) -> Worker:
        return ClusterWorker(place, self._description, self._said)

    def see(self) -> None:
        """Wait until this machine sees what the others have written. Raises ClusterError when it does not."""
        for _ in range(2 * SEEN_AFTER):
            list(self._folder.path.iterdir())  # network file systems look again when the folder is read
            if all(self._folder.record(index) is not None for index in self.made):
                return
            time.sleep(0.5)
        raise ClusterError(f"segments that workers have finished are not seen in {self._folder.path}; is it shared?")


def _ray() -> Any:
    """The package. Raises ClusterError where it is not installed."""
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError:
        raise ClusterError('--ray needs the package ray; pip install "duovsr[cluster]" on all machines') from None
    return ray


def _knock(address: str) -> None:
    """Ray itself waits for minutes where nobody is. Raises ClusterError, or OptionError for what is no address."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise OptionError(f"--ray {address}: an address is host:port, such as 10.0.0.1:6379, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER).close()
    except (OSError, UnicodeError) as error:
        raise ClusterError(
            f"--ray {address}: nobody answers there ({_first_line(error)}); start the cluster with `ray start --head "
            "--include-dashboard=false`, which tells its address"
        ) from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
