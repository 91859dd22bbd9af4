"""A long job that breaks off goes on as if it had not: the same bytes, whatever killed it and how often."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_runs import begin, kill_at, requested, uneven_film, upscale
from launched import Launched, limited
from test_cli import Cli
from video_files import decoded, make_video, picture, planes, times

from duovsr_vs.cli.render import render_segment
from duovsr_vs.cli.request import Request
from duovsr_vs.engine.options import Options
from duovsr_vs.errors import VideoError
from duovsr_vs.video.segments import SegmentFolder


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return uneven_film(tmp_path_factory.mktemp("film") / "a.mkv")


@pytest.fixture(scope="module")
def whole(film: Path, tiny_model: Path) -> bytes:
    """What an uninterrupted run makes of it."""
    target = film.with_name("whole.mkv")
    assert upscale(requested(film, target, tiny_model)) == 0
    return target.read_bytes()


@pytest.fixture(scope="module")
def killed(film: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run was killed after its second segment."""
    at = tmp_path_factory.mktemp("killed")
    source = shutil.copy(film, at / "a.mkv")
    command = ["upscale", source, "-o", at / "b.mkv", "--model", tiny_model, "--segment", "8"]
    kill_at(command, lambda: (at / ".b.mkv.duovsr" / "000001.json").exists())
    assert not (at / "b.mkv").exists()
    return at


@pytest.fixture
def broken(killed: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return shutil.copytree(killed, tmp_path / "job")


def test_a_long_job_leaves_the_finished_file_and_nothing_else(film: Path, whole: bytes) -> None:
    assert sorted(p.name for p in film.parent.iterdir()) == ["a.mkv", "whole.mkv"]
    assert times(film.with_name("whole.mkv")) == times(film)
    assert times(film.with_name("whole.mkv"), "audio") == times(film, "audio")


@pytest.mark.parametrize("model", ["tiny_model", "toy_model"])
def test_segments_have_the_pixels_of_a_run_in_one_go(
    tmp_path: Path, model: str, request: pytest.FixtureRequest
) -> None:
    source = make_video(tmp_path / "a.mkv", 40, size=(20, 16), codec="ffv1", pix_fmt="yuv444p")
    options = {"options": Options(model=str(request.getfixturevalue(model)), scene_cut=False), "codec": "ffv1"}
    whole = replace(requested(source, tmp_path / "b.mkv", Path()), segment=100, **options)
    parts = replace(requested(source, tmp_path / "c.mkv", Path()), resume=True, **options)
    assert upscale(whole) == 0
    description, folder = begin(parts)
    count = 5 if model == "tiny_model" else 3  # multiples of the model's chunk
    for index in reversed(range(count)):
        render_segment(description, index)
    assert folder.finished(count + 1) == list(range(count))
    assert upscale(parts) == 0
    for a, b in zip(decoded(tmp_path / "b.mkv"), decoded(tmp_path / "c.mkv"), strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(planes(a), planes(b), strict=True))


@pytest.mark.slow
def test_a_part_is_resumed_like_a_whole(tmp_path: Path, film: Path, tiny_model: Path) -> None:
    part = {"start": "5", "frames": "00:00:01.5"}
    assert upscale(requested(film, tmp_path / "b.mkv", tiny_model, **part)) == 0
    assert 30 < len(decoded(tmp_path / "b.mkv")) < 42
    source = shutil.copy(film, tmp_path / "a.mkv")
    command = ["upscale", source, "-o", tmp_path / "c.mkv", "--model", tiny_model, "--segment", "8"]
    command += ["--start", "5", "--frames", "00:00:01.5"]
    kill_at(command, lambda: (tmp_path / ".c.mkv.duovsr" / "000002.json").exists())
    assert upscale(requested(Path(source), tmp_path / "c.mkv", tiny_model, resume=True, **part)) == 0
    assert (tmp_path / "c.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()


def test_a_killed_job_goes_on_to_the_same_bytes(
    broken: Path, whole: bytes, tiny_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kept = {p.name: p.stat().st_mtime_ns for p in (broken / ".b.mkv.duovsr").glob("*.mkv")}
    assert "000001.mkv" in kept
    assert upscale(requested(broken / "a.mkv", broken / "b.mkv", tiny_model, resume=True)) == 0
    assert (broken / "b.mkv").read_bytes() == whole
    assert sorted(p.name for p in broken.iterdir()) == ["a.mkv", "b.mkv"]
    assert " of 7 segments are finished" in capfd.readouterr().err


def test_a_moved_job_goes_on(broken: Path, whole: bytes, tiny_model: Path) -> None:
    moved = broken.rename(broken.with_name("elsewhere"))
    assert upscale(requested(moved / "a.mkv", moved / "b.mkv", tiny_model, resume=True)) == 0
    assert (moved / "b.mkv").read_bytes() == whole


def test_without_resume_a_begun_job_is_refused_and_overwrite_begins_again(
    broken: Path, whole: bytes, tiny_model: Path, cli: Cli
) -> None:
    common = ["upscale", broken / "a.mkv", "-o", broken / "b.mkv", "--model", tiny_model, "--segment", 8]
    before = sorted(p.name for p in (broken / ".b.mkv.duovsr").iterdir())
    code, _, err = cli(*common)
    assert (code, "--resume" in err, "--overwrite" in err, "of 7 segments" in err) == (1, True, True, True)
    assert sorted(p.name for p in (broken / ".b.mkv.duovsr").iterdir()) == before
    code, _, err = cli(*common, "--overwrite")
    assert (code, "resumed" in err) == (0, False)
    assert (broken / "b.mkv").read_bytes() == whole


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"crf": 30.0}, "crf was 16 and is 30"),
        ({"codec": "ffv1"}, "codec was libx264 and is ffv1"),
        ({"start": "4"}, "start was 0 and is 4"),
        ({"segment": 16}, "length was 8 and is 16"),
        ({"options": {"seed": 5}}, "seed was 0 and is 5"),
        ({"options": {"scale": 2}}, "out height was 128 and is 64"),
        ({"options": {"strength": 0.5}}, "strength was 1.0 and is 0.5"),
        ({"options": {"precision": "float32"}}, "precision was"),
        ({"encoder_options": ("threads=1",)}, "threads was 2 and is 1"),
    ],
)
def test_a_changed_option_is_refused_with_what_changed(
    broken: Path, tiny_model: Path, changed: dict[str, Any], words: str
) -> None:
    options = Options(model=str(tiny_model), **changed.pop("options", {}))
    request = requested(broken / "a.mkv", broken / "b.mkv", tiny_model, resume=True)
    values = {**request.as_dict(), "options": options.__class__, **changed}
    values["options"] = {name: getattr(options, name) for name in options.__dataclass_fields__}
    with pytest.raises(VideoError, match="was begun with something else") as error:
        upscale(Request.from_dict(values))
    assert words in str(error.value)
    assert (broken / ".b.mkv.duovsr" / "000001.mkv").exists()


def test_another_model_and_a_changed_input_are_refused(
    broken: Path, film: Path, tiny_model: Path, learned_model: Path
) -> None:
    with pytest.raises(VideoError, match="model hash was"):
        upscale(requested(broken / "a.mkv", broken / "b.mkv", learned_model, resume=True))
    data = bytearray(film.read_bytes())
    data[-1] ^= 1
    (broken / "a.mkv").write_bytes(data)
    with pytest.raises(VideoError, match="ends was"):
        upscale(requested(broken / "a.mkv", broken / "b.mkv", tiny_model, resume=True))
    manifest = broken / ".b.mkv.duovsr" / "manifest.json"
    (broken / "a.mkv").write_bytes(film.read_bytes())
    manifest.write_text(manifest.read_text().replace("torch", "torch of another machine,"))
    with pytest.raises(VideoError, match="machine class was"):
        upscale(requested(broken / "a.mkv", broken / "b.mkv", tiny_model, resume=True))


def test_damaged_segments_are_made_again(
    broken: Path, whole: bytes, tiny_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = broken / ".b.mkv.duovsr"
    data = bytearray((folder / "000000.mkv").read_bytes())
    data[len(data) // 2] ^= 255
    (folder / "000000.mkv").write_bytes(data)
    (folder / "000001.json").write_text("{")
    assert upscale(requested(broken / "a.mkv", broken / "b.mkv", tiny_model, resume=True)) == 0
    assert "1 were damaged and are made again" in capfd.readouterr().err
    assert (broken / "b.mkv").read_bytes() == whole


def test_resume_where_nothing_was_begun_begins_and_where_all_is_done_does_nothing(
    tmp_path: Path, film: Path, whole: bytes, tiny_model: Path, cli: Cli
) -> None:
    common = ["upscale", film, "-o", tmp_path / "b.mkv", "--model", tiny_model, "--segment", 8, "--resume"]
    assert cli(*common)[0] == 0
    assert (tmp_path / "b.mkv").read_bytes() == whole
    code, _, err = cli(*common)
    assert (code, "is there already" in err) == (0, True)
    assert cli("upscale", film, "-o", "-", "--resume", "--model", tiny_model)[0] == 2


@pytest.mark.parametrize("cleared", ["nothing", "manifest", "segments"])
def test_a_run_killed_after_its_last_rename_is_only_cleared_away(
    broken: Path, whole: bytes, tiny_model: Path, cli: Cli, cleared: str
) -> None:
    folder = broken / ".b.mkv.duovsr"
    (broken / "b.mkv").write_bytes(whole)
    found = (broken / "b.mkv").stat()
    (folder / "final.json").write_text(json.dumps({"bytes": found.st_size, "modified": found.st_mtime_ns}))
    for name in {"nothing": [], "manifest": ["manifest.json"], "segments": ["manifest.json", "final.json"]}[cleared]:
        (folder / name).unlink()
    common = ["upscale", broken / "a.mkv", "--model", tiny_model, "--segment", 8]
    if cleared == "manifest":  # the next run need not be one that resumes
        code, _, err = cli(*common, "-o", broken / "b.mkv")
        assert (code, "b.mkv exists; give --overwrite" in err) == (1, True)
    else:
        code, _, err = cli(*common, "-o", broken / "b.mkv", "--resume")
        assert (code, "is there already" in err) == (0, True)
    assert sorted(p.name for p in broken.iterdir()) == ["a.mkv", "b.mkv"]
    assert (broken / "b.mkv").read_bytes() == whole


def test_a_folder_that_another_run_holds_is_not_cleared_away(broken: Path, tiny_model: Path, cli: Cli) -> None:
    folder = SegmentFolder(broken / ".b.mkv.duovsr", "b.mkv")
    (folder.path / "manifest.json").unlink()
    with folder.locked():
        code, _, err = cli("upscale", broken / "a.mkv", "-o", broken / "b.mkv", "--model", tiny_model, "--resume")
        assert (code, "is being written by another duovsr" in err) == (1, True)
        assert (folder.path / "000001.json").exists()


def test_an_older_output_stays_until_the_new_one_is_whole(broken: Path, whole: bytes, tiny_model: Path) -> None:
    (broken / "b.mkv").write_bytes(b"precious")
    request = requested(broken / "a.mkv", broken / "b.mkv", tiny_model, resume=True)
    with pytest.raises(VideoError, match="exists; give --overwrite"):
        upscale(request)
    assert (broken / "b.mkv").read_bytes() == b"precious"
    both = requested(broken / "a.mkv", broken / "b.mkv", tiny_model, resume=True, overwrite=True)
    assert upscale(both) == 0
    assert (broken / "b.mkv").read_bytes() == whole


@pytest.mark.parametrize("sent", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupt_keeps_finished_segments_and_says_so(
    tmp_path: Path, film: Path, tiny_model: Path, sent: signal.Signals
) -> None:
    folder = tmp_path / ".b.mkv.duovsr"
    command = ["upscale", film, "-o", tmp_path / "b.mkv", "--model", tiny_model, "--segment", "8"]
    code, err = kill_at(command, lambda: (folder / "000001.json").exists(), sent)
    assert code == 130, err
    assert "of 7 segments are finished; the same command with --resume goes on" in err
    assert "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == [".b.mkv.duovsr"]
    assert not list(folder.glob("*.part"))


@pytest.mark.slow
def test_a_full_disk_keeps_what_is_finished(tmp_path: Path, film: Path, whole: bytes, tiny_model: Path) -> None:
    command = ["upscale", film, "-o", tmp_path / "b.mkv", "--model", tiny_model, "--segment", "8"]
    limit = len(whole) // 2  # the segments are smaller, the joined file is not
    code, said = Launched(limited, [limit, *command], tmp_path.with_suffix(".txt")).end()
    assert code == 1, said
    assert "no space is left on the disk; 7 of 7 segments are finished" in said
    assert upscale(requested(film, tmp_path / "b.mkv", tiny_model, resume=True)) == 0
    assert (tmp_path / "b.mkv").read_bytes() == whole


def test_images_that_were_being_moved_are_moved_and_not_made_again(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "out").mkdir()
    source = make_video(tmp_path / "a.mkv", 20, size=(16, 16))
    request = requested(source, tmp_path / "out" / "%02d.png", tiny_model, resume=True)
    description, folder = begin(request)
    for index in range(3):
        render_segment(description, index)
    files = sorted(folder.path.rglob("*.png"))
    made = {file.name: file.stat().st_mtime_ns for file in files}
    files[3].rename(tmp_path / "out" / files[3].name)
    folder.mark_final({"moving": True})
    assert upscale(request) == 0
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()} == made
    assert sorted(made) == [f"{n:02}.png" for n in range(20)]


@pytest.mark.slow
def test_images_are_resumed_and_even_their_moving_is(tmp_path: Path, tiny_model: Path, cli: Cli) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for number in range(7, 27):
        picture(number, 24, 16, "rgb24").reformat(format="rgb24").save(tmp_path / "in" / f"{number:04}.png")
    common = ["upscale", tmp_path / "in" / "%04d.png", "--model", tiny_model]
    assert cli(*common, "-o", tmp_path / "whole%04d.png")[0] == 0
    wanted = {p.name.removeprefix("whole"): p.read_bytes() for p in tmp_path.glob("whole*.png")}
    target = ["-o", tmp_path / "out" / "%04d.png", "--segment", 8]
    folder = tmp_path / "out" / "._04d.png.duovsr"
    command = [*common, *target]
    kill_at(command, lambda: (folder / "000000.json").exists())
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [folder.name]
    assert cli(*common, *target, "--resume")[0] == 0
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == wanted
    # a job that is killed while its images get their names
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").mkdir()
    kill_at(command, lambda: (folder / "final.json").exists())
    assert cli(*common, *target, "--resume")[0] == 0
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == wanted


def test_segments_made_by_anyone_anywhere_give_the_same_file(
    broken: Path, whole: bytes, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = broken / ".b.mkv.duovsr"
    for old in folder.glob("0*"):
        old.unlink()
    description = json.loads((folder / "manifest.json").read_text())
    monkeypatch.chdir("/")
    for index in (6, 2, 4):
        path = render_segment({**description, "request": _moved(description, broken)}, index)
        assert Path(path) == folder / f"{index:06}.mkv"
    assert upscale(requested(broken / "a.mkv", broken / "b.mkv", tiny_model, resume=True)) == 0
    assert (broken / "b.mkv").read_bytes() == whole
    description["identity"]["machine"]["machine class"] = "another"
    with pytest.raises(VideoError, match="machine class was another and is"):
        render_segment({**description, "request": _moved(description, broken)}, 0)


def _moved(description: dict[str, Any], to: Path) -> dict[str, Any]:
    return {**description["request"], "source": str(to / "a.mkv"), "output": str(to / "b.mkv")}
