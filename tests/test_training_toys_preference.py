"""Stage III's mathematics on a score that is known in closed form: what preferences alone do, and what the anchor adds.

The losses are the trainer's own; numbers said to be expected were measured over several seeds.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from toy_flows import Net, fit, latents, normal, one_step, source, uniform

from training.losses import anchor_loss, denoising_error, preference_loss

pytestmark = pytest.mark.usefixtures("trainer_alone")


def wish(y: Tensor) -> Tensor:
    """What the score likes most for an input, (b 1) -> (b 1 2 1 1)."""
    return latents(torch.cat([torch.sin(2 * y), torch.cos(3 * y)], dim=1))


def score(x: Tensor, y: Tensor) -> float:
    """−⟨‖x − wish‖²⟩."""
    return -float((x - wish(y)).square().flatten(1).sum(1).mean())


class Beginner(nn.Module):
    """Starts at G(ε, y) = wish(y) + (1, 0) + 0.7·ε, so that its score is −(1 + 2·0.7²) = −1.98."""

    def __init__(self) -> None:
        super().__init__()
        self.learned = Net(2, conditions=1)
        nn.init.zeros_(self.learned.layers[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.learned.layers[-1].bias)  # type: ignore[arg-type]

    def forward(self, z: Tensor, t: Tensor, y: Tensor) -> Tensor:
        v: Tensor = z - (wish(y) + latents(torch.tensor([[1.0, 0.0]])) + 0.7 * z) + self.learned(z, t, y)
        return v


class Pairs:
    """The best and the worst of six outputs for each of 256 inputs, with the noise that made them."""

    def __init__(self) -> None:
        random, self.reference = source(6), Beginner()
        self.y = uniform(256, -1, 1, random)[:, None]
        eps = [normal(256, 2, random) for _ in range(6)]
        with torch.no_grad():
            made = [one_step(self.reference, e, self.y) for e in eps]
        errors = torch.stack([(x - wish(self.y)).square().flatten(1).sum(1) for x in made])
        each, best, worst = torch.arange(256), errors.argmin(0), errors.argmax(0)
        self.winner, self.loser = (torch.stack(made)[which, each] for which in (best, worst))
        self.winner_noise, self.loser_noise = (torch.stack(eps)[which, each] for which in (best, worst))


def preference(student: nn.Module, pairs: Pairs, eps_winner: Tensor, eps_loser: Tensor, beta: float) -> Tensor:
    """Flow-DPO at t = 1 against the reference that the student started from."""
    t, change = torch.ones(256), []
    for x, eps in ((pairs.winner, eps_winner), (pairs.loser, eps_loser)):
        now, before = (denoising_error(net(eps, t, pairs.y), x, eps) for net in (student, pairs.reference))
        change.append(now - before.detach())
    return preference_loss(change[0], change[1], beta)


def prefer(beta: float, anchor: float) -> float:
    """Score for new inputs after 300 updates."""
    random, student, pairs = source(7), Beginner(), Pairs()

    def loss(step: int) -> Tensor:
        eps = normal(256, 2, random)
        preferred = preference(student, pairs, eps, eps, beta)
        return preferred + anchor * anchor_loss(one_step(student, eps, pairs.y), pairs.winner)

    fit(student, loss, 300, 5e-4)
    y = uniform(8192, -1, 1, source(94))[:, None]
    with torch.no_grad():
        return score(one_step(student, normal(8192, 2, source(93)), y), y)


def test_preference_raises_the_score_on_new_inputs_by_0_1_and_with_the_anchor_by_0_45() -> None:
    """From −1.98; β = 100. Expected −1.82 alone and better than −1.5 anchored; β = 1000 hardly moves."""
    alone, anchored, timid = prefer(100, 0), prefer(100, 1), prefer(1000, 0)
    assert alone > -1.88 and anchored > -1.53
    assert timid == pytest.approx(-1.98, abs=0.06) and timid < alone


def test_the_candidates_own_noise_gives_no_gradient_at_the_start_and_fresh_noise_does() -> None:
    """At t = 1 a network already gives exactly what its own noise became; the loss is ln 2 either way."""
    pairs, sizes = Pairs(), []
    fresh = normal(256, 2, source(8))
    for noises in ((pairs.winner_noise, pairs.loser_noise), (fresh, fresh)):
        student = Beginner()
        loss = preference(student, pairs, *noises, 100.0)
        loss.backward()  # type: ignore[no-untyped-call]
        assert float(loss.detach()) == pytest.approx(math.log(2), abs=1e-5)
        sizes.append(max(float(p.grad.abs().max()) for p in student.parameters() if p.grad is not None))
    assert sizes[0] < 1e-5 < 0.1 < sizes[1]


def test_the_preference_pulls_each_output_from_loser_to_winner_with_a_cosine_above_0_999() -> None:
    pairs, eps = Pairs(), normal(256, 2, source(9))
    x = one_step(pairs.reference, eps, pairs.y).detach().requires_grad_()
    errors = [denoising_error(eps - x, candidate, eps) for candidate in (pairs.winner, pairs.loser)]
    preference_loss(errors[0] - errors[0].detach(), errors[1] - errors[1].detach(), 100.0).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    wanted = (pairs.winner - pairs.loser).flatten(1)
    assert float(torch.cosine_similarity(-x.grad.flatten(1), wanted).min()) > 0.999


def test_the_preference_of_a_plain_shift_ends_where_the_closed_form_has_its_minimum() -> None:
    """G = G_ref + δ: the loss is −⟨log σ(β/d · δ·D)⟩ with D = x_w − x_l, so at its end ⟨σ(−β/d · δ·D)·D⟩ = 0.

    δ itself points against the bias (1, 0) of the reference, and stays finite: some losers lie on the good side.
    """
    pairs, delta, eps, beta = Pairs(), torch.zeros(1, 2, requires_grad=True), normal(256, 2, source(10)), 100.0
    start = one_step(pairs.reference, eps, pairs.y).detach()

    def loss() -> Tensor:
        change = []
        for candidate in (pairs.winner, pairs.loser):
            now, before = (denoising_error(eps - x, candidate, eps) for x in (start + latents(delta), start))
            change.append(now - before)
        return preference_loss(change[0], change[1], beta)

    optimizer = torch.optim.LBFGS([delta], max_iter=100, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def descend() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(descend)  # type: ignore[no-untyped-call]
    difference = (pairs.winner - pairs.loser).flatten(1)
    shift = delta.detach()
    push = (torch.sigmoid(-beta / 2 * difference @ shift.T) * difference).mean(0)
    assert float(push.norm()) < 1e-3 * float(difference.norm(dim=1).mean())
    assert -1 < float(shift[0, 0]) < -0.01
