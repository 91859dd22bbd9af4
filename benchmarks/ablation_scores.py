"""Held-out segments of the ablation, and what one student gets on each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from duovsr_vs.errors import DuoVsrError
from duovsr_vs.metrics.colour import luma
from duovsr_vs.metrics.suite import GroundTruth, score_clip
from duovsr_vs.model.config import SCALE
from duovsr_vs.model.generator import Generator
from training.data.dataset import PackedClips
from training.data.degrade import KINDS
from training.validate import FRAMES, SIDE, STEP, Clip, middle, upscale

Real = npt.NDArray[np.float64]

SUITE = ("psnr_y", "ssimulacra2", "niqe", "e_warp", "detail_ratio")
MEASURES = {
    "niqe_gap": ("|ΔNIQE|", -1),
    "ssimulacra2": ("SSIMULACRA2", 1),
    "texture": ("texture distance", -1),
    "niqe": ("NIQE", -1),
    "detail_gap": ("|ln detail|", -1),
    "psnr_y": ("PSNR-Y, dB", 1),
    "e_warp": ("E_warp", -1),
}
"""Name -> heading, and 1 where more is better. The first was chosen as the lead before any run: the paper's claims are
about naturalness, and NIQE alone rewards what is rougher than nature. The second stands beside it: fidelity as seen."""
LEAD, SECOND = tuple(MEASURES)[:2]

KINDS_SHOWN = ("clean", "web", "real")
PER_SOURCE = 3
LEAST_SOURCES, LEAST_SEGMENTS = 8, 30
_BANDS = 5
_BLOCK = 8


@dataclass(frozen=True, slots=True)
class Segment:
    """A few frames of one kind of LR, with what depends on the truth alone."""

    source: str
    kind: str
    lr: Clip
    hr: Clip
    facts: GroundTruth
    texture: Real
    """Band energies of the truth's blocks, as `band_energies` gives them."""


def choose(clips: PackedClips, per_source: int = PER_SOURCE) -> list[tuple[int, str]]:
    """(clip, kind) of `per_source` segments of every source, over its clips and the three kinds in turn."""
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(clips.rows):
        groups.setdefault(row.group, []).append(i)
    chosen = []
    for n, group in enumerate(sorted(groups)):
        own = groups[group]
        places = np.linspace(0, len(own) - 1, per_source).round().astype(int)
        chosen += [(own[place], KINDS_SHOWN[(n + k) % 3]) for k, place in enumerate(places)]
    return chosen


def segments(clips: PackedClips, fewest: int = LEAST_SOURCES) -> list[Segment]:
    """All of them. DuoVsrError: too few sources to draw from."""
    chosen = choose(clips)
    sources = {clips.rows[i].group for i, _ in chosen}
    if len(sources) < fewest:
        raise DuoVsrError(
            f"{clips.folder} has {len(sources)} held-out sources; {fewest} are needed, pack with a larger --val-share"
        )
    return [_segment(clips, i, kind) for i, kind in chosen]


def _segment(clips: PackedClips, i: int, kind: str) -> Segment:
    assert kind in KINDS
    clip = clips.clip(i)
    hr, lr = _cut(clip.hr, SIDE * SCALE), _cut(clip.of_kind(kind)[0], SIDE)
    return Segment(clip.row.group, kind, lr, hr, GroundTruth.measure(hr, SUITE, STEP), band_energies(hr[::STEP]))


def _cut(clip: Clip, side: int) -> Clip:
    """Frames and pixels in the middle."""
    start = max(0, (clip.shape[0] - FRAMES) // 2)
    return np.ascontiguousarray(middle(clip, side)[start : start + FRAMES])


# -- texture ------------------------------------------------------------------------------------------------------


@cache
def _transform() -> tuple[Real, npt.NDArray[np.intp]]:
    """The DCT of a block as (64, 64), and the band of each coefficient by its distance from DC, itself in none (−1)."""
    line = np.stack([cv2.dct(row).ravel() for row in np.eye(_BLOCK)], 1)
    radius = np.hypot(*np.mgrid[:_BLOCK, :_BLOCK]).ravel()
    edges = np.array([0.5, 1.5, 2.5, 4.0, 6.0, 20.0])
    return np.kron(line, line), np.digitize(radius, edges) - 1


def band_energies(clip: Clip) -> Real:
    """ln(1 + energy) of five bands of the luma of each 8×8 block: (blocks, 5). clip: (t h w 3), 0–255."""
    matrix, bands = _transform()
    frames = np.stack([luma(frame) for frame in clip]).astype(np.float64)
    t, rows, columns = frames.shape[0], frames.shape[1] // _BLOCK, frames.shape[2] // _BLOCK
    whole = frames[:, : rows * _BLOCK, : columns * _BLOCK].reshape(t, rows, _BLOCK, columns, _BLOCK)
    blocks = whole.transpose(0, 1, 3, 2, 4).reshape(-1, _BLOCK * _BLOCK)
    power = np.square(blocks @ matrix.T)
    return np.log1p(np.stack([power[:, bands == band].mean(1) for band in range(_BANDS)], 1))


def frechet_distance(a: Real, b: Real) -> float:
    """‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2(Σ_a Σ_b)^½) of the normal distributions with the moments of (n, d) samples."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(0)).sum()  # the product's eigenvalues are ≥ 0
    apart = np.square(a.mean(0) - b.mean(0)).sum()
    return float(max(apart + np.trace(cov_a) + np.trace(cov_b) - 2 * roots, 0.0))


# -- scores -------------------------------------------------------------------------------------------------------


def score(segment: Segment, out: Clip) -> dict[str, float]:
    """All of MEASURES; out: like segment.hr."""
    found = score_clip(segment.hr, segment.lr, out, segment.facts, SUITE, STEP)
    detail = found.pop("detail_ratio")
    return {
        **found,
        "niqe_gap": abs(found["niqe"] - segment.facts.niqe),
        "texture": frechet_distance(band_energies(out[::STEP]), segment.texture),
        "detail_gap": abs(math.log(detail)) if detail > 0 else math.nan,
    }


def scores(student: Generator, held_out: list[Segment]) -> dict[str, list[float]]:
    """Measure -> value on each segment, five digits."""
    rows = [score(segment, upscale(student, segment.lr)) for segment in held_out]
    return {name: [float(f"{row[name]:.5g}") for row in rows] for name in MEASURES}
