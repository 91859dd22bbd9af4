"""Steadiness over time: warping error along the ground truth's motion, and what a static clip should not do."""

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .colour import Samples, check_clip


@dataclass(frozen=True)
class Motion:
    """How frame t is fetched from frame t − 1: position of each pixel there, and where that can be trusted."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    """(h, w) each: position in frame t − 1, in pixels."""
    mask: NDArray[np.bool_]
    """(h, w): flow forward and backward agree, and the position lies inside the frame."""


def _fetch(image: Samples, x: NDArray[np.float32], y: NDArray[np.float32]) -> Samples:
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _motion(now: Samples, before: Samples, flow: cv2.DenseOpticalFlow) -> Motion:
    h, w = now.shape
    back, ahead = (flow.calc(a, b, np.zeros((h, w, 2), np.float32)) for a, b in ((now, before), (before, now)))
    x = np.arange(w, dtype=np.float32) + back[..., 0]
    y = np.arange(h, dtype=np.float32)[:, None] + back[..., 1]
    returned = _fetch(ahead, x, y)
    length = (back**2).sum(axis=-1) + (returned**2).sum(axis=-1)
    agrees = ((back + returned) ** 2).sum(axis=-1) <= 0.01 * length + 0.5
    return Motion(x, y, agrees & (x >= 0) & (y >= 0) & (x <= w - 1) & (y <= h - 1))


def motions(ground_truth: Samples) -> list[Motion]:
    """Motion between neighbours of the ground truth, t − 1 entries for t frames; compute once, use for every method.

    OpenCV's DIS flow, preset medium, on grey frames, f from frame t to t − 1 and b the other way round; trusted where
    |f + b(x + f)|² <= 0.01 (|f|² + |b|²) + 0.5 (Sundaram et al. 2010).  ground_truth: uint8 (t, h, w, 3).
    """
    check_clip(ground_truth, "ground truth")
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in ground_truth]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return [_motion(now, before, flow) for before, now in itertools.pairwise(grey)]


def warping_error(clip: Samples, motion: list[Motion]) -> float:
    """E_warp = 1000 · mean over t of Σ M ‖O_t − W(O_{t−1})‖² / Σ M, colours in 0..1, ‖·‖² the mean over R, G, B.

    After Lai et al. 2018, with the flow W and the mask M of the ground truth (`motions`), never of the output: a clip
    that freezes or jitters cannot hide. Blur lowers it, so read it beside a measure of sharpness.
    clip: (t, h, w, 3) RGB in 0..255.  One frame, or no trusted pixel, gives NaN.
    """
    check_clip(clip)
    scaled = clip.astype(np.float32) / np.float32(255)
    errors = []
    for before, now, m in zip(scaled[:-1], scaled[1:], motion, strict=True):
        if m.mask.any():
            square = ((now - _fetch(before, m.x, m.y)) ** 2).mean(axis=-1)
            errors.append(float(square[m.mask].mean(dtype=np.float64)))
    return 1000.0 * float(np.mean(errors)) if errors else float("nan")


def temporal_std(clip: Samples) -> float:
    """Standard deviation over time, mean over pixels and channels, in the clip's unit: for a static clip, its flicker.

    clip: (t, h, w, 3).
    """
    check_clip(clip)
    return float(clip.std(axis=0, dtype=np.float64).mean())
