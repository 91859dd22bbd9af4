"""Regression, teacher and Stage I: what each stage's network is given, what it is drawn to, and that it resumes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from training_files import SMOKE, batches, copy_of, listen, one_batch, recipe, run, same, stage, times_of, weights

from duovsr_vs.model import flow
from duovsr_vs.model.config import NULL_CLASS
from training.batch import SOFT_CLASS, Batch, noise_for, soften, uniform
from training.stages.base import build
from training.stages.guided import Guided
from training.stages.progressive import Progressive
from training.stages.teacher import Teacher

pytestmark = pytest.mark.usefixtures("trainer_alone")


def test_noise_is_equal_for_frames_and_its_own_for_every_sample_and_name() -> None:
    batch = replace(one_batch(), z0=torch.zeros(3, 4, 5, 6, 7), slots=range(3))
    noise = noise_for(batch, 1, "teacher", 2)
    assert all(torch.equal(noise[:, 0], noise[:, n]) for n in range(4)) and not torch.equal(noise[0], noise[1])
    torch.manual_seed(99)
    assert torch.equal(noise, noise_for(batch, 1, "teacher", 2))
    for seed, *names in ((2, "teacher", 2), (1, "teacher", 3), (1, "guided", 2), (1, "teacher"), (1, "teacher", "2")):
        assert not torch.equal(noise, noise_for(batch, seed, *names))
    assert noise.mean().abs() < 0.1 and 0.9 < noise.std() < 1.1


def test_a_draw_belongs_to_its_slot_so_that_ranks_draw_what_one_process_would() -> None:
    batch = replace(one_batch(), z0=torch.zeros(4, 2, 5, 6, 7), slots=range(4))
    second = replace(batch, z0=batch.z0[2:], slots=range(2, 4))
    assert torch.equal(noise_for(batch, 0, "a")[2:], noise_for(second, 0, "a"))
    assert torch.equal(uniform(batch, 0, "a")[2:], uniform(second, 0, "a"))
    assert len(set(uniform(batch, 0, "a").tolist())) == 4


def test_softened_targets_are_labelled_and_dropped_labels_are_null() -> None:
    network = build(recipe())
    sharp = next(batches(network))
    soft = next(batches(network, soft=1.0))
    assert sharp.quality.tolist() == [network.config.best_class] * 2 and soft.quality.tolist() == [SOFT_CLASS] * 2
    assert next(batches(network, drop=1.0)).quality.tolist() == [NULL_CLASS] * 2
    assert torch.equal(soft.condition.features, sharp.condition.features)
    fine = slice(4, 16)  # luma beyond the lowest frequencies
    assert (
        soft.z0.unflatten(2, (4, 24))[:, :, :, fine].std() < 0.6 * sharp.z0.unflatten(2, (4, 24))[:, :, :, fine].std()
    )


def test_only_some_targets_are_softened_and_those_are_the_labelled_ones() -> None:
    network, seen = build(recipe()), set()
    for n in range(6):
        sharp, mixed = (next(batches(network, n, soft=share)) for share in (0.0, 0.5))
        for k, label in enumerate(mixed.quality.tolist()):
            assert torch.equal(sharp.z0[k], mixed.z0[k]) == (label == network.config.best_class)
            seen.add(label)
    assert seen == {SOFT_CLASS, network.config.best_class}


def test_a_target_belongs_to_a_clean_lr_if_nothing_but_shrinking_came_between() -> None:
    network = build(recipe())
    assert next(batches(network)).clean.tolist() == [1, 0]
    assert next(batches(network, soft=1.0)).clean.tolist() == [0, 0]


def test_softening_keeps_flat_pictures_and_sums() -> None:
    flat = torch.full((2, 2, 3, 16, 16), 0.3)
    torch.testing.assert_close(soften(flat, torch.tensor([0.9, 1.8])), flat)
    spot = torch.zeros(1, 1, 3, 21, 21)
    spot[..., 10, 10] = 1
    blurred = soften(spot, torch.tensor([1.5]))
    torch.testing.assert_close(blurred.sum((-1, -2)), torch.ones(1, 1, 3))
    torch.testing.assert_close(blurred, blurred.transpose(-1, -2))
    assert torch.equal(soften(spot, torch.tensor([0.0])), spot)


@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_the_teacher_is_given_shifted_times_between_zero_and_one(shift: float) -> None:
    work = stage("teacher", recipe(teacher={"shift": shift, "times": "uniform", "noise_only": 0.0}))
    times = times_of(work.student)
    run(work, 0, 4)
    assert all(t.dtype == torch.float32 and t.shape == (2,) and float(t.min()) > 0 for t in times)
    for step, t in enumerate(times):
        draw = uniform(one_batch(), work.seed, "teacher", "t", step)
        torch.testing.assert_close(t, 0.02 + 0.98 * flow.shift_time(draw, shift))


def test_logit_normal_times_are_the_sigmoid_of_a_normal() -> None:
    work = stage("teacher", recipe(teacher={"times": "logit_normal", "noise_only": 0.0}))
    assert isinstance(work, Teacher)
    t = torch.cat([work.times(step, one_batch()) for step in range(1000)])
    normal = torch.logit(((t - 0.02) / 0.98).clamp(1e-6, 1 - 1e-6))
    assert abs(float(normal.mean())) < 0.08 and float(normal.std()) == pytest.approx(1, abs=0.05)


def test_a_share_of_the_teachers_samples_is_pure_noise() -> None:
    work = stage("teacher", recipe(teacher={"noise_only": 1.0}))
    times, inputs = times_of(work.student), []
    listen(work.student.network.latent, lambda given: inputs.append(given[0].detach()))
    run(work, 0, 1)
    assert times[0].tolist() == [1, 1]
    noise = noise_for(one_batch(), work.seed, "teacher", 0)
    torch.testing.assert_close(inputs[0], noise.flatten(0, 1))


def test_the_regression_sees_one_step_from_noise_only() -> None:
    work = stage("regression")
    times = times_of(work.student)
    run(work, 0, 2)
    assert [t.tolist() for t in times] == [[1, 1]] * 2


@pytest.mark.parametrize("name", ["regression", "teacher", "progressive", "dual_stream"])
@pytest.mark.parametrize("term", ["temporal", "consistency", "structure"])
def test_losses_in_pixels_count_by_their_weight(name: str, term: str) -> None:
    batch = one_batch()
    found = []
    for weight in (0.0, 1.0, 2.0):
        work = stage(name, recipe(**{name: {"temporal": 0.0, "consistency": 0.0, "structure": 0.0, term: weight}}))
        loss, figures = work.pixel_terms(batch.z0 + 0.1 * noise_for(batch, 0, "test"), batch)
        found.append(float(loss))
        assert found[-1] == pytest.approx(weight * figures.get(term, 0.0))
        assert (figures.keys() == {term}) == (weight > 0)
    assert found[0] == 0 and found[2] == pytest.approx(2 * found[1])


# -- guidance ---------------------------------------------------------------------------------------------------


def noised(batch: Batch, t: torch.Tensor) -> torch.Tensor:
    return flow.interpolate(batch.z0, noise_for(batch, 0, "test"), t)


@pytest.mark.parametrize(("negative", "number"), [("null", NULL_CLASS), ("soft", SOFT_CLASS)])
def test_the_guided_target_pushes_away_from_the_negative_class(negative: str, number: int) -> None:
    work = stage("guided", recipe(guided={"guidance": 1.5, "negative": negative}))
    assert isinstance(work, Guided)
    batch, t = one_batch(), torch.tensor([0.3, 0.9])
    z_t = noised(batch, t)
    v_class, v_negative = (
        work.teacher.velocity(z_t, t, batch.condition, quality)
        for quality in (batch.quality, torch.full_like(batch.quality, number))
    )
    wanted = z_t - flow.expand(t, z_t) * (2.5 * v_class - 1.5 * v_negative)
    target, share = work.target(work.teacher, z_t, t, batch)
    torch.testing.assert_close(target, wanted)
    assert share == pytest.approx(float((v_class - v_negative).norm() / v_class.norm()), rel=1e-3)
    assert not torch.allclose(target, work.teacher.denoise(z_t, t, batch.condition, batch.quality), atol=1e-3)


def test_guidance_away_from_the_same_class_changes_nothing() -> None:
    work = stage("guided", recipe(guided={"guidance": 3.0, "negative": "soft"}))
    assert isinstance(work, Guided)
    batch, t = next(batches(work.student, soft=1.0)), torch.tensor([0.3, 0.9])
    z_t = noised(batch, t)
    alone = work.teacher.denoise(z_t, t, batch.condition, batch.quality)
    target, share = work.target(work.teacher, z_t, t, batch)
    torch.testing.assert_close(target, alone, atol=1e-5, rtol=1e-4)
    assert share == 0


def test_a_student_that_starts_as_the_teacher_has_only_guidance_to_learn() -> None:
    plain, guided = (stage("guided", recipe(guided={"guidance": w})) for w in (0.0, 9.0))
    first = [work.update(0, batches(work.student))["velocity"] for work in (plain, guided)]
    assert 100 * first[0] < first[1]


@pytest.mark.parametrize("name", ["guided", "progressive"])
def test_the_teacher_of_a_distillation_gets_no_gradient_and_stays_as_it_is(name: str) -> None:
    work = stage(name)
    assert isinstance(work, Guided | Progressive)
    before = copy_of(work.teacher.state_dict())
    run(work, 0, 2)
    assert same(work.teacher.state_dict(), before) and not work.teacher.training
    assert all(not p.requires_grad and p.grad is None for p in work.teacher.parameters())


# -- halving ----------------------------------------------------------------------------------------------------


def test_two_steps_of_the_teacher_become_their_length_weighted_mean() -> None:
    work = stage("progressive")
    assert isinstance(work, Progressive)
    batch = one_batch()
    times = torch.tensor([[1.0, 0.7], [0.75, 0.65], [0.2, 0.0]])  # steps of unequal length
    t, middle, end = times
    z_t = noised(batch, t)
    first = work.teacher.velocity(z_t, t, batch.condition, batch.quality)
    second = work.teacher.velocity(z_t + flow.expand(middle - t, z_t) * first, middle, batch.condition, batch.quality)
    share = flow.expand((t - middle) / (t - end), z_t)
    wanted = z_t - flow.expand(t, z_t) * (share * first + (1 - share) * second)
    torch.testing.assert_close(work.target(work.teacher, z_t, tuple(times), batch), wanted, atol=1e-5, rtol=1e-4)


def test_a_teacher_that_is_sure_of_the_clean_latent_hands_it_on() -> None:
    """Exact velocities lie on a straight line: x̂* is z0 whatever the grid."""
    work = stage("progressive")
    assert isinstance(work, Progressive)
    batch = one_batch()

    class Sure(type(work.teacher)):  # type: ignore[misc]
        def denoise(self, z_t: torch.Tensor, *rest: object) -> torch.Tensor:
            return batch.z0

    work.teacher.__class__ = Sure
    times = torch.tensor([[1.0, 0.7], [0.75, 0.65], [0.2, 0.0]])
    target = work.target(work.teacher, noised(batch, times[0]), tuple(times), batch)
    torch.testing.assert_close(target, batch.z0, atol=1e-4, rtol=1e-4)


def test_times_of_the_halving_are_points_of_the_shifted_grid_and_end_in_one_step() -> None:
    work = stage("progressive", recipe(progressive={"steps": 4, "start_steps": 8, "shift": 3.0}))
    assert isinstance(work, Progressive)
    student, teacher = times_of(work.student), times_of(work.teacher)
    run(work, 0, work.steps)
    assert [work.student_steps(n) for n in range(work.steps)] == [4] * 4 + [2] * 4 + [1] * 4
    for step, t in enumerate(student):
        grid = flow.time_grid(2 * work.student_steps(step), 3.0)
        where = [int((grid - value).abs().argmin()) for value in t]
        assert all(k % 2 == 0 for k in where) and torch.equal(grid[where], t)
        assert torch.equal(teacher[2 * step], t)
        assert torch.equal(teacher[2 * step + 1], grid[[k + 1 for k in where]])
    assert len({float(t) for pair in student[:4] for t in pair}) > 2
    assert all(t.tolist() == [1, 1] for t in student[-4:])


def test_after_a_round_the_averaged_student_is_student_and_teacher() -> None:
    work = stage("progressive", recipe(progressive={"steps": 3, "start_steps": 4, "learning_rate": 1e-2}))
    assert isinstance(work, Progressive)
    before = copy_of(work.teacher.state_dict())
    run(work, 0, 3)
    average = work.result()
    assert same(work.teacher.state_dict(), before) and not same(work.student.state_dict(), average)
    run(work, 3, 4)
    assert same(work.teacher.state_dict(), average)


# -- all stages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMOKE.stages[:5])
def test_a_stage_that_was_saved_goes_on_bit_for_bit(name: str) -> None:
    chosen = recipe(bf16=True, progressive={"steps": 2, "start_steps": 8})
    whole, later = stage(name, chosen), stage(name, chosen)
    run(whole, 0, 3)  # in the second round of the halving, which has another teacher
    later.load_state({key: tensor.clone().contiguous() for key, tensor in whole.state().items()})
    for work in (whole, later):
        run(work, 3, 5)
    assert same(whole.state(), later.state())


@pytest.mark.parametrize("name", SMOKE.stages[:5])
def test_the_average_is_handed_on_but_never_trained_with(name: str) -> None:
    chosen = recipe(progressive={"steps": 4})
    whole, other = stage(name, chosen), stage(name, chosen)
    for work in (whole, other):
        run(work, 0, 1)
    with torch.no_grad():
        for who in other.learners.values():
            for average in who.average.values():
                average.add_(1)
    for work in (whole, other):
        run(work, 1, 3)
    assert same(whole.student.state_dict(), other.student.state_dict())
    assert not same(whole.result(), other.result())
    assert same(other.averaged().state_dict(), other.result())


@pytest.mark.parametrize("name", SMOKE.stages[:5])
def test_training_changes_every_weight_of_the_student_and_nothing_becomes_bfloat16(name: str) -> None:
    work = stage(name, recipe(bf16=True, progressive={"steps": 4}))
    before = copy_of(work.student.state_dict())
    run(work, 0, 3)  # a fresh network is silent: its first two updates reach only the last layers
    after = work.student.state_dict()
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    assert {tensor.dtype for tensor in work.state().values()} == {torch.float32}


def test_the_first_model_of_a_run_depends_on_its_seed_alone() -> None:
    torch.manual_seed(1)
    a = build(recipe()).state_dict()
    torch.manual_seed(2)
    assert same(a, build(recipe()).state_dict())
    assert same(build(recipe(), weights(3)).state_dict(), weights(3))
