"""Several inputs: each is a run of its own, in one process, with one table at the end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from test_cli import Cli
from video_files import decoded, make_video, picture

from duovsr_vs.cli.batch import targets_of
from duovsr_vs.errors import OptionError


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A folder with two videos, one of them in a sub-folder, and things that are none."""
    at = tmp_path / "in"
    (at / "deep" / ".hidden").mkdir(parents=True)
    source = make_video(at / "a.mkv", 2)
    make_video(at / "deep" / "b.avi", 2, codec="mpeg4")
    shutil.copy(source, at / "deep" / ".hidden" / "c.mkv")
    shutil.copy(source, at / ".d.mkv")
    (at / "notes.txt").write_text("no video")
    return at


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_folder_is_upscaled_with_its_sub_folders_and_done_files_are_skipped(
    films: Path, tmp_path: Path, tiny_model: Path, cli: Cli
) -> None:
    common = ["upscale", films, "-o", f"{tmp_path}/out/", "--model", tiny_model]
    code, out, err = cli(*common)
    assert (code, out) == (0, "")
    assert files(tmp_path / "out") == ["a.mkv", "deep/b.mkv"]
    assert len(decoded(tmp_path / "out" / "deep" / "b.mkv")) == 2
    assert f"done     {films}/a.mkv: 2 frames in 0:0" in err
    before = [p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.mkv")]
    code, _, err = cli(*common)
    assert (code, err.count("skipped  ")) == (0, 2)
    assert [p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.mkv")] == before
    (tmp_path / "out" / "a.mkv").unlink()
    code, _, err = cli(*common)
    assert (code, err.count("skipped  "), err.count("done     ")) == (0, 1, 2)  # one of its run, one in the table
    assert cli(*common, "--overwrite")[0] == 0
    assert [p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.mkv")] != before


def test_a_failure_stops_only_its_own_file_and_is_told_at_the_end(
    films: Path, tmp_path: Path, tiny_model: Path, cli: Cli
) -> None:
    (films / "aa.mp4").write_text("no video\n" * 50)
    (tmp_path / "out").mkdir()
    report = tmp_path / "report.json"
    code, _, err = cli("upscale", films, "-o", tmp_path / "out", "--model", tiny_model, "--report", report)
    assert (code, "Traceback" in err) == (1, False)
    assert [line.split()[0] for line in err.splitlines()[-3:]] == ["done", "failed", "done"]
    assert f"failed   {films}/aa.mp4: {films}/aa.mp4 is not a video" in err
    assert files(tmp_path / "out") == ["a.mkv", "deep/b.mkv"]
    told = json.loads(report.read_text())["files"]
    assert [(Path(one["source"]).name, one["result"], one["code"]) for one in told] == [
        ("a.mkv", "done", 0), ("aa.mp4", "failed", 1), ("b.avi", "done", 0),
    ]  # fmt: skip
    assert told[0]["frames"] == 2
    assert "not a video" in told[1]["error"]


def test_several_files_go_into_a_folder_and_two_that_would_become_one_are_told(
    films: Path, tmp_path: Path, tiny_model: Path, cli: Cli
) -> None:
    shutil.copy(films / "deep" / "b.avi", films / "a.avi")
    sources = [films / "a.mkv", films / "deep" / "b.avi", films / "a.avi"]
    code, _, err = cli("upscale", *sources, "-o", f"{tmp_path}/new/out/", "--model", tiny_model)
    assert files(tmp_path / "new" / "out") == ["a.mkv", "b.mkv"]
    assert code == 1
    assert f"failed   {films}/a.avi: {films}/a.mkv becomes {tmp_path}/new/out/a.mkv, too" in err


def test_one_file_may_go_into_a_folder_under_its_own_name(
    films: Path, tmp_path: Path, tiny_model: Path, cli: Cli
) -> None:
    assert cli("upscale", films / "a.mkv", "-o", f"{tmp_path}/out/", "--model", tiny_model)[0] == 0
    assert files(tmp_path / "out") == ["a.mkv"]


def test_a_begun_file_of_a_batch_is_refused_alone_and_resumed_with_the_others(
    films: Path, tmp_path: Path, tiny_model: Path, cli: Cli
) -> None:
    make_video(films / "long.mkv", 24)
    out = tmp_path / "out"
    common = ["upscale", films, "-o", f"{out}/", "--model", tiny_model, "--segment", 8]
    assert cli(*common)[0] == 0
    whole = (out / "long.mkv").read_bytes()
    manifest = {"request": {}, "identity": {"part": {"start": 0, "stop": 24, "length": 8}}}
    (out / "long.mkv").unlink()
    (out / ".long.mkv.duovsr").mkdir()
    (out / ".long.mkv.duovsr" / "manifest.json").write_text(json.dumps(manifest))
    code, _, err = cli(*common)
    assert (code, "was begun before (0 of 3 segments are finished)" in err) == (1, True)
    code, _, err = cli(*common, "--resume")
    assert (code, "was begun with something else" in err) == (1, True)
    assert cli(*common, "--overwrite")[0] == 0
    assert (out / "long.mkv").read_bytes() == whole
    assert not (out / ".long.mkv.duovsr").exists()


def test_what_a_killed_clean_up_left_is_cleared_and_the_file_skipped(
    films: Path, tmp_path: Path, tiny_model: Path, cli: Cli
) -> None:
    out = tmp_path / "out"
    common = ["upscale", films, "-o", f"{out}/", "--model", tiny_model]
    assert cli(*common)[0] == 0
    for name, facts in (("a.mkv", (out / "a.mkv").stat()), ("deep/b.mkv", None)):
        left = out / name.replace("b.mkv", ".b.mkv.duovsr").replace("a.mkv", ".a.mkv.duovsr")
        left.mkdir()
        (left / "000000.json").write_text("{}")
        if facts is not None:
            final = {"bytes": facts.st_size, "modified": facts.st_mtime_ns}
            (left / "final.json").write_text(json.dumps(final))
            (left / "manifest.json").write_text("{}")
    code, _, err = cli(*common)
    assert (code, err.count("skipped  ")) == (0, 2)
    assert files(out) == ["a.mkv", "deep/b.mkv"]
    assert not list(out.rglob("*.duovsr"))


def test_a_report_of_one_file_tells_what_was_kept(tmp_path: Path, tiny_model: Path, cli: Cli) -> None:
    source = make_video(tmp_path / "a.mkv", 12, sound=True, chapters=True)
    told = []
    for length in (100, 8):  # in one go and in segments
        report, target = tmp_path / f"{length}.json", tmp_path / f"{length}.mp4"
        common = ["upscale", source, "-o", target, "--model", tiny_model, "--segment", length, "--report", report]
        assert cli(*common)[0] == 0
        (one,) = json.loads(report.read_text())["files"]
        assert (one.pop("output"), one["result"], one["frames"]) == (str(target), "done", 12)
        items = {item["item"]: item["status"] for item in one["items"]}
        assert items["frames"] == items["timestamps"] == items["chapters"] == "kept"
        del one["seconds"]
        told.append(one)
    assert told[0]["plan"]["out_width"] == 192
    assert told[0] == told[1]
    assert cli("upscale", source, "-o", tmp_path / "c.mp4", "--report", tmp_path / "none" / "r.json")[0] == 2


def test_what_cannot_be_a_batch_is_refused(films: Path, tmp_path: Path, cli: Cli) -> None:
    picture(1, 24, 16, "rgb24").reformat(format="rgb24").save(tmp_path / "1.png")
    for sources, output, words in [
        ([films], tmp_path / "b.mkv", "several inputs need a folder"),
        ([films / "a.mkv", films / "deep" / "b.avi"], tmp_path / "b.mkv", "several inputs need a folder"),
        ([films / "a.mkv", films], "-", "several inputs need a folder"),
        ([films], films, "that is the folder of the inputs"),
        ([films, "-"], f"{tmp_path}/out/", "name an output of their own"),
        ([films, tmp_path / "%d.png"], f"{tmp_path}/out/", "name an output of their own"),
        ([films / "deep" / ".hidden"], f"{films}/deep/.hidden/", "that is the folder"),
    ]:
        code, _, err = cli("upscale", *sources, "-o", output)
        assert (code, words in err, "Traceback" in err) == (2, True, False), err
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionError, match="there is no video in"):
        targets_of([str(tmp_path / "empty")], f"{tmp_path}/out/")


def test_the_output_folder_inside_the_input_folder_is_not_read(films: Path) -> None:
    out = films / "out"
    out.mkdir()
    make_video(out / "z.mkv", 1)
    found = [Path(target.source).name for target in targets_of([str(films)], str(out))]
    assert found == ["a.mkv", "b.avi"]
