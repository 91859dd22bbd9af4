"""Stage III: how candidates differ, and what pairs hold."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from preference_files import HANDED, RECIPE, REGRESSION, begun, changed, equal_files
from safetensors.torch import load_file
from torch import Tensor
from training_files import make_pack, same, weights

from duovsr_vs.model.config import PRESETS
from training.batch import Batch, prepare, random_source
from training.checkpoints import TrainingError, read_facts, write_tensors
from training.data.dataset import PackedClips
from training.discriminator import Discriminator, default_taps
from training.preference.candidates import Variation, draw_variations, fresh_noise, make_candidates
from training.preference.groups import Judging
from training.preference.pairs import takes_truth
from training.preference.rounds import mark
from training.presets import SMOKE
from training.stages.base import build
from training.stages.preference import Preference

pytestmark = pytest.mark.usefixtures("trainer_alone")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> PackedClips:
    return PackedClips(make_pack(tmp_path_factory.mktemp("films")))


@pytest.fixture(scope="module")
def made(clips: PackedClips, trainer_alone: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage's folder with the pairs of RECIPE."""
    folder = tmp_path_factory.mktemp("run") / "preference"
    Preference(RECIPE, HANDED).prepare(clips, folder)
    return folder


@pytest.fixture
def work(clips: PackedClips, made: Path) -> Preference:
    """The stage before its first update."""
    return begun(RECIPE, clips, made)


# -- candidates -------------------------------------------------------------------------------------------------


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_candidates_differ_in_noise_gain_and_weights_within_the_recipes_ranges() -> None:
    settings = replace(RECIPE.preference, candidates=6, mixed=0.5)
    drawn = [draw_variations(settings, 3, stream(n)) for n in range(50)]
    assert all(v[0] == Variation() and [k.source > 0 for k in v] == [False] * 3 + [True] * 3 for v in drawn)
    every = [v for one in drawn for v in one[1:]]
    assert {v.source for v in every} == {0, 1, 2}
    for name, (low, high) in (("noise_scale", (0.5, 1.2)), ("gain", (0.85, 1.2))):
        values = [getattr(v, name) for v in every]
        assert low <= min(values) < low + 0.05 and high - 0.05 < max(values) <= high
    assert draw_variations(settings, 3, stream(7)) == drawn[7] != drawn[8]
    assert {v.source for v in draw_variations(settings, 1, stream())} == {0}


def test_a_candidate_is_the_output_of_its_weights_moved_along_the_line_from_the_regression() -> None:
    networks = [build(SMOKE, weights(n), train=False) for n in (2, 3)]
    regression = build(SMOKE, REGRESSION, train=False)
    sample = a_sample()
    noise = fresh_noise(sample, 3, stream())
    assert noise.shape == (3, *sample.z0.shape[1:]) and torch.equal(noise[:, 0], noise[:, 1])
    plan = [Variation(), Variation(1, 0.5, 1.2), Variation(0, 1.2, 0.85)]

    def output(k: int, network: int, scale: float) -> Tensor:
        return networks[network].generate(scale * noise[k : k + 1], sample.condition, sample.quality)

    own = [output(0, 0, 1.0), output(1, 1, 0.5), output(2, 0, 1.2)]
    centre = regression.generate(noise[:1], sample.condition, sample.quality)
    about_it = make_candidates(networks, regression, sample, plan, noise)
    about_zero = make_candidates(networks, None, sample, plan, noise)
    for k, gain in enumerate((1.0, 1.2, 0.85)):
        torch.testing.assert_close(about_it[k : k + 1], centre + gain * (own[k] - centre), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(about_zero[k : k + 1], gain * own[k], atol=1e-5, rtol=1e-5)


def a_sample() -> Batch:
    from training_files import arrays

    one = {name: values[:1] for name, values in arrays(0).items()}
    return prepare(build(SMOKE), one, 0, 0, 0.0, 0.0)


# -- pairs ------------------------------------------------------------------------------------------------------


def test_the_file_of_pairs_says_how_it_came_about(made: Path) -> None:
    path = made / "pairs-0.safetensors"
    tensors, facts = load_file(path), read_facts(path)
    count = json.loads(facts["pairs"])
    assert count > 2 and json.loads(facts["groups"]) == 6 and json.loads(facts["truth"]) == 1
    assert all(len(tensor) == count for tensor in tensors.values())
    assert tensors["lr"].dtype == torch.uint8 and tensors["lr"].shape[1:] == (4, 16, 16, 3)
    assert tensors["x_w"].shape == tensors["x_l"].shape == (count, 2, 96, 8, 8)
    assert tensors["scores"].shape == (count, 4) and int(tensors["truth"].sum()) == 1
    assert set(json.loads(facts["measures"])) == {"ssimulacra2", "e_warp"}  # frames too small for NIQE, no heads
    assert set(json.loads(facts["vetoed"])) == {"shrink", "colour", "flicker", "detail"}
    assert json.loads(facts["rerun_noise"])["ssimulacra2"] > 0 and json.loads(facts["gap"]) > 0
    assert [p.name for p in made.iterdir()] == ["pairs-0.safetensors"]


def test_pairs_hold_the_truth_or_the_best_and_always_the_worst(work: Preference, clips: PackedClips) -> None:
    assert work.rounds is not None
    judging, makers = Judging.of(RECIPE, clips, 0), work.rounds.makers(HANDED["dual_stream"])
    groups = list(judging.groups(makers))
    stored, pairs = load_file(work.rounds.path(0)), work.rounds.pairs(0)
    assert torch.equal(pairs.chosen(range(len(pairs))).made, (~stored["truth"]).float())
    lr = [group.arrays["lr"][0] for group in groups]
    for n, is_truth in enumerate(stored["truth"]):
        (k,) = (k for k in range(len(groups)) if np.array_equal(lr[k], stored["lr"][n].numpy()))
        assert bool(is_truth) == takes_truth(k, 0.25)
        winner = groups[k].truth if is_truth else groups[k].best
        assert torch.equal(stored["x_w"][n], winner[0]) and torch.equal(stored["x_l"][n], groups[k].worst[0])
        scores = groups[k].verdict.scores
        assert np.nanmax(scores) - np.nanmin(scores) == groups[k].verdict.gap > 0
    assert len({values.tobytes() for values in lr}) == len(lr)
    numbers = [number for number, _ in judging._samples()]
    for k in (0, 1):  # each sample has its own variations and noise
        sample = prepare(makers.sources[0], groups[k].arrays, 0, 0, 0.0, 0.0)
        source = random_source(RECIPE.seed, "preference", "candidates", 0, numbers[k])
        plan = draw_variations(RECIPE.preference, len(makers.sources), source)
        noise = fresh_noise(sample, len(plan) + 1, source)[:-1]
        latents = make_candidates(makers.sources, makers.regression, sample, plan, noise)
        torch.testing.assert_close(latents[groups[k].verdict.best][None], groups[k].best, atol=1e-5, rtol=1e-5)


def test_pairs_are_a_function_of_seed_settings_and_weights(clips: PackedClips, made: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    again = begun(RECIPE, clips, tmp_path / "again" / "preference")
    assert again.rounds is not None
    assert equal_files(again.rounds.path(0), made / "pairs-0.safetensors")
    first = load_file(made / "pairs-0.safetensors")
    other = begun(replace(changed(pairs=3, truth_share=1.0), seed=1), clips, tmp_path / "seed" / "preference")
    assert other.rounds is not None and not torch.equal(load_file(other.rounds.path(0))["lr"][:3], first["lr"][:3])


def test_pairs_that_are_there_are_kept_and_those_of_other_settings_made_anew(
    clips: PackedClips, made: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "preference"
    shutil.copytree(made, folder)
    before = (folder / "pairs-0.safetensors").stat().st_mtime_ns
    begun(RECIPE, clips, folder)
    assert (folder / "pairs-0.safetensors").stat().st_mtime_ns == before
    begun(changed(candidates=3, pairs=2, truth_share=1.0), clips, folder)
    assert load_file(folder / "pairs-0.safetensors")["scores"].shape == (2, 3)


def test_pairs_serve_again_unless_something_that_made_them_has_changed(clips: PackedClips, tmp_path: Path) -> None:
    first = mark(RECIPE, HANDED, [], clips)
    for same_pairs in (changed(beta=10.0), changed(learning_rate=1e-6, steps=9, anchor=0.0)):
        assert mark(same_pairs, HANDED, [], clips) == first
    late = tmp_path / "late"
    late.write_bytes(b"weights")
    other_weights = {**HANDED, "dual_stream": weights(3)}
    others = [mark(RECIPE, other_weights, [], clips), mark(RECIPE, HANDED, [late], clips)]
    recipes = [changed(mixed=0.25), changed(rank_niqe=0.3), changed(patch=24), changed(latent_gain=(1.0, 1.2))]
    recipes += [replace(RECIPE, seed=1), replace(RECIPE, video_share=0.1), replace(RECIPE, lr_kinds={"clean": 1.0})]
    others += [mark(recipe, HANDED, [], clips) for recipe in recipes]
    assert len({first, *others}) == 1 + len(others)


def test_the_share_of_the_truth_is_exact_and_spread() -> None:
    for share in (0.0, 0.25, 0.3, 1.0):
        taken = [takes_truth(n, share) for n in range(40)]
        assert sum(taken) == 40 * share
        gaps = [b - a for a, b in pairwise([n for n, one in enumerate(taken) if one])]
        assert not gaps or max(gaps) - min(gaps) <= 1


def test_soft_clips_are_left_out(clips: PackedClips) -> None:
    judging = Judging.of(RECIPE, clips, 0)
    samples = [arrays for _, arrays in judging._samples()]
    assert len(samples) == 6 and not any(arrays["soft"][0] for arrays in samples)
    assert judging.soft == 0 or any(row.soft for row in clips.rows)


def test_every_pair_is_used_once_before_any_is_used_again(work: Preference) -> None:
    assert work.rounds is not None
    pairs = work.rounds.pairs(0)
    count = len(pairs)
    order = pairs.order(0, 0, 3 * count)
    assert all(sorted(order[n : n + count]) == list(range(count)) for n in (0, count, 2 * count))
    assert pairs.order(0, 4, 5) == order[4:9] and order[:count] != order[count : 2 * count]
    taken: list[str] = []
    for step in range(count):
        work.pairs_for(step)
        taken += work.names
    assert taken == [f"pair {n} of pairs-0.safetensors" for n in order[: 2 * count]]


def test_no_pair_at_all_is_one_sentence(clips: PackedClips, tmp_path: Path) -> None:
    same_all = changed(
        truth_share=0.0, mixed=0.0, noise_scale=(1.0, 1.0), latent_gain=(1.0, 1.0), pairs=2, candidates=2
    )
    with pytest.raises(TrainingError, match=r"none shows a preference beyond .* widen noise_scale") as refused:
        begun(same_all, clips, tmp_path / "preference")
    assert "\n" not in str(refused.value) and not list(tmp_path.glob("*/*"))


def test_late_checkpoints_and_the_heads_of_stage_two_are_asked_if_they_are_there(
    clips: PackedClips, tmp_path: Path
) -> None:
    config, stage_two = PRESETS["tiny"], tmp_path / "dual_stream"
    stage_two.mkdir()
    heads = Discriminator(config.channels, default_taps(config.blocks), RECIPE.dual_stream.taps)
    parts = {"heads": heads.state_dict(), "fake": weights(4), "real": weights(5)}
    every = {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
    write_tensors(stage_two / "heads.safetensors", every, {})
    write_tensors(stage_two / "late-4.safetensors", weights(6), {})
    stage = begun(changed(pairs=2, truth_share=1.0), clips, tmp_path / "preference")
    assert stage.rounds is not None
    makers = stage.rounds.makers(HANDED["dual_stream"])
    assert len(makers.sources) == 3 and same(makers.sources[1].state_dict(), weights(6))
    assert makers.judge is not None and same(makers.judge.fake.state_dict(), weights(4))
    assert "logit" in json.loads(read_facts(stage.rounds.path(0))["measures"])
    sample = a_sample()
    latents = torch.cat([sample.z0, 0.5 * sample.z0])
    noise = fresh_noise(sample, 1, stream())
    both = makers.judge.logits(latents, noise, sample)
    assert both[1:] == makers.judge.logits(latents[1:], noise, sample) and both[0] != both[1]
