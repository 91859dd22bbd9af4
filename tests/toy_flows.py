"""Flows in one or two dimensions whose truth is known in closed form, and a network that learns them in seconds.

Latents are (b 1 d 1 1), so that the trainer's own losses and the model's own algebra take them as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from duovsr_vs.model import flow
from training.learner import Learner

Velocity = Callable[[Tensor, Tensor], Tensor]
"""v(z (b 1 d 1 1), t (b,)) -> like z."""


class Mixture:
    """p(z0) = Σ_k w_k N(m_k, diag s_k²) with the exact denoiser, velocity and, in one dimension, transport of its flow.

    means, deviations: (k d).  shares: k numbers that sum to 1, by default equal.
    """

    def __init__(self, means: list[list[float]], deviations: list[list[float]], shares: list[float] | None = None):
        self.means, self.deviations = torch.tensor(means), torch.tensor(deviations)
        self.shares = torch.tensor(shares) if shares else torch.full((len(means),), 1 / len(means))

    def sample(self, count: int, random: torch.Generator) -> Tensor:
        """(count 1 d 1 1)."""
        which = torch.multinomial(self.shares, count, replacement=True, generator=random)
        spread = torch.randn(count, self.means.shape[1], generator=random)
        return latents(self.means[which] + self.deviations[which] * spread)

    def denoise(self, z_t: Tensor, t: Tensor) -> Tensor:
        """E[z0 | z_t]: of each part m + (1 − t)s²/((1 − t)²s² + t²)·(z_t − (1 − t)m), weighted by p(part | z_t)."""
        z, t = z_t.flatten(1)[:, None], t[:, None, None]
        variance = (1 - t) ** 2 * self.deviations**2 + t**2
        offset = z - (1 - t) * self.means
        weight = torch.softmax(self.shares.log() - 0.5 * (offset**2 / variance + variance.log()).sum(2), dim=1)
        parts = self.means + (1 - t) * self.deviations**2 / variance * offset
        return latents((weight[..., None] * parts).sum(1))

    def velocity(self, z_t: Tensor, t: Tensor) -> Tensor:
        """E[ε − z0 | z_t]."""
        return flow.velocity_from_x0(z_t, self.denoise(z_t, t), t)

    def transport(self, noise: Tensor) -> Tensor:
        """Where the exact flow carries noise, d = 1: it keeps the order, so Φ(ε) = P(z0 ≤ result); by bisection."""
        wanted = normal_share(noise.double().flatten())
        low, high = (torch.full_like(wanted, end) for end in (-20.0, 20.0))
        for _ in range(60):
            middle = (low + high) / 2
            below = (self.shares * normal_share((middle[:, None] - self.means[:, 0]) / self.deviations[:, 0])).sum(1)
            low, high = torch.where(below < wanted, middle, low), torch.where(below < wanted, high, middle)
        return latents(low[:, None].float())


def latents(points: Tensor) -> Tensor:
    """(b d) -> (b 1 d 1 1)."""
    return points[:, None, :, None, None]


def normal_share(x: Tensor) -> Tensor:
    """Φ(x)."""
    return 0.5 * torch.erfc(-x / math.sqrt(2))


class Net(nn.Module):
    """v(z_t, t, condition) by two hidden layers; condition: (b c) or nothing.  out: numbers given, or `size`."""

    def __init__(self, size: int, conditions: int = 0, out: int | None = None, width: int = 64, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.Sequential(
                nn.Linear(size + 3 + conditions, width),
                nn.SiLU(),
                nn.Linear(width, width),
                nn.SiLU(),
                nn.Linear(width, size if out is None else out),
            )

    def forward(self, z_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        angle = math.pi * t
        given = [z_t.flatten(1), t[:, None], angle.cos()[:, None], angle.sin()[:, None]]
        if condition is not None:
            given.append(condition)
        return latents(self.layers(torch.cat(given, dim=1)))


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(count: int, size: int, random: torch.Generator) -> Tensor:
    """Noise (count 1 size 1 1)."""
    return torch.randn(count, 1, size, 1, 1, generator=random)


def uniform(count: int, low: float, high: float, random: torch.Generator) -> Tensor:
    """Times (count,)."""
    return low + (high - low) * torch.rand(count, generator=random)


@torch.no_grad()
def integrate(velocity: Velocity, noise: Tensor, steps: int) -> Tensor:
    """Euler steps of the flow's ODE from t = 1 to 0."""
    grid, z = flow.time_grid(steps), noise
    for t, following in pairwise(grid):
        z = z + (following - t) * velocity(z, t.expand(z.shape[0]))
    return z


def one_step(network: nn.Module, noise: Tensor, *condition: Tensor) -> Tensor:
    """G(ε) = ε − v(ε, 1), with its graph."""
    v: Tensor = network(noise, torch.ones(noise.shape[0]), *condition)
    return noise - v


def rms(difference: Tensor) -> float:
    return float(difference.detach().square().mean().sqrt())


def fit[N: nn.Module](network: N, loss: Callable[[int], Tensor], steps: int, rate: float, ema: float = 0.98) -> N:
    """The network after descent along loss(step) by the trainer's own learner; its averaged weights."""
    learner = Learner(network, rate, steps, warmup=20, clip=1.0, ema=ema)
    for step in range(steps):
        learner.update(loss(step), step)
    network.load_state_dict(learner.average)
    return network
