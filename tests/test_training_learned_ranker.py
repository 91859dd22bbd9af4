"""The ranker that learns from the order of degradations: what it is shown, what it is told, and that it learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data_clips import film
from training_files import SMOKE, make_pack

from training.data.dataset import PackedClips
from training.distributed import CPU
from training.preference import learned
from training.preference.learned import (
    LEVELS,
    SPOILINGS,
    Ranker,
    ladder,
    ladders,
    ranker_of,
    ranking_loss,
    train_ranker,
)

pytestmark = pytest.mark.usefixtures("trainer_alone")


@pytest.mark.parametrize("how", SPOILINGS)
def test_each_step_down_a_ladder_is_farther_from_the_best(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "SPOILINGS", (how,))
    picture = film(1, 96, 96, seed=3)[0]
    lr = picture.reshape(24, 4, 24, 4, 3).mean((1, 3)).round().astype(np.uint8)
    for seed in range(4):
        versions = ladder(picture, lr, np.random.default_rng(seed)).astype(float)
        away = [float(np.abs(v - versions[0]).mean()) for v in versions]
        assert len(away) == LEVELS and away == sorted(away) and away[1] > 0


def test_the_loss_is_that_of_pairs_in_the_wrong_order_or_nearly() -> None:
    right, wrong = torch.tensor([[3.0, 1.5, 0.0]]), torch.tensor([[0.0, 1.5, 3.0]])
    assert [float(x) for x in ranking_loss(right)] == [0, 1]
    assert [float(x) for x in ranking_loss(wrong)] == [(2.5 + 4 + 2.5) / 3, 0]
    assert [float(x) for x in ranking_loss(torch.tensor([[0.5, 0.0]]))] == [0.5, 1]


def test_it_learns_an_order_and_keeps_it_on_films_it_has_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learned, "SPOILINGS", ("noise",))
    packed = make_pack(tmp_path)
    recipe = replace(SMOKE, preference=replace(SMOKE.preference, ranker_updates=24, patch=16))
    ranker, _ = train_ranker(PackedClips(packed, "train"), recipe, CPU)
    pictures = torch.cat([ladders(PackedClips(packed, "val"), recipe, update) for update in range(4)])
    _, share = ranking_loss(ranker(pictures.flatten(0, 1)).reshape(pictures.shape[:2]))
    assert share > 0.9
    path = tmp_path / "ranker.safetensors"
    first = ranker_of(path, PackedClips(packed, "train"), recipe, "a run", CPU)
    written = path.stat().st_mtime_ns
    again = ranker_of(path, PackedClips(packed, "train"), recipe, "a run", CPU)
    assert path.stat().st_mtime_ns == written
    clip = film(2, 64, 64, seed=1)
    assert first.scores([clip]) == again.scores([clip]) == ranker.scores([clip]) != Ranker().scores([clip])
