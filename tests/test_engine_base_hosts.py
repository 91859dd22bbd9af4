"""A file of the `base` family through the command line, the filter and the nodes: the pixels of the engine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from base_files import KINDS, write_base
from comfy_fake import Host, running
from conftest import synthetic_clip
from filter_clips import clip_of, core, engine_frames, fetch
from video_files import decoded, make_video, planes

from duovsr_vs.engine.options import Options
from duovsr_vs.engine.upscaler import Upscaler

pytestmark = pytest.mark.usefixtures("one_torch_thread")
Cli = Callable[..., tuple[int, str, str]]
LENGTH = 7


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / f"{request.param}.safetensors"
    return write_base(path, request.param, window=5, overlap=1, chunk=4)


def test_a_part_of_a_video_has_the_pixels_of_the_whole(tmp_path: Path, model: Path, cli: Cli) -> None:
    source = make_video(tmp_path / "a.mkv", LENGTH, size=(20, 16), codec="ffv1", pix_fmt="yuv444p")
    common = ["--codec", "ffv1", "--overwrite", "--no-scene-cut", "--model", model]
    code, _, err = cli("upscale", source, "-o", tmp_path / "whole.mkv", *common)
    assert code == 0 and "windows of 5, overlap 1" in err and f"model    {model.stem}" in err
    whole = decoded(tmp_path / "whole.mkv")
    assert len(whole) == LENGTH and (whole[0].width, whole[0].height) == (80, 64)
    assert cli("upscale", source, "-o", tmp_path / "part.mkv", "--start", 3, "--frames", 3, *common)[0] == 0
    for a, b in zip(decoded(tmp_path / "part.mkv"), whole[3:6], strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(planes(a), planes(b), strict=True))


def test_a_budget_that_is_too_small_is_one_sentence_on_the_command_line(tmp_path: Path, model: Path, cli: Cli) -> None:
    source = make_video(tmp_path / "a.mkv", 1, size=(64, 48), codec="ffv1", pix_fmt="yuv444p")
    code, _, err = cli("upscale", source, "-o", tmp_path / "b.mkv", "--model", model, "--vram", "1MB")
    assert code == 2 and "frames of 64x48 take" in err and "give vram=" in err and "Traceback" not in err


def test_the_filter_gives_the_engines_frames_in_any_order(model: Path) -> None:
    frames = synthetic_clip(LENGTH, 16, 20)
    upscaled = core.duovsr.Upscale(clip_of(frames), model=str(model))
    found = fetch(upscaled, [5, 0, 3, 6, 1])
    wanted = engine_frames(frames, model)
    assert all(found[n] == [plane.numpy().tobytes() for plane in wanted[n]] for n in found)


def test_the_nodes_give_the_engines_frames(tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "models" / "duovsr"
    folder.mkdir(parents=True)
    shutil.copy(model, folder / "base.safetensors")
    images = torch.rand(LENGTH, 16, 20, 3, generator=torch.Generator().manual_seed(0))
    chosen = {"scale": 4, "strength": 1.0, "seed": 3, "width": 0, "height": 0, "scene_cut": True, "tile": 0, "vram": ""}
    with running(Host(tmp_path / "models", tmp_path / "temp")) as nodes, torch.inference_mode():
        loaded = nodes["DuoVSR_LoadModel"].execute("base.safetensors", "float32", -1.0).result[0]
        made = nodes["DuoVSR_Upscale"].execute(loaded, images, **chosen).result[0]
    options = Options(model=str(model), device="cpu", precision="float32", seed=3)
    clip = [image.permute(2, 0, 1).contiguous() for image in images]
    wanted = [frame.clamp(0, 1).permute(1, 2, 0) for frame in Upscaler(options, 20, 16).stream(clip)]
    assert torch.equal(made, torch.stack(wanted))
