"""The preference stage's verdict: whether the ranking prefers its result on held-out clips, and that it can say no."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from training_files import make_pack, weights

from training.data.dataset import PackedClips
from training.models import Model
from training.preference.groups import Contest, Judging, Makers
from training.preference.held_out import ROUND, in_words, verdict
from training.presets import SMOKE
from training.stage_recipes import PreferenceRecipe
from training.stages.base import build
from training.stages.dual_stream import blend
from training.stages.preference import Preference
from training.watch import Watcher

pytestmark = pytest.mark.usefixtures("trainer_alone")

RECIPE = replace(
    SMOKE,
    bf16=False,
    preference=PreferenceRecipe(
        steps=4, learning_rate=1e-4, batch=2, patch=16, pairs=5, candidates=4, rank_model=0.0, rank_niqe=0.0,
        rank_logit=0.0, rank_warp=0.0,
    ),
)  # fmt: skip
"""SSIMULACRA2 alone ranks."""
MILD = blend(weights(1), weights(2), 0.3)
WILD = {name: 10 * tensor if name == "network.out.weight" else tensor for name, tensor in MILD.items()}
"""Ten times the detail, none of it asked for."""


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> PackedClips:
    return PackedClips(make_pack(tmp_path_factory.mktemp("films")), "val")


def student(of: dict[str, object]) -> Model:
    return build(RECIPE, of, train=False)  # type: ignore[arg-type]


def contests(held: PackedClips, before: Model, after: Model) -> list[Contest]:
    return list(Judging.of(RECIPE, held, ROUND).contests(Makers(sources=[before]), after))


def test_a_student_beside_itself_gains_exactly_nothing(held: PackedClips) -> None:
    found = contests(held, student(MILD), student(MILD))
    assert len(found) == RECIPE.preference.pairs
    assert all(each.gain == 0 and each.ruled_out[0] == each.ruled_out[1] for each in found)


def test_a_worse_student_loses_on_every_sample_and_the_better_one_wins(held: PackedClips) -> None:
    assert all(each.gain < 0 for each in contests(held, student(MILD), student(WILD)))
    assert all(each.gain > 0 for each in contests(held, student(WILD), student(MILD)))


def test_the_same_question_has_the_same_answer(held: PackedClips) -> None:
    assert contests(held, student(MILD), student(WILD)) == contests(held, student(MILD), student(WILD))


def test_scores_are_bounded_and_the_rival_changes_no_veto_of_the_other(held: PackedClips) -> None:
    found = contests(held, student(MILD), student(WILD))
    most = 2 * RECIPE.preference.candidates**0.5  # z of one among k + 1 is √k at most
    assert all(abs(each.gain) < most for each in found)
    itself = contests(held, student(MILD), student(MILD))
    assert [each.ruled_out[0] for each in found] == [each.ruled_out[0] for each in itself]


def test_the_sentence_says_gain_interval_share_and_vetoes() -> None:
    gains = (1.0, 0.5, -0.5, 1.0, 0.5, 0.5, 1.0, 0.0)
    found = [Contest(f"film {n}", gain, (n == 2, n > 5)) for n, gain in enumerate(gains)]
    text = in_words(found)
    assert text.startswith("on 8 samples of 8 held-out films the ranking gives the result +0.50 [+0.")
    assert "more on 75%; vetoes take out 2, of what it began with 1" in text


def test_samples_of_one_film_do_not_make_an_interval() -> None:
    text = in_words([Contest("the same", 0.5, (False, False))] * 20)
    assert "20 samples of 1 held-out films" in text and "+0.50 (too few for an interval)" in text


def test_clips_that_do_not_serve_are_a_sentence_and_no_end_of_the_run(held: PackedClips) -> None:
    large = replace(RECIPE, preference=replace(RECIPE.preference, patch=64))
    text = verdict(large, held, Makers(sources=[student(MILD)]), student(MILD))
    assert text.startswith("the ranking was not asked about held-out clips: a patch of 64 LR pixels does not fit")
    rare = replace(RECIPE, lr_kinds={"realbasicvsr": 1.0})  # drawn of clips to train on, not stored of those held out
    assert verdict(rare, held, Makers(sources=[student(MILD)]), student(MILD)).startswith("on 5 samples of ")


def test_soft_clips_are_named_as_the_reason_why_there_is_no_verdict(
    held: PackedClips, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft = [replace(clip, row=replace(clip.row, soft=True)) for clip in held._clips]
    monkeypatch.setattr(held, "_clips", soft)
    text = verdict(RECIPE, held, Makers(sources=[student(MILD)]), student(MILD))
    assert text == "the ranking was not asked about held-out clips: all 20 samples are soft; pack sharper films"


def test_the_stage_asks_its_own_ranking_about_what_it_began_with(held: PackedClips, tmp_path: Path) -> None:
    stage = Preference(RECIPE, {"dual_stream": MILD})
    stage.prepare(held, tmp_path / "preference")
    assert "the result +0.00" in stage.verdict(student(MILD), held)
    assert "the result -" in stage.verdict(student(WILD), held)


def test_a_stage_that_is_measured_again_has_one_verdict_in_its_log(tmp_path: Path) -> None:
    for first in (0, 4):
        watcher = Watcher(tmp_path, "preference", first, 4, say=lambda _: None)
        watcher.figures(4, {"preference": 0.6}) if first == 0 else None
        watcher.verdict(4, "the ranking likes it")
        watcher.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["verdict"] for line in lines if "verdict" in line] == ["the ranking likes it"]
