"""The LR kinds: repeatable, aligned with the ground truth, right in colour."""

from __future__ import annotations

import numpy as np
import pytest
from data_clips import film, picture

from training.data import codec
from training.data.arrays import F32, U8
from training.data.colour import from_linear, rgb_to_yuv420, to_linear, yuv_to_rgb
from training.data.degrade import KINDS, Kind, RealStrength, WebStrength, degrade
from training.data.resample import blur, resize


def error(a: U8 | F32, b: U8 | F32) -> float:
    return float(np.square(a.astype(np.float64) - b).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_equal_bytes_for_an_equal_seed_and_others_for_another(kind: Kind) -> None:
    clip = film(4, 96, 128)
    first, strength = degrade(clip, kind, 7)
    again, same = degrade(clip, kind, 7)
    assert first.shape == (4, 24, 32, 3) and first.dtype == np.uint8
    assert np.array_equal(first, again) and strength == same
    if kind != "clean":
        assert not np.array_equal(first, degrade(clip, kind, 8)[0])


@pytest.mark.parametrize("codec_name, quality", [("x264", 30), ("x265", 30), ("vp9", 37), ("mpeg4", 6), ("svtav1", 40)])
@pytest.mark.parametrize("height, width", [(32, 48), (27, 33), (10, 40)])
def test_each_codec_gives_equal_bytes_and_the_right_picture(
    codec_name: codec.Codec, quality: float, height: int, width: int
) -> None:
    clip = np.stack([resize(f.astype(np.float32), height, width) for f in film(4, 4 * height, 4 * width)])
    clip = np.clip(clip, 0, 255).astype(np.uint8)
    coded = codec.round_trip(clip, codec_name, quality)
    assert coded.shape == clip.shape
    assert np.array_equal(coded, codec.round_trip(clip, codec_name, quality))
    short = codec.round_trip(clip, codec_name, quality, gop=2)
    assert np.array_equal(short, codec.round_trip(clip, codec_name, quality, gop=2))
    assert not np.array_equal(short, coded), "key frames lie elsewhere"
    assert 0 < error(clip, coded) < 0.2 * float(clip.var()), "of the same picture, but not its exact copy"
    assert np.abs(clip.mean((0, 1, 2)) - coded.mean((0, 1, 2))).max() < 3


def test_x264_gives_equal_bytes_whatever_lay_in_memory_before() -> None:
    """With its default rate control it does not, at this size."""
    clip = film(24, 108, 192)
    first = codec.round_trip(clip, "x264", 30)
    for i in range(12):
        litter = [np.full(50_000 * j, i, np.uint8) for j in range(1, 41)]
        del litter
        assert np.array_equal(first, codec.round_trip(clip, "x264", 30))


@pytest.mark.parametrize("kind", KINDS)
def test_lr_lies_on_the_hr_without_a_shift(kind: Kind) -> None:
    clip = film(4, 160, 192, dy=0, dx=0)
    for seed in range(4):
        up = resize(degrade(clip, kind, seed)[0][2].astype(np.float32), 160, 192)[16:-16, 16:-16]
        at = {
            (y, x): error(up, np.roll(clip[2], (y, x), (0, 1))[16:-16, 16:-16]) for y in (-1, 0, 1) for x in (-1, 0, 1)
        }
        assert min(at, key=lambda k: at[k]) == (0, 0), at


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "realbasicvsr"])  # its noise drowns what is quite flat
def test_flat_colours_survive(kind: Kind) -> None:
    colours = np.array([[200, 40, 40], [30, 180, 60], [50, 60, 210], [255, 255, 255], [0, 0, 0]], np.uint8)
    for colour in colours:
        clip = np.broadcast_to(colour, (3, 64, 64, 3)).copy()
        mean = degrade(clip, kind, 3)[0].mean((0, 1, 2))
        assert np.abs(mean - colour).max() < (4.5 if kind == "real" else 2.5), (colour, mean)


def test_chroma_of_420_goes_there_and_back_without_a_shift() -> None:
    ramp = np.zeros((32, 64, 3), np.float32)
    ramp[..., 0] = np.linspace(60, 190, 64)[None]
    ramp[..., 2] = np.linspace(200, 70, 32)[:, None]
    ramp[..., 1] = 120
    rgb = np.round(ramp).astype(np.uint8)
    y, cb, cr = rgb_to_yuv420(rgb)
    full = yuv_to_rgb(y, codec.double_chroma(cb.astype(np.float32)), codec.double_chroma(cr.astype(np.float32)))
    assert np.abs(full[2:-2, 2:-2].astype(int) - rgb[2:-2, 2:-2]).max() <= 3


def test_linear_light_is_exactly_undone() -> None:
    levels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(from_linear(to_linear(levels)), levels)


def test_resize_keeps_ramps_and_the_mean() -> None:
    ramp = np.broadcast_to(np.arange(96, dtype=np.float32)[:, None, None], (96, 40, 3))
    small = resize(ramp, 24, 10)
    assert np.allclose(small[3:-3, 3, 0], np.arange(24)[3:-3] * 4 + 1.5, atol=1e-3)
    image = picture(96, 120).astype(np.float32)
    for method in ("bicubic", "bilinear", "box"):
        assert abs(resize(image, 24, 30, method).mean() - image.mean()) < 1.0
    assert abs(blur(image, 1.2, 0.7).mean() - image.mean()) < 0.5


def test_strengths_cover_the_ranges_of_the_evaluation_kinds() -> None:
    real = [RealStrength.draw(np.random.default_rng(i)) for i in range(400)]
    web = [WebStrength.draw(np.random.default_rng(i)) for i in range(400)]
    assert min(s.size1 for s in real) < 0.42 and max(s.size1 for s in real) > 0.78
    assert min(s.crf2 for s in real) < 24.5 and max(s.crf2 for s in real) > 31.5
    crf = [s.quality for s in web if s.codec == "x264"]
    assert 29.5 < float(np.mean(crf)) < 30.5 and min(crf) >= 24 and max(crf) <= 34
    assert {s.codec for s in web} == {"x264", "x265", "vp9", "mpeg4"}


def test_every_kind_takes_small_clips_and_any_strength() -> None:
    clip = film(2, 64, 72)
    for kind in KINDS:
        for seed in range(12):
            assert degrade(clip, kind, seed)[0].shape == (2, 16, 18, 3)


def test_sides_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        degrade(np.zeros((2, 66, 64, 3), np.uint8), "clean", 0)
