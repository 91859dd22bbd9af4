"""What is measured of one upscaled clip: with ground truth, or against the LR alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from duovsr_vs.errors import OptionError
from duovsr_vs.metrics.perceptual import MissingPluginError, ssimulacra2
from duovsr_vs.metrics.suite import METRICS, GroundTruth, score_clip
from training.data.arrays import U8
from training.data.degrade import SCALE
from training.evaluation.methods import RESAMPLERS
from training.evaluation.networks import Network

WITH_TRUTH = tuple(name for name in METRICS if name != "grid_step")
LR_ONLY = ("niqe", "e_warp", "shrink_psnr", "colour_shift")
"""E_warp with the flow of the Lanczos-enlarged LR: it forgives what flickers in the LR already."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What outputs of one clip are held against, measured once."""

    truth: U8 | None
    facts: GroundTruth
    """Of the ground truth; without one, of the Lanczos-enlarged LR."""

    def own(self) -> dict[str, float]:
        """Measures of the ground truth itself."""
        return {} if self.truth is None else {"niqe": self.facts.niqe, "e_warp": self.facts.e_warp}


@dataclass(frozen=True, slots=True)
class Measures:
    """Which measures, and how many border pixels of the output none of them looks at."""

    names: tuple[str, ...]
    crop: int
    networks: tuple[Network, ...]

    def reference(self, truth: U8 | None, lr: U8) -> Reference:
        """truth: (t, 4h, 4w, 3) or None; lr: (t, h, w, 3), used without a truth only."""
        if truth is None:
            enlarged = RESAMPLERS[0].upscale(lr)
            return Reference(None, GroundTruth.measure(_cut(enlarged, self.crop), self.names))
        inner = _cut(truth, self.crop)
        return Reference(inner, GroundTruth.measure(inner, self.names))

    def score(self, out: U8, lr: U8, reference: Reference) -> dict[str, float]:
        """Every measure of one output.  out: (t, 4h, 4w, 3), lr: (t, h, w, 3)."""
        inner, small = _cut(out, self.crop), _cut(lr, self.crop // SCALE)
        truth = inner if reference.truth is None else reference.truth  # no name of LR_ONLY looks at it
        scores = score_clip(truth, small, inner, reference.facts, self.names)
        return scores | {network.name: network.score(inner, reference.truth) for network in self.networks}


def choose(
    has_truth: bool, asked: Sequence[str] | None, crop: int, networks: Sequence[Network]
) -> tuple[Measures, list[str]]:
    """Measures for a set, and sentences on what is not here. asked: names; None: all that fit.

    OptionError for a name that does not fit, and for a border of no whole LR pixels.
    """
    if crop < 0 or crop % SCALE:
        raise OptionError(f"--crop {crop}: 0 or a multiple of {SCALE} is needed, so that whole LR pixels are left out")
    fit = WITH_TRUTH if has_truth else LR_ONLY
    wrong = [name for name in asked or () if name not in fit]
    if wrong:
        kind = "with" if has_truth else "without"
        raise OptionError(f"--measures {' '.join(wrong)}: {kind} ground truth there are {' '.join(fit)}")
    names = tuple(name for name in fit if not asked or name in asked)
    notes = []
    if "ssimulacra2" in names:
        try:
            probe = np.zeros((1, 16, 16, 3), np.uint8)
            ssimulacra2(probe, probe)
        except MissingPluginError as error:
            notes.append(f"{error}; it is left out")
            names = tuple(name for name in names if name != "ssimulacra2")
    unfit = [network.name for network in networks if network.needs_truth and not has_truth]
    if unfit:
        notes.append(f"pyiqa: {', '.join(unfit)} compare with a ground truth, which there is not; left out")
    return Measures(names, crop, tuple(n for n in networks if n.name not in unfit)), notes


def _cut(clip: U8, border: int) -> U8:
    """Without `border` pixels along each edge. OptionError where nothing is left."""
    if border == 0:
        return clip
    if min(clip.shape[1:3]) <= 2 * border:
        raise OptionError(f"--crop leaves nothing of frames of {clip.shape[2]}x{clip.shape[1]}")
    return np.ascontiguousarray(clip[:, border:-border, border:-border])
