"""What the ranking knows of a candidate: measures of its decoded frames, and what the heads of stage II make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from duovsr_vs.errors import FormatError
from duovsr_vs.metrics.colour import Clip
from duovsr_vs.metrics.consistency import colour_shift, shrink_back_psnr
from duovsr_vs.metrics.fidelity import detail_energy, psnr_y
from duovsr_vs.metrics.noreference import niqe
from duovsr_vs.metrics.perceptual import MissingPluginError, ssimulacra2_frames
from duovsr_vs.metrics.temporal import Motion, warping_error
from duovsr_vs.model.resample import enlarge
from training.batch import Batch
from training.data.degrade import KINDS
from training.models import Model
from training.validate import as_clip


def decoded(generator: Model, latents: Tensor, sample: Batch) -> list[Clip]:
    """Frames (t 4h 4w 3) uint8 of each candidate's latents (k t c h w); sample: the batch of one that they are for."""
    base = enlarge(sample.condition.base)
    return [as_clip(base + generator.decode(x[None], sample.condition)) for x in latents]


def motions_ahead(flow: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8]) -> list[Motion]:
    """The pack's motion for a clip that runs backwards: where the pixels of frame n are found in frame n + 1.

    flow: (t-1 2 h w) dx dy in pixels; mask: (t-1 h w).  The last frame comes first, as `warping_error` then wants it.
    """
    rows, columns = np.indices(mask.shape[1:], np.float32)
    return [Motion(columns + dx, rows + dy, m.astype(bool)) for (dx, dy), m in zip(flow[::-1], mask[::-1], strict=True)]


def measure(frames: Sequence[Clip], arrays: Mapping[str, Any]) -> dict[str, npt.NDArray[np.float64]]:
    """Measures (k,) of candidates for one sample.

    The shrunk output is compared with clean LR only: of another it should not keep blocks and noise.
    frames: of `decoded`.  arrays: of `PackedClips.batch`, one sample.
    """
    hr, lr = arrays["hr"][0], arrays["lr"][0][1:-1]
    motion = motions_ahead(arrays["flow"][0], arrays["mask"][0])
    detail, is_clean = detail_energy(hr), int(arrays["kind"][0]) == KINDS.index("clean")
    taken: dict[str, Callable[[Clip], float]] = {
        "niqe": _niqe,
        "psnr_y": lambda out: psnr_y(hr, out),
        "e_warp": lambda out: warping_error(out[::-1], motion),
        "detail_ratio": lambda out: detail_energy(out) / detail if detail > 0 else float("nan"),
        "shrink_psnr": lambda out: shrink_back_psnr(lr, out) if is_clean else float("nan"),
        "colour_shift": lambda out: colour_shift(lr, out),
    }
    values = {name: np.array([take(out) for out in frames]) for name, take in taken.items()}
    return {"ssimulacra2": _ssimulacra2(hr, frames), **values}


def _ssimulacra2(hr: Clip, frames: Sequence[Clip]) -> npt.NDArray[np.float64]:
    """(k,), all candidates in one call, whose start would cost more than they do; NaN without the plugin."""
    try:
        scores = ssimulacra2_frames(np.concatenate([hr] * len(frames)), np.concatenate(frames))
    except MissingPluginError:
        return np.full(len(frames), np.nan)
    return np.array(scores).reshape(len(frames), -1).mean(axis=1)


def _niqe(out: Clip) -> float:
    """NaN for frames that do not hold two of its blocks: the ranking then does without."""
    try:
        return niqe(out)
    except FormatError:
        return float("nan")
