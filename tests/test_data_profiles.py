"""The published chain `realbasicvsr` and the wide web kind: kernels, random walks, noise, encodes."""

from __future__ import annotations

from collections import Counter
from math import pi
from typing import get_args

import av
import numpy as np
import pytest
import torch
from data_clips import film, picture

from training.data import codec
from training.data.arrays import F32, U8, generator
from training.data.kernels import Shape, _bessel_j1, blur_kernel
from training.data.realbasicvsr import (
    FIRST,
    SECOND,
    SHAPE_SHARES,
    SHAPES,
    Chain,
    Walk,
    degrade_realbasicvsr,
    poisson_noise,
)
from training.data.web_wide import CODECS, WideStrength, degrade_web_wide


def spread(kernel: F32) -> tuple[float, float, float]:
    """Variances along x and y, and their covariance."""
    reach = kernel.shape[0] // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return float((kernel * x * x).sum()), float((kernel * y * y).sum()), float((kernel * x * y).sum())


def noisy(frames: int, height: int, width: int) -> U8:
    """What no encoder can make small."""
    return generator(0, "noise").integers(0, 256, (frames, height, width, 3)).astype(np.uint8)


def payload(data: object) -> list[tuple[int, bool]]:
    """Bytes of each packet, and whether it is a key frame."""
    with av.open(data) as container:  # type: ignore[call-overload]
        return [(p.size, p.is_keyframe) for p in container.demux(video=0) if p.size]


@pytest.mark.parametrize("shape", get_args(Shape))
@pytest.mark.parametrize("size", [7, 21])
def test_kernels_sum_to_one_and_are_the_same_upside_down(shape: Shape, size: int) -> None:
    kernel = blur_kernel(shape, size, 1.3, 0.6, 0.7, 1.5, 1.9)
    assert kernel.shape == (size, size) and kernel.dtype == np.float32 and abs(kernel.sum() - 1) < 1e-5
    assert np.allclose(kernel, kernel[::-1, ::-1], atol=1e-7)


def test_sigma_and_angle_mean_what_they_say() -> None:
    x, y, both = spread(blur_kernel("aniso", 21, 2.0, 1.0, 0.0, 1, 1))
    assert abs(x - 4) < 0.05 and abs(y - 1) < 0.05 and abs(both) < 1e-6
    x, y, both = spread(blur_kernel("aniso", 21, 2.0, 1.0, pi / 2, 1, 1))
    assert abs(x - 1) < 0.05 and abs(y - 4) < 0.05
    assert spread(blur_kernel("aniso", 21, 2.0, 1.0, pi / 4, 1, 1))[2] > 1, "the long axis turns from x towards y"
    for shape in ("iso", "generalized_iso", "plateau_iso"):
        one, other = (blur_kernel(shape, 21, 1.5, sigma, angle, 1.2, 1) for sigma, angle in ((0.3, 0.0), (3.0, 1.0)))
        assert np.array_equal(one, other) and np.allclose(one, one.T)


def test_generalized_and_plateau_kernels_follow_their_formula() -> None:
    plain = blur_kernel("iso", 21, 1.5, 1.5, 0, 1, 1)
    assert np.allclose(blur_kernel("generalized_aniso", 21, 1.5, 1.5, 0, 1.0, 1), plain)
    flat = blur_kernel("plateau_iso", 21, 3.0, 3.0, 0, 2.0, 1)
    assert flat[10, 11] / flat[10, 10] == pytest.approx(1 / (1 + (1 / 9) ** 2), rel=1e-5)
    boxy = blur_kernel("generalized_iso", 21, 3.0, 3.0, 0, 4.0, 1)
    assert boxy[10, 12] / boxy[10, 10] == pytest.approx(np.exp(-0.5 * (4 / 9) ** 4), rel=1e-5)


def test_sinc_passes_what_is_slower_than_its_cut_off() -> None:
    x = np.linspace(0, 50, 300)
    assert np.abs(_bessel_j1(x) - torch.special.bessel_j1(torch.from_numpy(x)).numpy()).max() < 1e-6
    kernel = blur_kernel("sinc", 21, 1, 1, 0, 1, pi / 2)
    places = np.arange(-10, 11)
    passed = {w: float((kernel.sum(0) * np.cos(w * places)).sum()) for w in (0.6, 2.6)}
    assert abs(passed[0.6] - 1) < 0.15 and abs(passed[2.6]) < 0.15
    assert (kernel < 0).any(), "it rings"
    limit = 2 * float(torch.special.bessel_j1(torch.tensor(pi / 2))) / (pi / 2)
    assert kernel[10, 11] / kernel[10, 10] == pytest.approx(limit, rel=1e-4), "no jump in the middle"


def test_a_walk_moves_by_its_step_and_keeps_to_its_range() -> None:
    walk = Walk(0.2, 3, 0.5)
    paths = np.array([walk.path(np.random.default_rng(i), 24) for i in range(200)])
    assert paths.min() == 0.2 and paths.max() == 3.0, "clipped, not turned back"
    moves = np.abs(np.diff(paths, axis=1))
    assert moves.max() <= 0.5 and moves.max() > 0.45
    assert abs(paths[:, 0].mean() - 1.6) < 0.2 and paths[:, 0].std() > 0.7


def test_shapes_and_sizes_come_in_their_shares() -> None:
    seen: Counter[str] = Counter()
    for seed in range(1500):
        chain = Chain(np.zeros((1, 4, 4, 3), np.uint8), np.random.default_rng(seed))
        chain.blur(FIRST)
        seen[chain.done[0].split()[1]] += 1
    share = np.array([seen[shape] / 1500 for shape in SHAPES])
    assert np.abs(share - SHAPE_SHARES).max() < 0.04
    skipped = 0
    for seed in range(300):
        chain = Chain(np.zeros((1, 4, 4, 3), np.uint8), np.random.default_rng(seed))
        chain.blur(SECOND)
        skipped += not chain.done
    assert 0.12 < skipped / 300 < 0.28


def test_one_scale_per_clip_and_even_sides() -> None:
    scales = []
    for seed in range(200):
        chain = Chain(np.zeros((3, 100, 140, 3), np.uint8), np.random.default_rng(seed))
        chain.resize(FIRST)
        sizes = {frame.shape for frame in chain.frames}
        assert len(sizes) == 1
        h, w, _ = sizes.pop()
        assert h % 2 == 0 and w % 2 == 0
        scales.append(h / 100)
    up, keep = np.mean([s > 1 for s in scales]), np.mean([s == 1 for s in scales])
    assert 0.13 < up < 0.27 and 0.05 < keep < 0.2
    assert min(scales) <= 0.2 and 1.4 < max(scales) <= 1.5


def test_counting_noise_grows_with_the_root_of_the_light() -> None:
    x = picture(256, 256).astype(np.float32)
    x[:64] = 4.0  # few photons: counted one by one
    noise = poisson_noise(x, 2.0, np.random.default_rng(0))
    for at in (x == 4.0, (x > 150) & (x < 160)):
        expected = 2.0 * np.sqrt(float(x[at].mean()) / 255 / 256) * 255
        assert abs(float(noise[at].std()) - expected) < 0.1 * expected and abs(float(noise[at].mean())) < 0.1 * expected
    whole = (noise[:64] / 2 / 255 + 4.0 / 255) * 256
    assert np.allclose(whole, np.round(whole), atol=1e-3), "counts are whole numbers"


def test_grey_noise_is_the_same_in_the_channels() -> None:
    clip = np.repeat(picture(64, 64)[None, ..., :1], 3, axis=-1)
    seen = set()
    for seed in range(40):
        chain = Chain(clip, np.random.default_rng(seed))
        chain.noise(FIRST)
        added = chain.frames[0] - clip[0]
        grey = chain.done[0].endswith("grey")
        assert np.allclose(added[..., 0], added[..., 1], atol=1e-3) == grey
        seen.add((chain.done[0].split()[1], grey))
    assert len(seen) == 4


@pytest.mark.parametrize("step", ["jpeg", "video", "last_sinc"])
def test_each_step_keeps_flat_colours(step: str) -> None:
    for colour in ((200, 40, 40), (30, 180, 60), (50, 60, 210)):
        for seed in range(4):
            chain = Chain(
                np.broadcast_to(np.array(colour, np.uint8), (3, 32, 32, 3)).copy(), np.random.default_rng(seed)
            )
            getattr(chain, step)()
            assert np.abs(np.mean(chain.frames, axis=(0, 1, 2)) - colour).max() < 2.5


@pytest.mark.parametrize("name", ["x264", "mpeg4"])
def test_the_bit_rate_is_per_frame_and_gives_equal_bytes(name: str) -> None:
    """At 24 frames per second a frame would get a 24th of it."""
    clip = noisy(12, 96, 128)
    sizes = [size for size, _ in payload(codec._encode(clip, name, {}, rate=1, bit_rate=60_000))]  # type: ignore[arg-type]
    assert np.mean(sizes) > 0.5 * 7500
    coded = codec.round_trip_at_bit_rate(film(6, 96, 128), name, 20_000)  # type: ignore[arg-type]
    assert np.array_equal(coded, codec.round_trip_at_bit_rate(film(6, 96, 128), name, 20_000))  # type: ignore[arg-type]
    poor, rich = (codec.round_trip_at_bit_rate(clip, name, bits) for bits in (10_000, 100_000))  # type: ignore[arg-type]
    error = [np.square(c.astype(np.float32) - clip).mean() for c in (poor, rich)]
    assert error[1] < 0.9 * error[0]


@pytest.mark.parametrize("name", list(CODECS))
def test_a_gop_is_kept_by_every_codec(name: codec.Codec) -> None:
    clip, quality = film(10, 64, 64), CODECS[name][1]
    keys = {
        gop: sum(key for _, key in payload(codec._encode(clip, name, codec._options(name, quality, "medium", gop))))
        for gop in (3, 200)
    }
    assert keys[200] == 1 and keys[3] >= 4


def test_the_chain_has_its_steps_and_ends_both_ways() -> None:
    clip, ends = film(2, 64, 80), Counter[str]()
    codecs: Counter[str] = Counter()
    for seed in range(24):
        lr, facts = degrade_realbasicvsr(clip, 16, 20, np.random.default_rng(seed))
        assert lr.shape == (2, 16, 20, 3)
        words = [step.split()[0] for step in facts["steps"]]
        assert words[0] == "blur" and words.count("noise") == 2 and words.count("jpeg") == words.count("video") == 2
        assert [w for w in words if w in ("noise", "jpeg", "video")][:3] == ["noise", "jpeg", "video"]
        assert any(step.startswith("resize 20x16") for step in facts["steps"])
        ends["video" if words[-1] == "video" else "resize"] += 1
        codecs.update(step.split()[1] for step in facts["steps"] if step.startswith("video"))
    assert min(ends.values()) > 4 and len(ends) == 2
    assert codecs["x264"] > codecs["mpeg4"] > 4


def test_wide_strengths_reach_over_the_whole_range() -> None:
    drawn = [WideStrength.draw(np.random.default_rng(i)) for i in range(600)]
    encodes = [e for s in drawn for e in s.encodes]
    assert {len(s.encodes) for s in drawn} == {1, 2} and {e.codec for e in encodes} == set(CODECS)
    assert min(e.gop for e in encodes) >= 12 and max(e.gop for e in encodes) <= 250
    for name, (_, low, high) in CODECS.items():
        qualities = [e.quality for e in encodes if e.codec == name]
        assert low <= min(qualities) < low + 0.2 * (high - low) and high - 0.2 * (high - low) < max(qualities) <= high
    for value, share in (("detour", 0.5), ("blur", 0.3), ("noise", 0.5)):
        neutral = 1.0 if value == "detour" else 0.0
        assert abs(np.mean([getattr(s, value) != neutral for s in drawn]) - share) < 0.07


def test_a_second_encode_changes_the_clip_again() -> None:
    clip = film(3, 96, 128)
    seeds = {len(WideStrength.draw(np.random.default_rng(s)).encodes): s for s in range(20)}
    for encodes, seed in seeds.items():
        lr, facts = degrade_web_wide(clip, 24, 32, np.random.default_rng(seed))
        assert len(facts["encodes"]) == encodes and lr.shape == (3, 24, 32, 3)
