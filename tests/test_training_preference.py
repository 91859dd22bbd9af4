"""Stage III: how candidates differ, what pairs hold, the traps of preference optimisation, and that it resumes."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from training_files import copy_of, count_gradients, listen, make_pack, same, times_of, weights

from duovsr_vs.model.config import PRESETS
from training.batch import Batch, noise_for, prepare, random_source
from training.checkpoints import TrainingError, read_facts, write_tensors
from training.data.dataset import PackedClips
from training.discriminator import Discriminator, default_taps
from training.losses import denoising_error, preference_loss
from training.preference.candidates import Variation, draw_variations, fresh_noise, make_candidates
from training.preference.groups import Judging
from training.preference.pairs import takes_truth
from training.preference.rounds import mark, round_of
from training.presets import SMOKE
from training.recipes import PreferenceRecipe, Recipe
from training.stages.base import Weights, build
from training.stages.dual_stream import blend
from training.stages.preference import Preference

pytestmark = pytest.mark.usefixtures("trainer_alone")

RECIPE = replace(
    SMOKE,
    bf16=False,
    preference=PreferenceRecipe(
        steps=6, learning_rate=1e-4, batch=2, patch=16, pairs=6, candidates=4, refresh=1.0, temporal=0.1, rank_model=0.0
    ),
)
REGRESSION = weights(1)
HANDED = {"regression": REGRESSION, "dual_stream": blend(REGRESSION, weights(2), 0.3)}


def changed(**fields: Any) -> Recipe:
    return replace(RECIPE, preference=replace(RECIPE.preference, **fields))


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


def begun(recipe: Recipe, clips: PackedClips, folder: Path) -> Preference:
    stage = Preference(recipe, HANDED)
    stage.prepare(clips, folder)
    return stage


def go(stage: Preference, first: int, last: int) -> list[dict[str, float]]:
    return [stage.update(step, iter(())) for step in range(first, last)]


def a_pair(stage: Preference) -> tuple[Batch, Tensor, Tensor, Tensor]:
    """A batch, fresh noise, and two outputs for it that differ."""
    batch, _ = stage.pairs_for(0)
    winner, loser = (
        stage.reference.generate(noise_for(batch, 0, name), batch.condition, batch.quality) for name in "wl"
    )
    return batch, noise_for(batch, 0, "fresh"), winner, loser


def gradient_of(stage: Preference, loss: Tensor) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, [*stage.student.parameters()])])


def loss_of(stage: Preference, winner: Tensor, loser: Tensor, noise: Tensor, batch: Batch) -> Tensor:
    t = torch.ones(len(batch.slots))
    delta_w, delta_l = (stage.difference(x, noise, t, batch) for x in (winner, loser))
    return preference_loss(delta_w, delta_l, 100.0)


def equal_files(a: Path, b: Path) -> bool:
    return same(load_file(a), load_file(b)) and read_facts(a) == read_facts(b)


# -- traps ------------------------------------------------------------------------------------------------------


def test_at_first_the_loss_is_ln_2_and_its_gradient_is_not_zero(clips: PackedClips, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "preference")
    alone = begun(changed(anchor=0.0, temporal=0.0), clips, tmp_path / "preference")
    (figures,) = go(alone, 0, 1)
    assert figures["preference"] == pytest.approx(math.log(2), abs=1e-7) and figures["gradient"] > 1e-3
    assert figures["delta_w"] == figures["delta_l"] == 0


def test_a_swapped_pair_flips_the_gradient(work: Preference) -> None:
    batch, noise, winner, loser = a_pair(work)
    forward = gradient_of(work, loss_of(work, winner, loser, noise, batch))
    swapped = gradient_of(work, loss_of(work, loser, winner, noise, batch))
    assert forward.norm() > 1e-3
    torch.testing.assert_close(swapped, -forward, rtol=1e-3, atol=1e-5)


def test_with_the_noise_that_made_a_candidate_there_would_be_no_gradient(work: Preference) -> None:
    batch, fresh, winner, _ = a_pair(work)
    t, own = torch.ones(2), noise_for(batch, 0, "w")
    still = gradient_of(work, work.errors(work.student, winner, own, t, batch).sum())
    moving = gradient_of(work, work.errors(work.student, winner, fresh, t, batch).sum())
    assert float(still.norm()) < 1e-4 * float(moving.norm())


def test_at_one_step_the_output_is_drawn_from_the_loser_to_the_winner(work: Preference) -> None:
    """One input for both, so the loss is a function of the output alone and its descent is e²·(x_w − x_l)."""
    batch, noise, winner, loser = a_pair(work)
    x0 = work.reference.generate(noise, batch.condition, batch.quality).requires_grad_()
    errors = [denoising_error(noise - x0, x, noise, work.energy) for x in (winner, loser)]
    (gradient,) = torch.autograd.grad(preference_loss(*(e - e.detach() for e in errors), 100.0), x0)
    wanted = (winner - loser) * work.energy.square()
    assert float(torch.cosine_similarity(-gradient.flatten(), wanted.flatten(), dim=0)) > 0.9999


def test_errors_are_means_inside_a_sample_and_the_loss_is_a_mean_over_pairs() -> None:
    source = torch.Generator().manual_seed(0)
    v, x, noise = (torch.randn(3, 2, 4, 5, 6, generator=source) for _ in range(3))
    error = denoising_error(v, x, noise)
    assert error.shape == (3,) and float(error[1]) == pytest.approx(float((v - noise + x)[1].square().mean()))
    winner, loser = torch.tensor([0.01, -0.02, 0.03]), torch.tensor([0.0, 0.01, -0.05])
    pairs = [float(preference_loss(winner[k : k + 1], loser[k : k + 1], 100.0)) for k in range(3)]
    assert float(preference_loss(winner, loser, 100.0)) == pytest.approx(sum(pairs) / 3)
    assert float(preference_loss(winner.mean(), loser.mean(), 100.0)) != pytest.approx(sum(pairs) / 3, rel=1e-2)
    sums = [float(preference_loss(240 * winner[:1], 240 * loser[:1], 100.0 / 240))]  # sums want β per element
    assert sums == pytest.approx(pairs[:1])


def test_the_student_starts_as_the_reference_which_is_what_stage_two_handed_on(work: Preference) -> None:
    assert same(work.student.state_dict(), HANDED["dual_stream"])
    assert same(work.reference.state_dict(), HANDED["dual_stream"])
    arrivals = count_gradients({"student": work.student, "reference": work.reference})
    go(work, 0, 3)
    assert same(work.reference.state_dict(), HANDED["dual_stream"]) and not work.reference.training
    assert not same(work.student.state_dict(), HANDED["dual_stream"]) and set(arrivals) == {"student"}
    assert not same(work.result(), work.student.state_dict())


def test_each_pair_has_one_time_and_one_noise_of_its_own(clips: PackedClips, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "preference")
    stage = begun(changed(at_one=0.0, low=0.9), clips, tmp_path / "preference")
    inputs: list[Tensor] = []
    listen(stage.reference.network.latent, lambda given: inputs.append(given[0].detach()))
    times = times_of(stage.student)
    batch, pair = stage.pairs_for(0)
    go(stage, 0, 1)
    assert torch.equal(times[0], times[1]) and times[0][0] != times[0][1] and float(times[0].min()) >= 0.9
    t = times[0].reshape(2, 1, 1, 1, 1)
    scale = torch.sqrt((1 - t) ** 2 + t**2)
    w, loser = (
        x.reshape(batch.z0.shape) * scale - (1 - t) * y
        for x, y in zip(inputs[:2], (pair.winner, pair.loser), strict=True)
    )
    torch.testing.assert_close(w / t, noise_for(batch, stage.seed, "preference", 0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(w, loser, atol=1e-4, rtol=1e-4)
    assert times[2].tolist() == [1, 1]  # the anchor


def test_most_pairs_are_at_one_step(work: Preference) -> None:
    batch, _ = work.pairs_for(0)
    drawn = torch.cat([work.times(batch, step) for step in range(400)])
    assert float((drawn == 1).float().mean()) == pytest.approx(0.8, abs=0.05)
    assert float(drawn.min()) >= 0.6 and float(drawn.min()) < 0.65


def test_winners_become_likelier_than_losers(clips: PackedClips, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "preference")
    stage = begun(changed(steps=60, learning_rate=3e-4, warmup=5, stop_after=61), clips, tmp_path / "preference")
    figures = go(stage, 0, 60)
    late = {name: np.mean([f[name] for f in figures[-15:]]) for name in figures[0]}
    assert late["delta_w"] < late["delta_l"] and late["accuracy"] > 0.8 and late["preference"] < 0.9 * math.log(2)
    batch, pair = stage.pairs_for(59)
    with torch.no_grad():
        winner, loser = (
            stage.difference(x, noise_for(batch, 0, "fresh"), torch.ones(2), batch) for x in (pair.winner, pair.loser)
        )
    assert float(winner.mean()) < float(loser.mean())


# -- anchor -----------------------------------------------------------------------------------------------------


def test_the_anchor_holds_at_outputs_and_not_at_the_truth(work: Preference) -> None:
    _, pair = work.pairs_for(0)
    x0 = torch.zeros_like(pair.winner)
    one = replace(pair, made=torch.tensor([1.0, 0.0]))
    wanted = (pair.winner[0] * work.energy).square().sum() / pair.winner.numel()
    torch.testing.assert_close(work.anchor(x0, one), wanted)
    assert work.anchor(x0, replace(pair, made=torch.zeros(2))) == 0


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


# -- new pairs in the middle, resuming --------------------------------------------------------------------------


def test_new_pairs_are_made_at_their_share_of_the_stage() -> None:
    settings = replace(RECIPE.preference, steps=6, refresh=0.5)
    assert [round_of(step, settings) for step in range(6)] == [0, 0, 0, 3, 3, 3]
    assert {round_of(step, replace(settings, refresh=1.0)) for step in range(6)} == {0}
    assert [round_of(step, replace(settings, refresh=0.01)) for step in range(3)] == [0, 1, 1]


HALF = changed(refresh=0.5, pairs=4, candidates=3, learning_rate=3e-3, warmup=0)


@pytest.fixture(scope="module")
def straight(clips: PackedClips, trainer_alone: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Weights]:
    """A folder and the end of a stage that was never stopped, with new pairs after three updates."""
    folder = tmp_path_factory.mktemp("whole") / "preference"
    stage = begun(HALF, clips, folder)
    go(stage, 0, 6)
    return folder, copy_of(stage.state())


@pytest.mark.parametrize("stops", [(2,), (3,), (1, 5)])
def test_a_stage_that_was_stopped_goes_on_bit_for_bit(
    stops: Sequence[int], clips: PackedClips, straight: tuple[Path, Weights], tmp_path: Path
) -> None:
    folder, state = tmp_path / "preference", None
    shutil.copytree(straight[0], folder)
    (folder / "pairs-3.safetensors").unlink()
    for first, last in pairwise((0, *stops, 6)):
        stage = Preference(HALF, HANDED)
        if state is not None:
            stage.load_state(state)
        stage.prepare(clips, folder)
        go(stage, first, last)
        state = copy_of(stage.state())
    assert state is not None and same(state, straight[1])
    for name in ("pairs-0.safetensors", "pairs-3.safetensors"):
        assert equal_files(folder / name, straight[0] / name)


def test_new_pairs_come_from_the_student_of_then_and_from_other_samples(straight: tuple[Path, Weights]) -> None:
    facts = [read_facts(straight[0] / f"pairs-{n}.safetensors") for n in (0, 3)]
    assert facts[0]["student"] != facts[1]["student"] and facts[0]["run"] == facts[1]["run"]
    lr = [load_file(straight[0] / f"pairs-{n}.safetensors")["lr"] for n in (0, 3)]
    assert not any(torch.equal(a, b) for a in lr[0] for b in lr[1])


@pytest.mark.parametrize("gone", [True, False])
def test_pairs_that_cannot_be_made_again_are_told(
    gone: bool, clips: PackedClips, straight: tuple[Path, Weights], tmp_path: Path
) -> None:
    folder = tmp_path / "preference"
    shutil.copytree(straight[0], folder)
    path = folder / "pairs-3.safetensors"
    if gone:
        path.unlink()
    else:
        write_tensors(path, load_file(path), read_facts(path) | {"run": "another"})
    stage = begun(HALF, clips, folder)
    with pytest.raises(
        TrainingError, match=r"pairs-3\.safetensors is missing or .* the stage then starts anew"
    ) as told:
        go(stage, 4, 5)
    assert "\n" not in str(told.value)


# -- early stop -------------------------------------------------------------------------------------------------


def losing(clips: PackedClips, made: Path, tmp_path: Path) -> Preference:
    """A stage whose student has been spoilt: worse at winners than the reference for good."""
    if not (tmp_path / "preference").exists():
        shutil.copytree(made, tmp_path / "preference")
    stage = begun(changed(stop_after=3, learning_rate=1e-6), clips, tmp_path / "preference")
    with torch.no_grad():
        stage.student.network.out.weight.mul_(1.5)
    return stage


def test_a_student_that_forgets_winners_is_stopped_and_hands_on_what_it_was_before(
    clips: PackedClips, made: Path, tmp_path: Path
) -> None:
    stage = losing(clips, made, tmp_path)
    figures = go(stage, 0, 4)
    assert all(f["delta_w"] > 0 for f in figures[:3])
    assert [f["stopped"] for f in figures] == [0, 0, 1, 1] and stage.finished and list(figures[3]) == ["stopped"]
    assert same(stage.result(), HANDED["dual_stream"])
    state = copy_of(stage.state())
    go(stage, 4, 6)
    assert same(stage.state(), state)


def test_the_count_and_the_weights_of_before_survive_a_stop_of_the_run(
    clips: PackedClips, made: Path, tmp_path: Path
) -> None:
    first = losing(clips, made, tmp_path)
    with torch.no_grad():
        first.learners["student"].average["network.out.weight"].add_(1)
    before = copy_of(first.result())
    go(first, 0, 2)
    later = begun(changed(stop_after=3, learning_rate=1e-6), clips, tmp_path / "preference")
    later.load_state(copy_of(first.state()))
    (figures,) = go(later, 2, 3)
    assert figures["stopped"] == 1 and same(later.result(), before)


def test_one_good_update_begins_the_count_anew(work: Preference) -> None:
    average = work.learners["student"].average
    for delta in (1.0, 1.0, 0.0, 1.0):
        with torch.no_grad():
            average["network.out.weight"].add_(1)
        work.count(delta)
    assert int(work.streak) == 1 and not work.finished
    assert torch.equal(work.before["network.out.weight"], average["network.out.weight"])


# -- what it needs ----------------------------------------------------------------------------------------------


def test_it_needs_stage_two_and_a_regression_where_there_is_one() -> None:
    assert Preference.needs_of(RECIPE) == ("regression", "dual_stream")
    paper = replace(RECIPE, stages=("teacher", "guided", "progressive", "dual_stream", "preference"))
    assert Preference.needs_of(paper) == ("dual_stream",)


def test_without_a_regression_candidates_are_made_of_the_student_alone(clips: PackedClips, tmp_path: Path) -> None:
    stage = Preference(changed(pairs=2, truth_share=1.0), {"dual_stream": HANDED["dual_stream"]})
    stage.prepare(clips, tmp_path / "preference")
    assert stage.rounds is not None
    makers = stage.rounds.makers(HANDED["dual_stream"])
    assert len(makers.sources) == 1 and makers.regression is None and makers.judge is None
    assert go(stage, 0, 1)[0]["gradient"] > 0
