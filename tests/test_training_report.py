"""The page about a run: what it shows, that it stands alone, and that it bears any folder."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from training.report import ReportError, build, main
from training.report_log import read_stage
from training.report_page import page, pictures, spread
from training.report_verdict import findings
from training.watch import Watcher

SCORES = {"clean/psnr_y": 32.25, "+clean/psnr_y": 0.5, "clean/niqe": 7.0, "+clean/niqe": 0.25}
HOSTILE = "<script>alert(1)</script> & \"'"


class Reader(HTMLParser):
    """Tags with their attributes, texts, and the rows of all tables."""

    def __init__(self, markup: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.cell = tag in ("td", "th", "span")

    def handle_endtag(self, tag: str) -> None:
        self.cell = self.cell and tag == "span"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.rows and self.cell:
            self.rows[-1][-1] += f" {data}"

    def row(self, name: str) -> list[list[str]]:
        """The cells of the rows with that name, in the order of the page."""
        return [[cell.strip() for cell in row[1:]] for row in self.rows if row and row[0].strip() == name]

    def all(self, name: str) -> list[str]:
        """Every value of an attribute."""
        return [value for _, attributes in self.tags if (value := attributes.get(name)) is not None]


def write(run: Path, stage: str, *lines: Any, finished: bool = True) -> Path:
    """A stage's folder with a log; what is no text is written as JSON."""
    folder = run / stage
    folder.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "log.jsonl").write_text("".join(text + "\n" for text in texts))
    if finished:
        (folder / "result.safetensors").touch()
    return folder


def sample(folder: Path, name: str, picture: np.ndarray) -> None:
    (folder / "samples").mkdir(exist_ok=True)
    cv2.imwrite(str(folder / "samples" / f"{name}.png"), picture)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two stages, the second under way, with a picture."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    folder.mkdir()
    recipe = {"name": "smoke", "model": "tiny", "seed": 3, "stages": ["teacher", "dual_stream", "preference"]}
    (folder / "recipe.json").write_text(json.dumps({**recipe, "teacher": {"clip": 1.0}}))
    with Watcher(folder / "teacher", "teacher", 0, 4, lambda _: None) as watch:
        watch.machine("NVIDIA H200, torch 2.15.0")
        for step in (1, 2, 3, 4):
            watch.figures(step, {"latent": 1 / step, "gradient": 10.0**-step, "seconds": 900.0, "wait": 0.25})
        watch.evaluation(2, SCORES)
        watch.evaluation(4, {**SCORES, "clean/psnr_y": 32.5, "+clean/psnr_y": 0.75})
        watch.event(3, "resumed")
        watch.verdict(4, "the ranking gives the result +0.31")
        watch.samples(4, {"1-clean": np.full((30, 60, 3), (200, 100, 50), np.uint8)})
    (folder / "teacher" / "result.safetensors").touch()
    heads = {"d_real": 3.0, "d_fake": -2.0, "saturated": 0.95, "ratio": 20.0, "dmd": None, "gan": 0.5}
    write(folder, "dual_stream", {"step": 10, **heads}, {"step": 20, **heads, "dmd": 1.0}, finished=False)
    return folder


@pytest.fixture(scope="module")
def markup(run: Path) -> str:
    return build(run)


@pytest.fixture(scope="module")
def read(markup: str) -> Reader:
    return Reader(markup)


def test_the_page_loads_nothing_and_runs_nothing(markup: str, read: Reader) -> None:
    assert not {"script", "link", "iframe", "object", "base", "form"} & {tag for tag, _ in read.tags}
    assert all(value.startswith("data:image/") for value in read.all("src"))
    assert all(value.startswith("#") for value in read.all("href"))
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]
    assert "default-src 'none'" in read.all("content")[0]
    assert "://" not in markup and "@import" not in markup


def test_every_reference_inside_the_page_leads_to_one_place(read: Reader) -> None:
    names = read.all("id")
    assert len(names) == len(set(names))
    used = [value.removeprefix("url(#").rstrip(")") for value in read.all("clip-path")]
    used += [value.removeprefix("#") for value in read.all("href")]
    assert used and set(used) <= set(names)


def test_the_summary_tells_recipe_machine_time_and_that_data_was_a_limit(read: Reader) -> None:
    for text in ("smoke", "tiny, seed 3", "NVIDIA H200, torch 2.15.0", "1 of 2 finished", "1.0 h", "25.0 %"):
        assert text in read.texts
    assert any("data was a limit" in text for text in read.texts)
    assert any(text.startswith("Nothing is here of: preference.") for text in read.texts)


def test_tables_hold_the_last_measures_of_each_stage_and_the_base(read: Reader) -> None:
    assert read.row("base resampler") == [["31.75", "6.75"]]
    assert ["32.50 +0.75", "7.00 +0.25"] in read.row("teacher")
    assert read.row("PSNR-Y, dB ↑") == [["32.50 +0.75"]]
    kinds = [attributes["class"] for tag, attributes in read.tags if tag == "span" and attributes["class"] != "same"]
    assert kinds == ["better", "worse"] * 2  # NIQE rose


def test_each_stage_shows_its_losses_and_what_asks_for_a_look(read: Reader) -> None:
    plots = [attributes["aria-label"] for tag, attributes in read.tags if tag == "svg"]
    for title in ("latent", "gan", "Gradient norm before clipping", "Logits of the heads, D(real) and D(fake)"):
        assert title in plots
    assert "dmd was not a finite number at step 10." in read.texts
    assert any("the GAN pulls 20 times as hard" in text for text in read.texts)
    assert "step 3: resumed" in read.texts and "step 4: the ranking gives the result +0.31" in read.texts


def test_pictures_are_in_the_page(read: Reader) -> None:
    (source,) = read.all("src")
    kind, data = source.split(",")
    assert kind == "data:image/webp;base64"
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and picture.shape == (30, 60, 3)
    assert np.abs(picture.astype(int) - (50, 100, 200)).max() < 8
    assert read.all("alt") == ["1-clean, step 4"]


def test_equal_runs_give_equal_pages(run: Path, markup: str) -> None:
    assert build(run) == markup


def test_names_and_texts_of_any_kind_stay_texts(tmp_path: Path) -> None:
    stage = "<b>stage & \"'"
    lines = [{"step": n, HOSTILE: n, "event": HOSTILE, "machine": HOSTILE} for n in (1, 2)]
    evaluation = {"<i>/<u>": 1.0, "+<i>/<u>": 1.0}
    folder = write(tmp_path, stage, *lines, {"step": 2, "evaluation": evaluation})
    sample(folder, "000002-\" onload=\"x <img onerror='x'>", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "recipe.json").write_text(json.dumps({"name": HOSTILE, "model": HOSTILE}))
    read = Reader(build(tmp_path))
    assert not {"script", "i", "u"} & {tag for tag, _ in read.tags}
    assert [tag for tag, _ in read.tags].count("b") == sum(tag == "svg" for tag, _ in read.tags)  # one title a plot
    assert read.all("onerror") == read.all("onload") == []
    assert read.all("alt") == ["\" onload=\"x <img onerror='x'>, step 2"]
    assert {HOSTILE, stage, f"step 1: {HOSTILE}", "LR: <i>", "<u>"} <= set(read.texts)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["", "not JSON", "[1, 2]", '{"step": null}', '{"step": 1e999}', '{"latent": 1}', "null"],
        [{"step": 5, "latent": None}],
        [{"step": 1, "evaluation": {}}, {"step": 2, "evaluation": [1]}, {"step": 3, "evaluation": {"a": "b"}}],
        [{"step": 1, "evaluation": {"clean/psnr_y": None}}, {"step": 1, "evaluation": {"psnr": 3}}],
        [{"step": 0, "seconds": 0.0, "ratio": 0.0, "gradient": -1.0, "wait": 0.5, "latent": True}],
        ['{"step": 1, "latent": 1e308}', '{"step": 2, "latent": -1e308}', '{"step": 3, "latent": Infinity}'],
    ],
)
def test_any_log_makes_a_page(tmp_path: Path, lines: list[Any]) -> None:
    write(tmp_path, "teacher", *lines)
    assert "teacher" in Reader(build(tmp_path)).texts


def test_damaged_lines_are_counted_and_the_others_are_shown(tmp_path: Path) -> None:
    stage = read_stage(write(tmp_path, "teacher", {"step": 2, "latent": 2.0}, "{", {"step": 1, "latent": 1.0}, "[]"))
    assert stage.figures["latent"] == [(1, 1.0), (2, 2.0)] and stage.broken == 2
    assert findings(stage) == ["2 line(s) of teacher/log.jsonl make no sense and are left out."]


def test_bytes_that_are_no_text_cost_one_line(tmp_path: Path) -> None:
    folder = write(tmp_path, "teacher", {"step": 1, "latent": 1.0, "note": "x", "good": True})
    log = folder / "log.jsonl"
    log.write_bytes(log.read_bytes() + b"\xff\xfe\x00\n" + b'{"step": 2, "latent": 3}\n')
    (tmp_path / "recipe.json").write_bytes(b"\xff")
    stage = read_stage(folder)
    assert stage.figures == {"latent": [(1, 1.0), (2, 3.0)]} and stage.broken == 1
    assert "teacher" in Reader(build(tmp_path)).texts


def test_a_step_that_stands_twice_counts_once(tmp_path: Path) -> None:
    stage = read_stage(write(tmp_path, "teacher", *({"step": 10, "seconds": s} for s in (5.0, 3.6))))
    assert stage.figures["seconds"] == [(10, 3.6)] and stage.hours == pytest.approx(0.01)


def test_damaged_recipes_and_pictures_are_told_in_words(tmp_path: Path) -> None:
    folder = write(tmp_path, "teacher", {"step": 1, "latent": 1.0})
    (folder / "samples").mkdir()
    (folder / "samples" / "000001-clip.png").write_bytes(b"no picture")
    (folder / "samples" / "notes.png").touch()
    for text in ("{", "[]", '{"stages": "teacher", "teacher": 3}'):
        (tmp_path / "recipe.json").write_text(text)
        texts = Reader(build(tmp_path)).texts
        assert "clip, step 1: 000001-clip.png is no picture that can be read." in texts
        assert any("not known" in text for text in texts)


def test_stages_stand_in_the_order_of_the_run(tmp_path: Path) -> None:
    for stage in ("zoo", "preference", "dual_stream", "teacher", "regression"):
        write(tmp_path, stage, {"step": 1})
    (tmp_path / "notes").mkdir()
    read = Reader(build(tmp_path))
    assert read.all("href") == ["#regression", "#teacher", "#dual_stream", "#preference", "#zoo"]


@pytest.mark.parametrize(
    "kind, words", [("missing", "is no folder"), ("empty", "holds no stage"), ("stage", "is the folder of one stage")]
)
def test_a_folder_without_a_run_is_one_sentence(tmp_path: Path, kind: str, words: str) -> None:
    folder = tmp_path / "missing" if kind == "missing" else tmp_path
    if kind == "stage":
        folder = write(tmp_path / "run", "teacher", {"step": 1})
    with pytest.raises(ReportError, match=words) as error:
        main([str(folder)])
    assert "\n" not in str(error.value)


def test_the_page_is_written_beside_the_run_or_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "teacher", {"step": 1, "latent": 1.0})
    other = tmp_path / "new" / "page.html"
    assert main([str(tmp_path)]) == 0 and main([str(tmp_path), "-o", str(other)]) == 0
    assert other.read_text() == (tmp_path / "report.html").read_text()
    assert capsys.readouterr().out.splitlines()[1].startswith(f"{other}: ")
    with pytest.raises(ReportError, match="is a folder; name the page"):
        main([str(tmp_path), "-o", str(tmp_path)])


def test_pictures_fit_their_limit_and_the_last_step_always_stays(tmp_path: Path) -> None:
    source = np.random.default_rng(0)
    folder = write(tmp_path, "teacher", {"step": 1})
    for step in (1, 2, 3, 4):
        sample(folder, f"{step:06d}-clip", source.integers(0, 256, (64, 160, 3), np.uint8))
    files = {"teacher": read_stage(folder).samples}
    limit = 10**9
    for steps in ([1, 3, 4], [1, 4], [4], [4]):
        shown = pictures(files, limit)["teacher"]
        assert Reader(shown).all("alt") == [f"clip, step {step}" for step in steps]
        assert len(shown) <= limit
        limit = len(shown) - 1


@pytest.mark.parametrize("count, chosen", [(1, [9]), (2, [0, 9]), (3, [0, 4, 9]), (10, list(range(10)))])
def test_steps_are_spread_from_the_first_to_the_last(count: int, chosen: list[int]) -> None:
    assert spread(range(10), count) == chosen


def test_a_title_is_escaped() -> None:
    assert "&lt;b&gt;" in page("<b>", []) and "<b>" not in page("<b>", [])


@pytest.mark.parametrize(("shift", "told"), [(0.0, False), (1.5, True)])
def test_stages_that_were_measured_on_different_clips_are_told_apart_by_their_base(
    tmp_path: Path, shift: float, told: bool
) -> None:
    write(tmp_path, "teacher", {"step": 1, "evaluation": SCORES})
    gained = {"clean/psnr_y": 33.0 + shift, "+clean/psnr_y": 1.25}  # the base has 31.75, as under SCORES
    write(tmp_path, "guided", {"step": 1, "evaluation": gained})
    assert ("measured on different clips" in build(tmp_path)) == told
