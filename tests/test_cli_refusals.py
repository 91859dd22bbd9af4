"""Bad input, full disks, interruptions: one clear sentence, an exit code, and no partial file."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from launched import Launched, duovsr, limited
from test_cli import DUOVSR, Cli
from test_video_reader import fast_start, interlaced
from video_files import decoded, make_video


def refused(cli: Cli, expected: int, words: str, *arguments: object) -> None:
    """The command fails with that code, says those words in a short text, and shows no traceback."""
    code, out, err = cli(*arguments)
    assert code == expected, err
    assert words in " ".join(err.replace("│", " ").split()), err
    assert out == ""
    assert "Traceback" not in err
    if expected == 1:
        assert err.startswith("duovsr: ")
        assert err.count("\n") == 1


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return make_video(tmp_path / "a.mkv", 3)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--scale", 0], "scale=0 is out of range"),
        (["--scale", -4], "scale=-4"),
        (["--scale", 1000], "scale=1000"),
        (["--width", -5], "width=-5"),
        (["--height", 10**9], "height=1000000000"),
        (["--strength", 7], "strength=7"),
        (["--strength", "nan"], "strength=nan"),
        (["--detail", 2], "detail=2"),
        (["--seed", -1], "seed=-1"),
        (["--tile", -8], "tile=-8"),
        (["--threads", 0], "threads=0"),
        (["--device", "tpu"], "device='tpu'"),
        (["--precision", "int4"], "precision='int4'"),
        (["--crf", -3], "--crf -3"),
        (["--codec", "h265x"], "no such video encoder"),
        (["--pix-fmt", "rgb565"], "libx264 takes"),
        (["--encoder-options", "x"], "name=value"),
        (["--start", "-3"], "--start -3"),
        (["--start", 3], "the input has 3"),
        (["--frames", 0], "at least 1"),
        (["--frames", "2s"], "hh:mm:ss"),
        (["--matrix", "rec"], "known matrices"),
        (["--scale", "big"], "valid integer"),
        (["--faster"], "No such option"),
    ],
)
def test_absurd_arguments_are_usage_errors(video: Path, option: list[object], words: str, cli: Cli) -> None:
    refused(cli, 2, words, "upscale", video, "-o", video.parent / "b.mkv", *option)
    assert not (video.parent / "b.mkv").exists()


def test_names_that_cannot_be_written_are_refused(video: Path, tiny_model: Path, cli: Cli) -> None:
    folder = video.parent
    (folder / "b.mkv").write_bytes(b"precious")
    (folder / "link.mkv").symlink_to(video)
    refused(cli, 1, "exists; give --overwrite", "upscale", video, "-o", folder / "b.mkv", "--model", tiny_model)
    assert (folder / "b.mkv").read_bytes() == b"precious"
    refused(cli, 1, "is the input itself", "upscale", video, "-o", video, "--overwrite")
    refused(cli, 1, "is the input itself", "upscale", video, "-o", folder / "link.mkv", "--overwrite")
    refused(cli, 1, "the folder", "upscale", video, "-o", folder / "none" / "b.mkv")
    refused(cli, 2, ".gif is not one of them", "upscale", video, "-o", folder / "b.gif")
    refused(cli, 2, "Missing option", "upscale", video)
    assert cli("upscale", video, "-o", folder / "b.mkv", "--overwrite", "--model", tiny_model)[0] == 0
    assert len(decoded(folder / "b.mkv")) == 3


def test_what_cannot_be_read_is_refused(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "text.mp4").write_text("no video\n" * 50)
    (tmp_path / "none.y4m").write_bytes(b"YUV4MPEG2 W48 H32 F25:1 Ip C420\n")
    out = ["-o", tmp_path / "b.mkv"]
    refused(cli, 1, "not a video", "upscale", tmp_path / "text.mp4", *out)
    refused(cli, 1, "no such file", "upscale", tmp_path / "gone.mp4", *out)
    refused(cli, 1, "none.y4m", "upscale", tmp_path / "none.y4m", *out)
    small = make_video(tmp_path / "s.mkv", 2, size=(16, 14), codec="ffv1")
    refused(cli, 1, "16x14; at least 16x16", "upscale", small, *out)
    refused(cli, 1, "deinterlace it first", "upscale", interlaced(tmp_path / "i.mkv"), *out)
    assert not (tmp_path / "b.mkv").exists()


def test_an_interlaced_video_runs_when_it_is_said_to_be_progressive(tmp_path: Path, tiny_model: Path, cli: Cli) -> None:
    source = interlaced(tmp_path / "i.mkv")
    assert cli("upscale", source, "-o", tmp_path / "b.mkv", "--assume-progressive", "--model", tiny_model)[0] == 0


def test_models_that_do_not_exist_or_do_not_fit_are_refused(video: Path, cli: Cli) -> None:
    out, bad = ["-o", video.parent / "b.mkv"], video.parent / "bad.safetensors"
    refused(cli, 1, "known are nano", "upscale", video, *out, "--model", "nanno")
    bad.write_bytes(b"\x80\x04\x95" + b"\0" * 100)
    refused(cli, 1, "is a pickle", "upscale", video, *out, "--model", bad)
    bad.write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    refused(cli, 1, "damaged", "info", bad)


def test_a_size_that_changes_in_the_middle_leaves_nothing(tmp_path: Path, tiny_model: Path, cli: Cli) -> None:
    parts = [make_video(tmp_path / f"{w}.ts", 5, size=(w, 32)).read_bytes() for w in (48, 64)]
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    code, _, err = cli("upscale", tmp_path / "both.ts", "-o", tmp_path / "b.mkv", "--model", tiny_model)
    assert (code, "changes in the middle: frame 5" in err, "Traceback" in err) == (1, True, False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["48.ts", "64.ts", "both.ts"]


@pytest.mark.parametrize("size", [(17, 16), (16, 23), (31, 17)])
def test_one_frame_of_an_odd_size_is_enough(tmp_path: Path, size: tuple[int, int], tiny_model: Path, cli: Cli) -> None:
    source = make_video(tmp_path / "a.mkv", 1, size=size, codec="ffv1")
    assert cli("upscale", source, "-o", tmp_path / "b.mkv", "--model", tiny_model)[0] == 0
    assert (decoded(tmp_path / "b.mkv")[0].width, decoded(tmp_path / "b.mkv")[0].height) == (4 * size[0], 4 * size[1])


def test_a_truncated_video_is_finished_and_reported_with_code_3(tmp_path: Path, tiny_model: Path, cli: Cli) -> None:
    whole = fast_start(make_video(tmp_path / "a.mp4", 40, size=(96, 64), options={"crf": "1"}), tmp_path / "fast.mp4")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    code, _, err = cli("upscale", cut, "-o", tmp_path / "b.mkv", "--model", tiny_model)
    got = len(decoded(tmp_path / "b.mkv"))
    assert code == 3
    assert 5 < got < 35
    assert f"cut.mp4 is damaged: {40 - got} frames are missing; the {got} frames that decode were written" in err


def test_a_failed_run_keeps_the_old_output(tmp_path: Path, tiny_model: Path, cli: Cli) -> None:
    parts = [make_video(tmp_path / f"{w}.ts", 5, size=(w, 32)).read_bytes() for w in (48, 64)]
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    (tmp_path / "b.mkv").write_bytes(b"old")
    assert cli("upscale", tmp_path / "both.ts", "-o", tmp_path / "b.mkv", "--overwrite", "--model", tiny_model)[0] == 1
    assert (tmp_path / "b.mkv").read_bytes() == b"old"


@pytest.mark.parametrize("name", ["b.mkv", "b.mp4", "b.y4m", "%03d.png"])
def test_a_full_disk_is_said_and_nothing_is_left(tmp_path: Path, tiny_model: Path, name: str) -> None:
    source = make_video(tmp_path / "a.mkv", 12, size=(64, 48))
    target = tmp_path / "out"
    target.mkdir()
    command = ["upscale", source, "-o", target / name, "--model", tiny_model]
    code, said = Launched(limited, [20_000, *command], tmp_path / "said.txt").end()
    assert code == 1, said
    assert "no space is left on the disk" in said
    assert "Traceback" not in said
    assert list(target.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_file_system_is_said_and_nothing_is_left(tmp_path: Path, tiny_model: Path) -> None:
    source, target = make_video(tmp_path / "a.mkv", 12, size=(64, 48)), tmp_path / "disk"
    target.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", target], capture_output=True).returncode:
        pytest.skip("no mount here")
    try:
        command = ["upscale", source, "-o", target / "b.mkv", "--model", tiny_model, "--crf", "1"]
        code, said = Launched(duovsr, command, tmp_path / "said.txt").end()
        assert (code, list(target.iterdir())) == (1, [])
        assert "no space is left on the disk" in said
    finally:
        subprocess.run(["umount", target], check=True)


def listen_to_interrupts() -> None:
    """In a child: an interrupt is ignored where the tests run in the background, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("sent", "after"),
    [(signal.SIGINT, 0.3), (signal.SIGTERM, 0.02)],
)
def test_an_interrupted_run_leaves_nothing_and_ends_with_130(
    tmp_path: Path, tiny_model: Path, sent: signal.Signals, after: float
) -> None:
    source, target = make_video(tmp_path / "a.mkv", 500, size=(320, 240)), tmp_path / "out"
    target.mkdir()
    command = ["upscale", source, "-o", target / "b.mkv", "--model", tiny_model]
    with Launched(duovsr, command, tmp_path / "said.txt") as running:
        deadline = time.monotonic() + 60
        while not list(target.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(after)
        running.send_signal(sent)
        assert running.wait(60) == 130, running.text()
    assert "interrupted" in running.text()
    assert "Traceback" not in running.text()
    assert list(target.iterdir()) == []


def test_a_pipe_that_stays_silent_can_be_interrupted(tmp_path: Path, tiny_model: Path) -> None:
    command = [*DUOVSR, "upscale", "-", "-o", tmp_path / "b.mkv", "--model", tiny_model]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen_to_interrupts
    ) as running:
        time.sleep(2)
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
        assert running.stderr is not None
        assert "Traceback" not in running.stderr.read()
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_ends_the_run_in_words(tmp_path: Path, tiny_model: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 60, size=(160, 96))
    command = [*DUOVSR, "upscale", source, "-o", "-", "--model", tiny_model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.read(10)
        running.stdout.close()
        err = running.stderr.read().decode()
        assert running.wait(60) == 1
    assert "has ended" in err
    assert "Traceback" not in err
