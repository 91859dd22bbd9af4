"""Ctrl-C and SIGTERM: held back where they would part what belongs together, never lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from duovsr_vs import interrupts
from duovsr_vs.interrupts import held_back, listen
from duovsr_vs.video.pipeline import POLL, Channel, Stopped

BOTH = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """As before, afterwards."""
    before = {number: signal.getsignal(number) for number in BOTH}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interrupts._raised = interrupts._listening = False


def arrive(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", BOTH)
def test_an_interrupt_inside_is_raised_on_leaving_and_told_at_once(number: signal.Signals) -> None:
    listen()
    steps = []
    with pytest.raises(KeyboardInterrupt):
        with held_back(lambda: steps.append("told")):
            arrive(number)
            steps.append("went on")
        steps.append("behind")
    assert steps == ["told", "went on"]


def test_the_outermost_of_nested_blocks_raises() -> None:
    listen()
    steps = []
    with pytest.raises(KeyboardInterrupt), held_back(lambda: steps.append("outer")):
        with held_back(lambda: steps.append("inner")):
            arrive(signal.SIGINT)
        steps.append("went on")
    assert steps == ["inner", "outer", "went on"]


def test_handlers_are_as_before_afterwards() -> None:
    listen()
    before = [signal.getsignal(number) for number in BOTH]
    with held_back():
        assert [signal.getsignal(number) for number in BOTH] != before
    assert [signal.getsignal(number) for number in BOTH] == before


def test_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listen()
    with held_back():
        arrive(signal.SIGINT)
    arrive(signal.SIGINT)


def test_an_interrupt_that_a_library_swallowed_is_raised_by_the_next_block() -> None:
    listen()
    try:
        arrive(signal.SIGTERM)
        time.sleep(1)
    except KeyboardInterrupt:
        pass
    with pytest.raises(KeyboardInterrupt), held_back():
        pytest.fail("entered")


def test_other_threads_enter_freely() -> None:
    entered = []

    def body() -> None:
        with held_back():
            entered.append(True)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert entered == [True]


def test_a_channel_that_is_stopped_wakes_those_who_wait_without_its_lock() -> None:
    channel, woken = Channel[int](1), []
    channel.put(1)

    def put() -> None:
        with pytest.raises(Stopped):
            channel.put(2)
        woken.append(True)

    thread = threading.Thread(target=put)
    thread.start()
    with channel._changed:  # as when an interrupt arrives while the main thread holds it
        channel.stop()
    thread.join(20 * POLL)
    assert woken == [True]


def test_an_interrupt_while_threads_are_started_leaves_none_that_the_interpreter_waits_for() -> None:
    code = (
        "import os, signal, threading, torch\n"
        "from duovsr_vs.engine.workers import Workers\n"
        "start, count = threading.Thread.start, [0]\n"
        "def parted(thread):\n"
        "    start(thread)\n"
        "    count[0] += 1\n"
        "    if count[0] == 1:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "threading.Thread.start = parted\n"
        "list(Workers(2).in_order([lambda: torch.zeros(1)] * 4))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert "KeyboardInterrupt" in done.stderr


def test_a_second_interrupt_waits_for_nothing() -> None:
    code = (
        "import os, signal, time\n"
        "from duovsr_vs import interrupts\n"
        "interrupts.listen()\n"
        "with interrupts.held_back():\n"
        "    for pause in (0, 0, interrupts.IMPATIENT + 0.1):\n"
        "        time.sleep(pause)\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        print('waits', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (130, "waits\nwaits\n")
