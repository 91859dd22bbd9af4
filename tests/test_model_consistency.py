"""What is taken off an output so that it agrees with its LR."""

from __future__ import annotations

import pytest
import torch

from duovsr_vs.model.codec import from_latent_grid, to_latent_grid
from duovsr_vs.model.consistency import LOW_PASS_REACH, REACH, low_pass, low_pass_weights, to_take_off
from duovsr_vs.model.resample import CONSISTENCY_REACH, consistency, pad_edges


def mismatch(seed: int, h: int = 24, w: int = 30) -> torch.Tensor:
    """(1 12 h w) noise with a colour cast."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 12, h, w, generator=generator) + torch.tensor([1.0, -2.0, 3.0]).repeat(4)[:, None, None]


def left_over(r: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """r − A·q on LR pixels: what the output still misses."""
    return from_latent_grid(r) - consistency(pad_edges(q, *([CONSISTENCY_REACH] * 4)))


def test_with_full_weight_two_back_projections_remain() -> None:
    r = mismatch(0)
    q = to_take_off(r, torch.ones(1, 1, 24, 30))
    once = left_over(r, from_latent_grid(r))
    assert torch.allclose(q, from_latent_grid(r) + once, atol=1e-5)
    assert left_over(r, q).square().mean() < once.square().mean() < r.square().mean()


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.8])
def test_colours_agree_whatever_the_weight(weight: float) -> None:
    r = mismatch(1)
    after = left_over(r, to_take_off(r, torch.full((1, 1, 24, 30), weight)))
    before = from_latent_grid(r).mean(dim=(2, 3)).abs()
    assert (after.mean(dim=(2, 3)).abs() < 0.02 * before).all()


def test_without_weight_only_low_frequencies_are_taken_off() -> None:
    ramp = torch.linspace(-1, 1, 30).expand(1, 3, 24, 30)
    checks = torch.ones(1, 3, 48, 60)
    checks[..., ::2] = -1
    nothing = torch.zeros(1, 1, 24, 30)
    fine = to_take_off(to_latent_grid(checks), nothing)
    slow = to_take_off(to_latent_grid(ramp.repeat_interleave(2, -1).repeat_interleave(2, -2)), nothing)
    assert fine.abs().max() < 1e-6
    assert (slow - ramp.repeat_interleave(2, -1).repeat_interleave(2, -2)).abs().max() < 0.12


def test_the_low_pass_keeps_constants_and_reaches_no_further_than_it_says() -> None:
    assert sum(low_pass_weights()) == pytest.approx(1)
    assert torch.allclose(low_pass(torch.full((1, 3, 9, 9), 0.7)), torch.full((1, 3, 9, 9), 0.7))
    r = mismatch(2)
    changed = r.clone()
    changed[..., :, :3] += 5
    kappa = torch.rand(1, 1, 24, 30, generator=torch.Generator().manual_seed(3))
    same = to_take_off(changed, kappa) == to_take_off(r, kappa)
    assert LOW_PASS_REACH < REACH
    assert same[..., 2 * (3 + REACH) :].all() and not same[..., : 2 * 3].all()
