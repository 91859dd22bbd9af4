"""What a report draws and says of a run's figures."""

from __future__ import annotations

import math
import re
from html import unescape
from pathlib import Path

import pytest

from training.report_curves import MACHINE, gain_panels, machine_panels, panels
from training.report_log import StageLog
from training.report_plots import MOST, Panel, draw, thinned
from training.report_verdict import duration, findings, on_waiting, percent, quantity, summary


def test_a_long_log_makes_a_small_page_and_keeps_its_spikes(tmp_path: Path) -> None:
    curve = [(step, {777: 1000.0, 9000: -50.0}.get(step, 1.0 if step > 200 else math.nan)) for step in range(20000)]
    steps, means, least, greatest = thinned(curve)
    assert len(steps) <= MOST and math.isnan(means[0])
    assert (max(greatest[3:]), min(least[3:])) == (1000, -50) and max(means[3:]) < 1000
    assert len(draw(Panel(title="latent", curves={"latent": curve}))) < 40_000


def test_plots_take_the_ink_of_the_page_and_labels_stay_as_they_are() -> None:
    drawn = draw(Panel(title="a", curves={"$x_1$ <b>": [(1, 1e-4), (2, 1.0)]}, lines={"clip": 0.5}, log=True))
    texts = {unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", drawn)}
    assert "currentColor" in drawn and "#010203" not in drawn and "font-family" not in drawn
    assert {"$x_1$ <b>", "clip", "0.01", "1"} <= texts


def marks_of(curve: list[tuple[int, float]], **fields: bool) -> list[str]:
    """Texts along the axes of a plot of one curve."""
    drawn = draw(Panel(title="a", curves={"a": curve}, **fields))  # type: ignore[arg-type]
    return [unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", drawn)]


def test_numbers_that_hardly_differ_are_written_out_and_whole_numbers_have_whole_marks() -> None:
    close = marks_of([(1, 0.693147), (2, 0.693123), (3, 0.693151)])
    assert any(text.startswith("0.6931") for text in close) and not [
        text for text in close if "e" in text or "+" in text
    ]
    steps = marks_of([(1, 2.0), (2, 2.0), (3, 1.0), (4, 1.0)])
    assert "1" in steps and "2" in steps and not [text for text in steps if "." in text]


def test_every_figure_stands_in_one_plot_and_is_compared_with_what_it_should_be() -> None:
    heads = ["heads", "d_real", "d_fake", "saturated", "ratio"]
    pairs = ["delta_w", "delta_l", "accuracy", "stopped"]
    others = ["latent", "gradient", "gradient_fake", "guidance", "rate", "steps", "something_new"]
    names = [*heads, *pairs, *others, *MACHINE]
    stage = StageLog("a", Path("a"), figures={name: [(1, 0.5)] for name in names}, events=[(7, "resumed")])
    every = [*panels(stage, {"clip": 0.25}), *machine_panels(stage)]
    assert sorted(name for panel in every for name in panel.curves) == sorted(set(names) - {"stopped"})
    lines = {name: set(panel.lines.values()) for panel in every for name in panel.curves if panel.lines}
    assert lines == {
        "heads": {2.0},
        "gradient": {0.25},
        "gradient_fake": {0.25},
        "d_real": {-1, 1},
        "d_fake": {-1, 1},
        "ratio": {1},
        "delta_w": {0},
        "delta_l": {0},
        "accuracy": {0.5},
        "guidance": {0.01},
    }
    assert {name for panel in every if panel.percent for name in panel.curves} == {
        *("saturated", "accuracy", "guidance", "mfu", "wait")
    }
    assert all(list(panel.marks) == [7] for panel in panels(stage, {}))


def test_gains_are_drawn_by_kind_where_there_is_more_than_one_evaluation() -> None:
    scores = {"clean/psnr_y": 30.0, "+clean/psnr_y": 0.5, "web/psnr_y": 28.0, "+web/psnr_y": 0.25}
    stage = StageLog("a", Path("a"), evaluations={2: {**scores, "+web/psnr_y": 0.125}, 4: scores})
    (panel,) = gain_panels(stage)
    assert panel.curves == {"clean": [(2, 0.5), (4, 0.5)], "web": [(2, 0.125), (4, 0.25)]}
    assert gain_panels(StageLog("a", Path("a"), evaluations={4: scores})) == []


@pytest.mark.parametrize("share, words", [(0.001, "not the limit"), (0.05, "hardly the limit"), (0.4, "was a limit")])
def test_the_verdict_on_data_follows_the_share_of_waiting(share: float, words: str) -> None:
    stage = StageLog("teacher", Path("teacher"), figures={"wait": [(1, share)]})
    assert words in on_waiting([stage])
    assert "does not say" in on_waiting([StageLog("teacher", Path("teacher"))])


def test_waiting_is_weighed_by_the_time_that_stages_took() -> None:
    long = StageLog("a", Path("a"), figures={"wait": [(9, 0.0)], "seconds": [(9, 1.0)]})
    short = StageLog("b", Path("b"), figures={"wait": [(1, 1.0)], "seconds": [(1, 1.0)]})
    assert summary({}, [long, short])["Waiting for data"] == "10.0 %"


def test_a_log_line_stands_for_the_updates_since_the_one_before() -> None:
    stage = StageLog("a", Path("a"), figures={"seconds": [(10, 1.0), (40, 2.0), (50, math.nan)]})
    assert stage.hours * 3600 == pytest.approx(70) and stage.mean("seconds") == pytest.approx(70 / 40)


@pytest.mark.parametrize(
    "figures, words",
    [
        ({"d_real": 3.0, "d_fake": -1.5}, "heads have won"),
        ({"saturated": 0.95}, "95.0 % of the logits"),
        ({"ratio": 20.0}, "pulls 20 times"),
        ({"ratio": 0.01}, "pulls only 0.01 times"),
        ({"delta_w": 0.1, "delta_l": 0.2}, "Δ of the winners is above 0"),
        ({"stopped": 1.0}, "stopped by itself"),
        ({"guidance": 0.004}, "by 0.4 % only"),
        ({"latent": math.nan}, "latent was not a finite number at step 8."),
    ],
)
def test_what_asks_for_a_look_is_said_once(figures: dict[str, float], words: str) -> None:
    stage = StageLog("a", Path("a"), figures={name: [(8, value)] for name, value in figures.items()})
    (said,) = findings(stage)
    assert words in said
    good = {
        "d_real": 0.5,
        "d_fake": -0.5,
        "saturated": 0.3,
        "ratio": 1.0,
        "delta_w": -0.1,
        "stopped": 0.0,
        "guidance": 0.02,
    }
    assert findings(StageLog("a", Path("a"), figures={name: [(8, value)] for name, value in good.items()})) == []


def test_numbers_are_readable() -> None:
    assert [duration(h) for h in (2.25, 0.5, 0.001)] == ["2.2 h", "30 min", "3.6 s"]
    assert [percent(p) for p in (0, 0.25, 0.00031, 2e-7)] == ["0.0 %", "25.0 %", "0.03 %", "less than 0.01 %"]
    assert [quantity(q) for q in (12345.6, 0.04567, 99.0)] == ["12 346", "0.0457", "99"]
