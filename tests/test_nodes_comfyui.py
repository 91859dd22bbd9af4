"""The nodes inside a real ComfyUI, in a process of its own; skipped where COMFYUI_DIR names no checkout of it."""

from __future__ import annotations

import ast
import json
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from comfy_server import COMFYUI, PYTHON, ROOT, WHY_NOT
from conftest import write_model
from video_files import make_video

INSIDE = ROOT / "tests" / "comfy_inside.py"
CHECKS = [
    part.name
    for part in ast.parse(INSIDE.read_text("utf-8")).body
    if isinstance(part, ast.FunctionDef) and part.name.startswith("check_")
]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not COMFYUI, reason=WHY_NOT)]


def only_sound(path: Path) -> Path:
    """Half a second of silence, and no picture."""
    with av.open(path, "w") as out:
        stream = out.add_stream("aac", rate=16000)
        for at in range(0, 8192, 1024):
            block = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = 16000, at, Fraction(1, 16000)
            out.mux(stream.encode(block))
        out.mux(stream.encode(None))
    return path


def fill(base: Path) -> Path:
    """Models and clips for the checks."""
    models, clips = base / "models" / "duovsr", base / "input"
    models.mkdir(parents=True)
    clips.mkdir()
    for preset in ("tiny", "toy"):
        write_model(models / f"{preset}.safetensors", preset)
    make_video(clips / "film.mkv", 12, codec="ffv1")
    make_video(clips / "ten.mkv", 3, codec="ffv1", pix_fmt="yuv420p10le")
    make_video(clips / "odd.mkv", 3, (37, 21), codec="ffv1", pix_fmt="yuv444p")
    make_video(clips / "sound.mp4", 12, sound=True)
    make_video(clips / "large.mkv", 24, (480, 270))
    only_sound(clips / "only_sound.mp4")
    (clips / "text.mp4").write_text("no video")
    return base


@pytest.fixture(scope="module")
def troubles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """What went wrong in each check that ran."""
    base = fill(tmp_path_factory.mktemp("comfyui"))
    ended = subprocess.run(
        [PYTHON, str(INSIDE), COMFYUI, str(base)], capture_output=True, text=True, timeout=1200, cwd=base
    )
    lines = [line for line in ended.stdout.splitlines() if line.startswith('["check_')]
    assert lines, f"no check ran:\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"
    print(ended.stderr)
    return dict(map(json.loads, lines))


@pytest.mark.parametrize("name", CHECKS)
def test_inside(name: str, troubles: dict[str, str | None]) -> None:
    assert troubles.get(name, "the process ended before this check") is None, troubles[name]
