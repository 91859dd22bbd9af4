"""Tiles with the default halo change no bit, whatever the sizes; smaller halos are said to be inexact."""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch
from conftest import synthetic_clip
from torch import Tensor

from duovsr_vs.engine.machine import has_bfloat16_arithmetic
from duovsr_vs.engine.options import Options
from duovsr_vs.engine.tiles import CHOSEN_TILE, LARGEST_WHOLE, resolve_tile, split
from duovsr_vs.engine.upscaler import Upscaler
from duovsr_vs.errors import OptionError
from duovsr_vs.model.config import CELL, PRESETS

NEEDS_BFLOAT16 = pytest.mark.skipif(not has_bfloat16_arithmetic(), reason="no bfloat16 here")
PRECISIONS = ["float32", pytest.param("bfloat16", marks=NEEDS_BFLOAT16)]

SIZES = [(121, 69), (17, 131), (150, 16), (65, 64), (100, 98)]
TILED = [(*size, tile) for size in SIZES for tile in (32, 34, 64, 98) if tile < max(size)]
"""(width, height, tile): whole and last tiles, wide and narrow, some of them thinner than the halo."""
RUNS = [pytest.param("float32", *tiled) for tiled in TILED]
RUNS += [pytest.param("bfloat16", *tiled, marks=NEEDS_BFLOAT16) for tiled in TILED]


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@cache
def upscaled(model: Path, precision: str, width: int, height: int, tile: int, overlap: int = 0) -> Tensor:
    """The middle frame of a short clip."""
    options = Options(model=str(model), device="cpu", precision=precision, tile=tile, tile_overlap=overlap)
    upscaler = Upscaler(options, width, height)
    assert upscaler.plan.tile == tile
    return list(upscaler.stream(synthetic_clip(3, height, width)))[1]


@pytest.mark.parametrize(("precision", "width", "height", "tile"), RUNS)
def test_tiles_change_no_bit_frame_by_frame(
    tiny_model: Path, precision: str, width: int, height: int, tile: int
) -> None:
    whole = upscaled(tiny_model, precision, width, height, 0)
    tiled = upscaled(tiny_model, precision, width, height, tile)
    assert float((whole - tiled).abs().max()) == 0


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("width", "height", "tile"), [(121, 69, 64), (75, 24, 32), (16, 103, 40)])
def test_tiles_change_no_bit_with_a_learned_codec(
    learned_model: Path, precision: str, width: int, height: int, tile: int
) -> None:
    whole = upscaled(learned_model, precision, width, height, 0)
    tiled = upscaled(learned_model, precision, width, height, tile)
    assert float((whole - tiled).abs().max()) == 0


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("width", "height", "tile"), [(121, 69, 64), (75, 24, 32), (16, 103, 40)])
def test_tiles_change_no_bit_in_windows_with_attention(
    toy_model: Path, precision: str, width: int, height: int, tile: int
) -> None:
    whole = upscaled(toy_model, precision, width, height, 0)
    tiled = upscaled(toy_model, precision, width, height, tile)
    assert float((whole - tiled).abs().max()) == 0


def test_a_halo_below_the_receptive_field_shows_in_pixels_and_plan(tiny_model: Path) -> None:
    """Were it not so, the tests above would compare nothing."""
    whole, cut = (upscaled(tiny_model, "float32", 100, 98, tile, 2) for tile in (0, 32))
    assert float((whole - cut).abs().max()) > 1e-4
    for overlap, exact in ((2, False), (0, True), (64, True)):
        options = Options(model=str(tiny_model), device="cpu", tile=32, tile_overlap=overlap)
        assert Upscaler(options, 100, 98).plan.exact_tiles is exact


@pytest.mark.parametrize(
    ("height", "width", "tile", "overlap"), list(product((8, 35, 61), (9, 50), (0, 32, 48), (2, 34)))
)
def test_inner_parts_cover_each_position_once(height: int, width: int, tile: int, overlap: int) -> None:
    count = torch.zeros(height, width, dtype=torch.int64)
    for part in split(height, width, tile, overlap):
        y0, y1, x0, x1 = part.inner
        top, bottom, left, right = part.outer
        count[y0:y1, x0:x1] += 1
        ys, xs = part.crop
        whole = torch.arange(height * width).reshape(height, width)
        assert torch.equal(whole[top:bottom, left:right][ys, xs], whole[y0:y1, x0:x1])
        if tile:
            for inner, outer, end in ((y0, top, 0), (y1, bottom, height), (x0, left, 0), (x1, right, width)):
                assert outer == end or abs(inner - outer) == overlap // CELL
    assert bool((count == 1).all())


@pytest.mark.parametrize("preset", ["tiny", "toy-learned"])
def test_receptive_field_is_what_really_reaches_a_pixel(preset: str, tiny_model: Path, learned_model: Path) -> None:
    """A changed LR pixel reaches output pixels up to, and none beyond, the halo."""
    clip = synthetic_clip(3, 40, 140)
    changed = [frame.clone() for frame in clip]
    changed[1][:, 20, 70] += 0.3
    model = tiny_model if preset == "tiny" else learned_model
    options = Options(model=str(model), device="cpu", precision="float32", scene_cut=False)
    one, other = (list(Upscaler(options, 140, 40).stream(frames))[1] for frames in (clip, changed))
    columns = (one != other).any(0).any(0).nonzero().flatten()
    reach = max(4 * 70 - int(columns.min()), int(columns.max()) - 4 * 71 + 1) / 4
    halo = PRESETS[preset].receptive_field
    assert halo / 3 < reach <= halo


def test_chosen_tile_depends_on_model_and_size_only() -> None:
    config = PRESETS["tiny"]
    assert resolve_tile(config, 1024, 1024, 0, 0)[0] == 0
    assert resolve_tile(config, LARGEST_WHOLE // 512 + 2, 512, 0, 0)[0] == CHOSEN_TILE
    assert resolve_tile(config, 300, 200, 300, 0)[0] == 0
    for preset in PRESETS.values():
        tile, overlap = resolve_tile(preset, 500, 500, 33, 1)
        assert tile % preset.tile_step == 0 and tile >= 33
        assert overlap % preset.tile_step == 0 and overlap >= 1
        assert resolve_tile(preset, 500, 500, 64, 0)[1] == preset.receptive_field


@pytest.mark.parametrize("tile", [1, 31])
def test_too_small_tiles_are_refused_in_a_sentence(tiny_model: Path, tile: int) -> None:
    with pytest.raises(OptionError, match=rf"^tile={tile} is too small; use 0 .* or 32"):
        Upscaler(Options(model=str(tiny_model), device="cpu", tile=tile), 64, 48)
