"""The suite gives the single measures under their names, in subsets and in steps."""

import cv2
import numpy as np
import pytest

from duovsr_vs.errors import OptionError
from duovsr_vs.metrics import suite
from duovsr_vs.metrics.fidelity import detail_ratio, psnr_y
from duovsr_vs.metrics.noreference import niqe
from duovsr_vs.metrics.temporal import motions, warping_error

NO_PLUGIN = tuple(m for m in suite.METRICS if m != "ssimulacra2")


@pytest.fixture(scope="module")
def clips() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ground truth, LR and an output that is the truth blurred; a pan over a picture."""
    noise = np.random.default_rng(0).normal(size=(96, 232, 3)).astype(np.float32)
    total = sum(2**s * cv2.GaussianBlur(noise, (0, 0), 2.0**s) for s in range(4))
    picture = np.clip(128 + 45 * total / total.std(), 0, 255).astype(np.uint8)
    gt = np.stack([picture[:, 2 * t : 2 * t + 200] for t in range(4)])
    out = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.2) for frame in gt])
    lr = np.stack([cv2.resize(frame, (50, 24), interpolation=cv2.INTER_AREA) for frame in gt])
    return gt, lr, out


def test_the_suite_holds_the_single_measures(clips):
    gt, lr, out = clips
    facts = suite.GroundTruth.measure(gt, NO_PLUGIN)
    scores = suite.score_clip(gt, lr, out, facts, NO_PLUGIN)
    assert list(scores) == list(NO_PLUGIN)
    assert scores["psnr_y"] == psnr_y(gt, out)
    assert scores["niqe"] == niqe(out) and facts.niqe == niqe(gt)
    assert scores["detail_ratio"] == pytest.approx(detail_ratio(gt, out))
    assert scores["e_warp_ratio"] == pytest.approx(scores["e_warp"] / warping_error(gt, motions(gt)))


def test_the_truth_itself_is_perfect(clips):
    gt, lr, _ = clips
    scores = suite.score_clip(gt, lr, gt, suite.GroundTruth.measure(gt, NO_PLUGIN), NO_PLUGIN)
    for name in ("ssim", "e_warp_ratio", "detail_ratio", "grid_step"):
        assert scores[name] == pytest.approx(1)


def test_a_subset_gives_the_same_values_and_nothing_else(clips):
    gt, lr, out = clips
    whole = suite.score_clip(gt, lr, out, suite.GroundTruth.measure(gt, NO_PLUGIN), NO_PLUGIN)
    few = ("colour_shift", "niqe")
    part = suite.score_clip(gt, lr, out, suite.GroundTruth.measure(gt, few), few)
    assert part == {name: whole[name] for name in suite.METRICS if name in few}


def test_a_step_looks_at_every_nth_frame_but_warps_all(clips):
    gt, lr, out = clips
    facts = suite.GroundTruth.measure(gt, NO_PLUGIN, step=2)
    half = suite.score_clip(gt, lr, out, facts, NO_PLUGIN, step=2)
    assert half["psnr_y"] == psnr_y(gt[::2], out[::2])
    assert half["e_warp"] == warping_error(out, motions(gt))


def test_an_unknown_name_and_missing_facts_are_said(clips):
    gt, lr, out = clips
    with pytest.raises(OptionError, match="lpips unknown"):
        suite.GroundTruth.measure(gt, ["lpips"])
    with pytest.raises(OptionError, match="e_warp"):
        suite.score_clip(gt, lr, out, suite.GroundTruth.measure(gt, ["niqe"]), ["e_warp"])
