"""A network with its optimizer, schedule and weight average: everything that one `update` changes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from training.distributed import whole

SMALLEST_RATE = 0.05
"""Share of the peak rate at which the cosine ends."""
BETAS = (0.9, 0.99)


def rate(step: int, steps: int, warmup: int) -> float:
    """Share of the peak learning rate: (n + 1)/warmup at first, then a half cosine from 1 to 5 %."""
    rise = min(1.0, (step + 1) / max(1, warmup))
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps))))
    return rise * (SMALLEST_RATE + (1 - SMALLEST_RATE) * fall)


class Learner:
    """Trains one network. fp32 masters, AdamW, clipped gradients, EMA θ̄ ← βθ̄ + (1 − β)θ with β ≤ (1 + n)/(10 + n).

    Weights that need no gradient are left alone. Sharded weights (FSDP2) stay sharded, as do their states and average.
    """

    def __init__(
        self,
        network: nn.Module,
        peak: float,
        steps: int,
        *,
        warmup: int,
        clip: float,
        ema: float,
        weight_decay: float = 0.0,
    ):
        self.network, self.peak, self.steps, self.warmup = network, peak, steps, warmup
        self.clip, self.decay = clip, ema
        self.parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=peak, betas=BETAS, weight_decay=weight_decay, fused=True
        )
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}

    def update(self, losses: Tensor | Iterable[Tensor], step: int, parts: int = 1) -> float:
        """One descent step; returns the gradient's norm before clipping. A non-finite gradient changes nothing.

        losses: the loss, or one of each of `parts` equal parts of the batch, whose mean is descended: each graph is
        gone through before the next is asked for.
        """
        self.forget_gradients()
        for loss in (losses,) if isinstance(losses, Tensor) else losses:
            (loss if parts == 1 else loss / parts).backward()
        norm = float(whole(nn.utils.clip_grad_norm_(self.parameters.values(), self.clip)))
        if not math.isfinite(norm):
            self.forget_gradients()
            return norm
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak * rate(step, self.steps, self.warmup)
        self.optimizer.step()
        self.forget_gradients()
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                self.average[name].lerp_(parameter, 1 - decay)
        return norm

    def forget_gradients(self) -> None:
        """Also those that another network's loss left here."""
        self.optimizer.zero_grad(set_to_none=True)

    def take_average(self) -> None:
        """The network becomes its weight average, and the optimizer starts anew."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.average[name])
        self.optimizer.state.clear()

    def state(self) -> dict[str, Tensor]:
        """Everything that `update` reads and changes, as named tensors that share memory with it."""
        out: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            out[f"weight.{name}"] = parameter.detach()
            out[f"average.{name}"] = self.average[name]
            for key, value in self._moments(parameter).items():
                out[f"{key}.{name}"] = value
        return out

    def _moments(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """AdamW's state of a parameter; what it would begin with, if it has not seen a gradient yet."""
        if not self.optimizer.state.get(parameter):
            zero = parameter.detach()
            self.optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),  # the fused kernel wants it there
                "exp_avg": torch.zeros_like(zero),
                "exp_avg_sq": torch.zeros_like(zero),
            }
        found: dict[str, Tensor] = self.optimizer.state[parameter]
        return found

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        with torch.no_grad():
            for name, tensor in self.state().items():
                tensor.copy_(state[name])

    def result(self) -> dict[str, Tensor]:
        """The weight average as whole tensors; with several ranks a collective operation."""
        return {name: whole(tensor) for name, tensor in self.average.items()}
