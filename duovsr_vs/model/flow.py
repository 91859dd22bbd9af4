"""The flow's algebra, once, for engine and training: z_t = (1 − t)·z0 + t·ε, v = ε − z0, t = 1 is noise.

Latents are (b t c h w) or any shape whose first axis is the batch; `t` is a float32 tensor (b,) in [0, 1].
Preconditioning as EDM (arXiv 2206.00364 §5) for this path with σ_data = 1 and d = (1 − t)² + t²:
x̂0 = (1 − t)/d · z_t + t/√d · F(z_t/√d), so that the error weight d/t² makes the loss on x̂0 the plain error of F.
"""

from __future__ import annotations

import torch
from torch import Tensor


def expand(t: Tensor, like: Tensor) -> Tensor:
    """(b,) -> (b 1 1 …) with as many axes as `like`."""
    return t.reshape(-1, *([1] * (like.ndim - 1)))


def interpolate(z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """z_t = (1 − t)·z0 + t·ε."""
    t = expand(t, z0)
    return (1 - t) * z0 + t * noise


def velocity(z0: Tensor, noise: Tensor) -> Tensor:
    """v = ε − z0."""
    return noise - z0


def x0_from_velocity(z_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """x̂0 = z_t − t·v."""
    return z_t - expand(t, z_t) * v


def velocity_from_x0(z_t: Tensor, x0: Tensor, t: Tensor, smallest: float = 1e-3) -> Tensor:
    """v = (z_t − x̂0)/t; below `smallest` t is held there, where v is not determined by x̂0."""
    return (z_t - x0) / expand(t, z_t).clamp_min(smallest)


def input_scale(t: Tensor) -> Tensor:
    """c_in = 1/√d."""
    return 1 / torch.sqrt((1 - t) ** 2 + t**2)


def precondition(z_t: Tensor, prediction: Tensor, t: Tensor) -> Tensor:
    """x̂0 = (1 − t)/d · z_t + t/√d · F."""
    t = expand(t, z_t)
    d = (1 - t) ** 2 + t**2
    return (1 - t) / d * z_t + t / torch.sqrt(d) * prediction


def error_weight(t: Tensor, smallest: float = 1e-3) -> Tensor:
    """√(d)/t: multiplies an error of x̂0 into the error of F."""
    return torch.sqrt((1 - t) ** 2 + t**2) / t.clamp_min(smallest)


def shift_time(t: Tensor, shift: float) -> Tensor:
    """t ← s·t/(1 + (s − 1)·t); s > 1 spends more of the path near noise."""
    return shift * t / (1 + (shift - 1) * t)


def time_grid(steps: int, shift: float = 1.0) -> Tensor:
    """Shifted grid τ_0 = 1 > … > τ_steps = 0, float32 (steps + 1,)."""
    return shift_time(torch.linspace(1.0, 0.0, steps + 1), shift)
