"""What one update changes, and that a learner that was saved goes on as if it had not been."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from training.learner import SMALLEST_RATE, Learner, rate

pytestmark = pytest.mark.usefixtures("trainer_alone")


def small_network(seed: int = 0) -> nn.Module:
    """Convolutions in the memory format of training, and a bias."""
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 3, padding=1))
    return layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def learner(network: nn.Module, **changes: float) -> Learner:
    settings = {"warmup": 1, "clip": 1e9, "ema": 0.9, **changes}
    return Learner(network, 1e-2, 100, **settings)  # type: ignore[arg-type]


def task(network: nn.Module, step: int) -> Tensor:
    """A loss that is a function of the step."""
    x = torch.randn(2, 8, 7, 9, generator=torch.Generator().manual_seed(step))
    loss: Tensor = (network(x) - x.flip(1)).square().mean()
    return loss


def values(network: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in network.parameters()]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def test_the_rate_rises_linearly_then_falls_along_a_half_cosine() -> None:
    assert [rate(n, 10**9, 4) for n in range(6)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    assert rate(50, 100, 1) == pytest.approx((1 + SMALLEST_RATE) / 2)
    assert rate(100, 100, 1) == rate(150, 100, 1) == pytest.approx(SMALLEST_RATE)
    falling = [rate(n, 100, 10) for n in range(10, 101)]
    assert falling == sorted(falling, reverse=True)


def test_the_first_update_moves_each_weight_by_the_rate() -> None:
    network = small_network()
    before, who = values(network), learner(network, warmup=4)
    who.update(task(network, 0), 0)
    moved = torch.cat([(a - b).abs().flatten() for a, b in zip(values(network), before, strict=True)])
    assert float(moved.max()) == pytest.approx(1e-2 / 4, rel=1e-2)  # Adam's first step is rate · sign


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(bad: float) -> None:
    network, other = small_network(), small_network()
    hit, spared = learner(network), learner(other)
    for step in range(2):
        hit.update(task(network, step), step)
        spared.update(task(other, step), step)
    before = values(network)
    assert not math.isfinite(hit.update(task(network, 2) * bad, 2))
    assert equal(values(network), before) and all(p.grad is None for p in network.parameters())
    for step in range(3, 5):
        hit.update(task(network, step), step)
        spared.update(task(other, step), step)
    assert equal(values(network), values(other))
    assert equal([*hit.average.values()], [*spared.average.values()])


def test_each_network_is_clipped_by_its_own_norm() -> None:
    quiet, loud = small_network(1), small_network(2)
    clipped = [learner(network, clip=0.5) for network in (quiet, loud)]
    norms = [0.0, 0.0]
    for n, (network, factor) in enumerate(((quiet, 1e-3), (loud, 1e3))):
        norms[n] = clipped[n].update(task(network, 0) * factor, 0)
    assert norms[0] < 0.5 < norms[1]
    sizes = [
        torch.stack([s["exp_avg"].norm() for s in who.optimizer.state.values()]).norm() / (1 - 0.9) for who in clipped
    ]
    assert float(sizes[0]) == pytest.approx(norms[0], rel=1e-4)
    assert float(sizes[1]) == pytest.approx(0.5, rel=1e-4)


def test_the_average_follows_the_weights_and_is_never_used_to_train() -> None:
    network, other = small_network(), small_network()
    who, plain = learner(network), learner(other, ema=0.0)
    expected = {name: p.detach().clone() for name, p in network.named_parameters()}
    for step in range(12):
        who.update(task(network, step), step)
        plain.update(task(other, step), step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = {n: decay * expected[n] + (1 - decay) * p.detach() for n, p in network.named_parameters()}
    assert equal(values(network), values(other))
    for name, average in who.average.items():
        torch.testing.assert_close(average, expected[name])
        assert not torch.equal(average, who.parameters[name])


def test_masters_are_float32_under_bfloat16_so_that_tiny_steps_add_up() -> None:
    network = small_network()
    who = Learner(network, 1e-6, 10**9, warmup=1, clip=1e9, ema=0.9)
    with torch.no_grad():
        for p in network.parameters():
            p.fill_(1.0)
    for step in range(50):
        with torch.autocast("cpu", torch.bfloat16):
            y = network(torch.ones(1, 8, 4, 4))
        assert y.dtype == torch.bfloat16
        who.update(y.float().mean(), step)
    assert {t.dtype for t in who.state().values()} == {torch.float32}
    assert float(network[0].weight.detach().mean()) == pytest.approx(1 - 50e-6, abs=1e-6)  # type: ignore[index]


@pytest.mark.parametrize("saved_after", [0, 1, 5])
def test_a_learner_that_was_saved_goes_on_bit_for_bit(saved_after: int) -> None:
    network, other = small_network(1), small_network(2)
    whole, later = learner(network), learner(other)
    for step in range(saved_after):
        whole.update(task(network, step), step)
    later.load_state({name: tensor.detach().clone().contiguous() for name, tensor in whole.state().items()})
    for step in range(saved_after, 8):
        norms = [who.update(task(who.network, step), step) for who in (whole, later)]
        assert norms[0] == norms[1]
    assert equal(values(network), values(other))
    assert equal([*whole.average.values()], [*later.average.values()])


def test_what_the_optimizer_begins_with_lies_where_its_weights_lie() -> None:
    """A fused optimizer on a GPU refuses a count of updates that lies on the CPU, as after a resume."""
    state = learner(small_network().to("meta")).state()
    assert {tensor.device.type for tensor in state.values()} == {"meta"}
    assert all(state[name].dtype == torch.float32 for name in state if name.startswith("step."))


def test_loading_forgets_what_the_optimizer_knew() -> None:
    network, other = small_network(1), small_network(1)
    fresh, used = learner(network), learner(other)
    start = {name: tensor.detach().clone() for name, tensor in fresh.state().items()}
    used.update(task(other, 7), 0)
    used.load_state(start)
    for who in (fresh, used):
        who.update(task(who.network, 1), 1)
    assert equal(values(network), values(other))
