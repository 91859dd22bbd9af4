"""Long jobs for tests: begun, killed at a moment, watched."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

from launched import Launched, duovsr
from video_files import make_video

from duovsr_vs.cli.batch import run
from duovsr_vs.cli.job import described, open_job
from duovsr_vs.cli.render import opened_folder
from duovsr_vs.cli.request import Request
from duovsr_vs.engine.options import Options
from duovsr_vs.video.segments import SegmentFolder

UNEVEN = [n * 40 + (n * n) % 13 for n in range(52)]
"""Timestamps in milliseconds."""


def requested(source: Path, output: Path, model: Path, **more: Any) -> Request:
    return Request(source=str(source), output=str(output), options=Options(model=str(model)), segment=8, **more)


def upscale(request: Request) -> int:
    return run(request, [request.source])


def begin(request: Request) -> tuple[dict[str, Any], SegmentFolder]:
    """A job that has begun and made nothing yet: its description and its folder."""
    with ExitStack() as stack:
        job = open_job(request, stack, None)
        upscaler = job.upscaler()
        description = described(request, job.identity(upscaler.plan, job.grid(upscaler, request.segment)))
    folder = opened_folder(request)
    with folder.locked():
        folder.begin(description)
    return description, folder


def uneven_film(path: Path) -> Path:
    """52 frames at uneven times, with sound and chapters."""
    options = {"x264-params": "keyint=6:bframes=2"}
    return make_video(
        path, 52, pts=UNEVEN, time_base=Fraction(1, 1000), sound=True, chapters=True, options=options
    )  # fmt: skip


def kill_at(arguments: list[Any], moment: Callable[[], bool], sent: signal.Signals = signal.SIGKILL) -> tuple[int, str]:
    """Run `duovsr` until `moment` is there, send a signal, wait; the exit code and what it has said."""
    with tempfile.TemporaryDirectory() as place, Launched(duovsr, arguments, Path(place) / "said.txt") as running:
        deadline = time.monotonic() + 240
        while not moment() and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        running.send_signal(sent)
        return running.wait(60), running.text()


def children(pid: int) -> list[int]:
    """Processes whose parent is that one."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def wait_for(moment: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not moment():
        assert time.monotonic() < deadline
        time.sleep(0.005)
