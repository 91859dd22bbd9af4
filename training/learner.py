"""A network with its optimizer, schedule and weight average: everything that one `update` changes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

SMALLEST_RATE = 0.05
"""Share of the peak rate at which the cosine ends."""
BETAS = (0.9, 0.99)


def rate(step: int, steps: int, warmup: int) -> float:
    """Share of the peak learning rate: (n + 1)/warmup at first, then a half cosine from 1 to 5 %."""
    rise = min(1.0, (step + 1) / max(1, warmup))
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps))))
    return rise * (SMALLEST_RATE + (1 - SMALLEST_RATE) * fall)


class Learner:
    """Trains one network. fp32 masters, AdamW, clipped gradients, EMA θ̄ ← βθ̄ + (1 − β)θ with β ≤ (1 + n)/(10 + n)."""

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
        self.network, self.peak, self.steps, self.warmup, self.clip, self.decay = (
            network,
            peak,
            steps,
            warmup,
            clip,
            ema,
        )
        self.parameters = dict(network.named_parameters())
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=peak, betas=BETAS, weight_decay=weight_decay)
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}

    def update(self, loss: Tensor, step: int) -> float:
        """One descent step; returns the gradient's norm before clipping. A non-finite gradient changes nothing."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(self.parameters.values(), self.clip))
        if not math.isfinite(norm):
            self.optimizer.zero_grad(set_to_none=True)
            return norm
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak * rate(step, self.steps, self.warmup)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                self.average[name].lerp_(parameter, 1 - decay)
        return norm

    def reset_average(self) -> None:
        """Start the weight average anew from the network as it is."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                self.average[name].copy_(parameter)

    def state(self) -> dict[str, Tensor]:
        """Everything that `update` reads and changes, as named tensors."""
        out: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            out[f"weight.{name}"] = parameter.detach()
            out[f"average.{name}"] = self.average[name]
            for key, value in self.optimizer.state.get(parameter, {}).items():
                out[f"{key}.{name}"] = value
        return out

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state[f"weight.{name}"])
                self.average[name].copy_(state[f"average.{name}"])
                self.optimizer.state.pop(parameter, None)
                if f"exp_avg.{name}" in state:
                    self.optimizer.state[parameter] = {
                        key: state[f"{key}.{name}"].to(parameter.device if key != "step" else "cpu").clone()
                        for key in ("step", "exp_avg", "exp_avg_sq")
                    }
