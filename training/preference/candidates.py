"""Several outputs for one LR sample: fresh noise, a little louder or softer, more or less detail, other weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.batch import Batch
from training.models import Model, base_latent, repeated
from training.stage_recipes import PreferenceRecipe


@dataclass(frozen=True, slots=True)
class Variation:
    """How one candidate is made: x = c + gain · (G(scale · ε) − c)."""

    source: int = 0
    """Number of the weights; 0 is the student."""
    noise_scale: float = 1.0
    gain: float = 1.0


def draw_variations(settings: PreferenceRecipe, sources: int, source: torch.Generator) -> list[Variation]:
    """How the candidates of one sample differ; the first is what the student makes by itself.

    The last `mixed` of them come from other weights than the student's, if there are any.
    """
    count = settings.candidates
    draws = torch.rand(3, count, generator=source).tolist()
    others = round(settings.mixed * count) if sources > 1 else 0
    varied = [
        Variation(
            source=1 + int(who * (sources - 1)) if k >= count - others else 0,
            noise_scale=_within(settings.noise_scale, loud),
            gain=_within(settings.latent_gain, much),
        )
        for k, (who, loud, much) in enumerate(zip(*draws, strict=True))
    ]
    return [Variation(), *varied[1:]]


def _within(limits: tuple[float, float], draw: float) -> float:
    low, high = limits
    return low + (high - low) * draw


def fresh_noise(sample: Batch, count: int, source: torch.Generator) -> Tensor:
    """(count t c h w) standard normal as `noise_for` gives it; sample: a batch of one."""
    frames = sample.z0.shape[1]
    noise = torch.randn(count, 1 if sample.steady else frames, *sample.z0.shape[2:], generator=source)
    return noise.expand(-1, frames, -1, -1, -1).to(sample.z0)


@torch.no_grad()
def make_candidates(
    sources: Sequence[Model],
    regression: Model | None,
    sample: Batch,
    variations: Sequence[Variation],
    noise: Tensor,
) -> Tensor:
    """Latents of all candidates of one sample, (k t c h w) float32.

    sources: the student and other weights.  regression: makes the c that gains are about, else they are about the
    base resampler.  sample: a batch of one.  noise: (k t c h w) of `fresh_noise`.
    """
    best = sources[0].config.best_class
    scale, gain = (
        torch.tensor([getattr(v, name) for v in variations], device=noise.device).reshape(-1, 1, 1, 1, 1)
        for name in ("noise_scale", "gain")
    )
    made = torch.empty_like(noise)
    for number, generator in enumerate(sources):
        chosen = torch.tensor([k for k, v in enumerate(variations) if v.source == number], device=noise.device)
        if len(chosen):
            quality = torch.full((len(chosen),), best, device=noise.device)
            seen = repeated(sample.condition, len(chosen))
            made[chosen] = generator.generate((noise * scale)[chosen], seen, quality)
    if regression is None:
        centre = base_latent(sources[0], sample.condition, noise[:1])
    else:
        quality = torch.full((1,), best, device=noise.device)
        centre = regression.generate(noise[:1], sample.condition, quality)
    return torch.lerp(centre.expand_as(made), made, gain)
