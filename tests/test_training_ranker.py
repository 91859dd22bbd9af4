"""Which candidate is preferred: each veto, the weighted z-scores, and when a group says nothing."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from data_clips import film

from training.data.arrays import U8
from training.preference.measures import measure, motions_ahead
from training.preference.ranker import SIGNS, Values, rank, rerun_noise, vetoes, weights_of
from training.stage_recipes import PreferenceRecipe

WEIGHTS = weights_of(PreferenceRecipe(steps=1, learning_rate=1e-4))
NO_NOISE = dict.fromkeys(SIGNS, 0.0)


def group(**changed: list[float]) -> dict[str, Values]:
    """Measures of four candidates that no rule forbids; they differ in nothing but what is changed."""
    alike = {
        "ssimulacra2": 40.0,
        "niqe": 5.0,
        "e_warp": 1.0,
        "psnr_y": 30.0,
        "detail_ratio": 1.0,
        "shrink_psnr": 45.0,
        "colour_shift": 0.5,
    }
    return {name: np.array(changed.get(name, [value] * 4)) for name, value in alike.items()}


# -- vetoes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "measure", "values"),
    [
        ("shrink", "shrink_psnr", [45.0, 43.9, 44.1, 45.0]),
        ("shrink", "shrink_psnr", [60.0, 49.9, 50.1, 45e9]),
        ("colour", "colour_shift", [0.5, 2.1, 1.9, 0.5]),
        ("flicker", "e_warp", [1.0, 1.3, 1.0, 0.1]),
        ("detail", "detail_ratio", [1.0, 1.6, 1.4, 0.1]),
    ],
)
def test_each_rule_takes_out_who_breaks_it_and_nobody_else(rule: str, measure: str, values: list[float]) -> None:
    measures = group(**{measure: values}, ssimulacra2=[40, 90, 41, 42])
    assert {name: list(np.flatnonzero(out)) for name, out in vetoes(measures).items() if out.any()} == {rule: [1]}
    verdict = rank(measures, WEIGHTS)
    assert verdict is not None and np.isnan(verdict.scores[1]) and np.isfinite(verdict.scores[[0, 2, 3]]).all()
    assert 1 not in (verdict.best, verdict.worst)


def spoilt(clip: U8, change: Any) -> U8:
    return np.clip(np.round(change(clip.astype(np.float32))), 0, 255).astype(np.uint8)


def sharpened(x: Any) -> Any:
    return np.stack([f + 2 * (f - cv2.GaussianBlur(f, (0, 0), 1.5)) for f in x])


def noisy(x: Any) -> Any:
    return x + np.random.default_rng(0).normal(0, 30, x.shape[1:])


def shimmering(x: Any) -> Any:
    return x + np.random.default_rng(0).normal(0, 4, x.shape)


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        (sharpened, {"detail", "shrink"}),
        (noisy, {"detail", "shrink", "flicker"}),
        (shimmering, {"flicker"}),
        (lambda x: x + np.array([3, 0, -3]), {"colour"}),
        (lambda x: np.roll(x, 2, axis=2), {"shrink"}),
    ],
    ids=["sharpened", "noisy", "shimmering", "tinted", "shifted"],
)
def test_frames_that_cheat_are_taken_out(change: Any, rules: set[str]) -> None:
    """Beside candidates that are the truth, a little blurred, as an upscaler's are."""
    arrays = sample()
    honest = [spoilt(arrays["hr"][0], lambda x, s=s: blurred(x, s)) for s in (0.60, 0.61, 0.62)]
    out = vetoes(measure([*honest, spoilt(honest[0], change)], arrays))
    assert not any(flags[:3].any() for flags in out.values())
    assert rules <= {name for name, flags in out.items() if flags[3]}


def blurred(x: Any, sigma: float) -> Any:
    return np.stack([cv2.GaussianBlur(f, (0, 0), sigma) for f in x])


def test_what_could_not_be_measured_is_no_reason_to_be_out() -> None:
    nothing = [float("nan")] * 4
    assert not any(out.any() for out in vetoes(group(e_warp=nothing, detail_ratio=nothing)).values())


# -- scores -----------------------------------------------------------------------------------------------------


def test_a_score_is_the_weighted_sum_of_z_scores_of_those_that_are_left() -> None:
    measures = group(ssimulacra2=[40, 44, 36, 99], niqe=[5, 6, 4, 0], e_warp=[1, 1.2, 0.8, 9])  # the last is vetoed
    verdict = rank(measures, {"ssimulacra2": 0.6, "niqe": 0.2, "e_warp": 0.2})
    assert verdict is not None
    unit = np.sqrt(1.5)
    np.testing.assert_allclose(verdict.scores, [0, (0.6 - 0.2 - 0.2) * unit, (-0.6 + 0.2 + 0.2) * unit, np.nan])
    assert (verdict.best, verdict.worst) == (1, 2) and verdict.gap == pytest.approx(0.4 * unit)


@pytest.mark.parametrize("name", [name for name in SIGNS if WEIGHTS[name]])
def test_every_measure_has_its_direction(name: str) -> None:
    values = np.array([1.0, 1.1, 1.2, 0.9])
    verdict = rank(group() | {name: values}, WEIGHTS)
    assert verdict is not None
    assert verdict.best == (3 if name in ("niqe", "e_warp") else 2) and verdict.worst == 5 - verdict.best


def test_the_recipes_weights_are_those_of_the_reference() -> None:
    assert WEIGHTS == {"ssimulacra2": 0.3, "niqe": 0.2, "model": 0.2, "logit": 0.1, "e_warp": 0.2}


def test_psnr_is_held_out() -> None:
    verdict = rank(group(psnr_y=[20, 30, 40, 50]), WEIGHTS)
    assert verdict is not None and verdict.gap == 0 and not verdict.is_clear(NO_NOISE)


@pytest.mark.parametrize("missing", [{}, {"niqe": [4.0, float("nan"), 6.0, 5.0]}])
def test_weights_of_measures_that_are_missing_go_to_the_others(missing: dict[str, list[float]]) -> None:
    measures = group(ssimulacra2=[40, 42, 44, 46], **missing)
    if not missing:
        del measures["niqe"]
    verdict = rank(measures, WEIGHTS)
    assert verdict is not None and set(verdict.scale.weight) == {"ssimulacra2", "e_warp"}
    assert verdict.scale.weight["ssimulacra2"] == pytest.approx(0.6)
    assert sum(verdict.scale.weight.values()) == pytest.approx(1)


def test_order_units_and_what_was_ranked_before_change_nothing() -> None:
    rng = np.random.default_rng(0)
    measures = group(ssimulacra2=list(rng.normal(40, 5, 4)), niqe=list(rng.normal(5, 1, 4)))
    first = rank(measures, WEIGHTS)
    turned = rank({name: values[[2, 0, 3, 1]] for name, values in measures.items()}, WEIGHTS)
    scaled = rank(measures | {"niqe": 7 * measures["niqe"] - 3}, WEIGHTS)
    again = rank(measures, WEIGHTS)
    assert first and turned and scaled and again
    np.testing.assert_allclose(turned.scores, first.scores[[2, 0, 3, 1]])
    np.testing.assert_allclose(scaled.scores, first.scores)
    np.testing.assert_array_equal(again.scores, first.scores)


def test_a_group_without_candidates_has_no_verdict_and_one_candidate_no_gap() -> None:
    assert rank(group(colour_shift=[3, 3, 3, 3]), WEIGHTS) is None
    alone = rank(group(colour_shift=[3, 3, 0, 3], niqe=[1, 2, 3, 4]), WEIGHTS)
    assert alone is not None and alone.best == alone.worst == 2 and not alone.is_clear(NO_NOISE)


# -- noise of the seed ------------------------------------------------------------------------------------------


def test_rerun_noise_is_the_usual_difference_of_two_equal_candidates() -> None:
    rng = np.random.default_rng(0)
    twice = [{"niqe": rng.normal(5 + n % 3, 0.25, 2), "e_warp": np.array([np.nan, 1.0])} for n in range(4000)]
    noise = rerun_noise(twice)
    assert noise["niqe"] == pytest.approx(0.25 * 2**0.5, rel=0.03) and noise["e_warp"] == noise["ssimulacra2"] == 0


def test_the_noise_of_a_score_is_what_the_seed_changes() -> None:
    rng = np.random.default_rng(0)
    measures = group(ssimulacra2=[40, 44, 36, 40], niqe=[5, 5.5, 4, 6])
    verdict, noise = rank(measures, WEIGHTS), NO_NOISE | {"ssimulacra2": 1.5, "niqe": 0.2}
    assert verdict is not None
    shifted = {name: values[:1] + noise.get(name, 0) * rng.normal(size=9999) for name, values in measures.items()}
    assert verdict.scale.score(shifted).std() == pytest.approx(verdict.scale.noise(noise), rel=0.03)


def test_a_gap_counts_only_beyond_what_the_seed_changes() -> None:
    verdict = rank(group(ssimulacra2=[40, 44, 36, 40]), WEIGHTS)  # best and worst are 8 apart
    assert verdict is not None and verdict.is_clear(NO_NOISE)
    assert verdict.is_clear(NO_NOISE | {"ssimulacra2": 7.9})
    assert not verdict.is_clear(NO_NOISE | {"ssimulacra2": 8.1})


# -- measures ---------------------------------------------------------------------------------------------------


def sample(frames: int = 2, side: int = 64) -> dict[str, Any]:
    """What `PackedClips.batch` gives for one sample: a picture that glides 3 pixels to the left and 1 up."""
    clip = film(frames + 2, side, side, seed=3)
    flow = np.broadcast_to(np.array([-3, -1], np.float32)[:, None, None], (1, frames - 1, 2, side, side))
    mask = np.zeros((1, frames - 1, side, side), np.uint8)
    mask[:, :, 1:, 3:] = 1
    small = clip.reshape(frames + 2, side // 4, 4, side // 4, 4, 3).mean((2, 4)).round().astype(np.uint8)
    return {
        "hr": clip[None, 1:-1],
        "lr": small[None],
        "flow": np.ascontiguousarray(flow),
        "mask": mask,
        "kind": np.zeros(1, int),
    }


@pytest.mark.parametrize("frames", [2, 4])
def test_a_picture_that_moves_with_the_flow_has_no_warping_error(frames: int) -> None:
    arrays = sample(frames)
    hr = arrays["hr"][0]
    found = measure([hr, np.repeat(hr[:1], frames, axis=0)], arrays)["e_warp"]
    assert found[0] < 1e-6 and found[1] > 1


def test_the_last_frame_comes_first_in_the_motion_of_a_reversed_clip() -> None:
    arrays = sample(3)
    arrays["flow"] = arrays["flow"] * np.array([1, 2], np.float32)[None, :, None, None, None]
    later, earlier = motions_ahead(arrays["flow"][0], arrays["mask"][0])
    assert (later.x[10, 20], later.y[10, 20]) == (14, 8) and (earlier.x[10, 20], earlier.y[10, 20]) == (17, 9)
    assert later.mask[10, 20] and not later.mask[0, 0]


@pytest.mark.parametrize("kind", [1, 2])
def test_what_a_degraded_lr_holds_need_not_be_kept(kind: int) -> None:
    found = measure([sample()["hr"][0]], sample() | {"kind": np.array([kind])})
    assert np.isnan(found["shrink_psnr"]).all() and np.isfinite(found["colour_shift"]).all()


def test_the_truth_has_its_own_detail_and_small_frames_have_no_niqe() -> None:
    arrays = sample()
    hr = arrays["hr"][0]
    found = measure([hr, spoilt(hr, lambda x: blurred(x, 2.0))], arrays)
    assert found["detail_ratio"][0] == 1 and found["detail_ratio"][1] < 0.5
    assert np.isnan(found["niqe"]).all() and np.isinf(found["psnr_y"][0])
    assert found["ssimulacra2"][0] > 99 and found["ssimulacra2"][1] < 80


def test_a_candidates_measures_do_not_depend_on_its_neighbours() -> None:
    arrays = sample(side=192)
    hr = arrays["hr"][0]
    clips = [spoilt(hr, lambda x, s=s: blurred(x, s)) for s in (0.7, 1.5)]
    both, alone = measure(clips, arrays), measure(clips[1:], arrays)
    assert all(both[name][1] == alone[name][0] for name in alone) and np.isfinite(both["niqe"]).all()
