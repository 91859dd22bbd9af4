"""`duovsr check` finds each fault that it promises to find, says where, and is content with a sound file."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
import typer
from comparison_files import FRAMES, RATE, Picture, large_pictures, pair_of_files, small_pictures, write_clip

from duovsr_vs.cli.check import _borders_of, check_command
from duovsr_vs.compare.clips import Clip
from duovsr_vs.compare.container import compare_times
from duovsr_vs.compare.findings import every_nth
from duovsr_vs.compare.measure import Borders, measure
from duovsr_vs.model.checkpoint import DETAILED, save
from duovsr_vs.model.family import PRESETS
from duovsr_vs.video.hdr import HdrMetadata
from duovsr_vs.video.pixels import plane_array

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: exit code, stdout, stderr."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(check_command)

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            app([str(argument) for argument in arguments], prog_name="duovsr")
        return int(ended.value.code or 0), *capfd.readouterr()

    return call


@pytest.fixture
def findings(check: Run) -> Callable[..., dict[str, dict[str, Any]]]:
    """The findings by name, from the JSON; the exit code must agree with them."""

    def call(*arguments: object) -> dict[str, dict[str, Any]]:
        code, out, _ = check(*arguments, "--json")
        told = json.loads(out)
        assert told["fine"] == (code == 0) == all(f["status"] != "wrong" for f in told["findings"])
        return {finding["name"]: finding for finding in told["findings"]}

    return call


def statuses(found: dict[str, dict[str, Any]], *bad: str) -> set[str]:
    """Names of the findings of some statuses."""
    return {name for name, finding in found.items() if finding["status"] in bad}


def test_a_sound_file_is_fine_in_every_respect(tmp_path: Path, check: Run) -> None:
    source, upscaled = pair_of_files(tmp_path)
    code, out, _ = check(source, upscaled, "--strict", "--every", 1, "--tile", 32, "--window", 4)
    assert code == 0, out
    assert "nothing is wrong" in out and "WRONG" not in out and "doubtful" not in out
    for words in ("all 10 equal", "64x48 to 256x192, x4", "audio (aac, eng)", "dB", "CIEDE2000", "E_warp"):
        assert words in out
    assert not [line for line in out.splitlines()[3:-1] if line.split("  ")[1:2] == ["-"]], "all was measured"


def noise(pictures: list[Picture]) -> list[Picture]:
    rng = np.random.default_rng(0)
    return [(p + rng.normal(0, 9, p.shape)).clip(0, 255).astype(np.uint8) for p in pictures]


def pumping(pictures: list[Picture]) -> list[Picture]:
    return [(p * (0.9 if n % 2 else 1.0)).astype(np.uint8) for n, p in enumerate(pictures)]


def redder(pictures: list[Picture]) -> list[Picture]:
    return [(p + np.array([12, 0, 0])).clip(0, 255).astype(np.uint8) for p in pictures]


def other_film(pictures: list[Picture]) -> list[Picture]:
    return [np.ascontiguousarray(p[::-1, ::-1]) for p in pictures]


def black_tile(pictures: list[Picture]) -> list[Picture]:
    pictures[3][64:128, 128:192] = 0
    return pictures


def repeated(pictures: list[Picture]) -> list[Picture]:
    return [*pictures[:6], pictures[5], *pictures[7:]]


def tile_lines(pictures: list[Picture]) -> list[Picture]:
    tiles = np.indices(pictures[0].shape[:2]) // 64
    return [(p + 8 * (tiles.sum(axis=0) % 2)[..., None]).clip(0, 255).astype(np.uint8) for p in pictures]


def window_jumps(pictures: list[Picture]) -> list[Picture]:
    return [np.roll(p, 4 * (n // 4 % 2), axis=0) for n, p in enumerate(pictures)]


@pytest.mark.parametrize(
    "change, found, where",
    [
        (noise, "flicker", "does not move with the picture"),
        (pumping, "flicker", "does not move with the picture"),
        (redder, "colour", "CIEDE2000"),
        (other_film, "shrink-back", "dB"),
        (black_tile, "black", ": 3"),
        (repeated, "frozen", ": 6"),
        (tile_lines, "tile steps", "every 16 source pixels"),
        (window_jumps, "window steps", "every 4 frames"),
    ],
)
def test_a_fault_of_the_pixels_is_found(
    change: Callable[[list[Picture]], list[Picture]], found: str, where: str, tmp_path: Path, findings: Any
) -> None:
    source, upscaled = pair_of_files(tmp_path, change)
    said = findings(source, upscaled, "--every", 2, "--tile", 16, "--window", 4)
    assert said[found]["status"] == "wrong", said
    assert where in said[found]["text"]
    assert statuses(said, "wrong") <= {"flicker", "colour", "shrink-back", "tile steps", "window steps", found}


@pytest.mark.parametrize(
    "more, wrong",
    [
        ({"sound": False}, {"streams"}),
        ({"language": "fra"}, {"streams"}),
        ({"sound_seconds": 0.2}, {"streams"}),
        ({"sound_late": 320}, {"streams"}),
        ({"chapters": ()}, {"chapters"}),
        ({"chapters": ("two",)}, {"chapters"}),
        ({"pts": [*range(5), *range(6, 11)]}, {"timestamps"}),
        ({"tags": {"color_trc": 2}}, {"colour tags"}),
        ({"tags": {"colorspace": 6}}, {"colour tags"}),
        ({"sar": Fraction(4, 3), "codec": "libx264"}, {"sample aspect"}),
        ({"rotation": 90}, {"rotation"}),
    ],
)  # fmt: skip
def test_what_got_lost_of_the_container_is_found(
    more: dict[str, Any], wrong: set[str], tmp_path: Path, findings: Any
) -> None:
    assert statuses(findings(*pair_of_files(tmp_path, **more), "--every", 9), "wrong") == wrong


@pytest.mark.parametrize(
    "late, tick, status, words",
    [
        (Fraction(1, 2000), Fraction(1, 1000), "ok", "all 3 equal, rounded by 0.5 ms at most"),
        (Fraction(1, 1000), Fraction(1, 1000), "wrong", "1 differ: from frame 1 (0.0010 s late)"),
        (Fraction(1, 90000), Fraction(1, 90000), "wrong", "1 differ: from frame 1"),
        (Fraction(1, 1000), Fraction(1, 25), "wrong", "1 differ: from frame 1"),
        (Fraction(0), Fraction(1, 25), "ok", "all 3 equal"),
    ],
)
def test_times_may_be_rounded_and_nothing_else(late: Fraction, tick: Fraction, status: str, words: str) -> None:
    times = [Fraction(0), Fraction(1, 25), Fraction(2, 25)]
    frames, found = compare_times(times, [times[0], times[1] + late, times[2]], tick)
    assert (frames.status, found.status) == ("ok", status)
    assert words in found.text


def test_a_clock_that_is_moved_as_a_whole_is_said_so() -> None:
    times = [Fraction(n, 25) for n in range(4)]
    moved = [time + 2 for time in times]
    assert compare_times(times, moved, Fraction(1, 1000))[1].text == "all are 2.000 s late"
    assert compare_times(times, moved, Fraction(1, 1000), part=True)[1].status == "ok"


def test_frames_that_are_missing_at_the_end_are_counted(tmp_path: Path, findings: Any) -> None:
    said = findings(*pair_of_files(tmp_path, lambda pictures: pictures[:-2]))
    assert statuses(said, "wrong") == {"frames", "streams"}  # the sound ends earlier, too
    assert (said["frames"]["source"], said["frames"]["upscaled"]) == (FRAMES, FRAMES - 2)


def test_lost_metadata_is_doubtful_and_wrong_only_when_strict(tmp_path: Path, check: Run, findings: Any) -> None:
    files = pair_of_files(tmp_path, metadata={})
    assert statuses(findings(*files), "doubtful", "wrong") == {"metadata"}
    assert check(*files, "--strict")[0] == 1


def test_a_smaller_picture_with_fewer_bits_is_found(tmp_path: Path, findings: Any) -> None:
    pictures = large_pictures(4)
    source = write_clip(tmp_path / "a.mkv", pictures, pix_fmt="yuv444p10le")
    said = findings(source, write_clip(tmp_path / "b.mkv", small_pictures(pictures)))
    assert {"size", "bit depth"} <= statuses(said, "wrong")


def test_hdr_metadata_that_is_missing_is_found(tmp_path: Path, findings: Any) -> None:
    hdr = HdrMetadata(light=(1000, 400))
    said = findings(*pair_of_files(tmp_path, source={"hdr": hdr}))
    assert statuses(said, "wrong") == {"HDR metadata"}
    assert "none instead of MaxCLL 1000, MaxFALL 400" in said["HDR metadata"]["text"]


def test_values_that_are_not_finite_are_found(tmp_path: Path, findings: Any) -> None:
    pictures = large_pictures(4)
    for folder, film in (("a", small_pictures(pictures)), ("b", pictures)):
        (tmp_path / folder).mkdir()
        for number, picture in enumerate(film):
            values = (picture / 255).astype(np.float32)
            values[5, 5] = np.nan if (folder, number) == ("b", 2) else 0.5
            write_exr(tmp_path / folder / f"{number:03}.exr", values)
    said = findings(tmp_path / "a" / "%03d.exr", tmp_path / "b" / "%03d.exr")
    assert statuses(said, "wrong") == {"not finite"}
    assert said["not finite"]["frames"] == [2]
    assert said["streams"]["status"] == "skipped"


def write_exr(path: Path, values: np.ndarray[Any, Any]) -> None:
    with av.open(path, "w", format="image2", options={"update": "1"}) as out:
        stream: Any = out.add_stream("exr", rate=RATE, width=values.shape[1], height=values.shape[0])
        stream.pix_fmt, stream.codec_context.thread_count = "gbrpf32le", 1
        frame = av.VideoFrame(values.shape[1], values.shape[0], "gbrpf32le")
        for plane, component in enumerate((1, 2, 0)):
            plane_array(frame, plane, values.shape[1], values.shape[0], np.dtype(np.float32))[:] = values[
                ..., component
            ]
        frame.pts = 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def test_a_part_is_compared_with_its_part_of_the_source(tmp_path: Path, findings: Any) -> None:
    large = large_pictures(12)
    source = write_clip(tmp_path / "a.mkv", small_pictures(large), sound=True)
    part = write_clip(tmp_path / "b.mkv", large[4:9], sound=True)
    said = findings(source, part, "--start", 4, "--frames", 5)
    assert not statuses(said, "doubtful", "wrong"), said
    assert said["frames"]["source"] == 5
    assert "frames" in statuses(findings(source, part, "--start", 4), "wrong")
    assert "shrink-back" in statuses(findings(source, part, "--frames", 5), "wrong")


def test_windows_and_tiles_are_those_of_the_model(tmp_path: Path, toy_model: Path, findings: Any) -> None:
    files = pair_of_files(tmp_path)
    said = findings(*files, "--model", toy_model, "--tile", 16)
    assert "no border every 16 frames" in said["window steps"]["text"]
    assert said["tile steps"]["status"] == "ok"


def test_pixels_are_sampled_and_every_frame_is_still_seen(tmp_path: Path, check: Run) -> None:
    files = pair_of_files(tmp_path, black_tile)  # frame 3
    code, out, _ = check(*files, "--every", 5, "--json")
    told = {finding["name"]: finding for finding in json.loads(out)["findings"]}
    assert code == 1
    assert told["shrink-back"]["frames_measured"] == told["flicker"]["pairs_measured"] == 2
    assert told["black"]["frames"] == [3]


@pytest.mark.parametrize(
    "arguments, code, sentence",
    [
        (["a.mkv", "nowhere.mkv"], 1, "nowhere.mkv: there is no such file"),
        (["a.mkv", "text.txt"], 1, "text.txt is not a video that can be read"),
        (["a.mkv", "-"], 2, "cannot read from stdin"),
        (["a.mkv", "a.mkv", "--tile", 1], 2, "0 for none, or 2 and more"),
        (["a.mkv", "a.mkv", "--start", 99], 2, "the input has 3"),
        (["a.mkv", "a.mkv", "--model", "nobody"], 1, "there is no model named 'nobody'"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(
    arguments: list[Any], code: int, sentence: str, tmp_path: Path, check: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "a.mkv", small_pictures(large_pictures(3)))
    (tmp_path / "text.txt").write_text("words")
    ended, out, err = check(*arguments)
    assert (ended, out) == (code, "")
    assert sentence in err and "Traceback" not in err


def test_memory_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    large = large_pictures(24)
    source = write_clip(tmp_path / "a.mkv", small_pictures(large), sound=True)
    upscaled = write_clip(tmp_path / "b.mkv", large, sound=True)
    held: list[int] = []
    waiting: list[int] = []
    with Clip(str(source)) as a, Clip(str(upscaled)) as b:

        def advance() -> None:
            held.append(tracemalloc.get_traced_memory()[0])
            waiting.append(len(a.reader.packets) + len(b.reader.packets))

        tracemalloc.start()
        try:
            measure(a, b, borders=Borders(tile=16), advance=advance)
        finally:
            tracemalloc.stop()
    assert len(held) == 24 and max(waiting) < 12
    assert max(held[12:]) < max(held[:12]) + large[0].nbytes


def test_an_edge_between_light_and_black_is_not_black(tmp_path: Path) -> None:
    """240 columns in 64 cells: cells that did not end at the same places would hold the edge in one file alone."""
    film = [(np.arange(960) - 4 * n) % 64 < 33 for n in range(16)]  # white, to a quarter of a column of the source
    large = [np.broadcast_to(row[None, :, None] * np.uint8(255), (96, 960, 3)).copy() for row in film]
    files = [write_clip(tmp_path / "a.mkv", small_pictures(large)), write_clip(tmp_path / "b.mkv", large)]
    with Clip(str(files[0])) as source, Clip(str(files[1])) as other:
        assert measure(source, other).black == []


def test_ordinals_are_those_of_people() -> None:
    said = [every_nth(n) for n in (1, 2, 3, 4, 11, 12, 21, 102, 113)]
    ends = ["2nd", "3rd", "4th", "11th", "12th", "21st", "102nd", "113th"]
    assert said == ["every frame", *(f"every {end} frame" for end in ends)]


def test_borders_are_looked_for_where_the_model_of_either_family_has_them(tmp_path: Path, tiny_model: Path) -> None:
    config = PRESETS["base-tiny"]
    base = tmp_path / "base.safetensors"
    save(base, config, {DETAILED: {"a": torch.zeros(1)}}, {})
    assert _borders_of(str(base), 640, 360) == Borders(window=config.stride, tile=256)
    assert _borders_of(str(base), 320, 180) == Borders(window=config.stride)
    assert _borders_of(str(tiny_model), 640, 360) == Borders()
