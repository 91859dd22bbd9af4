"""The flow's algebra: every form of it says the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from duovsr_vs.model import flow

TIMES = [0.01, 0.25, 0.5, 0.9, 1.0]


@pytest.fixture
def latents() -> tuple[Tensor, Tensor]:
    """z0 and noise, (3 2 8 4 5)."""
    source = torch.Generator().manual_seed(0)
    z0, noise = torch.randn(2, 3, 2, 8, 4, 5, generator=source, dtype=torch.float64)
    return z0, noise


def times(t: float) -> Tensor:
    """One time per sample, three different ones around t."""
    return torch.tensor([t, max(t - 0.004, 0.002), t], dtype=torch.float64)


def test_the_path_runs_from_data_to_noise(latents: tuple[Tensor, Tensor]) -> None:
    z0, noise = latents
    assert torch.equal(flow.interpolate(z0, noise, torch.zeros(3)), z0)
    assert torch.equal(flow.interpolate(z0, noise, torch.ones(3)), noise)


@pytest.mark.parametrize("t", TIMES)
def test_x0_from_velocity_finds_z0(latents: tuple[Tensor, Tensor], t: float) -> None:
    z0, noise = latents
    z_t = flow.interpolate(z0, noise, times(t))
    torch.testing.assert_close(flow.x0_from_velocity(z_t, flow.velocity(z0, noise), times(t)), z0)


@pytest.mark.parametrize("t", TIMES)
def test_velocity_from_x0_is_its_inverse(latents: tuple[Tensor, Tensor], t: float) -> None:
    z0, noise = latents
    z_t, v = flow.interpolate(z0, noise, times(t)), flow.velocity(z0, noise)
    torch.testing.assert_close(flow.velocity_from_x0(z_t, z0, times(t)), v)
    torch.testing.assert_close(flow.velocity_from_x0(z_t, flow.x0_from_velocity(z_t, v, times(t)), times(t)), v)


def test_velocity_stays_finite_at_the_clean_end(latents: tuple[Tensor, Tensor]) -> None:
    z0, noise = latents
    assert bool(torch.isfinite(flow.velocity_from_x0(z0 + 1e-3 * noise, z0, torch.zeros(3))).all())


@pytest.mark.parametrize("t", TIMES)
def test_velocity_is_the_slope_of_the_path(latents: tuple[Tensor, Tensor], t: float) -> None:
    z0, noise = latents
    h = 1e-3
    slope = (flow.interpolate(z0, noise, times(t) + h) - flow.interpolate(z0, noise, times(t) - h)) / (2 * h)
    torch.testing.assert_close(slope, flow.velocity(z0, noise))


@pytest.mark.parametrize("t", TIMES)
def test_scaled_input_has_deviation_one(t: float) -> None:
    """c_in² · ((1 − t)² σ² + t²) = 1 for σ = 1."""
    (scale,) = flow.input_scale(torch.tensor([t], dtype=torch.float64))
    assert float(scale**2 * ((1 - t) ** 2 + t**2)) == pytest.approx(1)


@pytest.mark.parametrize("t", TIMES)
def test_the_best_prediction_has_deviation_one_and_gives_z0_back(latents: tuple[Tensor, Tensor], t: float) -> None:
    """F = (x̂0 − (1 − t)/d·z_t)·√d/t solves the preconditioning; for x̂0 = z0 it is ((t·z0 − (1 − t)·ε))/√d."""
    z0, noise = latents
    at = torch.full((3,), t, dtype=torch.float64)
    best = (t * z0 - (1 - t) * noise) / ((1 - t) ** 2 + t**2) ** 0.5
    torch.testing.assert_close(flow.precondition(flow.interpolate(z0, noise, at), best, at), z0)
    assert float(best.std()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("t", TIMES)
def test_the_error_weight_turns_an_error_of_x0_into_one_of_the_prediction(
    latents: tuple[Tensor, Tensor], t: float
) -> None:
    z_t, error = latents
    at = torch.full((3,), t, dtype=torch.float64)
    off = flow.precondition(z_t, error, at) - flow.precondition(z_t, torch.zeros_like(error), at)
    torch.testing.assert_close(off * flow.expand(flow.error_weight(at), off), error)


def test_at_noise_the_prediction_is_x0(latents: tuple[Tensor, Tensor]) -> None:
    """One step from t = 1 neither scales nor adds anything: what the engine relies on."""
    noise, prediction = latents
    one = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(flow.precondition(noise, prediction, one), prediction)
    assert torch.equal(flow.input_scale(one), one)


@pytest.mark.parametrize("shift", [1.0, 3.0, 8.0])
def test_the_grid_falls_from_one_to_zero(shift: float) -> None:
    grid = flow.time_grid(8, shift)
    assert grid.shape == (9,)
    assert (float(grid[0]), float(grid[-1])) == (1, 0)
    assert bool((grid[1:] < grid[:-1]).all())
    assert float(grid[4]) == pytest.approx(shift / (1 + shift))
