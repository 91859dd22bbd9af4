"""`duovsr upscale --preview`: moments as the whole job has them, a page, an estimate; nothing else is touched."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparison_files import Picture, large_pictures, write_clip
from video_files import make_video

from duovsr_vs.compare.clips import Clip
from duovsr_vs.compare.estimate import Made, Packets, packets_of, video_bytes
from duovsr_vs.compare.gather import Entry, entry_of
from duovsr_vs.compare.moments import Moment, moments

Cli = Callable[..., tuple[int, str, str]]
FRAMES, SIZE = 40, (32, 24)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 frames of 128x96, moving by three pixels each, with sound."""
    return write_clip(tmp_path_factory.mktemp("film") / "film.mkv", large_pictures(FRAMES, SIZE), sound=True)


@pytest.fixture
def preview(cli: Cli, tiny_model: Path, one_torch_thread: None) -> Cli:
    """Preview moments of five frames at twice the size."""

    def call(source: object, output: object, *more: object) -> tuple[int, str, str]:
        usual = ("--preview", "0.2", "--scale", 2, "--model", tiny_model)
        return cli("upscale", source, "-o", output, *usual, *more)

    return call


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def pictures_of(path: Path, first: int = 0, stop: int | None = None) -> list[Picture]:
    with Clip(str(path)) as clip:
        return [shot.picture() for shot in clip.shots(first, stop)]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_moments_have_the_pixels_that_the_whole_job_gives_them(
    film: Path, tmp_path: Path, tiny_model: Path, cli: Cli, preview: Cli
) -> None:
    out = tmp_path / "out.mkv"
    assert preview(film, out, "--codec", "ffv1")[0] == 0
    assert names(tmp_path) == [*(f"out.preview-{n}.mkv" for n in (1, 2, 3)), "out.preview.html"]
    assert cli("upscale", film, "-o", out, "--codec", "ffv1", "--scale", 2, "--model", tiny_model)[0] == 0
    data, whole = data_of(tmp_path / "out.preview.html"), pictures_of(out)
    firsts = [min(f["number"] for f in data["frames"] if f["part"] == part) for part in range(3)]
    assert len(set(firsts)) == 3 and min(np.diff(firsts)) >= 5
    for number, first in enumerate(firsts, 1):
        part = pictures_of(tmp_path / f"out.preview-{number}.mkv")
        assert len(part) == 5
        assert all(np.array_equal(mine, its) for mine, its in zip(part, whole[first : first + 5], strict=True))


def test_the_page_shows_each_moment_beside_the_source_enlarged_by_lanczos(
    film: Path, tmp_path: Path, preview: Cli
) -> None:
    code, out, err = preview(film, tmp_path / "out.mkv")
    assert (code, out) == (0, ""), err
    page = tmp_path / "out.preview.html"
    data = data_of(page)
    assert [clip["label"] for clip in data["clips"]] == ["film.mkv, enlarged ×2, Lanczos", "out.mkv"]
    assert sorted(data["parts"]) == ["most detail", "most motion", "near the beginning"]
    assert [frame["part"] for frame in data["frames"]] == [0] * 4 + [1] * 4 + [2] * 4
    estimate = re.findall(r"^estimate (the whole job, 40 frames: about \d+:\d\d .*, about [\d.]+ MB)$", err, re.M)
    assert estimate and estimate[0][1:] in page.read_text()
    row = re.findall(r"out\.mkv</span></span></th>(.*?)</tr>", page.read_text())[0]
    assert float(re.findall(r"<td>(.*?)</td>", row)[1]) > 25, "clip and source show the same frames"


def test_the_output_and_what_is_begun_of_it_stay_as_they_are(film: Path, tmp_path: Path, preview: Cli) -> None:
    (tmp_path / "out.mkv").write_bytes(b"made before")
    begun = tmp_path / ".out.mkv.duovsr"
    begun.mkdir()
    (begun / "manifest.json").write_text("{}")
    assert preview(film, tmp_path / "out.mkv", "--start", 7, "--overwrite")[0] == 0
    assert (tmp_path / "out.mkv").read_bytes() == b"made before"
    assert names(begun) == ["manifest.json"] and (begun / "manifest.json").read_text() == "{}"
    assert names(tmp_path) == [".out.mkv.duovsr", "out.mkv", "out.preview-1.mkv", "out.preview.html"]


def test_with_start_the_moment_lies_there(film: Path, tmp_path: Path, preview: Cli) -> None:
    code, _, err = preview(film, tmp_path / "out.mkv", "--start", "0:00.4", "--frames", 20)
    assert code == 0
    assert "preview  frames 10 to 14, where --start lies" in err and "the whole job, 20 frames" in err
    data = data_of(tmp_path / "out.preview.html")
    assert [frame["number"] for frame in data["frames"]] == [10, 11, 13, 14]


def test_of_images_only_the_page_is_kept(film: Path, tmp_path: Path, preview: Cli) -> None:
    assert preview(film, tmp_path / "%03d.png", "--start", 3)[0] == 0
    assert names(tmp_path) == ["preview.html"]
    assert len(data_of(tmp_path / "preview.html")["frames"]) == 4


@pytest.mark.parametrize(
    "arguments, code, sentence",
    [
        (["film.mkv", "old.mkv", "-o", "out/"], 2, "--preview looks at one video"),
        ([".", "-o", "out/"], 2, "--preview looks at one video"),
        (["-", "-o", "out.mkv"], 2, "cannot read from stdin; name a file"),
        (["film.mkv", "-o", "-"], 2, "--preview needs the name of a file"),
        (["film.mkv", "-o", "."], 2, "--preview needs the name of a file"),
        (["film.mkv", "-o", "out.mkv", "--resume"], 2, "so --resume says nothing"),
        (["film.mkv", "-o", "out.mkv", "--report", "r.json"], 2, "so --report says nothing"),
        (["film.mkv", "-o", "old.mkv"], 1, "old.preview.html exists; give --overwrite"),
        (["film.mkv", "-o", "clip.mkv"], 1, "clip.preview-2.mkv exists; give --overwrite"),
        (["film.mkv", "-o", "film.mkv"], 1, "is the input itself"),
        (["film.mkv", "-o", "no/out.mkv"], 1, "the folder no does not exist"),
        (["film.mkv", "-o", "out.mkv", "--start", "99"], 2, "the input has 40"),
        (["nowhere.mkv", "-o", "out.mkv"], 1, "nowhere.mkv: there is no such file"),
    ],
)  # fmt: skip
def test_what_cannot_be_previewed_is_refused_and_nothing_is_left(
    arguments: list[str], code: int, sentence: str, film: Path, tmp_path: Path, tiny_model: Path, cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "film.mkv").symlink_to(film)
    for name in ("old.mkv", "old.preview.html", "clip.preview-2.mkv"):
        (tmp_path / name).write_text("old")
    before = names(tmp_path)
    monkeypatch.chdir(tmp_path)
    ended, out, err = cli("upscale", *arguments, "--preview", "0.2", "--model", tiny_model)
    assert (ended, out) == (code, ""), err
    assert sentence in err and "Traceback" not in err
    assert names(tmp_path) == before and (tmp_path / "old.preview.html").read_text() == "old"


def shots_with(kinds: str, length: int = 10) -> list[Picture]:
    """Shots of `length` frames each: s(till), m(oving), f(ine detail, still)."""
    chance = np.random.default_rng(1)
    film = []
    for kind in kinds:
        soft = np.repeat(np.repeat(chance.integers(60, 200, (6, 8, 3)), 8, 0), 8, 1).astype(np.uint8)
        fine = chance.integers(20, 230, (48, 64, 3)).astype(np.uint8)
        film += [fine if kind == "f" else np.roll(soft, 4 * n, 1) if kind == "m" else soft for n in range(length)]
    return film


@pytest.mark.parametrize("jumps", [False, True])
def test_motion_and_detail_are_found_where_they_are_and_a_cut_is_no_motion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jumps: bool
) -> None:
    monkeypatch.setattr("duovsr_vs.compare.moments.JUMPS", 0 if jumps else 99)
    path = write_clip(tmp_path / "a.mkv", shots_with("ssssmssfss"))
    source = entry_of(str(path), "a.mkv", "source")
    seen: list[int] = []
    found = moments(source, 0, 100, 5, lambda: seen.append(1))
    assert [moment.name for moment in found] == ["near the beginning", "most motion", "most detail"]
    assert len(seen) == 12
    assert found[0].first < 15 and 39 <= found[1].first < 47 and 68 <= found[2].first < 78
    assert all(moment.stop - moment.first == 5 for moment in found)


@pytest.mark.parametrize("first, stop, length", [(0, 1, 5), (3, 9, 5), (0, 12, 6), (0, 14, 5), (2, 40, 5)])
def test_moments_lie_in_the_part_and_apart(film: Path, first: int, stop: int, length: int) -> None:
    found = moments(entry_of(str(film), "film.mkv", "source"), first, stop, length)
    numbers = [n for moment in found for n in range(moment.first, moment.stop)]
    assert numbers == sorted(set(numbers)) and first <= numbers[0] and numbers[-1] < stop
    assert {moment.stop - moment.first for moment in found} == {min(length, stop - first)}


def made(first: int, sizes: list[tuple[int, bool]]) -> Made:
    return Made(Moment("here", first, first + len(sizes)), Packets(sizes))


def test_an_estimate_follows_the_bytes_of_the_source() -> None:
    hard_then_easy = Packets([(9000, True), *[(400, False)] * 99, *[(100, False)] * 100])
    from_hard = made(50, [(20_000, True), *[(4000, False)] * 9])
    estimate = video_bytes(hard_then_easy, [from_hard], (0, 200), 100)
    assert estimate == pytest.approx(2 * 20_000 + 99 * 4000 * 0.9 + 100 * 1000 * 0.9, rel=0.02)
    assert video_bytes(Packets([(7, True)] * 200), [made(9, [(500, True)] * 4)], (0, 200), 100) == 100_000
    assert video_bytes(Packets(), [made(9, [(500, True)] * 4)], (0, 200), 100) == 100_000


def test_an_estimate_is_near_what_a_whole_file_takes(tmp_path: Path) -> None:
    source = packets_of(str(make_video(tmp_path / "a.mkv", 120, options={"crf": "30"}, sound=True)))
    whole = packets_of(str(make_video(tmp_path / "b.mkv", 120, options={"crf": "20"})))
    part = packets_of(str(make_video(tmp_path / "c.mkv", 25, options={"crf": "20"})))
    assert len(source.video) == 120 and list(source.others) == [1]
    estimate = video_bytes(source, [Made(Moment("here", 0, 25), part)], (0, 120), 250)
    assert estimate == pytest.approx(sum(size for size, _ in whole.video), rel=0.3)


def test_an_entry_keeps_its_packet_table(film: Path) -> None:
    entry: Entry = entry_of(str(film), "film.mkv", "source")
    with entry.opened() as clip:
        assert clip.reader.scan is entry.scan
