"""What comes out: the resampler alone at strength 0, the residual in proportion, exact sizes, one frame for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import synthetic_clip
from torch import Tensor

from duovsr_vs.engine.options import Options
from duovsr_vs.engine.upscaler import Upscaler
from duovsr_vs.errors import FormatError, OptionError
from duovsr_vs.metrics.resample import resize

MARGIN = 24
"""LR pixels by which a frame is continued before it is resampled independently; nothing reaches as far."""


pytestmark = pytest.mark.usefixtures("one_torch_thread")


def upscale(model: Path, clip: list[Tensor], **options: Any) -> list[Tensor]:
    chosen = Options(model=str(model), device="cpu", **{"precision": "float32", **options})
    return list(Upscaler(chosen, clip[0].shape[2], clip[0].shape[1]).stream(clip))


def base_resampler(frame: Tensor) -> Tensor:
    """R, made with the metrics' own resampler in float64: bicubic and two back-projections.

    B is what the enlargement is made of, B = Σ (1 − D·U)^k LR for k = 0, 1, 2; the frame's border pixels go on outside.
    """
    odd = [(0, size % 2) for size in frame.shape[1:]]  # odd sides are made even by one copy of the last line
    even = np.pad(frame.numpy().transpose(1, 2, 0).astype(np.float64), (*odd, (0, 0)), "edge")
    low = np.pad(even, ((MARGIN,) * 2, (MARGIN,) * 2, (0, 0)), "edge")
    h, w = low.shape[:2]
    term, total = low, low
    for _ in range(2):
        term = term - resize(resize(term, 4 * h, 4 * w), h, w)
        total = total + term
    inner = total[MARGIN:-MARGIN, MARGIN:-MARGIN]
    high = torch.from_numpy(resize(inner, 4 * inner.shape[0], 4 * inner.shape[1]).transpose(2, 0, 1).copy())
    return high[:, : 4 * frame.shape[1], : 4 * frame.shape[2]]


@pytest.mark.parametrize(
    ("kind", "height", "width"), [("tiny", 69, 121), ("tiny", 17, 31), ("tiny", 24, 32), ("toy", 17, 31)]
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_strength_0_is_the_base_resampler(
    tiny_model: Path, toy_model: Path, kind: str, precision: str, height: int, width: int
) -> None:
    clip = synthetic_clip(2, height, width)
    clip = [frame + 0.2 * torch.rand(frame.shape, generator=torch.Generator().manual_seed(1)) for frame in clip]
    model = tiny_model if kind == "tiny" else toy_model
    for frame, out in zip(clip, upscale(model, clip, strength=0, precision=precision), strict=True):
        assert float((out - base_resampler(frame)).abs().max()) < 2e-6


@pytest.mark.parametrize(("precision", "error"), [("float32", 2e-6), ("bfloat16", 2e-2)])
def test_output_is_linear_in_strength(tiny_model: Path, precision: str, error: float) -> None:
    clip = synthetic_clip(2, 33, 40)
    none, quarter, full = (upscale(tiny_model, clip, strength=s, precision=precision)[1] for s in (0, 0.25, 1))
    added = full - none
    assert float(added.abs().max()) > 3e-3
    assert float((quarter - none - 0.25 * added).abs().max()) < error * float(added.abs().max()) + 1e-6


def test_linear_in_strength_where_windows_cross_fade(toy_model: Path) -> None:
    clip = synthetic_clip(24, 17, 24)
    none, half, full = (upscale(toy_model, clip, strength=s)[18] for s in (0, 0.5, 1))
    assert float((full - none).abs().max()) > 3e-3
    assert float((half - (none + full) / 2).abs().max()) < 1e-6


def test_the_seed_changes_pixels_and_the_same_seed_does_not(tiny_model: Path) -> None:
    clip = synthetic_clip(2, 33, 40)
    one, again, other = (upscale(tiny_model, clip, seed=seed)[1] for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert float((one - other).abs().max()) > 1e-3


def test_high_bits_of_the_seed_count(tiny_model: Path) -> None:
    clip = synthetic_clip(1, 16, 16)
    low, high = (upscale(tiny_model, clip, seed=seed)[0] for seed in (5, 5 + (1 << 40)))
    assert not torch.equal(low, high)


def test_noise_is_the_same_for_all_frames(tiny_model: Path) -> None:
    """A still picture stays still."""
    out = upscale(tiny_model, synthetic_clip(1, 20, 24) * 4)
    assert all(torch.equal(out[0], frame) for frame in out)


@pytest.mark.parametrize(("width", "height"), [(16, 16), (17, 16), (16, 17), (31, 17), (121, 69)])
def test_any_size_gives_exactly_four_times_it(tiny_model: Path, width: int, height: int) -> None:
    out = upscale(tiny_model, synthetic_clip(1, height, width))
    assert tuple(out[0].shape) == (3, 4 * height, 4 * width)
    assert bool(torch.isfinite(out[0]).all())


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"scale": 1}, (31, 17)),
        ({"scale": 2}, (62, 34)),
        ({"scale": 3}, (93, 51)),
        ({"width": 101}, (101, 55)),
        ({"height": 99}, (181, 99)),
        ({"width": 77, "height": 133}, (77, 133)),
        ({"width": 300, "scale": 2}, (300, 165)),
    ],
)
def test_other_sizes_are_exact_and_show_the_same_picture(
    tiny_model: Path, options: dict[str, int], size: tuple[int, int]
) -> None:
    clip = synthetic_clip(1, 17, 31)
    full, out = upscale(tiny_model, clip)[0], upscale(tiny_model, clip, **options)[0]
    assert (out.shape[2], out.shape[1]) == size
    wanted = resize(full.numpy().transpose(1, 2, 0).astype(np.float64), size[1], size[0])
    assert float(np.abs(out.numpy().transpose(1, 2, 0) - wanted).max()) < 1e-5


@pytest.mark.parametrize("count", [*range(1, 4), 15, 16, 17, 20, 21, 22, 31, 32, 33, 37, 42, 43])
def test_as_many_frames_out_as_in(toy_model: Path, count: int) -> None:
    """Up to two windows of 21 and one."""
    assert len(upscale(toy_model, synthetic_clip(count, 16, 16), precision="auto")) == count


def test_no_frames_give_no_frames(tiny_model: Path) -> None:
    upscaler = Upscaler(Options(model=str(tiny_model), device="cpu"), 32, 32)
    assert list(upscaler.stream([])) == []


def test_input_frames_are_left_as_they_are(toy_model: Path) -> None:
    clip = synthetic_clip(3, 19, 21)
    before = [frame.clone() for frame in clip]
    upscale(toy_model, clip)
    assert all(torch.equal(a, b) for a, b in zip(before, clip, strict=True))


@pytest.mark.parametrize(("width", "height"), [(15, 40), (40, 15), (0, 0)])
def test_too_small_frames_are_refused(tiny_model: Path, width: int, height: int) -> None:
    with pytest.raises(
        FormatError, match=rf"^frames of {width}x{height} cannot be upscaled; each side must be from 16"
    ):
        Upscaler(Options(model=str(tiny_model), device="cpu"), width, height)


@pytest.mark.parametrize("bad", [torch.zeros(3, 24, 31), torch.zeros(1, 24, 32), torch.zeros(3, 24, 32).double()])
def test_a_frame_of_another_kind_is_refused(tiny_model: Path, bad: Tensor) -> None:
    clip = [torch.zeros(3, 24, 32), bad]
    with pytest.raises(FormatError, match=r"^a frame is .* float\d\d; \(3, 24, 32\) float32 RGB is needed"):
        upscale(tiny_model, clip)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 3), (4, 2), (0, 6)])
def test_frames_outside_the_clip_are_refused(tiny_model: Path, start: int, stop: int) -> None:
    clip = synthetic_clip(5, 16, 16)
    upscaler = Upscaler(Options(model=str(tiny_model), device="cpu"), 16, 16)
    with pytest.raises(FormatError, match=f"^frames {start} to {stop} were asked of a clip of 5 frames"):
        list(upscaler.chunk_frames(clip, 0, start, stop, 5))


def test_missing_neighbours_are_refused(tiny_model: Path) -> None:
    clip = synthetic_clip(9, 16, 16)
    upscaler = Upscaler(Options(model=str(tiny_model), device="cpu"), 16, 16)
    with pytest.raises(FormatError, match=r"^frames 3 to 6 are needed, 4 to 6 were given"):
        list(upscaler.chunk_frames(clip[4:6], 4, 4, 5, 9))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("scale", 0), ("scale", 5), ("width", -4), ("height", 10**6), ("strength", 1.5), ("strength", float("nan")),
        ("detail", -0.1), ("seed", -1), ("seed", 1 << 63), ("tile", -1), ("tile_overlap", -8), ("threads", 0),
        ("device", "tpu"), ("device", "cpu:1"), ("precision", "int8"),
    ],
)  # fmt: skip
def test_absurd_options_are_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(OptionError, match=rf"^{option}='?{value}'? .*(must be from|use )"):
        Options(**{option: value})
