"""The losses against their equations, and the algebra of the flow that they stand on."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from duovsr_vs.model import flow
from training import losses

pytestmark = pytest.mark.usefixtures("trainer_alone")

SHAPE = (3, 2, 4, 5, 6)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*(shape or SHAPE), generator=torch.Generator().manual_seed(seed))


# -- distribution matching --------------------------------------------------------------------------------------


def gaussian_denoiser(z: Tensor, t: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """E[x0 | z_t] where x0 ~ N(mean, deviation²)."""
    gain = (1 - t) * deviation**2 / ((1 - t) ** 2 * deviation**2 + t**2)
    return mean + gain * (z - (1 - t) * mean)


def match_a_gaussian(steps: int, flipped: bool) -> tuple[float, float]:
    """A student N(−1, 1.3²) is drawn towards N(2, 0.5²) with exact scores; returns its mean and deviation."""
    source = torch.Generator().manual_seed(0)
    mean, deviation = torch.tensor(-1.0, requires_grad=True), torch.tensor(1.3, requires_grad=True)
    optimizer = torch.optim.SGD([mean, deviation], lr=0.2)
    for _ in range(steps):
        x = mean + deviation * torch.randn(1, 256, 1, 1, 1, generator=source)
        t = 0.02 + 0.96 * torch.rand(1, 256, 1, 1, 1, generator=source)
        z = ((1 - t) * x + t * torch.randn(1, 256, 1, 1, 1, generator=source)).detach()
        x_real = gaussian_denoiser(z, t, torch.tensor(2.0), torch.tensor(0.5))
        x_fake = gaussian_denoiser(z, t, mean.detach(), deviation.detach())
        loss = losses.distribution_matching_loss(x, *((x_fake, x_real) if flipped else (x_real, x_fake)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(mean.detach()), float(deviation.detach())


def test_distribution_matching_brings_a_student_to_the_real_distribution() -> None:
    mean, deviation = match_a_gaussian(1500, flipped=False)
    assert mean == pytest.approx(2.0, abs=0.03) and deviation == pytest.approx(0.5, abs=0.03)


def test_the_other_sign_drives_it_away() -> None:
    assert match_a_gaussian(20, flipped=True)[0] < -3


def test_gradient_of_distribution_matching_is_the_normalised_difference() -> None:
    x, x_real, x_fake = normal(seed=1).requires_grad_(), normal(seed=2), normal(seed=3)
    losses.distribution_matching_loss(x, x_real, x_fake).backward()
    scale = (x.detach() - x_real).abs().flatten(1).mean(1).reshape(3, 1, 1, 1, 1)
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x.numel(), (x_fake - x_real) / scale)


def test_the_normaliser_is_one_number_per_sample_from_the_real_score() -> None:
    x, x_real = torch.zeros(2, 1, 3, 4, 4, requires_grad=True), torch.zeros(2, 1, 3, 4, 4)
    x_real[0], x_real[1] = 0.05, 5.0  # a fake score that is right leaves an error of 0.05 and of 5
    losses.distribution_matching_loss(x, x_real, x.detach()).backward()
    assert x.grad is not None
    sizes = x.grad.abs().flatten(1).mean(1) * x.numel()
    torch.testing.assert_close(sizes, torch.ones(2))


def test_neither_score_gets_a_gradient_from_distribution_matching() -> None:
    x, x_real, x_fake = (normal(seed=n).requires_grad_() for n in (1, 2, 3))
    losses.distribution_matching_loss(x, x_real, x_fake).backward()
    assert x_real.grad is None and x_fake.grad is None


def test_a_sample_that_is_right_already_and_a_score_that_is_not_a_number_give_no_gradient() -> None:
    x = normal(seed=1).requires_grad_()
    broken = x.detach() + 0.1
    broken[0, 0, 0, 0, 0] = torch.nan
    losses.distribution_matching_loss(x, x.detach(), x.detach()).backward()
    assert x.grad is not None and not x.grad.any()
    losses.distribution_matching_loss(x, x.detach() + 0.2, broken).backward()
    assert x.grad.isfinite().all() and not x.grad[0, 0, 0, 0, 0]


def test_difference_of_clean_estimates_is_that_of_velocities_times_t() -> None:
    z, v_real, v_fake = normal(seed=1), normal(seed=2), normal(seed=3)
    t = torch.tensor([0.1, 0.5, 0.9])
    difference = flow.x0_from_velocity(z, v_fake, t) - flow.x0_from_velocity(z, v_real, t)
    torch.testing.assert_close(difference, flow.expand(t, z) * (v_real - v_fake), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("t", [0.01, 0.5, 1.0])
def test_the_true_velocity_gives_the_clean_latent(t: float) -> None:
    z0, noise = normal(seed=1), normal(seed=2)
    times = torch.full((3,), t)
    z_t = flow.interpolate(z0, noise, times)
    torch.testing.assert_close(flow.x0_from_velocity(z_t, flow.velocity(z0, noise), times), z0, atol=1e-6, rtol=0)
    torch.testing.assert_close(flow.velocity_from_x0(z_t, z0, times), noise - z0, atol=1e-4, rtol=0)


# -- adversarial ------------------------------------------------------------------------------------------------


def test_logits_of_zero_cost_the_heads_two_and_the_student_nothing() -> None:
    zero = torch.zeros(7)
    assert losses.hinge_discriminator_loss(zero, zero) == 2 and losses.hinge_generator_loss(zero) == 0


def test_the_student_gains_where_the_heads_lose() -> None:
    low, high, real = torch.full((7,), -0.5), torch.full((7,), 0.5), torch.full((7,), 0.2)
    assert losses.hinge_generator_loss(high) < losses.hinge_generator_loss(low)
    assert losses.hinge_discriminator_loss(real, high) > losses.hinge_discriminator_loss(real, low)
    assert losses.hinge_discriminator_loss(real + 0.3, low) < losses.hinge_discriminator_loss(real, low)


def test_logits_beyond_one_on_the_right_side_get_no_gradient() -> None:
    real, fake = torch.tensor([0.9, 1.1], requires_grad=True), torch.tensor([-0.9, -1.1], requires_grad=True)
    losses.hinge_discriminator_loss(real, fake).backward()
    assert real.grad is not None and fake.grad is not None
    assert real.grad.tolist() == [-0.5, 0] and fake.grad.tolist() == [0.5, 0]


def test_feature_matching_of_equal_features_is_zero_and_the_real_ones_are_targets() -> None:
    real = [normal(seed=1).requires_grad_(), normal(2, 3, seed=2).requires_grad_()]
    fake = [tap.detach().clone().requires_grad_() for tap in real]
    assert losses.feature_matching_loss(fake, real) == 0
    moved = [tap.detach() + 0.5 for tap in real]
    moved[0].requires_grad_()
    loss = losses.feature_matching_loss(moved, real)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(2 * 0.25) and moved[0].grad is not None
    assert all(tap.grad is None for tap in real)


# -- against the ground truth -----------------------------------------------------------------------------------


def test_charbonnier_is_a_square_near_zero_and_twice_the_size_far_out() -> None:
    small, large = torch.tensor([-0.02, 0.01, 0.02]), torch.tensor([-1e4, 1e3])
    torch.testing.assert_close(losses.charbonnier(small), small**2, rtol=2e-3, atol=1e-7)
    torch.testing.assert_close(losses.charbonnier(large), 2 * large.abs() - 2, rtol=1e-3, atol=0)


def test_latent_errors_count_by_energy_and_weight_inside_the_robust_function() -> None:
    x, target, energy, weight = normal(seed=1), normal(seed=2), torch.rand(4, 1, 1) + 0.5, torch.tensor([0.1, 1, 7])
    wanted = losses.charbonnier((x - target) * energy * weight.reshape(3, 1, 1, 1, 1)).mean()
    torch.testing.assert_close(losses.robust_latent_loss(x, target, energy, weight), wanted)
    assert losses.robust_latent_loss(target, target, energy, weight) == 0


def busy(seed: int = 6) -> Tensor:
    """Luma of two samples of two frames with contrast at every scale, (2 2 1 96 96) about 0.5."""
    parts = [F.interpolate(normal(4, 1, 96 // n, 96 // n, seed=seed + n), scale_factor=n) for n in (1, 2, 4, 8)]
    return 0.5 + 0.05 * torch.stack(parts).sum(0).reshape(2, 2, 1, 96, 96)


def test_structure_costs_nothing_where_pictures_are_equal_and_all_of_it_where_one_is_flat() -> None:
    truth, most = busy(), (sum(losses.STRUCTURE_MEAN) + sum(losses.STRUCTURE_WORST)) ** losses.STRUCTURE_POWER
    assert float(losses.structure_loss(truth, truth)) == pytest.approx(0, abs=0.02)
    assert 0.5 * most < float(losses.structure_loss(torch.full_like(truth, 0.5), truth)) < most


def test_structure_wants_the_contrast_of_the_truth_where_the_least_square_wants_less() -> None:
    """Half of what is seen is right: the mean square is least at less contrast, the loss of structure at all of it."""
    truth, wrong = busy(), busy(seed=70)
    seen = 0.5 + (truth - 0.5 + wrong - 0.5) / 2**0.5
    contrasts = torch.linspace(0.3, 1.5, 13)
    made = [0.5 + c * (seen - 0.5) for c in contrasts]
    by_structure = torch.stack([losses.structure_loss(x, truth) for x in made])
    by_square = torch.stack([(x - truth).square().mean() for x in made])
    assert float(contrasts[by_structure.argmin()]) == pytest.approx(1, abs=0.15)
    assert float(contrasts[by_square.argmin()]) == pytest.approx(0.7, abs=0.1)


def test_structure_is_a_mean_over_samples_and_small_pictures_have_fewer_scales() -> None:
    truth = busy()
    x = truth + 0.05 * normal(*truth.shape, seed=8)
    halves = [losses.structure_loss(x[n : n + 1], truth[n : n + 1]) for n in range(2)]
    torch.testing.assert_close(losses.structure_loss(x, truth), sum(halves) / 2)
    small = losses.structure_loss(x[..., :24, :24], truth[..., :24, :24])
    assert float(small) > 0 and small.isfinite()


def test_the_worst_places_count_more_than_the_same_error_spread_out() -> None:
    truth = busy()
    spread, heaped = truth.clone(), truth.clone()
    spread[..., ::4, ::4] = 0.5
    heaped[..., :24, :24] = 0.5  # as many pixels, side by side
    finest = [losses.frames_structure(z[:, 0], truth[:, 0]) for z in (spread, heaped)]
    assert float(finest[1].max()) > 2 * float(finest[0].max())


def moved_error(dx: int, dy: int) -> tuple[Tensor, Tensor, Tensor]:
    """An error that moves with its picture, the motion, and where the motion stays in the frame."""
    first = normal(2, 3, 12, 16, seed=4)
    second = torch.roll(first, (dy, dx), dims=(-2, -1))
    motion = torch.tensor([float(dx), float(dy)]).reshape(1, 1, 2, 1, 1).expand(2, 1, 2, 12, 16)
    rows, columns = torch.arange(12)[:, None] + dy, torch.arange(16) + dx
    inside = (rows >= 0) & (rows < 12) & (columns >= 0) & (columns < 16)
    return torch.stack((first, second), dim=1), motion, inside.float().expand(2, 1, 12, 16)


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (3, 1), (-2, 4), (5, -3)])
def test_an_error_that_moves_with_the_picture_costs_nothing_and_one_that_stays_does(dx: int, dy: int) -> None:
    error, motion, inside = moved_error(dx, dy)
    assert losses.temporal_loss(error, motion, inside) < 1e-3
    if dx or dy:
        stays = error[:, :1].expand(-1, 2, -1, -1, -1)
        assert losses.temporal_loss(stays, motion, inside) > 10


def test_flicker_costs_its_size_where_the_flow_holds() -> None:
    error, motion, inside = moved_error(3, 1)
    error[:, 1] += 0.1
    assert float(losses.temporal_loss(error, motion, inside)) == pytest.approx(20 * 0.1, rel=1e-3)
    error[..., :6] += 100 * normal(2, 2, 3, 12, 6)  # what the mask hides
    inside = inside.clone()
    inside[..., :6] = 0
    assert float(losses.temporal_loss(error, motion, inside)) == pytest.approx(20 * 0.1, rel=1e-3)
    assert losses.temporal_loss(error, motion, torch.zeros_like(inside)) == 0


def test_flicker_of_each_pair_of_neighbours_counts_and_samples_count_alike() -> None:
    error, motion, inside = moved_error(3, 1)
    third = torch.roll(error[:, 1:], (1, 3), dims=(-2, -1)) + 0.1
    three = torch.cat((error, third), dim=1), motion.repeat(1, 2, 1, 1, 1), inside.repeat(1, 2, 1, 1)
    assert float(losses.temporal_loss(*three)) == pytest.approx(20 * 0.05, rel=1e-3)
    halves = [losses.temporal_loss(*(part[n : n + 1] for part in three)) for n in range(2)]
    torch.testing.assert_close(losses.temporal_loss(*three), sum(halves) / 2)


def test_flicker_sends_its_gradient_to_both_frames() -> None:
    error, motion, inside = moved_error(2, 1)
    error = (error + 0.1 * normal(*error.shape, seed=5)).requires_grad_()
    losses.temporal_loss(error, motion, inside).backward()
    assert error.grad is not None and error.grad[:, 0].any() and error.grad[:, 1].any()


def test_only_samples_with_a_clean_lr_pay_for_what_their_shrunk_output_misses() -> None:
    mismatch, clean = normal(3, 2, 12, 4, 4), torch.tensor([1.0, 0.0, 1.0])
    mismatch[0], mismatch[2] = 0.02, -0.04
    mismatch.requires_grad_()
    loss = losses.consistency_loss(mismatch, clean)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(50 * (0.02 + 0.04) / 3)
    assert mismatch.grad is not None and [bool(g.any()) for g in mismatch.grad] == [True, False, True]
    assert losses.consistency_loss(mismatch.detach(), torch.zeros(3)) == 0


# -- velocities -------------------------------------------------------------------------------------------------


def test_guidance_extrapolates_with_coefficients_that_sum_to_one() -> None:
    a, b = normal(seed=1), normal(seed=2)
    torch.testing.assert_close(losses.guided_velocity(a, b, 1.5), 2.5 * a - 1.5 * b)
    torch.testing.assert_close(losses.guided_velocity(a, a, 7.5), a, atol=1e-5, rtol=1e-5)
    assert torch.equal(losses.guided_velocity(a, b, 0.0), a)


def test_the_target_of_a_distillation_gets_no_gradient() -> None:
    v, target = normal(seed=1).requires_grad_(), normal(seed=2).requires_grad_()
    losses.distillation_loss(v, target, torch.ones(1), torch.ones(v.shape[0])).backward()
    assert v.grad is not None and target.grad is None
