"""The GPU benchmark measures what it says, goes on where something fails, and needs no video libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import gpu  # type: ignore[import-not-found]
import gpu_choices  # type: ignore[import-not-found]
import gpu_measure  # type: ignore[import-not-found]
import gpu_report  # type: ignore[import-not-found]
from gpu_paths import path_of  # type: ignore[import-not-found]

from duovsr_vs.model.family import PRESETS

pytestmark = pytest.mark.usefixtures("one_torch_thread")
CPU = torch.device("cpu")
BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
ABSENT = ("av", "vapoursynth", "cv2", "typer", "rich", "pyarrow", "tyro", "matplotlib", "diffusers", "transformers")
SMALL = ["--device", "cpu", "--size", "64x64", "--no-block", "--no-choices"]


@pytest.fixture(autouse=True)
def small_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large product takes as long as all else here."""
    monkeypatch.setattr(gpu, "ceilings", lambda device: {"tflops": 0.1, "tbytes": 0.01})


def test_a_run_needs_neither_pyav_nor_vapoursynth_nor_any_command_line_library(tmp_path: Path) -> None:
    given = [*SMALL, "--preset", "tiny", "--form", "fast", "engine", "--json", str(tmp_path / "r.json")]
    code = (
        f"import runpy, sys\nfor name in {ABSENT!r}: sys.modules[name] = None\n"
        f"sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        f"sys.argv = ['gpu.py', *{given!r}]\n"
        f"runpy.run_path({str(BENCHMARKS / 'gpu.py')!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "no matplotlib, no picture" in done.stdout
    record = json.loads((tmp_path / "r.json").read_text())
    assert [row["form"] for row in record["rows"]] == ["fast", "engine"]
    assert all(row["fps_whole"] > 0 and not row["note"] for row in record["rows"])
    assert (tmp_path / "r.md").read_text().count("| tiny") == 2


def test_both_forms_of_base_make_the_same_frames() -> None:
    """In bfloat16, from the same weights and noise: within 2 of 255 in the mean."""
    for name in ("base-tiny", "base-tiny-light"):
        made = []
        for form in ("slow", "fast"):
            with torch.inference_mode():
                path = path_of(PRESETS[name], form, 64, 64, CPU)
                made.append(torch.stack(list(path.frames([path.host()]))).float())
        assert made[0].shape == (PRESETS[name].stride, 64, 64, 3)
        assert float((made[0] - made[1]).abs().mean()) < 2


def test_a_second_stream_changes_no_frame() -> None:
    made = []
    for form in ("fast", "streams"):
        with torch.inference_mode():
            path = path_of(PRESETS["base-tiny-light"], form, 64, 64, CPU)
            made.append(torch.stack(list(path.frames([path.host(n) for n in range(3)]))))
    assert len(made[0]) == 3 * PRESETS["base-tiny-light"].stride and torch.equal(*made)


def test_a_row_that_fails_is_noted_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = gpu_measure.path_of

    def fails(config: Any, form: str, *more: Any) -> Any:
        if form == "slow":
            raise torch.OutOfMemoryError("CUDA out of memory.\n Tried to allocate 200 GiB.")
        return plain(config, form, *more)

    monkeypatch.setattr(gpu_measure, "path_of", fails)
    given = [*SMALL, "--preset", "tiny", "--form", "slow", "fast", "--no-plot", "--json", str(tmp_path / "r.json")]
    assert gpu.main(given) == 0
    fast, slow = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert slow["note"] == "OutOfMemoryError: CUDA out of memory. Tried to allocate 200 GiB." and not slow["ms"]
    assert fast["fps_device"] > 0 and not fast["note"]
    assert slow["note"] in capsys.readouterr().out


def test_when_the_time_is_spent_the_rest_is_left_out(tmp_path: Path) -> None:
    given = [*SMALL, "--preset", "tiny", "--budget", "-1", "--no-plot", "--json", str(tmp_path / "r.json")]
    assert gpu.main(given) == 0
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert rows and all(row["note"] == "left out: the time was spent" for row in rows)


def test_the_most_telling_rows_come_first() -> None:
    sizes = [(1280, 720), (1920, 1080), (3840, 2160)]
    found = gpu.tasks(["small", "base"], sizes, gpu.FORMS, every=False)
    assert found[:4] == [(p, f, (1920, 1080)) for f in ("fast", "slow") for p in ("small", "base")]
    assert [form for _, form, size in found if size == (3840, 2160)] == ["fast", "fast"]
    assert len(gpu.tasks(["small"], sizes, gpu.FORMS, every=True)) == len(sizes) * len(gpu.FORMS)


def test_a_missed_target_is_called_missed() -> None:
    row = {"preset": "base", "form": "fast", "size": [1920, 1080], "ms": {"decode": 1.0}, "peak_gb": 20.0}
    assert gpu_report.verdict(row | {"fps_device": 6.5}).endswith("met")
    assert gpu_report.verdict(row | {"fps_device": 5.5}).endswith("missed")
    assert gpu_report.verdict(row | {"fps_device": 9.0, "peak_gb": 31.0}).endswith("missed")
    assert gpu_report.verdict(row | {"fps_device": 1.0, "form": "slow"}) == ""


def test_one_block_at_full_width_is_counted_and_timed() -> None:
    row = gpu_measure.Row("base, one block", "fast", (64, 64))
    gpu_measure.measure_block(row, PRESETS["base-tiny"], CPU)
    assert not row.note and row.tflop_per_frame > 0 and row.ms["transformer"] > 0


def test_ways_to_attend_give_the_same() -> None:
    q, k, v = torch.randn(3, 1, 2, 50, 8).unbind(0)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert float((gpu_choices.in_rows(q, k, v, rows=7) - expected).abs().max()) < 1e-5


def test_every_kernel_that_is_compared_runs() -> None:
    lines: list[str] = []
    found = gpu_choices.choices(CPU, lambda choice: lines.append(gpu_report.choice_line(choice)), scale=120)
    assert len(lines) == len(found) == 12 and not [choice["note"] for choice in found if choice["note"]]


def test_a_device_that_is_not_there_is_told_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--device", "cuda:7"]) == 1
    assert "gpu: device='cuda:7'" in capsys.readouterr().err
