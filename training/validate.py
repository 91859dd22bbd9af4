"""How good a model is on held-out clips: the measures of `duovsr_vs.metrics`, per kind of LR, against the base R."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor

from duovsr_vs.metrics.suite import CHEAP, GroundTruth, score_clip
from duovsr_vs.model.config import SCALE
from duovsr_vs.model.resample import back_project, enlarge
from training.batch import random_source
from training.data.dataset import PackedClips
from training.data.degrade import KINDS
from training.models import Model, Seen, run_noise, whole_clip

FRAMES = 4
SIDE = 96
"""LR pixels along each side of the middle crop that is measured."""
STEP = 3
"""Per-frame measures look at every third frame."""
Clip = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Sample:
    """One held-out crop: (t h w 3) uint8, and what the base resampler reaches on it."""

    kind: str
    lr: Clip
    hr: Clip
    facts: GroundTruth
    base: dict[str, float]


def as_frames(clip: Clip) -> Tensor:
    """(t h w 3) uint8 -> (1 t 3 h w) float32 in [0, 1]."""
    return rearrange(torch.from_numpy(clip.copy()), "t h w c -> 1 t c h w").float() / 255


def as_clip(frames: Tensor) -> Clip:
    """Inverse of `as_frames`, rounded."""
    return (rearrange(frames, "1 t c h w -> t h w c").clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def middle(clip: Clip, side: int) -> Clip:
    """Middle crop with at most `side` pixels along each axis, even."""
    h, w = (min(side, size) // 2 * 2 for size in clip.shape[1:3])
    top, left = (clip.shape[1] - h) // 4 * 2, (clip.shape[2] - w) // 4 * 2
    return clip[:, top : top + h, left : left + w]


Render = Callable[[Model, Sample], Clip]
"""What is shown of a model for a sample, (t 4h 4w 3) uint8."""


class Validation:
    """Fixed crops of the validation split; `measure` gives the gain of a model over the base resampler.

    clips: the split "val". count: clips, spread evenly over the split.
    """

    def __init__(self, clips: PackedClips, back_projections: int, count: int = 14):
        self.samples: list[Sample] = []
        chosen = np.unique(np.linspace(0, len(clips) - 1, min(count, len(clips))).round().astype(int))
        for i in chosen:
            clip = clips.clip(int(i))
            hr = _cut(clip.hr, SIDE * SCALE)
            facts = GroundTruth.measure(hr, CHEAP, STEP)
            for kind in sorted(set(clip.row.lr_kinds), key=KINDS.index):
                lr = _cut(clip.of_kind(kind)[0], SIDE)
                base = as_clip(enlarge(back_project(as_frames(lr), back_projections)[0]))
                self.samples.append(Sample(kind, lr, hr, facts, score_clip(hr, lr, base, facts, CHEAP, STEP)))

    def measure(self, generator: Model, render: Render | None = None) -> dict[str, float]:
        """Mean of each measure per kind of LR, "kind/name"; "+kind/name" is the gain over the base resampler.

        render: what is measured instead of the student's output.
        """
        rows: dict[str, list[float]] = {}
        for sample in self.samples:
            output = upscale(generator, sample.lr) if render is None else render(generator, sample)
            scores = score_clip(sample.hr, sample.lr, output, sample.facts, CHEAP, STEP)
            for name in CHEAP:
                rows.setdefault(f"{sample.kind}/{name}", []).append(scores[name])
                rows.setdefault(f"+{sample.kind}/{name}", []).append(scores[name] - sample.base[name])
        return {key: float(np.nanmean(values)) for key, values in rows.items()}


@torch.inference_mode()
def upscale(generator: Model, lr: Clip, seed: int = 0) -> Clip:
    """One-step output of whole frames, (t 4h 4w 3) uint8."""
    device = generator.deviation.device
    quality = torch.tensor([generator.config.best_class], device=device)
    seen = whole_clip(generator, as_frames(lr))
    condition: Seen = generator.condition(seen.to(device))
    x0 = generator.generate(run_noise(generator, seen, random_source(seed, "validation")), condition, quality)
    return shown(generator, x0, condition, lr.shape[0])


def shown(generator: Model, z: Tensor, condition: Seen, frames: int) -> Clip:
    """The first frames of what latents stand for, (t 4h 4w 3) uint8."""
    return as_clip((enlarge(condition.base) + generator.decode(z, condition))[:, :frames])


@torch.inference_mode()
def reconstructed(generator: Model, sample: Sample) -> Clip:
    """The ground truth there and back through the codec: no student of that codec has more."""
    device = generator.deviation.device
    condition: Seen = generator.condition(whole_clip(generator, as_frames(sample.lr)).to(device))
    z = generator.encode(whole_clip(generator, as_frames(sample.hr))[:, 1:-1].to(device), condition)
    return shown(generator, z, condition, sample.lr.shape[0])


def _cut(clip: Clip, side: int) -> Clip:
    start = max(0, (clip.shape[0] - FRAMES) // 2)
    return np.ascontiguousarray(middle(clip, side)[start : start + FRAMES])
