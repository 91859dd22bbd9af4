"""Encoders leave the scheduling of the process alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from video_files import convert, double, make_video

from duovsr_vs.video.scheduling import usual_scheduling

REAL_TIME = hasattr(os, "sched_setscheduler") and hasattr(os, "geteuid") and os.geteuid() == 0


def policies() -> set[int]:
    """The scheduling policies of all threads of this process."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # a thread that has ended meanwhile
            found.add(os.sched_getscheduler(int(task.name)))
    return found


@pytest.mark.skipif(not REAL_TIME, reason="only root may have real-time priority, on Linux")
def test_what_takes_real_time_priority_loses_it_again() -> None:
    with usual_scheduling():
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
        assert policies() != {os.SCHED_OTHER}
    assert policies() == {os.SCHED_OTHER}


@pytest.mark.skipif(not REAL_TIME, reason="only root may have real-time priority, on Linux")
def test_who_had_real_time_priority_before_keeps_it() -> None:
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        with usual_scheduling():
            pass
        assert os.sched_getscheduler(0) == os.SCHED_RR
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.mark.skipif(not REAL_TIME, reason="only root may have real-time priority, on Linux")
def test_an_encoder_gives_back_its_priority_while_it_runs(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 3, size=(64, 64))
    seen: list[set[int]] = []

    def process(frames: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        for frame in double(frames):
            yield frame
            seen.append(policies())  # the encoder has had the frame, or is about to

    convert(source, tmp_path / "b.mkv", process, codec="libsvtav1")
    assert seen == [{os.SCHED_OTHER}] * 3
