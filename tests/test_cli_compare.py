"""`duovsr compare` makes one whole file or none, with the pixels that the clips have and the measures that they get."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from comparison_files import FRAMES, Picture, large_pictures, small_pictures, write_clip

from duovsr_vs.cli.compare import compare_command
from duovsr_vs.compare import comparison
from duovsr_vs.compare.clips import Clip
from duovsr_vs.compare.gather import entries
from duovsr_vs.compare.places import Crop, Interest, Stretch, evenly, middle, parse_crop
from duovsr_vs.compare.plots import Line, Scale, plot
from duovsr_vs.errors import OptionError
from duovsr_vs.metrics.fidelity import psnr_y

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def compare(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: exit code, stdout, stderr."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(compare_command)

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            app([str(argument) for argument in arguments], prog_name="duovsr")
        return int(ended.value.code or 0), *capfd.readouterr()

    return call


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small.mkv, large.mkv, and truth.mkv, which is large.mkv with other noise; RGB without loss."""
    folder = tmp_path_factory.mktemp("film")
    large = large_pictures()
    noise = np.random.default_rng(3).normal(0, 3, (FRAMES, *large[0].shape))
    truth = [(p + n).clip(0, 255).round().astype(np.uint8) for p, n in zip(large, noise, strict=True)]
    for name, pictures in (("small", small_pictures(large)), ("large", large), ("truth", truth)):
        write_clip(folder / f"{name}.mkv", pictures, pix_fmt="bgr0")
    return folder


def data_of(page: Path) -> dict[str, Any]:
    """What the page's script gets."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def picture(uri: str) -> Picture:
    image: Any = cv2.imdecode(np.frombuffer(base64.b64decode(uri.split(",", 1)[1]), np.uint8), cv2.IMREAD_COLOR)
    return np.ascontiguousarray(image[..., ::-1])


def test_a_page_is_one_file_that_fetches_nothing(film: Path, tmp_path: Path, compare: Run) -> None:
    page = tmp_path / "page.html"
    code, out, err = compare(film / "small.mkv", film / "large.mkv", "-o", page, "--frames", 3)
    assert (code, out) == (0, ""), err
    assert f"{page}: {page.stat().st_size / 1e6:.1f} MB" in err and "enlarged small.mkv (bicubic)" in err
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]
    text = page.read_text()
    assert "default-src 'none'" in text and "{{" not in text
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"data:image/[^\"]*", "", text).split("<script>")[0])
    assert not re.search(r"<(link|iframe|object|embed|video|audio)\b|\bsrc=\"(?!data:)", text)
    data = data_of(page)
    assert [frame["number"] for frame in data["frames"]] == [0, 4, 9]
    assert [frame["time"] for frame in data["frames"]] == [0, 0.16, 0.36]
    assert [clip["label"] for clip in data["clips"]] == ["small.mkv, enlarged ×4, bicubic", "large.mkv"]


def test_pictures_of_a_lossless_page_have_the_pixels_of_the_clips(film: Path, tmp_path: Path, compare: Run) -> None:
    page = tmp_path / "page.html"
    arguments = [film / "small.mkv", film / "large.mkv", "-o", page, "--lossless", "--at", "2,0:00.2"]
    assert compare(*arguments, "--crop", "64x48+100+60", "--enlarge", "nearest")[0] == 0
    data, large = data_of(page), large_pictures()
    assert [frame["number"] for frame in data["frames"]] == [2, 5]
    for frame in data["frames"]:
        whole = large[frame["number"]]
        small = small_pictures([whole])[0].repeat(4, 0).repeat(4, 1)
        for uri, wanted in zip(frame["images"], (small, whole), strict=True):
            assert np.array_equal(picture(uri), wanted[60:108, 100:164])
    assert "enlarged ×4, nearest" in data["clips"][0]["label"]


def test_a_profile_is_one_column_over_time(film: Path, tmp_path: Path, compare: Run) -> None:
    page = tmp_path / "page.html"
    assert compare(film / "small.mkv", film / "large.mkv", "-o", page, "--full", "--enlarge", "nearest")[0] == 0
    text = page.read_text()
    column, top, bottom = (int(n) for n in re.findall(r"\((\d+) from the left, rows (\d+) to (\d+)\)", text)[0])
    strips = re.findall(r'<img src="(data:image/png[^"]*)"', text)
    large = large_pictures()
    for uri, clip in zip(strips, ([p.repeat(4, 0).repeat(4, 1) for p in small_pictures(large)], large), strict=True):
        wanted = np.stack([whole[top : bottom + 1, column] for whole in clip], axis=1)
        assert np.array_equal(picture(uri), wanted)


def test_with_a_truth_the_table_has_the_distances_to_it(film: Path, tmp_path: Path, compare: Run) -> None:
    page, truth = tmp_path / "page.html", film / "truth.mkv"
    assert compare(film / "small.mkv", film / "large.mkv", "--truth", truth, "-o", page, "--frames", 2)[0] == 0
    text = page.read_text()
    head = re.findall(r'<th scope="col">([\w-]+)', text)
    assert head[-4:-1] == ["PSNR-Y", "PSNR", "SSIM"] or head[-3:] == ["PSNR-Y", "PSNR", "SSIM"]
    row = re.findall(r"large\.mkv</span></span></th>(.*?)</tr>", text)[0]
    cells = re.findall(r"<td>(.*?)</td>", row)
    noise = np.random.default_rng(3).normal(0, 3, (FRAMES, *large_pictures()[0].shape))
    wanted = [
        psnr_y((p + noise[n]).clip(0, 255).round().astype(np.uint8)[None], p[None])
        for n, p in enumerate(large_pictures())
        if n in (0, FRAMES - 1)
    ]
    assert float(cells[head.index("PSNR-Y") - 1]) == pytest.approx(np.mean(wanted), abs=0.006)
    assert "truth.mkv (truth)" in text


def test_a_strip_shows_crops_at_their_own_size(film: Path, tmp_path: Path, compare: Run) -> None:
    strip = tmp_path / "strip.png"
    arguments = [film / "small.mkv", film / "large.mkv", "-o", strip, "--crop", "80x60+40+20", "--at", "1,8"]
    assert compare(*arguments)[0] == 0
    read: Any = cv2.imread(str(strip))
    image, large = read[..., ::-1], large_pictures()
    assert image.shape == (2 * (22 + 60) + 2, 80 + 6 + 80, 3)
    for row, number in enumerate((1, 8)):
        top = row * 84 + 22
        assert np.array_equal(image[top : top + 60, 86:], large[number][20:80, 40:120])
    assert (image[:22] < 128).any(), "the first row is labelled"


def test_a_clip_that_ends_early_is_said_and_the_others_are_shown_as_far_as_it_goes(
    film: Path, tmp_path: Path, compare: Run
) -> None:
    short, page = write_clip(tmp_path / "short.mkv", large_pictures()[:6], pix_fmt="bgr0"), tmp_path / "page.html"
    code, _, err = compare(film / "small.mkv", short, film / "large.mkv", "-o", page, "--frames", 3)
    assert code == 0
    assert "The shortest clip ends 4 frames earlier" in err and "ends 4 frames earlier" in page.read_text()
    assert [frame["number"] for frame in data_of(page)["frames"]] == [0, 2, 5], "evenly over what all clips have"


def test_only_the_named_part_is_looked_at(film: Path, tmp_path: Path, compare: Run) -> None:
    page = tmp_path / "page.html"
    assert (
        compare(film / "small.mkv", film / "large.mkv", "-o", page, "--start", 3, "--length", 4, "--frames", 9)[0] == 0
    )
    assert [frame["number"] for frame in data_of(page)["frames"]] == [3, 4, 5, 6]
    assert 'data-first="3" data-step="1" data-count="4"' in page.read_text()


def test_names_from_files_cannot_become_part_of_the_page(film: Path, tmp_path: Path, compare: Run) -> None:
    names = [tmp_path / "</script><script>alert(1)&.mkv".replace("/", "_"), tmp_path / '"><img src=x>{{data}}.mkv']
    for name, source in zip(names, ("small.mkv", "large.mkv"), strict=True):
        name.write_bytes((film / source).read_bytes())
    assert compare(*names, "-o", tmp_path / "page.html", "--frames", 1)[0] == 0
    text = (tmp_path / "page.html").read_text()
    assert "<img src=x" not in text and text.count("<script") == 2
    assert "{{data}}.mkv" in text and data_of(tmp_path / "page.html")["clips"][1]["label"].endswith("{{data}}.mkv")


@pytest.mark.parametrize(
    "arguments, code, sentence",
    [
        (["small.mkv", "-o", "p.html"], 2, "1 clip given; two to 9 are needed"),
        (["small.mkv", "large.mkv", "-o", "p.pdf"], 2, "p.pdf: a page (.html) or a strip of pictures (.png)"),
        (["small.mkv", "nowhere.mkv", "-o", "p.html"], 1, "nowhere.mkv: there is no such file"),
        (["small.mkv", "large.mkv", "-o", "old.html"], 1, "old.html exists; give --overwrite"),
        (["small.mkv", "large.mkv", "-o", "no/p.html"], 1, "the folder no does not exist"),
        (["small.mkv", "-", "-o", "p.html"], 2, "cannot read from stdin"),
        (["small.mkv", "large.mkv", "-o", "p.html", "--crop", "9"], 2, "WIDTHxHEIGHT+LEFT+TOP is needed"),
        (["small.mkv", "large.mkv", "-o", "p.html", "--crop", "99x99+200+0"], 2, "not lie inside frames of 256x192"),
        (["small.mkv", "large.mkv", "-o", "p.html", "--crop", "9x9", "--full"], 2, "contradict each other"),
        (["small.mkv", "large.mkv", "-o", "p.html", "--frames", 3, "--at", "1"], 2, "contradict each other"),
        (["small.mkv", "large.mkv", "-o", "p.html", "--frames", 0], 2, "1 to 100 is needed"),
        (["small.mkv", "large.mkv", "-o", "p.html", "--at", "77"], 2, "the input has 10"),
        (["small.mkv", "large.mkv", "-o", "p.html", "--at", "8", "--length", "4"], 2, "--at 8 lies outside frames 0"),
        (["small.mkv", "large.mkv", "-o", "p.html", "--enlarge", "blurred"], 2, "lanczos or nearest is needed"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused_and_nothing_is_left(
    arguments: list[Any], code: int, sentence: str, film: Path, tmp_path: Path, compare: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name in ("small.mkv", "large.mkv"):
        (tmp_path / name).symlink_to(film / name)
    (tmp_path / "old.html").write_text("old")
    monkeypatch.chdir(tmp_path)
    ended, out, err = compare(*arguments)
    assert (ended, out) == (code, ""), err
    assert sentence in err and "Traceback" not in err
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["large.mkv", "old.html", "small.mkv"]
    assert (tmp_path / "old.html").read_text() == "old"


def test_an_input_is_never_replaced(film: Path, tmp_path: Path, compare: Run) -> None:
    still = tmp_path / "still.png"
    cv2.imwrite(str(still), large_pictures(1)[0])
    before = still.read_bytes()
    code, _, err = compare(film / "small.mkv", still, "-o", still, "--overwrite")
    assert code == 1 and "is the input itself" in err
    assert still.read_bytes() == before


def test_a_page_too_large_to_open_is_refused(
    film: Path, tmp_path: Path, compare: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "LARGEST", 20_000)
    code, _, err = compare(film / "small.mkv", film / "large.mkv", "-o", tmp_path / "page.html")
    assert code == 2 and "use fewer --frames" in err
    assert not list(tmp_path.iterdir())


def test_clips_of_one_name_are_told_apart(film: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "film.mkv").symlink_to(film / "small.mkv")
    paths = [str(tmp_path / "a" / "film.mkv"), str(tmp_path / "b" / "film.mkv"), str(film / "large.mkv")]
    assert [entry.name for entry in entries(paths, None)] == ["a/film.mkv", "b/film.mkv", "large.mkv"]
    assert [entry.name for entry in entries([paths[2]] * 2, None)] == ["large.mkv (1)", "large.mkv (2)"]


def test_the_part_shown_is_where_something_moves(tmp_path: Path) -> None:
    still = np.random.default_rng(0).integers(90, 110, (96, 128, 3)).astype(np.uint8)
    film = []
    for n in range(5):
        frame = still.copy()
        frame[64:88, 80 + 6 * n : 92 + 6 * n] = 220
        film.append(frame)
    with Clip(str(write_clip(tmp_path / "a.mkv", film))) as clip:
        interest = Interest.of(clip, range(5))
    crop = interest.crop((512, 384), (160, 120))
    assert crop.left >= 280 and crop.top >= 200
    assert crop.left + crop.width <= 512 and crop.top + crop.height <= 384
    assert crop.left <= interest.column((512, 384), crop) < crop.left + crop.width
    assert interest.crop((512, 384), (960, 540)) == Crop(0, 0, 512, 384)


@pytest.mark.parametrize("count", [1, 2, 7, 601, 5000, 200_000])
def test_plots_and_profiles_stay_small_however_long_the_part_is(count: int) -> None:
    stretch = Stretch.of(10, 10 + count, evenly(10, 10 + count, 12))
    assert len(range(0, count, stretch.profile)) <= 600
    assert len(range(0, count, stretch.points)) <= 48
    assert stretch.shown[0] == 10 and stretch.shown[-1] == 10 + count - 1
    assert len(stretch.shown) == min(count, 12)
    first, stop = middle(count)
    assert 0 <= first < stop <= count and stop - first == min(count, 600)


def test_crops_are_parsed_or_refused() -> None:
    assert parse_crop("20x10", (100, 50)) == Crop(40, 20, 20, 10)
    assert parse_crop("20x10+3+4", (100, 50)) == Crop(3, 4, 20, 10)
    for text in ("0x9", "20x10+3", "-5x5", "101x5", "20x10+81+0"):
        with pytest.raises(OptionError, match="--crop"):
            parse_crop(text, (100, 50))


def test_a_plot_shows_every_finite_value_inside_its_axes() -> None:
    lines = [Line("a <b>", 0, [(0, 1.25), (5, float("nan")), (9, 2.5)]), Line("none", 1, [(0, float("inf"))])]
    svg = plot("Title", "unit", lines, (0, 9), Scale(0.1, 0))
    assert svg.count("<polyline") == 1 and svg.count("<circle") == 2
    assert 'aria-label="Title, unit: a &lt;b&gt; from 1.2 to 2.5"' in svg
    ticks = [float(text) for text in re.findall(r'text-anchor="end">([-\d.]+)<', svg)]
    assert min(ticks) == 0 and max(ticks) >= 2.5
    places = [tuple(map(float, found)) for found in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)]
    assert all(52 <= x <= 468 and 12 <= y <= 186 for x, y in places)
    assert places[0][1] > places[1][1], "more is higher"
    assert plot("Title", "unit", lines[1:], (0, 9), Scale(1)) == ""


@pytest.mark.parametrize("value", [0.0, 1e-7, -3.0, 48.31, 1e6])
def test_a_constant_has_a_scale_too(value: float) -> None:
    svg = plot("Title", "unit", [Line("a", 0, [(0, value), (1, value)])], (0, 1), Scale(4))
    ticks = [float(text) for text in re.findall(r'text-anchor="end">([-\d.]+)<', svg)]
    assert min(ticks) < value < max(ticks) and 4 <= max(ticks) - min(ticks) <= 12


def test_naming_the_commands_loads_nothing_heavy() -> None:
    code = (
        "import sys, duovsr_vs.cli.check, duovsr_vs.cli.compare\n"
        "heavy = {'torch', 'av', 'numpy', 'vapoursynth', 'cv2'} & sys.modules.keys()\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
