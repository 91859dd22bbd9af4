"""What a run shows at fixed clips: the base resampler, the model and the truth side by side; what guidance changes.

The middle of the middle frame at 1:1, and under it how one row of pixels goes on over the frames (time runs down): what
flickers there is jagged. Clips, crops and noise depend on the validation split and the seed alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt
import torch

from duovsr_vs.model import flow
from duovsr_vs.model.resample import back_project, enlarge
from training.batch import random_source
from training.losses import guided_velocity
from training.models import Model, run_noise, velocity, whole_clip
from training.validate import Clip, Render, Sample, Validation, as_clip, as_frames, middle, shown, upscale

SIDE = 256
"""HR pixels along each side of what is shown."""
BAND = 20
"""Height of the line of labels, in pixels."""
ROW = 6
"""Height of each frame's row in the temporal profile, in pixels."""
GAP = 4
ENLARGED = 4
WEIGHTS = (0.0, 1.0, 2.0, 4.0)
Picture = npt.NDArray[np.uint8]
"""(h w 3) RGB."""


def strips(
    generator: Model,
    validation: Validation,
    count: int = 3,
    seed: int = 0,
    steps: int = 1,
    render: Render | None = None,
) -> dict[str, Picture]:
    """base | this model | ground truth of `count` clips, each of the next kind of LR, by name ("1-clean").

    steps: of the flow; 1 is what the shipped model does, a teacher that is no one-step model needs more.
    render: what is shown instead of the student's output.
    """
    label = "this model" if steps == 1 else f"this model, {steps} steps"
    pictures = {}
    for n, sample in enumerate(fixed(validation, count), 1):
        if render is not None:
            output = render(generator, sample)
        else:
            output = upscale(generator, sample.lr, seed) if steps == 1 else sampled(generator, sample.lr, steps, seed)
        panels = {"base": base(generator, sample.lr), label: output, "ground truth": sample.hr}
        pictures[f"{n}-{sample.kind}"] = strip(panels)
    return pictures


def guidance_strip(
    teacher: Model,
    validation: Validation,
    negative: int,
    weights: Sequence[float] = WEIGHTS,
    steps: int = 4,
    count: int = 2,
    seed: int = 0,
) -> Picture:
    """base | w = 0 | … | changed | ground truth: what w of v_cfg = (1 + w)·v_c − w·v_neg does, a row for each clip.

    "changed" is the difference of the last w from the first, enlarged, on grey.  negative: class number pushed away
    from.  steps: Euler steps of the teacher.
    """
    rows = []
    for sample in fixed(validation, count):
        outputs = {f"w = {w:g}": sampled(teacher, sample.lr, steps, seed, negative, w) for w in weights}
        changed = difference(outputs[f"w = {weights[-1]:g}"], outputs[f"w = {weights[0]:g}"])
        last = {f"changed, x {ENLARGED}": changed, "ground truth": sample.hr}
        rows.append(strip({"base": base(teacher, sample.lr)} | outputs | last))
    return stacked(rows)


def difference(clip: Clip, other: Clip) -> Clip:
    """ENLARGED · (clip − other) on middle grey."""
    return (128 + ENLARGED * (clip.astype(np.int16) - other)).clip(0, 255).astype(np.uint8)


def fixed(validation: Validation, count: int) -> list[Sample]:
    """`count` samples: the kinds of LR in turn, the clips of each spread over the split."""
    kinds: dict[str, list[Sample]] = {}
    for sample in validation.samples:
        kinds.setdefault(sample.kind, []).append(sample)
    groups = list(kinds.values())
    chosen = []
    for n in range(count):
        group = groups[n % len(groups)]
        chosen.append(group[len(group) * n // count])
    return chosen


@torch.inference_mode()
def base(generator: Model, lr: Clip) -> Clip:
    """What the model adds its residual to: the base resampler's output, (t 4h 4w 3)."""
    device = generator.deviation.device
    return as_clip(enlarge(back_project(as_frames(lr).to(device), generator.config.back_projections)[0]))


@torch.inference_mode()
def sampled(
    generator: Model, lr: Clip, steps: int, seed: int = 0, negative: int | None = None, guidance: float = 0.0
) -> Clip:
    """`steps` Euler steps from noise, z_t' = z_t + (t' − t)·v, with guidance if there is a negative class."""
    device = generator.deviation.device
    best = torch.tensor([generator.config.best_class], device=device)
    seen = whole_clip(generator, as_frames(lr))
    condition = generator.condition(seen.to(device))
    z = run_noise(generator, seen, random_source(seed, "validation"))
    for t, following in pairwise(flow.time_grid(steps).to(device)[:, None]):
        v = velocity(generator, z, t, condition, best)
        if negative is not None and guidance != 0:
            v_negative = velocity(generator, z, t, condition, torch.full_like(best, negative))
            v = guided_velocity(v, v_negative, guidance)
        z = z + flow.expand(following - t, z) * v
    return shown(generator, z, condition, lr.shape[0])


def strip(panels: Mapping[str, Clip]) -> Picture:
    """Clips (t h w 3) side by side, labelled: middle frame and temporal profile of each."""
    columns = []
    for label, clip in panels.items():
        crop = middle(clip, SIDE)
        frame = crop[crop.shape[0] // 2]
        profile = np.repeat(crop[:, crop.shape[1] // 2], ROW, axis=0)  # (t·ROW w 3)
        columns.append(stacked([_label(label, frame.shape[1]), frame, _line(frame.shape[1], GAP), profile], gap=0))
    gap = np.zeros((columns[0].shape[0], GAP, 3), np.uint8)
    joined = [part for column in columns for part in (gap, column)]
    return np.concatenate(joined[1:], axis=1)


def stacked(rows: Sequence[Picture], gap: int = 2 * GAP) -> Picture:
    """Pictures of one width under each other."""
    line = _line(rows[0].shape[1], gap)
    parts = [part for row in rows for part in (line, row)]
    return np.concatenate(parts[1:])


def _line(width: int, height: int) -> Picture:
    return np.zeros((height, width, 3), np.uint8)


def _label(text: str, width: int) -> Picture:
    band = _line(width, BAND)
    cv2.putText(band, text, (4, BAND - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return band
