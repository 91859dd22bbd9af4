"""`duovsr`, run as people run it, on small files and a tiny real model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from video_files import decoded, make_video, picture, planes, times

from duovsr_vs.engine.options import Options
from duovsr_vs.engine.upscaler import Upscaler

Cli = Callable[..., tuple[int, str, str]]
DUOVSR = [sys.executable, "-c", "from duovsr_vs.cli.main import main; main()"]


def test_help_needs_neither_torch_nor_av_nor_numpy() -> None:
    code = (
        "import sys; sys.argv = ['duovsr', *sys.argv[1:]]\n"
        "from duovsr_vs.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'av', 'numpy', 'vapoursynth', 'cv2'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    for arguments in (["--help"], ["upscale", "--help"], ["bench", "--help"], ["models"], ["--version"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_a_video_is_upscaled_with_its_sound_and_times_and_nothing_else_is_left(
    tmp_path: Path, tiny_model: Path, cli: Cli
) -> None:
    source = make_video(tmp_path / "a.mp4", 11, sound=True, rate=Fraction(30000, 1001))
    code, out, err = cli("upscale", source, "-o", tmp_path / "b.mp4", "--model", tiny_model)
    assert (code, out) == (0, "")
    for word in ("model", "device", "windows", "memory", "libx264", "kept", "audio (aac, eng)", "11 frames"):
        assert word in err
    assert times(tmp_path / "b.mp4") == times(source)
    assert times(tmp_path / "b.mp4", "audio") == times(source, "audio")
    assert (decoded(tmp_path / "b.mp4")[0].width, decoded(tmp_path / "b.mp4")[0].height) == (192, 128)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_pixels_are_those_of_the_engine_rounded_once(tmp_path: Path, tiny_model: Path, cli: Cli) -> None:
    source = make_video(tmp_path / "a.mkv", 4, pix_fmt="gbrp16le", codec="ffv1")
    assert cli("upscale", source, "-o", tmp_path / "b.mkv", "--codec", "ffv1", "--model", tiny_model)[0] == 0
    clip = [torch.from_numpy(np.stack(planes(f)).astype(np.float32) / np.float32(65535)) for f in decoded(source)]
    wanted = list(Upscaler(Options(model=str(tiny_model)), 48, 32).stream(clip))
    for frame, tensor in zip(decoded(tmp_path / "b.mkv"), wanted, strict=True):
        got, exact = np.stack(planes(frame)).astype(np.float64), tensor.double().numpy().clip(0, 1) * 65535
        assert frame.format.name == "gbrp16le"
        assert np.abs(got - exact).max() <= 0.51  # half a step, and float32's own rounding


@pytest.mark.parametrize("model", ["tiny_model", "toy_model"])
def test_a_part_has_the_pixels_of_the_whole(
    tmp_path: Path, model: str, cli: Cli, request: pytest.FixtureRequest
) -> None:
    source = make_video(tmp_path / "a.mkv", 30, size=(20, 16), codec="ffv1", pix_fmt="yuv444p")
    # These pictures change so much that each would be a shot of its own, and windows would not matter.
    common = ["--codec", "ffv1", "--overwrite", "--no-scene-cut", "--model", request.getfixturevalue(model)]
    assert cli("upscale", source, "-o", tmp_path / "whole.mkv", *common)[0] == 0
    whole = decoded(tmp_path / "whole.mkv")
    assert len(whole) == 30
    for start, count in ((0, 5), (7, 6), (13, 11), (29, 1)):
        target = tmp_path / "part.mkv"
        assert cli("upscale", source, "-o", target, "--start", start, "--frames", count, *common)[0] == 0
        assert times(target) == [Fraction(n, 25) for n in range(count)]
        for a, b in zip(decoded(target), whole[start : start + count], strict=True):
            assert all(np.array_equal(p, q) for p, q in zip(planes(a), planes(b), strict=True))


def test_a_part_given_in_time_cuts_the_sound_too(tmp_path: Path, tiny_model: Path, cli: Cli) -> None:
    source = make_video(tmp_path / "a.mkv", 75, size=(16, 16), sound=True)
    assert (
        cli("upscale", source, "-o", tmp_path / "b.mkv", "--start", "0:01", "--frames", "0:01", "--model", tiny_model)[
            0
        ]
        == 0
    )
    assert times(tmp_path / "b.mkv") == [Fraction(n, 25) for n in range(25)]
    sound = times(tmp_path / "b.mkv", "audio")
    assert 0 <= sound[0] < Fraction(7, 100)
    assert Fraction(9, 10) < sound[-1] < 1


def test_an_odd_width_becomes_444_and_the_plan_says_so(tmp_path: Path, tiny_model: Path, cli: Cli) -> None:
    source = make_video(tmp_path / "a.mkv", 2, pix_fmt="yuv420p10le")
    code, _, err = cli("upscale", source, "-o", tmp_path / "b.mkv", "--width", 101, "--model", tiny_model)
    frame = decoded(tmp_path / "b.mkv")[0]
    assert (code, frame.format.name, frame.width, frame.height) == (0, "yuv444p10le", 101, 67)
    assert "becomes 4:4:4" in err


def test_an_untagged_matrix_is_guessed_said_and_written(tmp_path: Path, tiny_model: Path, cli: Cli) -> None:
    source = make_video(tmp_path / "a.mkv", 2)
    _, _, err = cli("upscale", source, "-o", tmp_path / "b.mkv", "--model", tiny_model)
    assert "the matrix is untagged; 170m is assumed for 32 lines" in err
    assert decoded(tmp_path / "b.mkv")[0].colorspace == 6
    cli("upscale", source, "-o", tmp_path / "c.mkv", "--matrix", "709", "--model", tiny_model)
    assert decoded(tmp_path / "c.mkv")[0].colorspace == 1


def test_images_keep_their_numbers(tmp_path: Path, tiny_model: Path, cli: Cli) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for number in range(7, 10):
        picture(number, 24, 16, "rgb24").reformat(format="rgb24").save(tmp_path / "in" / f"{number:04}.png")
    pattern = tmp_path / "out" / "%04d.png"
    assert cli("upscale", tmp_path / "in" / "%04d.png", "-o", pattern, "--model", tiny_model)[0] == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0007.png", "0008.png", "0009.png"]
    assert decoded(tmp_path / "out" / "0008.png")[0].format.name == "rgb24"
    code, _, err = cli("upscale", tmp_path / "in" / "%04d.png", "-o", pattern, "--model", tiny_model)
    assert (code, "exists" in err) == (1, True)
    code, _, err = cli("upscale", tmp_path / "in" / "%04d.png", "-o", tmp_path / "one.png", "--model", tiny_model)
    assert (code, "is one image and there are 3 frames" in err) == (2, True)
    assert cli("upscale", tmp_path / "in" / "0007.png", "-o", tmp_path / "one.png", "--model", tiny_model)[0] == 0
    assert decoded(tmp_path / "one.png")[0].width == 96


def test_y4m_goes_through_pipes_and_stdout_holds_nothing_else(tmp_path: Path, tiny_model: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 5, pix_fmt="yuv420p10le", codec="ffv1")
    first = subprocess.run(
        [*DUOVSR, "upscale", source, "-o", "-", "--model", tiny_model], capture_output=True, check=True
    )
    assert first.stdout.startswith(b"YUV4MPEG2 W192 H128 F25:1 Ip")
    assert b"done     5 frames" in first.stderr
    command = [*DUOVSR, "upscale", "-", "-o", tmp_path / "c.mkv", "--scale", "1", "--strength", "0", "--codec", "ffv1"]
    subprocess.run([*command, "--model", tiny_model], input=first.stdout, check=True, capture_output=True)
    assert len(decoded(tmp_path / "c.mkv")) == 5
    assert decoded(tmp_path / "c.mkv")[0].format.name == "yuv420p10le"


def test_info_tells_what_a_video_keeps_and_what_a_model_is(tmp_path: Path, tiny_model: Path, cli: Cli) -> None:
    source = make_video(tmp_path / "a.mkv", 3, sound=True, subtitles=True, chapters=True)
    code, out, _ = cli("info", source)
    assert code == 0
    for words in ("h264, yuv420p, 48x32, 25 fps, 3 frames, untagged", "2 chapters", "subtitle (srt, fra) as mov_text"):
        assert words in out
    code, out, _ = cli("info", tiny_model)
    assert (code, "hash" in out, "random weights" in out) == (0, True, True)
    code, out, _ = cli("info")
    assert (code, "machine" in out, f"torch {torch.__version__.split('+')[0]}" in out) == (0, True, True)


def test_models_and_bench_speak_json(tiny_model: Path, cli: Cli) -> None:
    code, out, _ = cli("models", "--json")
    assert (code, "nano" in json.loads(out)) == (0, True)
    code, out, _ = cli("bench", "--model", tiny_model, "--size", "32x16", "--frames", 2, "--json")
    result = json.loads(out)
    assert (code, result["plan"]["out_width"], result["fps"] > 0) == (0, 128, True)
    assert cli("bench", "--model", tiny_model, "--size", "32", "--frames", 2)[0] == 2


def test_the_bytes_of_two_runs_are_equal(tmp_path: Path, tiny_model: Path, cli: Cli) -> None:
    source = make_video(tmp_path / "a.mkv", 12, sound=True)
    for name in ("b.mkv", "c.mkv"):
        assert cli("upscale", source, "-o", tmp_path / name, "--model", tiny_model)[0] == 0
    with av.open(tmp_path / "b.mkv") as b, av.open(tmp_path / "c.mkv") as c:
        packets = [[bytes(p) for p in container.demux() if p.size] for container in (b, c)]
    assert packets[0] == packets[1]
