"""Stage III: the traps of preference optimisation, new pairs in the middle, an early stop, and that it resumes."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from preference_files import HANDED, RECIPE, begun, changed, equal_files
from safetensors.torch import load_file
from torch import Tensor
from training_files import copy_of, count_gradients, listen, make_pack, same, times_of

from training.batch import Batch, noise_for
from training.checkpoints import TrainingError, read_facts, write_tensors
from training.data.dataset import PackedClips
from training.losses import denoising_error, preference_loss
from training.preference.rounds import round_of
from training.stages.base import Weights
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
