"""The pictures of a run at fixed clips."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import random_weights
from data_clips import film, save_video

from duovsr_vs.model.config import NULL_CLASS, PRESETS
from duovsr_vs.model.generator import Generator
from training.batch import SOFT_CLASS
from training.data.dataset import PackedClips
from training.data.pack import pack
from training.samples import (
    BAND,
    ENLARGED,
    GAP,
    ROW,
    SIDE,
    base,
    difference,
    fixed,
    guidance_strip,
    sampled,
    strip,
    strips,
)
from training.validate import FRAMES, Validation, middle, upscale

pytestmark = pytest.mark.usefixtures("trainer_alone")


@pytest.fixture(scope="module")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Validation:
    """Two held-out films, in each kind of LR."""
    folder = tmp_path_factory.mktemp("films")
    for n, name in enumerate(("park", "river", "tower", "wall")):
        save_video(folder / f"{name}.mp4", film(3, 96, 192, seed=n))
    pack(folder, folder / "pack", jobs=1, val_share=0.75, say=lambda _: None)
    return Validation(PackedClips(folder / "pack", "val"), 1)


@pytest.fixture(scope="module", params=["tiny", "toy-learned"])
def generator(request: pytest.FixtureRequest) -> Generator:
    config = PRESETS[request.param]
    generator = Generator(config)
    generator.load_state_dict(random_weights(config, 0))
    with torch.no_grad():
        generator.network.embedding.quality.mul_(100)
        generator.network.embedding.outer.weight.mul_(30)  # so that the label shows in the picture
    return generator.eval().requires_grad_(False)


def columns(picture: np.ndarray, count: int) -> list[np.ndarray]:
    """The parts of a strip that stand side by side, without the gaps between them."""
    width = (picture.shape[1] + GAP) // count
    return [picture[:, n * width : (n + 1) * width - GAP] for n in range(count)]


def frame_of(column: np.ndarray, height: int) -> np.ndarray:
    return column[BAND : BAND + height]


def shown(clip: np.ndarray) -> np.ndarray:
    """What a strip shows of a clip."""
    return middle(clip, SIDE)[len(clip) // 2]


def test_a_strip_is_base_model_and_truth_of_the_middle_frame_at_one_to_one(
    generator: Generator, validation: Validation
) -> None:
    pictures = strips(generator, validation, count=3, seed=5)
    samples = fixed(validation, 3)
    assert list(pictures) == [f"{n}-{sample.kind}" for n, sample in enumerate(samples, 1)]
    for picture, sample in zip(pictures.values(), samples, strict=True):
        clips = (base(generator, sample.lr), upscale(generator, sample.lr, 5), sample.hr)
        for column, clip in zip(columns(picture, 3), clips, strict=True):
            assert np.array_equal(frame_of(column, len(shown(clip))), shown(clip))


def test_clips_are_the_same_each_time_and_go_through_the_kinds_of_lr(validation: Validation) -> None:
    samples = fixed(validation, 6)
    assert [id(sample) for sample in samples] == [id(sample) for sample in fixed(validation, 6)]
    kinds = list(dict.fromkeys(sample.kind for sample in validation.samples))
    assert [sample.kind for sample in samples] == (kinds * 6)[:6] and len(kinds) > 1
    assert len({id(sample) for sample in samples}) > len(kinds)  # not always the first clip
    assert len(fixed(validation, 50)) == 50


def test_the_profile_holds_the_same_row_of_every_frame_in_order() -> None:
    clip = np.random.default_rng(0).integers(0, 256, (FRAMES, 20, 30, 3), np.uint8)
    picture = strip({"a": clip})
    profile = picture[BAND + 20 + GAP :].reshape(FRAMES, ROW, 30, 3)
    assert all(np.array_equal(profile[:, n], clip[:, 10]) for n in range(ROW))


def test_one_step_of_the_sampler_is_what_the_model_does(generator: Generator, validation: Validation) -> None:
    lr = validation.samples[0].lr
    difference = sampled(generator, lr, 1, 3).astype(int) - upscale(generator, lr, 3)
    assert np.abs(difference).max() <= 1
    assert not np.array_equal(sampled(generator, lr, 2, 3), sampled(generator, lr, 1, 3))


def test_the_sampler_ends_at_the_estimate_of_a_model_whose_velocity_is_constant(validation: Validation) -> None:
    class Straight(Generator):
        """v = ε − z0 of one fixed z0: any number of steps ends there."""

        def denoise(self, z_t, *rest):  # type: ignore[no-untyped-def]
            return torch.full_like(z_t, 0.25)

    generator = Straight(PRESETS["tiny"])
    lr = validation.samples[0].lr
    one, many = (sampled(generator, lr, steps).astype(int) for steps in (1, 7))
    assert np.abs(one - many).max() <= 1


def test_guidance_away_from_the_model_s_own_class_changes_nothing(generator: Generator, validation: Validation) -> None:
    best = generator.config.best_class
    picture = guidance_strip(generator, validation, best, weights=(0, 4), steps=2, count=1)
    sample = fixed(validation, 1)[0]
    height = len(shown(sample.hr))
    _, plain, strong, changed, truth = (frame_of(column, height) for column in columns(picture, 5))
    assert np.abs(plain.astype(int) - strong).max() <= 1
    assert np.abs(changed.astype(int) - 128).max() <= 4
    assert np.array_equal(truth, shown(sample.hr))


@pytest.mark.parametrize("negative", [NULL_CLASS, SOFT_CLASS])
def test_more_guidance_goes_further_from_the_negative_class(generator: Generator, negative: int) -> None:
    lr = np.random.default_rng(0).integers(90, 160, (2, 24, 32, 3), np.uint8)
    best, bad = sampled(generator, lr, 1), sampled(generator, lr, 1, 0, negative, -1.0)  # w = −1 is v_neg itself
    direction = best.astype(float) - bad
    assert np.abs(direction).max() > 4  # the label means something to these weights
    moved = [((sampled(generator, lr, 1, 0, negative, w) - best.astype(float)) * direction).mean() for w in (0, 1, 2)]
    assert moved[0] == 0 < moved[1] < moved[2]


def test_a_difference_is_enlarged_on_grey_and_stays_in_range() -> None:
    a, b = (np.array(values, np.uint8).reshape(1, 1, -1, 1) for values in ([7, 5, 0, 255], [5, 7, 255, 0]))
    assert difference(a, b).flatten().tolist() == [128 + 2 * ENLARGED, 128 - 2 * ENLARGED, 0, 255]


def test_a_guidance_picture_has_a_row_for_each_clip(generator: Generator, validation: Validation) -> None:
    one, two = (
        guidance_strip(generator, validation, NULL_CLASS, weights=(0, 1), steps=1, count=count) for count in (1, 2)
    )
    assert two.shape[0] == 2 * one.shape[0] + 2 * GAP and two.shape[1:] == one.shape[1:]
    assert np.array_equal(two[: one.shape[0]], one)
