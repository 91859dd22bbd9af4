"""Which of several candidates for one LR sample is preferred: vetoes first, then a weighted sum of z-scores.

A pure function of the candidates' measures. Scores compare candidates of one group only, never two samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training.stage_recipes import PreferenceRecipe

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Measures = Mapping[str, Values]
"""One value per candidate, (k,), by the measure's name; NaN where it could not be taken."""

SIGNS = {"ssimulacra2": 1.0, "niqe": -1.0, "model": 1.0, "logit": 1.0, "e_warp": -1.0}
"""1 where more is better. PSNR-Y has no say on purpose: it shows whether the ranking is being cheated."""

SHRINK_LOSS = 1.0
"""dB of shrink-back PSNR that a candidate may lose against the best of its group …"""
SHRINK_ENOUGH = 50.0
"""… unless it has this much, where rounding to 8 bits hides the rest."""
COLOUR_SHIFT = 2.0
"""Greatest shift of the mean colour against the LR, in levels of 1/255."""
WARP_EXCESS = 1.25
"""Greatest E_warp in terms of the group's median."""
DETAIL_EXCESS = 1.5
"""Greatest high-frequency energy in terms of the ground truth's."""


def weights_of(settings: PreferenceRecipe) -> dict[str, float]:
    """Weight of each measure's z-score, as the recipe has it."""
    return {
        "ssimulacra2": settings.rank_ssimulacra2,
        "niqe": settings.rank_niqe,
        "model": settings.rank_model,
        "logit": settings.rank_logit,
        "e_warp": settings.rank_warp,
    }


def vetoes(measures: Measures) -> dict[str, Flags]:
    """Who is out, (k,) by rule, whatever else speaks for it: sharpening, drift of colour and shimmer raise scores.

    What could not be measured (NaN) is no reason to be out.
    """
    shrink, shift, warp, detail = (measures[n] for n in ("shrink_psnr", "colour_shift", "e_warp", "detail_ratio"))
    return {
        "shrink": shrink < np.minimum(_of(np.max, shrink) - SHRINK_LOSS, SHRINK_ENOUGH),
        "colour": shift > COLOUR_SHIFT,
        "flicker": warp > WARP_EXCESS * _of(np.median, warp),
        "detail": detail > DETAIL_EXCESS,
    }


def _of(statistic: Callable[[Values], Any], values: Values) -> float:
    """A statistic of the values that are numbers; NaN if none is."""
    finite = values[np.isfinite(values)]
    return float(statistic(finite)) if len(finite) else float("nan")


@dataclass(frozen=True, slots=True)
class Scale:
    """How a group's measures become scores: z = sign · (value − mean)/deviation, weights that sum to 1."""

    mean: dict[str, float]
    deviation: dict[str, float]
    weight: dict[str, float]

    @classmethod
    def of(cls, measures: Measures, kept: Flags, weights: Mapping[str, float]) -> Scale:
        """Mean and deviation over the kept candidates, of every measure that all of them have.

        The weights of the others are shared out among those that are left.
        """
        used = [n for n, w in weights.items() if w > 0 and n in measures and np.isfinite(measures[n][kept]).all()]
        total = sum(weights[n] for n in used)
        return cls(
            mean={n: float(measures[n][kept].mean()) for n in used},
            deviation={n: float(measures[n][kept].std()) for n in used},
            weight={n: weights[n] / total for n in used},
        )

    @property
    def telling(self) -> list[str]:
        """Measures in which the candidates differ."""
        return [n for n, deviation in self.deviation.items() if deviation > 0]

    def score(self, measures: Measures) -> Values:
        """Σ weight · z, (k,)."""
        total = np.zeros(len(measures["e_warp"]))
        for n in self.telling:
            total = total + self.weight[n] * SIGNS[n] * (measures[n] - self.mean[n]) / self.deviation[n]
        return total

    def noise(self, noise: Mapping[str, float]) -> float:
        """By how much the score of a candidate changes that is made again: √Σ (weight · change/deviation)²."""
        return float(np.sqrt(sum((self.weight[n] * noise[n] / self.deviation[n]) ** 2 for n in self.telling)))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the ranking says of one group in which at least one candidate is left."""

    scores: Values
    """(k,), NaN for candidates that a veto took out."""
    scale: Scale

    @property
    def best(self) -> int:
        """Number of the candidate with the highest score."""
        return int(np.nanargmax(self.scores))

    @property
    def worst(self) -> int:
        """Number of the candidate with the lowest score."""
        return int(np.nanargmin(self.scores))

    @property
    def gap(self) -> float:
        """Score of the best less that of the worst."""
        return float(self.scores[self.best] - self.scores[self.worst])

    def is_clear(self, noise: Mapping[str, float]) -> bool:
        """The gap is more than the seed alone changes; noise: of `rerun_noise`."""
        return self.gap > self.scale.noise(noise)


def rank(measures: Measures, weights: Mapping[str, float]) -> Verdict | None:
    """Judge one group by weights of `weights_of`; None if the vetoes leave nobody."""
    kept = ~np.logical_or.reduce(list(vetoes(measures).values()))
    if not kept.any():
        return None
    scale = Scale.of(measures, kept, weights)
    return Verdict(np.where(kept, scale.score(measures), np.nan), scale)


def rerun_noise(twice: Sequence[Measures]) -> dict[str, float]:
    """By how much the seed alone changes each measure: √⟨(a − b)²⟩ over candidates that were made twice, (2,) each.

    0 where nothing was measured.
    """
    noise = {}
    for name in SIGNS:
        pairs = [m[name] for m in twice if name in m and np.isfinite(m[name]).all()]
        noise[name] = float(np.sqrt(np.mean([(a - b) ** 2 for a, b in pairs]))) if pairs else 0.0
    return noise
