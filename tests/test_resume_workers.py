"""Segments of a long job that several workers make: the same bytes, whoever is lost and whatever does not decode."""

from __future__ import annotations

import os
import queue
import random
import signal
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from job_runs import begin, children, kill_at, requested, uneven_film, upscale, wait_for
from launched import Launched, duovsr
from test_cli import Cli
from test_video_reader import packet_spans
from video_files import decoded, make_video, planes, times

from duovsr_vs.cli.crew import Crew, LocalWorker, Worker
from duovsr_vs.cli.render import render_segment
from duovsr_vs.errors import VideoError


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return uneven_film(tmp_path_factory.mktemp("film") / "a.mkv")


@pytest.fixture(scope="module")
def whole(film: Path, tiny_model: Path) -> bytes:
    """What an uninterrupted run makes of it."""
    target = film.with_name("whole.mkv")
    assert upscale(requested(film, target, tiny_model)) == 0
    return target.read_bytes()


def test_two_workers_make_the_same_bytes(tmp_path: Path, film: Path, whole: bytes, tiny_model: Path) -> None:
    assert upscale(requested(film, tmp_path / "b.mkv", tiny_model, workers=2)) == 0
    assert (tmp_path / "b.mkv").read_bytes() == whole
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.mkv"]


def test_workers_of_several_devices_make_the_same_bytes_and_an_absent_one_is_refused(
    tmp_path: Path, film: Path, whole: bytes, tiny_model: Path, cli: Cli
) -> None:
    common = ["upscale", film, "-o", tmp_path / "b.mkv", "--model", tiny_model, "--segment", 8]
    code, _, err = cli(*common, "--device", "cpu, cpu,cuda:99")
    assert (code, "Traceback" in err) == (0, False)
    assert "note     worker 3 takes no part: device='cuda:99'" in err
    assert (tmp_path / "b.mkv").read_bytes() == whole
    code, _, err = cli(*common, "--overwrite", "--device", "cpu,gpu")
    assert (code, "device='gpu' is unknown" in err) == (2, True)


@pytest.mark.slow
def test_a_lost_worker_is_replaced_and_an_interrupt_ends_all(
    tmp_path: Path, film: Path, whole: bytes, tiny_model: Path
) -> None:
    folder = tmp_path / ".b.mkv.duovsr"
    command = ["upscale", film, "-o", tmp_path / "b.mkv", "--model", tiny_model, "--segment", "8"]
    command += ["--workers", "2"]
    with Launched(duovsr, command, tmp_path.with_suffix(".txt")) as running:
        wait_for(lambda: len(children(running.pid)) == 2)
        os.kill(children(running.pid)[0], signal.SIGKILL)
        assert running.wait(120) == 0
    assert (tmp_path / "b.mkv").read_bytes() == whole
    (tmp_path / "b.mkv").unlink()
    with Launched(duovsr, command, tmp_path.with_suffix(".txt")) as running:
        wait_for(lambda: any(folder.glob("*.part")))
        workers = children(running.pid)
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.slow
def test_workers_end_with_the_process_that_gave_them_orders(tmp_path: Path, film: Path, tiny_model: Path) -> None:
    command = ["upscale", film, "-o", tmp_path / "b.mkv", "--model", tiny_model, "--segment", "8"]
    command += ["--workers", "2"]
    with Launched(duovsr, command, tmp_path.with_suffix(".txt")) as running:
        wait_for(lambda: len(children(running.pid)) == 2)
        workers = children(running.pid)
        running.kill()
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


@pytest.mark.slow
def test_an_error_of_a_worker_is_one_sentence(tmp_path: Path, tiny_model: Path, cli: Cli) -> None:
    parts = [make_video(tmp_path / f"{w}.ts", 20, size=(w, 32)).read_bytes() for w in (48, 64)]
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    common = ["upscale", tmp_path / "both.ts", "-o", tmp_path / "b.mkv", "--model", tiny_model, "--segment", 8]
    code, _, err = cli(*common, "--workers", 2)
    assert (code, "changes in the middle: frame 20" in err, "Traceback" in err) == (1, True, False), err
    assert "2 of 5 segments are finished" in err


def test_the_error_of_the_earliest_segment_is_told_whichever_comes_first(tmp_path: Path, tiny_model: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 40)
    description, _ = begin(requested(source, tmp_path / "b.mkv", tiny_model))

    class Talk(Crew):
        """A crew whose workers say what they are told to."""

        def hire(self, segments: int) -> list[Worker]:
            workers = [LocalWorker(name, description, queue.Queue()) for name in ("early", "late")]
            early, late = workers
            for who, said in [
                (early, {"idle": True}),
                (late, {"idle": True}),
                (late, {"error": "frame 30", "kind": "FormatError"}),
                (early, {"segment": 0}),
                (early, {"error": "frame 9", "kind": "VideoError"}),
            ]:
                self._said.put((who, said))
            return list(workers)

        def successor(self, worker: Worker) -> Worker | None:
            return None

    with pytest.raises(VideoError, match="frame 9"):
        Talk().run([range(3, 5), range(0, 3)], lambda: None)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_frames_that_do_not_decode_are_left_out_by_any_split(tmp_path: Path, tiny_model: Path, workers: int) -> None:
    options = {"slicecrc": "1", "g": "1"}
    source = make_video(tmp_path / "a.mkv", 60, codec="ffv1", options=options)
    data = bytearray(source.read_bytes())
    for at, size in [packet_spans(source)[n] for n in (11, 37)]:
        data[at : at + 4], data[at + size - 8 : at + size] = b"\xff" * 4, bytes(8)
    source.write_bytes(data)
    one = requested(source, tmp_path / "one.mkv", tiny_model)
    assert upscale(replace(one, segment=100)) == 3
    assert upscale(requested(source, tmp_path / "b.mkv", tiny_model, workers=workers)) == 3
    left = [Fraction(n, 25) for n in range(60) if n not in (11, 37)]
    assert times(tmp_path / "b.mkv") == times(tmp_path / "one.mkv") == left


def test_segments_behind_frames_that_do_not_decode_are_made_again_and_counted(tmp_path: Path, tiny_model: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 48, codec="ffv1", options={"slicecrc": "1", "g": "1"})
    data = bytearray(source.read_bytes())
    at, size = packet_spans(source)[19]
    data[at : at + 4], data[at + size - 8 : at + size] = b"\xff" * 4, bytes(8)
    source.write_bytes(data)
    one = replace(requested(source, tmp_path / "one.mkv", tiny_model, codec="ffv1"), segment=100)
    assert upscale(one) == 3
    early = requested(source, tmp_path / "early.mkv", tiny_model, codec="ffv1", resume=True)
    description, _ = begin(early)
    render_segment(description, 4)  # before anybody knows of the damage
    assert upscale(early) == 3
    known = requested(source, tmp_path / "known.mkv", tiny_model, codec="ffv1", resume=True)
    description, folder = begin(known)
    folder.mark_unsteady()
    for index in (5, 3, 0, 4, 2, 1):
        render_segment(description, index)
    assert upscale(known) == 3
    wanted = decoded(tmp_path / "one.mkv")
    assert len(wanted) == 47
    for name in ("early.mkv", "known.mkv"):
        for a, b in zip(decoded(tmp_path / name), wanted, strict=True):
            assert all(np.array_equal(x, y) for x, y in zip(planes(a), planes(b), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_kill_at_random_moments_again_and_again_changes_nothing(
    tmp_path: Path, film: Path, whole: bytes, tiny_model: Path, workers: int
) -> None:
    chance = random.Random(workers)
    command = ["upscale", film, "-o", tmp_path / "b.mkv", "--model", tiny_model, "--segment", "8", "--resume"]
    command += ["--workers", str(workers)]
    folder, kills = tmp_path / ".b.mkv.duovsr", 0
    for _ in range(6 // workers):
        moment, began = chance.uniform(0, 0.5), float("inf")

        def is_time(moment: float = moment) -> bool:
            nonlocal began
            if began == float("inf") and any(folder.glob("*.part")):
                began = time.monotonic()
            return time.monotonic() - began > moment

        code, _ = kill_at(command, is_time)
        kills += code == -signal.SIGKILL
        if (tmp_path / "b.mkv").exists():
            break
    assert kills >= 1
    code, said = Launched(duovsr, command, tmp_path.with_suffix(".txt")).end()
    assert code == 0, said
    assert (tmp_path / "b.mkv").read_bytes() == whole
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.mkv"]
