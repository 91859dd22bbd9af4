"""Processes of our programs that begin with all libraries loaded, which takes a fresh interpreter seconds.

A server that has imported them, and computed nothing, forks itself for each. What it gives is a process like any other,
with files of its own for what it says, and can be killed like one.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

LOADED = (
    "torch", "av", "duovsr_vs.cli.main", "duovsr_vs.cli.batch", "duovsr_vs.cli.long", "duovsr_vs.cli.upscale",
    "duovsr_vs.cli.render", "duovsr_vs.engine.upscaler", "duovsr_vs.video.convert", "training.__main__",
    "training.run", "training.stages",
)  # fmt: skip
PATIENCE = 240.0
"""Seconds for a short command on a machine with much else to do."""
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(list(LOADED))


def duovsr(arguments: Sequence[str]) -> None:
    """The command line."""
    from duovsr_vs.cli.main import main

    sys.argv = ["duovsr", *arguments]
    main()


def limited(arguments: Sequence[str]) -> None:
    """The command line, whose files may not grow beyond the bytes that its first argument says."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(arguments[0]), int(arguments[0])))
    duovsr(arguments[1:])


def trainer(arguments: Sequence[str]) -> None:
    """`python -m training` on one thread, so that two processes compute the same bits."""
    import torch

    from training.__main__ import main

    os.environ["OMP_NUM_THREADS"] = "1"  # for processes that it starts
    torch.set_num_threads(1)
    sys.exit(main(list(arguments)))


def _begin(program: Callable[[Sequence[str]], None], arguments: Sequence[str], said: str) -> None:
    """In the new process."""
    with Path(said).open("a") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where tests run in the background
    program(arguments)


class Launched:
    """A running program, much as a `subprocess.Popen`; it is killed when the block is left before its end.

    said: file to which its stdout and stderr are added.
    """

    def __init__(self, program: Callable[[Sequence[str]], None], arguments: Sequence[object], said: Path):
        self.said = said
        words = [str(word) for word in arguments]
        self._process = _SERVER.Process(target=_begin, args=(program, words, str(said)))
        self._process.start()

    def __enter__(self) -> Launched:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.poll() is None:
            self.kill()
        self._process.join()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, −n for a process that signal n ended; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, seconds: float) -> int:
        """The exit code. TimeoutError when it goes on for longer."""
        self._process.join(seconds)
        if (code := self.poll()) is None:
            raise TimeoutError(f"it still runs after {seconds:g} s: {self.text()}")
        return code

    def end(self) -> tuple[int, str]:
        """Wait; exit code and what it has said."""
        with self:
            return self.wait(PATIENCE), self.text()

    def text(self) -> str:
        """What it has said so far."""
        return self.said.read_text() if self.said.exists() else ""
