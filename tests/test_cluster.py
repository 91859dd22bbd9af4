"""A job that the nodes of a Ray cluster share: the same bytes, whichever node is lost or refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from job_runs import UNEVEN, begin, children, requested, upscale, wait_for
from test_cli import DUOVSR, Cli
from video_files import make_video

from duovsr_vs.cli import cluster as cluster_module
from duovsr_vs.cli import render
from duovsr_vs.cli.cluster import ClusterCrew, ClusterError
from duovsr_vs.cli.render import Station, render_segment
from duovsr_vs.errors import VideoError

MEMORY = 100 * 2**20
"""Bytes of each node's object store, the least that Ray takes."""


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """52 frames at uneven times, with sound."""
    path = tmp_path_factory.mktemp("film") / "a.mkv"
    return make_video(path, 52, (96, 64), pts=UNEVEN, time_base=Fraction(1, 1000), sound=True)


@pytest.fixture(scope="module")
def whole(film: Path, tiny_model: Path) -> bytes:
    """What one process makes of it."""
    target = film.with_name("whole.mkv")
    assert upscale(requested(film, target, tiny_model)) == 0
    return target.read_bytes()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster whose head does no work."""
    pytest.importorskip("ray", reason='ray is not installed (pip install "duovsr[cluster]")')
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    handler = signal.getsignal(signal.SIGTERM)
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": MEMORY}
    made = Cluster(initialize_head=True, head_node_args=head)
    yield made
    made.shutdown()
    signal.signal(signal.SIGTERM, handler)


def descendants(pid: int) -> list[int]:
    """A process and all that it has started."""
    return [pid, *(below for child in children(pid) for below in descendants(child))]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_node_is_lost_and_one_of_another_machine_class_refused_and_the_bytes_are_the_same(
    cluster: Any, tmp_path: Path, film: Path, whole: bytes, tiny_model: Path
) -> None:
    node = {"num_cpus": 1, "object_store_memory": MEMORY}
    nodes = [cluster.add_node(**node) for _ in range(2)]
    raylets = [one.all_processes["raylet"][0].process.pid for one in nodes]
    cluster.add_node(**node, env_vars={"ATEN_CPU_CAPABILITY": "default"})  # torch as on an older processor
    command = [*DUOVSR, "upscale", film, "-o", tmp_path / "b.mkv", "--model", tiny_model, "--segment", "8"]
    command += ["--ray", cluster.address]
    folder, log = tmp_path / ".b.mkv.duovsr", tmp_path / "log"
    with log.open("w") as err, subprocess.Popen(list(map(str, command)), stderr=err) as running:

        def at_work() -> list[tuple[int, int]]:
            assert running.poll() is None, log.read_text()
            parts = {int(part.name.split(".")[1].split("-")[0]) for part in folder.glob("0*.part")}
            return [(raylet, pid) for raylet in raylets if parts for pid in descendants(raylet) if pid in parts]

        found: list[tuple[int, int]] = []
        wait_for(lambda: bool(found.extend(at_work()) or found))
        raylet, worker = found[0]
        os.kill(worker, signal.SIGSTOP)  # its segment waits for the loss
        wait_for(lambda: "takes no part" in log.read_text() or running.poll() is not None)
        for pid in descendants(raylet):
            os.kill(pid, signal.SIGKILL)
        assert running.wait(120) == 0, log.read_text()
    said = log.read_text()
    for words in ("cluster  3 workers", "takes no part", "machine class was", "its worker is lost"):
        assert words in said
    assert "Traceback" not in said
    assert (tmp_path / "b.mkv").read_bytes() == whole
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.mkv", "log"]


def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path: Path, film: Path, tiny_model: Path, cli: Cli) -> None:
    pytest.importorskip("ray", reason='ray is not installed (pip install "duovsr[cluster]")')
    common = ["upscale", film, "-o", tmp_path / "b.mkv", "--model", tiny_model]
    for address, expected, words in [
        ("127.0.0.1:1", 1, "nobody answers there"),
        ("no.such.host.invalid:6379", 1, "nobody answers there"),
        ("10.0.0.1", 2, "an address is host:port"),
        (":", 2, "an address is host:port"),
    ]:
        code, _, err = cli(*common, "--ray", address)
        assert (code, words in err, "Traceback" in err) == (expected, True, False), err
        assert len(err.splitlines()) == 1
    assert cli(*common, "--ray", "auto", "--device", "cpu,cpu")[0] == 2
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_one_sentence(tmp_path: Path, film: Path, tiny_model: Path) -> None:
    code = "import sys; sys.modules['ray'] = None\nfrom duovsr_vs.cli.main import main\nmain()"
    command = ["upscale", film, "-o", tmp_path / "b.mkv", "--model", tiny_model, "--ray", "auto"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert 'pip install "duovsr[cluster]"' in done.stderr


def test_a_worker_that_does_not_see_the_folder_of_the_others_is_refused(
    tmp_path: Path, film: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    description, folder = begin(requested(film, tmp_path / "b.mkv", tiny_model))
    monkeypatch.setattr(render, "SEEN_AFTER", 1)
    with pytest.raises(VideoError, match="must lie on storage that all machines share"):
        Station({**description, "shared": "elsewhere.part"})
    (folder.path / "here.part").touch()
    with Station({**description, "shared": "here.part"}) as station:
        station.render(2, 2)
    assert folder.finished(7) == [2]


def test_what_another_worker_has_finished_stays(tmp_path: Path, film: Path, tiny_model: Path) -> None:
    description, folder = begin(requested(film, tmp_path / "b.mkv", tiny_model))
    (folder.path / "here.part").touch()
    late = tmp_path / "late"
    with Station({**description, "shared": "here.part"}) as station:
        station.render(2, 2)
        before = (folder.path / "000002.mkv").stat().st_mtime_ns
        shutil.copy(folder.path / "000002.mkv", late)
        record = folder.record(2)
        assert record is not None
        station.folder.commit(2, late, ".mkv", record)
    assert not late.exists()
    assert (folder.path / "000002.mkv").stat().st_mtime_ns == before


def test_segments_that_are_said_to_be_made_and_are_not_seen_end_the_job(
    tmp_path: Path, film: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    description, folder = begin(requested(film, tmp_path / "b.mkv", tiny_model))
    render_segment(description, 2)
    monkeypatch.setattr(cluster_module, "SEEN_AFTER", 1)
    crew = ClusterCrew(description, 1, "cpu", folder)
    crew.made.add(2)
    crew.see()
    crew.made.add(3)
    with pytest.raises(ClusterError, match="are not seen in"):
        crew.see()
