"""Programs in fresh processes of their own, and what each of them took: wall time, core time, peak memory."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from duovsr_vs.cli.main import ENVIRONMENT
from duovsr_vs.errors import DuoVsrError

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Used:
    """What one process took.

    wall: seconds from start to end.  core: seconds of all its threads and of the processes it waited for, in user and
    kernel mode together.  peak: bytes of resident memory.  out, err: what it printed.
    """

    wall: float
    core: float
    peak: int
    out: str
    err: str


def program(name: str) -> str:
    """A program that is installed beside this Python. DuoVsrError where there is none."""
    path = BIN / name
    if not path.is_file():
        raise DuoVsrError(f"{path} does not exist; run `make install` and use .venv/bin/python")
    return str(path)


def variables() -> dict[str, str]:
    """The environment of every process that is measured: the command line's own settings for all alike."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])
    return os.environ | ENVIRONMENT | {"PATH": path}


def run(command: Sequence[str]) -> Used:
    """Run to the end. DuoVsrError with the last lines of its stderr when it fails.

    Linux counts the memory of the process that starts a child as the child's own, up to its exec: whoever calls this
    for `peak` must be small itself, so without torch.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=variables())
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
        texts = [_text(file) for file in (out, err)]
    if process.returncode:
        tail = " / ".join(texts[1].strip().splitlines()[-3:])
        raise DuoVsrError(f"{Path(command[0]).name} ended with code {process.returncode}: {tail}")
    kilo = 1 if sys.platform == "darwin" else 1024
    return Used(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * kilo, *texts)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
