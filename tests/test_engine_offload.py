"""Memory of the `base` family: an estimate that is true, budgets, and weights that wait in main memory."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch
from base_files import KINDS, base_weights, write_base
from conftest import synthetic_clip
from torch import nn

from duovsr_vs.engine.fallback import Fallback
from duovsr_vs.engine.fit import Level, fitted_text, fitting, next_level
from duovsr_vs.engine.offload import Streamed
from duovsr_vs.engine.options import Options
from duovsr_vs.engine.tally import Tally
from duovsr_vs.engine.upscaler import Upscaler
from duovsr_vs.engine.wan import WanRenderer
from duovsr_vs.engine.wan_memory import WanDemand, weights_of
from duovsr_vs.errors import OptionError
from duovsr_vs.model.wan.config import PRESETS, BaseConfig
from duovsr_vs.model.wan.generator import WanGenerator

pytestmark = pytest.mark.usefixtures("one_torch_thread")
GB = 10**9
SHORT = {"window": 5, "overlap": 1, "chunk": 4}
"""Windows for tests of which time is no part."""


def demand(config: BaseConfig, width: int, height: int, on_cpu: bool = False, item: int = 2) -> WanDemand:
    sizes = {"out_width": 4 * width, "out_height": 4 * height, "item": item, "on_cpu": on_cpu}
    return WanDemand(config=config, width=width, height=height, **sizes)


# -- streamed blocks --------------------------------------------------------------------------------------------------


def blocks(count: int) -> nn.ModuleList:
    torch.manual_seed(count)
    return nn.ModuleList(
        nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 6), nn.BatchNorm1d(6)) for _ in range(count)
    ).eval()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_streamed_blocks_come_in_their_order_with_their_own_weights(count: int) -> None:
    x, plain = torch.randn(4, 6), blocks(count)
    for number, block in enumerate(plain):
        block[3].running_mean.fill_(number)  # a buffer
    wanted = x
    with torch.inference_mode():
        for block in plain:
            wanted = block(wanted)
        streamed = Streamed(plain, torch.device("cpu"), torch.float32)
        for _ in range(2):
            found = x
            for block in streamed:
                found = block(found)
            assert torch.equal(found, wanted)
    assert streamed.count == count and len(plain) == 0


def test_no_more_than_two_blocks_lie_on_the_device() -> None:
    one, many = (sum(p.numel() for p in Streamed(blocks(n), torch.device("cpu"), torch.float32).parameters())
                 for n in (1, 7))  # fmt: skip
    assert one == many == 2 * sum(p.numel() for p in blocks(1).parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_in_main_memory_change_no_bit(kind: str, dtype: torch.dtype) -> None:
    config = PRESETS[kind]
    generator = WanGenerator(config).eval().requires_grad_(False)
    generator.load_state_dict(base_weights(config))
    frames = torch.stack(synthetic_clip(config.window + 2, 16, 20))
    device = torch.device("cpu")
    with torch.inference_mode():
        found, wanted = (
            WanRenderer(generator, device, dtype, 20, 16, Level(0, 16, 1, offload), 0).window(frames, -5)
            for offload in (True, False)
        )
    assert torch.equal(found.residual, wanted.residual) and torch.equal(found.seen, wanted.seen)


def test_weights_that_are_moved_out_in_the_middle_of_a_run_change_no_bit(tmp_path: Path) -> None:
    model = write_base(tmp_path / "model.safetensors", "base-tiny-light", **SHORT)
    options = Options(model=str(model), device="cpu", precision="float32", scene_cut=False)
    clip = synthetic_clip(7, 16, 20)
    wanted = list(Upscaler(options, 20, 16).stream(clip))
    upscaler, failures = Upscaler(options, 20, 16), iter([False, False, True])
    size, whole = demand(PRESETS["base"], 320, 180), upscaler._renderer

    def made(n: int) -> torch.Tensor:
        if next(failures, False):
            raise torch.OutOfMemoryError("out of memory")
        return next(upscaler.chunk_frames(clip, 0, n, n + 1, 7))

    fallback = Fallback(size, Level(0, 16, 1), False, whole.use)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "empty_cache", lambda: None)
        found = [fallback.run(lambda n=n: made(n)) for n in range(7)]
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert fallback.level == Level(0, 16, 1, True)
    assert fallback.note and "whole frames, weights in main memory, with the same pixels" in fallback.note
    assert next_level(size, fallback.level, False) is None


def test_the_models_own_weights_stay_as_they_are() -> None:
    config = PRESETS["base-tiny"]
    generator = WanGenerator(config)
    generator.load_state_dict(base_weights(config))
    for offload in (False, True):
        WanRenderer(generator, torch.device("cpu"), torch.bfloat16, 20, 16, Level(0, 16, 1, offload), 0)
    wanted = base_weights(config)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in generator.state_dict().items())


# -- the estimate -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("tile", [0, 32])
@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_of_a_run_is_in_the_estimate(tmp_path: Path, kind: str, tile: int, precision: str) -> None:
    """What is alive at once in a real run, weights apart."""
    model, (width, height) = write_base(tmp_path / "model.safetensors", kind, **SHORT), (72, 40)
    options = Options(model=str(model), device="cpu", precision=precision, scene_cut=False, tile=tile)
    upscaler = Upscaler(options, width, height)
    frames = synthetic_clip(SHORT["window"], height, width)
    next(upscaler.stream(frames))  # makes the tables that are kept
    with Tally() as tally:
        deque(upscaler.stream(frames), maxlen=0)
    item = 2 if precision == "bfloat16" else 4
    counted = demand(PRESETS[kind].with_values(**SHORT), width, height, True, item).working(
        tile, upscaler.plan.tile_overlap
    )
    assert 0.9 < counted / tally.peak < 1.1, (counted, tally.peak)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_counted_without_making_them(kind: str) -> None:
    config = PRESETS[kind]
    generator = WanGenerator(config)
    renderer = WanRenderer(generator, torch.device("cpu"), torch.float32, 20, 16, Level(0, 16, 1), 0)
    real = sum(tensor.nbytes for part in (renderer.fast.transformer, renderer.fast.codec)
               for tensor in (*part.parameters(), *part.buffers()))  # fmt: skip
    assert weights_of(config, 4).on_device(False) == real


# -- what fits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, vram", [("base", "8GB"), ("base-fast", "6GB")])
def test_the_large_models_fit_small_cards_at_720p(name: str, vram: str) -> None:
    """By the numbers: nothing is loaded."""
    options, size = Options(vram=vram), demand(PRESETS[name], 320, 180)
    level = fitting(size, options, 1)
    assert level.needs(size) <= (options.budget or 0)
    assert level.overlap == PRESETS[name].receptive_field
    assert level.offload == (name == "base"), "the light pair leaves room for all weights"
    assert ("weights in main memory" in fitted_text(size, options, level, 1)) == level.offload


def test_weights_are_moved_out_before_tiles_are_made_smaller() -> None:
    size = demand(PRESETS["base"], 320, 180)
    whole, moved = (size.bytes(0, 32, 1, offload) for offload in (False, True))
    assert whole - moved > 2 * GB
    options = Options(vram=f"{(whole + moved) // 2 // 10**6}MB")
    assert fitting(size, options, 1) == Level(0, 32, 1, True)
    assert fitting(size, Options(vram="1TB"), 1) == Level(0, 32, 1, False)


def test_on_a_cpu_nothing_is_moved_out() -> None:
    tiny = PRESETS["base-tiny"].with_values(**SHORT)
    least = demand(tiny, 64, 48, True).bytes(32, 16, 1)
    assert not fitting(demand(tiny, 64, 48, True), Options(vram=f"{least // 10**6 + 2}MB"), 1).offload


def test_a_budget_that_nothing_fits_names_one_that_does() -> None:
    size = demand(PRESETS["base"], 320, 180)
    with pytest.raises(
        OptionError, match=r"^frames of 320x180 take .* at least, vram=1GB allows less; give vram="
    ) as no:
        fitting(size, Options(vram="1GB"), 1)
    named = str(no.value).rpartition("vram=")[2]
    assert fitting(size, Options(vram=named), 1).offload


def test_a_given_tile_is_kept_and_its_weights_moved_out() -> None:
    size = demand(PRESETS["base"], 320, 180)
    needed = size.bytes(128, 32, 1, True)
    options = Options(vram=f"{needed // 10**6 + 1}MB", tile=100)
    assert fitting(size, options, 1) == Level(128, 32, 1, True)


def test_the_plan_says_what_the_budget_changed(tmp_path: Path) -> None:
    model = write_base(tmp_path / "model.safetensors", "base-tiny", **SHORT)
    chosen: dict[str, Any] = {"model": str(model), "device": "cpu", "precision": "float32"}
    whole = Upscaler(Options(**chosen), 96, 64).plan
    limited = Upscaler(Options(**chosen, vram=f"{whole.memory_bytes * 8 // 10 // 10**6}MB"), 96, 64).plan
    assert whole.tile == 0 and limited.tile >= 32
    assert any(f"tiles of {limited.tile} for vram=" in line for line in limited.lines())
    assert whole.pixels() != limited.pixels() and limited.offload is False
