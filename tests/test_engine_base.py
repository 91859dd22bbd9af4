"""The `base` family in the engine: order, splits, cuts and sizes change nothing; tiles blend; what is not finite."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from base_files import KINDS, base_weights, write_base
from conftest import synthetic_clip
from torch import Tensor

from duovsr_vs.engine.machine import has_bfloat16_arithmetic
from duovsr_vs.engine.noise import noise_field, noise_frame
from duovsr_vs.engine.options import Options
from duovsr_vs.engine.steady import gelu, silu
from duovsr_vs.engine.tiles import ramp, split_in_step
from duovsr_vs.engine.upscaler import Upscaler
from duovsr_vs.engine.wan import groups_of, shrunk
from duovsr_vs.engine.wan_memory import WanDemand
from duovsr_vs.engine.windows import Grid
from duovsr_vs.errors import DuoVsrError
from duovsr_vs.model.checkpoint import DETAILED, save
from duovsr_vs.model.config import CELL
from duovsr_vs.model.resample import shrink
from duovsr_vs.model.wan.config import PRESETS

pytestmark = pytest.mark.usefixtures("one_torch_thread")
SHORT = {"window": 5, "overlap": 1, "chunk": 4}
"""Windows for the slower kind, and for tests of which time is no part."""
WINDOWS = {"base-tiny": SHORT, "base-tiny-light": {}}
STRIDE = {"base-tiny": 4, "base-tiny-light": PRESETS["base-tiny-light"].stride}
CUT = 3
FLOATS = ["float32", pytest.param("bfloat16", marks=pytest.mark.skipif(
    not has_bfloat16_arithmetic(), reason="this CPU has no bfloat16 arithmetic"))]  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {kind: write_base(folder / f"{kind}.safetensors", kind, **WINDOWS[kind]) for kind in KINDS}


def engine(model: Path, width: int, height: int, **options: Any) -> Upscaler:
    return Upscaler(Options(**{"model": str(model), "device": "cpu", "precision": "float32", **options}), width, height)


def upscale(model: Path, clip: list[Tensor], **options: Any) -> list[Tensor]:
    return list(engine(model, clip[0].shape[2], clip[0].shape[1], **options).stream(clip))


@cache
def streamed(model: Path, precision: str) -> list[Tensor]:
    """All frames of a clip with a cut, in order."""
    return upscale(model, clip_for(model), precision=precision)


def clip_for(model: Path) -> list[Tensor]:
    """Two windows and a bit, with a cut."""
    return synthetic_clip(2 * STRIDE[model.stem] + 3, 16, 20, cut=CUT)


def same(found: list[Tensor], wanted: list[Tensor]) -> bool:
    return len(found) == len(wanted) and all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def decibel(one: Tensor, other: Tensor) -> float:
    """PSNR of frames in [0, 1]."""
    return -10 * float((one - other).double().square().mean().log10())


# -- promises ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, count",
    [("base-tiny", n) for n in (1, 2, 4, 5, 11)] + [("base-tiny-light", n) for n in (1, 2, 8, 9, 13, 14, 27)],
)
def test_as_many_frames_come_out_as_went_in_four_times_as_large(files: dict[str, Path], kind: str, count: int) -> None:
    out = upscale(files[kind], synthetic_clip(count, 17, 19))
    assert len(out) == count and {tuple(frame.shape) for frame in out} == {(3, 68, 76)}
    assert all(bool(torch.isfinite(frame).all()) for frame in out)


@pytest.mark.parametrize("width, height", [(19, 17), (18, 22), (16, 16), (21, 24)])
@pytest.mark.parametrize("kind", KINDS)
def test_strength_0_is_the_base_resampler_bit_for_bit(
    files: dict[str, Path], tiny_model: Path, kind: str, width: int, height: int
) -> None:
    clip = synthetic_clip(3, height, width)
    assert same(upscale(files[kind], clip, strength=0.0), upscale(tiny_model, clip, strength=0.0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_shrinks_back_to_its_lr(files: dict[str, Path], kind: str) -> None:
    clip = synthetic_clip(1, 24, 32)
    out, base = (upscale(files[kind], clip, strength=strength)[0] for strength in (1.0, 0.0))
    assert decibel(out, base) < 40, "there is something to be made consistent"
    assert decibel(shrink(out), clip[0]) > 50


@pytest.mark.parametrize("precision", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_neither_order_nor_split_changes_a_bit(files: dict[str, Path], kind: str, precision: str) -> None:
    wanted, clip = streamed(files[kind], precision), clip_for(files[kind])
    length, stride = len(clip), STRIDE[kind]
    upscaler = engine(files[kind], 20, 16, precision=precision)

    def ask(start: int, stop: int) -> list[Tensor]:
        first, last = upscaler.inputs(start, stop, length)
        return list(upscaler.chunk_frames(clip[first:last], first, start, stop, length))

    for n in random.Random(1).sample([CUT - 1, CUT, 2 * stride - 1, length - 1], 4):
        assert same(ask(n, n + 1), wanted[n : n + 1]), f"frame {n}"
    for start, stop in pairwise([0, stride + 1, length]):
        assert same(ask(start, stop), wanted[start:stop]), f"frames {start} to {stop}"


@pytest.mark.parametrize("operation, plain", [(silu, F.silu), (gelu, lambda x: F.gelu(x, approximate="tanh"))])
def test_activations_made_of_exp_are_those_of_torch(
    operation: Callable[[Tensor], Tensor], plain: Callable[[Tensor], Tensor]
) -> None:
    x = torch.cat((torch.linspace(-30, 30, 4001), torch.tensor([-1e30, 1e30])))
    assert float((operation(x) - plain(x)).abs().nan_to_num(0).max()) < 2e-6
    assert bool(torch.isfinite(operation(x)).all())


@pytest.mark.parametrize("precision", FLOATS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_threads_changes_no_bit(files: dict[str, Path], kind: str, precision: str) -> None:
    wanted, clip = streamed(files[kind], precision)[:1], clip_for(files[kind])
    for count in (2, 3):
        torch.set_num_threads(count)
        upscaler = engine(files[kind], 20, 16, precision=precision)
        assert same(list(upscaler.chunk_frames(clip, 0, 0, 1, len(clip))), wanted), f"{count} threads"


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_reaches_over_a_cut(files: dict[str, Path], kind: str) -> None:
    clip = synthetic_clip(CUT + 2, 16, 20, cut=CUT)
    cuts = [n == CUT for n in range(CUT + 2)]
    changed = clip[:CUT] + [frame * 0.5 for frame in clip[CUT:]]
    one, two = (list(engine(files[kind], 20, 16).stream(frames, cuts)) for frames in (clip, changed))
    assert same(one[:CUT], two[:CUT]) and not torch.equal(one[CUT], two[CUT])
    one, two = (upscale(files[kind], frames, scene_cut=False) for frames in (clip, changed))
    assert not torch.equal(one[CUT - 1], two[CUT - 1]), "otherwise this test shows nothing"


@pytest.mark.parametrize("kind", KINDS)
def test_the_result_is_linear_in_strength_where_windows_cross_fade(files: dict[str, Path], kind: str) -> None:
    clip = synthetic_clip(STRIDE[kind] + 1, 16, 20)  # its frame before the last is of two windows
    none, half, full = (upscale(files[kind], clip, strength=strength)[-2] for strength in (0.0, 0.5, 1.0))
    assert float((full - none).abs().max()) > 0.02
    assert float((half - (none + full) / 2).abs().max()) < 2e-6


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_differ_and_the_same_seed_does_not(files: dict[str, Path], kind: str) -> None:
    clip = synthetic_clip(1, 16, 20)
    one, again, other = (upscale(files[kind], clip, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


# -- noise ------------------------------------------------------------------------------------------------------------


def test_noise_is_a_function_of_seed_place_and_group() -> None:
    field = noise_frame(7, 3, 40, 50, 16)
    assert torch.equal(noise_frame(7, 3, 20, 33, 16), field[:, :20, :33])
    others = [noise_frame(7, 4, 40, 50, 16), noise_frame(8, 3, 40, 50, 16), noise_field(7, 40, 50, 16)]
    assert all(abs(float((field * other).mean())) < 0.03 for other in others)
    assert abs(float(field.std()) - 1) < 0.02


@pytest.mark.parametrize("length, overlap", [(21, 5), (13, 5), (9, 1), (5, 1), (29, 13)])
def test_frames_that_windows_share_belong_to_the_same_groups_of_noise(length: int, overlap: int) -> None:
    grid = Grid(length, overlap)

    def groups(window: int) -> dict[int, int]:
        first = grid.first_frame(window)
        numbers = groups_of(first, length, overlap)
        assert numbers[0] >= 0
        return {first + n: numbers[(n + 3) // 4] for n in range(length)}

    for window in range(4):
        one, next_one = groups(window), groups(window + 1)
        assert len(one.keys() & next_one.keys()) == overlap
        assert all(one[n] == next_one[n] for n in one.keys() & next_one.keys())


# -- space ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size, tile, reach", [(100, 32, 4), (65, 64, 16), (64, 32, 16), (33, 32, 8), (40, 64, 8)])
def test_the_weights_of_tiles_sum_to_one(size: int, tile: int, reach: int) -> None:
    total = torch.zeros(4 * size, dtype=torch.float64)
    for first in range(0, size, tile):
        start, stop, weights = ramp(first, min(first + tile, size), size, reach)
        assert min(weights) >= 0 and len(weights) == 4 * (stop - start)
        total[4 * start : 4 * stop] += torch.tensor(weights, dtype=torch.float64)
    assert float((total - 1).abs().max()) < 1e-12


def test_shrinking_is_that_of_the_resampler() -> None:
    x = torch.rand(2, 3, 48, 64)
    assert float((shrunk(x) - shrink(x)).abs().max()) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_are_near_the_whole_frame(tmp_path: Path, kind: str) -> None:
    model = write_base(tmp_path / "model.safetensors", kind, **SHORT)
    clip = synthetic_clip(1, 26, 76)
    whole = upscale(model, clip)[0]
    upscaler = engine(model, 76, 26, tile=32)
    tiled = next(upscaler.stream(clip))
    assert upscaler.plan.tile == 32 and upscaler.plan.tile_overlap == 16 and not upscaler.plan.exact_tiles
    assert any("cross-faded" in line for line in upscaler.plan.lines())
    assert not torch.equal(whole, tiled)
    assert decibel(whole, tiled) >= 55


def test_what_a_tile_sees_starts_where_a_window_of_attention_does() -> None:
    for size, tile, halo in ((76, 32, 16), (200, 48, 8), (40, 32, 16), (300, 64, 32), (33, 32, 8)):
        parts = split_in_step(10, size // CELL, tile, halo)
        inner = sorted({each.inner[2:] for each in parts})
        assert inner[0][0] == 0 and inner[-1][1] == size // CELL
        assert all(a[1] == b[0] for a, b in pairwise(inner))
        assert all(CELL * each.outer[2] % tile == 0 for each in parts)
        assert all(2 * (end - start) >= halo for start, end in inner[1:])


def test_tiles_are_whole_windows_of_attention() -> None:
    assert PRESETS["base"].receptive_field == 32
    for given, tile in ((0, 256), (33, 64), (64, 64), (100, 128)):
        size = {"width": 960, "height": 540, "out_width": 3840, "out_height": 2160}
        assert WanDemand(config=PRESETS["base"], item=2, on_cpu=False, **size).resolve_tile(given, 0) == (tile, 32)


# -- what is not finite -----------------------------------------------------------------------------------------------


def broken(path: Path, kind: str, value: float) -> Path:
    """Weights whose first bias of the last convolution is `value`."""
    config = PRESETS[kind].with_values(**SHORT)
    weights = base_weights(config)
    name = "autoencoder.decoder.head.2.bias" if kind == "base-tiny" else "light_decoder.out.bias"
    weights[name][0] = value
    save(path, config, {DETAILED: weights}, {"stages": ["random weights"]})
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_what_overflows_is_made_again_in_float32_and_counted(tmp_path: Path, kind: str) -> None:
    path = broken(tmp_path / "model.safetensors", kind, 3.4e38)  # finite in float32; bfloat16 rounds it to infinity
    upscaler = engine(path, 20, 16, precision="bfloat16")
    next(upscaler.stream(synthetic_clip(1, 16, 20)))
    assert upscaler.redone == upscaler.plan.window


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_without_numbers_is_refused_in_a_sentence(tmp_path: Path, kind: str) -> None:
    path = broken(tmp_path / "model.safetensors", kind, float("nan"))
    with pytest.raises(DuoVsrError, match=r"^the model's output is not finite even in float32; .* use another model$"):
        upscale(path, synthetic_clip(1, 16, 20), precision="bfloat16")


def test_a_sound_model_redoes_nothing(files: dict[str, Path]) -> None:
    upscaler = engine(files["base-tiny"], 20, 16, precision="bfloat16")
    next(upscaler.stream(synthetic_clip(1, 16, 20)))
    assert upscaler.redone == 0
