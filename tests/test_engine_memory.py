"""Memory: sizes as people write them, an estimate that is true, tiles that fit, and what happens when it runs out."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import random_weights, synthetic_clip

from duovsr_vs.engine.budget import as_size, parse_size
from duovsr_vs.engine.fallback import Fallback, is_out_of_memory
from duovsr_vs.engine.fit import Level, fitting, next_level, tile_to_name
from duovsr_vs.engine.memory import Demand
from duovsr_vs.engine.options import Options
from duovsr_vs.engine.tally import Tally
from duovsr_vs.engine.upscaler import Upscaler
from duovsr_vs.errors import DuoVsrError, OptionError
from duovsr_vs.model.checkpoint import DETAILED, save
from duovsr_vs.model.config import PRESETS, ModelConfig

WIDE = PRESETS["tiny"].with_values(channels=256)
"""Its network takes far more memory than its frames, so that tiles matter, and it sees no further than 32 pixels."""

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "wide.safetensors"
    save(path, WIDE, {DETAILED: random_weights(WIDE, 0)}, {"stages": ["random weights"]})
    return path


def demand(config: ModelConfig = WIDE, width: int = 640, height: int = 360, **more: Any) -> Demand:
    sizes = {"out_width": 4 * width, "out_height": 4 * height, "item": 4, "parameters": 10**6, "on_cpu": True}
    return Demand(config=config, width=width, height=height, **{**sizes, **more})


# -- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("6GB", 6 * 10**9), ("6000MB", 6 * 10**9), ("6GiB", 6 * 2**30), ("0.5GB", 5 * 10**8), (" 12 gb ", 12 * 10**9),
        (".5gib", 2**29), ("1.TB", 10**12), ("1MB", 10**6),
    ],
)  # fmt: skip
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert Options(vram=text).budget == size


@pytest.mark.parametrize(
    "text",
    ["", "6", "GB", "-1GB", "6 G B", "1e3GB", "six GB", "nanGB", "infGB", "6GBs", "0GB", "0.5kb", "٦GB", "9" * 400],
)
def test_what_is_no_size_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(OptionError, match=r"^vram=.*such as 6GB"):
        Options(vram=text)


@pytest.mark.parametrize("size", [10**6, 999_999_999, 10**9 - 1, 10**9, 123_456_789, 6 * 10**9 + 1, 10**12 + 7])
def test_a_size_that_is_named_is_enough_and_not_much_more(size: int) -> None:
    assert size <= parse_size(as_size(size)) <= 1.011 * size + 10**6


# -- the estimate -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("nano", {}), ("nano", {"precision": "bfloat16"}), ("nano", {"strength": 0.0}), ("nano", {"width": 400}),
        ("wide", {}), ("wide", {"tile": 64}), ("wide", {"tile": 64, "tile_overlap": 8}), ("toy-learned", {}),
        ("toy", {}), ("toy", {"precision": "bfloat16"}), ("attentive", {}),
    ],
)  # fmt: skip
def test_every_tensor_of_a_run_is_in_the_estimate(tmp_path: Path, preset: str, options: dict[str, Any]) -> None:
    """What is alive at once in a real run, weights and waiting frames apart, against the count for a GPU."""
    own = {"wide": WIDE, "attentive": PRESETS["toy"].with_values(channels=64, window=4, overlap=1, attention_window=8)}
    config = own.get(preset) or PRESETS[preset]
    model = tmp_path / "model.safetensors"
    save(model, config, {DETAILED: random_weights(config, 0)}, {"stages": ["random weights"]})
    chosen = Options(**{"model": str(model), "device": "cpu", "precision": "float32", "scene_cut": False, **options})
    width, height = (96, 64) if config.window > 4 else (192, 144)
    upscaler = Upscaler(chosen, width, height)
    frames = synthetic_clip(2 * config.window + 1, height, width)
    list(upscaler.stream(frames[:1]))  # fills the caches of constants
    with Tally() as tally:
        deque(upscaler.stream(frames), maxlen=0)
    plan = upscaler.plan
    item = 2 if plan.precision == "bfloat16" else 4
    sizes = {"out_width": plan.out_width, "out_height": plan.out_height, "item": item, "parameters": 0}
    counted = Demand(
        config=config, width=width, height=height, on_cpu=False, exact_base=plan.strength == 0, **sizes
    ).bytes(plan.tile, plan.tile_overlap, 1)
    if plan.tile == 0:  # the noise's share was made before
        counted -= config.channels * item * (width // 2) * (height // 2)
    assert 0.9 < counted / tally.peak < 1.1, (counted, tally.peak)


# -- what fits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vram", ["1.4GB", "1GB", "350MB", "280MB"])
@pytest.mark.parametrize("in_flight", [1, 4])
def test_the_largest_tile_that_fits_is_chosen(vram: str, in_flight: int) -> None:
    options = Options(vram=vram)
    level = fitting(demand(), options, in_flight)
    assert level.overlap == WIDE.receptive_field and options.budget is not None
    assert level.needs(demand()) <= options.budget
    larger = Level(level.tile + WIDE.tile_step, level.overlap, level.in_flight)
    assert level.tile == 0 or larger.needs(demand()) > options.budget


def test_a_budget_that_is_large_enough_changes_nothing(wide_model: Path) -> None:
    plain, limited = (Upscaler(Options(model=str(wide_model), device="cpu", vram=v), 64, 48) for v in (None, "9GB"))
    assert plain.plan == limited.plan and not plain.plan.fitted


def test_frames_in_flight_are_lowered_where_no_tile_fits_otherwise() -> None:
    least = min(Level(tile, 32, 4).needs(demand()) for tile in range(32, 360, 2))
    level = fitting(demand(), Options(vram=as_size(0.5 * least)), 4)
    assert level.in_flight == 1


def test_what_is_refused_names_the_smallest_budget_and_that_one_fits() -> None:
    with pytest.raises(OptionError, match=r"^frames of 640x360 take .*, vram=20MB allows less; give vram=") as refused:
        fitting(demand(), Options(vram="20MB"), 4)
    named = str(refused.value).rpartition("vram=")[2]
    assert fitting(demand(), Options(vram=named), 4).in_flight == 1


def test_a_given_tile_that_does_not_fit_is_refused_with_one_that_does() -> None:
    with pytest.raises(OptionError, match=r"with tile=300 take .*; tile=\d+ fits, or give vram=") as refused:
        fitting(demand(), Options(vram="400MB", tile=300), 1)
    tile = int(str(refused.value).partition("; tile=")[2].split()[0])
    assert fitting(demand(), Options(vram="400MB", tile=tile), 1).tile == tile


def test_the_plan_says_what_the_budget_changed(wide_model: Path) -> None:
    options = {"model": str(wide_model), "device": "cpu", "precision": "float32", "threads": 1}
    whole = Upscaler(Options(**options), 320, 256)
    limited = Upscaler(Options(**options, vram=as_size(0.85 * whole.plan.memory_bytes)), 320, 256)
    text = f"tiles of {limited.plan.tile} for vram={limited.options.vram}"
    assert limited.plan.tile and any(text in line for line in limited.plan.lines())
    frames = synthetic_clip(1, 256, 320)
    pairs = zip(whole.stream(frames), limited.stream(frames), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert whole.plan.pixels() == limited.plan.pixels()


# -- memory that runs out ---------------------------------------------------------------------------------------------

SHORT_OF_MEMORY = """
import resource, sys, torch
from duovsr_vs.engine.options import Options
from duovsr_vs.engine.tally import Tally
from duovsr_vs.engine.upscaler import Upscaler
options = Options(model=sys.argv[1], device="cpu", precision="float32", threads=1, scene_cut=False)
frame = torch.rand(3, 384, 384)
wanted = next(iter(Upscaler(options, 384, 384).stream([frame])))
for spare in range(160, 4, -12):
    upscaler = Upscaler(options, 384, 384)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + spare * 10**6, -1))
    got = next(iter(upscaler.stream([frame])))
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    assert torch.equal(got, wanted)
    if upscaler.memory_note:
        print(upscaler.memory_note)
        break
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits and statm are Linux's")
def test_memory_that_really_runs_out_changes_no_bit(wide_model: Path) -> None:
    """The process is left less and less, until whole frames do not fit any more."""
    command = [sys.executable, "-c", SHORT_OF_MEMORY, str(wide_model)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("memory ran out ") and result.stdout.endswith(", with the same pixels\n")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
def test_memory_that_really_runs_out_on_a_gpu_is_noted(wide_model: Path) -> None:
    device = torch.device("cuda:0")
    options = Options(model=str(wide_model), device="cuda:0", precision="float32", scene_cut=False)
    frames = synthetic_clip(2, 512, 512)
    wanted = list(Upscaler(options, 512, 512).stream(frames))
    torch.cuda.empty_cache()
    upscaler = Upscaler(options, 512, 512)
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 230e6) / total)
    try:
        got = list(upscaler.stream(frames))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert upscaler.memory_note and upscaler.memory_note.startswith("memory ran out")
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(got, wanted, strict=True))


def test_exact_tiles_are_halved_down_to_the_smallest_and_frames_in_flight_lowered_once() -> None:
    level, seen = Level(0, 32, 4), []
    while (found := next_level(demand(), level, True)) is not None:
        seen.append(found)
        level = found
    assert len(seen) < 12 and seen[-1] == Level(32, 32, 1)
    sides = [each.tile for each in seen]
    assert sides == sorted(sides, reverse=True)


def test_where_tiles_are_not_exact_only_the_frames_in_flight_are_lowered() -> None:
    assert next_level(demand(), Level(0, 8, 4), False) == Level(0, 8, 1)
    assert next_level(demand(), Level(0, 8, 1), False) is None
    tile = tile_to_name(demand(), Level(0, 8, 1))
    assert tile and Level(tile, 8, 1).needs(demand()) < 0.95 * Level(0, 8, 1).needs(demand())


def test_a_failure_that_no_smaller_tile_cures_ends_in_a_sentence() -> None:
    tried: list[Level] = []

    def never() -> torch.Tensor:
        return torch.empty(2**60)  # more than any machine has

    exact = Fallback(demand(), Level(0, 32, 2), True, tried.append)
    with pytest.raises(DuoVsrError, match=r"^there is not enough memory for frames of 640x360, made from tiles of 32"):
        exact.run(never)
    assert tried[-1] == Level(32, 32, 1) and exact.steps == len(tried)
    inexact = Fallback(demand(), Level(0, 8, 2), False, tried.append)
    with pytest.raises(DuoVsrError, match=r"made from whole frames, one frame at a time; give --tile \d+$"):
        inexact.run(never)


def test_other_failures_are_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError) as failed:
        torch.ones(2) + torch.ones(3)
    assert not is_out_of_memory(failed.value) and is_out_of_memory(MemoryError())
    with pytest.raises(RuntimeError, match="must match"):
        Fallback(demand(), Level(0, 32, 1), True, lambda level: None).run(lambda: torch.ones(2) + torch.ones(3))
