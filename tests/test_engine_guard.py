"""Numbers that are none: redone in float32 and counted, or refused; and the golden frame that each model carries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import random_weights, synthetic_clip
from torch import Tensor

from duovsr_vs.engine import selftest
from duovsr_vs.engine.options import Options
from duovsr_vs.engine.upscaler import Upscaler
from duovsr_vs.errors import DuoVsrError, ModelError
from duovsr_vs.model.checkpoint import DETAILED, Golden, save
from duovsr_vs.model.config import PRESETS

TINY = PRESETS["tiny"]
ALMOST_INFINITE = 3.4e38
"""Finite in float32; bfloat16 rounds it to infinity."""


pytestmark = pytest.mark.usefixtures("one_torch_thread")


def model_file(path: Path, weights: dict[str, Tensor], golden: Golden | None = None) -> Path:
    save(path, TINY, {DETAILED: weights}, {"stages": ["random weights"]}, golden)
    return path


def overflowing(preset: str = "tiny") -> dict[str, Tensor]:
    """Weights whose first channel is almost infinite and counts for nothing: finite in float32, not in bfloat16."""
    weights = random_weights(PRESETS[preset], 0)
    weights["network.features.bias"][0] = ALMOST_INFINITE
    for name in ("blocks.0.first", "out", "kappa"):
        weights[f"network.{name}.weight"][:, 0] = 0
    return weights


def run(path: Path, precision: str, **options: Any) -> tuple[list[Tensor], int]:
    upscaler = Upscaler(Options(model=str(path), device="cpu", precision=precision, **options), 40, 24)
    return list(upscaler.stream(synthetic_clip(3, 24, 40))), upscaler.redone


@pytest.mark.parametrize("tile", [0, 32])
def test_what_overflows_is_redone_in_float32_and_counted(tmp_path: Path, tile: int) -> None:
    path = model_file(tmp_path / "model.safetensors", overflowing())
    frames, redone = run(path, "bfloat16", tile=tile)
    wanted, none = run(path, "float32", tile=tile)
    assert (redone, none) == (3, 0)
    assert all(torch.equal(a, b) for a, b in zip(frames, wanted, strict=True))
    assert all(bool(torch.isfinite(frame).all()) for frame in frames)


@pytest.mark.parametrize("channel", [0, 3, 15, 23, 24, 47, 95])
def test_no_coefficient_escapes_the_guard(tmp_path: Path, channel: int) -> None:
    weights = random_weights(TINY, 0)
    weights["network.out.weight"][channel] = float("nan")
    with pytest.raises(DuoVsrError, match="not finite even in float32"):
        run(model_file(tmp_path / "model.safetensors", weights), "bfloat16")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_without_numbers_is_refused_in_a_sentence(tmp_path: Path, precision: str, value: float) -> None:
    weights = random_weights(TINY, 0)
    weights["network.kappa.bias"][0] = value
    weights["network.features.bias"][1] = value
    with pytest.raises(DuoVsrError, match=r"^the model's output is not finite even in float32; .* use another model$"):
        run(model_file(tmp_path / "model.safetensors", weights), precision)


def test_a_sound_model_redoes_nothing(tiny_model: Path) -> None:
    assert run(tiny_model, "bfloat16")[1] == 0


# -- golden frame -----------------------------------------------------------------------------------------------------


def with_golden(path: Path, weights: dict[str, Tensor], golden_of: Path | None = None) -> Path:
    """A model file with the golden frame of its own weights, or of those in another file."""
    model_file(path, weights)
    clip = synthetic_clip(3, 24, 40)
    frames = torch.stack([(frame.clamp(0, 1) * 255).round().to(torch.uint8) for frame in clip])
    output = selftest.middle_frame(golden_of or path, frames).half()
    return model_file(path, weights, Golden(frames, output, 2e-3))


def test_a_model_passes_its_own_golden_frame(tmp_path: Path) -> None:
    path = with_golden(tmp_path / "model.safetensors", random_weights(TINY, 0))
    sentence = selftest.run(path)
    assert sentence.startswith("model.safetensors gives its golden frame: greatest difference ")
    assert sentence.endswith(", 0.002 is allowed")


@pytest.mark.parametrize("name", ["network.features.weight", "network.blocks.0.second.bias", "network.out.weight"])
def test_one_changed_weight_fails_the_golden_frame(tmp_path: Path, name: str) -> None:
    weights = random_weights(TINY, 0)
    sound = model_file(tmp_path / "sound.safetensors", weights)
    changed = {key: tensor.clone() for key, tensor in weights.items()}
    changed[name].view(-1)[0] += 3.0
    path = with_golden(tmp_path / "changed.safetensors", changed, golden_of=sound)
    with pytest.raises(
        ModelError, match=r"differs by .* from its golden frame, 0\.002 is allowed; fetch the model again"
    ):
        selftest.run(path)


def test_a_model_without_golden_frame_says_so(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="carries no golden frame, so there is nothing to test it against"):
        selftest.run(tiny_model)


def test_the_golden_frame_changes_no_pixel(tmp_path: Path) -> None:
    weights = random_weights(TINY, 0)
    plain = model_file(tmp_path / "plain.safetensors", weights)
    golden = with_golden(tmp_path / "golden.safetensors", weights)
    assert all(torch.equal(a, b) for a, b in zip(run(plain, "float32")[0], run(golden, "float32")[0], strict=True))
