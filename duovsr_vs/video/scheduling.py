"""Encoders must not take the whole machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TASKS = Path("/proc/self/task")


@contextmanager
def usual_scheduling() -> Iterator[None]:
    """Whatever starts within (encoders) leaves the threads of this process with the scheduling that the caller has.

    SVT-AV1, run by root, as in most containers, gives itself and its caller the highest real-time priority. Every
    later thread and child process inherits it, and then one that spins (OpenMP, OpenBLAS) keeps the others from ever
    running. Does nothing where the system has no such priorities.
    """
    if not hasattr(os, "sched_getscheduler") or not TASKS.is_dir():
        yield
        return
    usual, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for thread in (int(task.name) for task in TASKS.iterdir()):
            with suppress(OSError):  # it has ended meanwhile
                if usual == os.SCHED_OTHER and os.sched_getscheduler(thread) in (os.SCHED_FIFO, os.SCHED_RR):
                    os.sched_setscheduler(thread, usual, parameter)
