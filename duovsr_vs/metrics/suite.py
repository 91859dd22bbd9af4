"""All measures of one upscaled clip in one call: for the benchmark, the trainer's validation and `evaluate`."""

from collections.abc import Collection
from dataclasses import dataclass

from ..errors import OptionError
from .colour import Clip, check_clip, check_pair
from .consistency import colour_shift, shrink_back_psnr
from .fidelity import detail_energy, psnr, psnr_y, ssim
from .noreference import niqe
from .perceptual import ssimulacra2
from .seams import border_step_ratio
from .temporal import Motion, motions, warping_error

METRICS = (
    "psnr_y",
    "psnr_rgb",
    "ssim",
    "ssimulacra2",
    "niqe",
    "e_warp",
    "e_warp_ratio",
    "detail_ratio",
    "shrink_psnr",
    "colour_shift",
    "grid_step",
)
"""Names of `score_clip`'s results, in the order of the tables."""

CHEAP = ("psnr_y", "ssimulacra2", "niqe", "e_warp", "e_warp_ratio", "shrink_psnr", "colour_shift")
"""What a validation in the middle of training needs; leave out ssimulacra2 where vszip is missing."""

_CELL = 8
"""Output pixels between the borders of the cells in which the shipped models write (two LR pixels at x4)."""
_WARP = frozenset({"e_warp", "e_warp_ratio"})


@dataclass(frozen=True)
class GroundTruth:
    """What depends on the ground truth alone: measured once, used for every method and kind of LR."""

    motion: list[Motion] | None
    """None where no E_warp was asked for."""
    niqe: float
    e_warp: float
    detail: float
    """`detail_energy`, in (1/255)²."""

    @classmethod
    def measure(cls, gt: Clip, metrics: Collection[str] = METRICS, step: int = 1) -> "GroundTruth":
        """Facts that `metrics` need (NaN for the others).  gt: uint8 (t, h, w, 3); step: as in `score_clip`."""
        check_clip(gt, "ground truth")
        _check_names(metrics)
        nan = float("nan")
        motion = motions(gt) if _WARP & set(metrics) else None
        return cls(
            motion=motion,
            niqe=niqe(gt[::step]) if "niqe" in metrics else nan,
            e_warp=warping_error(gt, motion) if motion is not None else nan,
            detail=detail_energy(gt[::step]) if "detail_ratio" in metrics else nan,
        )


def _check_names(metrics: Collection[str]) -> None:
    unknown = sorted(set(metrics) - set(METRICS))
    if unknown:
        raise OptionError(f"metrics: {', '.join(unknown)} unknown, choose from {', '.join(METRICS)}")


def score_clip(
    gt: Clip, lr: Clip, out: Clip, facts: GroundTruth, metrics: Collection[str] = METRICS, step: int = 1
) -> dict[str, float]:
    """Measure one clip; each value is the mean over frames.

    gt, out: uint8 (t, H, W, 3), lr: uint8 (t, h, w, 3), RGB.  facts: GroundTruth.measure(gt, metrics, step).
    metrics: names of METRICS, e.g. CHEAP.  step: the per-frame measures look at every step-th frame only; E_warp always
    looks at all, since it needs neighbours.  e_warp_ratio is E_warp over the ground truth's own.
    """
    check_pair(gt, out)
    _check_names(metrics)
    wanted = set(metrics)
    a, small, b = gt[::step], lr[::step], out[::step]
    scores: dict[str, float] = {}
    if "psnr_y" in wanted:
        scores["psnr_y"] = psnr_y(a, b)
    if "psnr_rgb" in wanted:
        scores["psnr_rgb"] = psnr(a, b)
    if "ssim" in wanted:
        scores["ssim"] = ssim(a, b)
    if "ssimulacra2" in wanted:
        scores["ssimulacra2"] = ssimulacra2(a, b)
    if "niqe" in wanted:
        scores["niqe"] = niqe(b)
    if wanted & _WARP:
        scores |= {k: v for k, v in _warp(out, facts).items() if k in wanted}
    if "detail_ratio" in wanted:
        scores["detail_ratio"] = detail_energy(b) / facts.detail if facts.detail > 0 else float("nan")
    if "shrink_psnr" in wanted:
        scores["shrink_psnr"] = shrink_back_psnr(small, b)
    if "colour_shift" in wanted:
        scores["colour_shift"] = colour_shift(small, b)
    if "grid_step" in wanted:
        scores["grid_step"] = border_step_ratio(b, a, _CELL)
    return {name: scores[name] for name in METRICS if name in scores}


def _warp(out: Clip, facts: GroundTruth) -> dict[str, float]:
    if facts.motion is None:
        raise OptionError("e_warp: the ground truth was measured without it; pass the same metrics to both calls")
    error = warping_error(out, facts.motion)
    return {"e_warp": error, "e_warp_ratio": error / facts.e_warp if facts.e_warp > 0 else float("nan")}
