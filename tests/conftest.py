"""Shared by all tests: tiny real models and a small synthetic clip."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: on busy cores waiting threads must sleep
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: its threads cannot be told to

import torch
from torch import Tensor

from duovsr_vs.cli.main import main
from duovsr_vs.model.checkpoint import DETAILED, FAITHFUL, save
from duovsr_vs.model.config import PRESETS, ModelConfig
from duovsr_vs.model.generator import Generator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests come first, so that no process works on one while the others have nothing left."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


def random_weights(config: ModelConfig, seed: int) -> dict[str, Tensor]:
    """Weights of a generator whose every path matters: nothing is zero, results stay of the size of a residual."""
    torch.manual_seed(seed)
    generator = Generator(config)
    for name, weight in generator.named_parameters():
        if name.endswith(("second.bias", "outer.weight", "outer.bias", "attention.0.out.weight", "kappa.weight")):
            torch.nn.init.normal_(weight, std=0.05)
        elif name in (
            "network.out.weight",
            "network.latent.weight",
            "codec.encoder.out.weight",
            "codec.decoder.out.weight",
        ):
            torch.nn.init.normal_(weight, std=0.3 / weight[0].numel() ** 0.5)
        elif ".out.weight" in name and weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.1)
    if generator.codec is not None:
        torch.nn.init.normal_(generator.codec.normalisation.mean, std=0.2)
        torch.nn.init.uniform_(generator.codec.normalisation.deviation, 0.7, 1.4)
    return {name: tensor.detach().clone() for name, tensor in generator.state_dict().items()}


def write_model(path: Path, preset: str, seed: int = 0) -> Path:
    """A model file with random weights, two sets of them."""
    config = PRESETS[preset].with_values(default_detail=0.5)
    sets = {FAITHFUL: random_weights(config, seed), DETAILED: random_weights(config, seed + 1)}
    save(path, config, sets, {"stages": ["random weights"]})
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the `nano` kind, frame by frame with both neighbours, in a file."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny.safetensors", "tiny")


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with windows of 21 frames, overlap 5, and space-time attention, in a file."""
    return write_model(tmp_path_factory.mktemp("models") / "toy.safetensors", "toy")


@pytest.fixture(scope="session")
def learned_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model like `tiny_model` with a learned codec, in a file."""
    return write_model(tmp_path_factory.mktemp("models") / "learned.safetensors", "toy-learned")


def synthetic_clip(frames: int, height: int, width: int, seed: int = 0, cut: int | None = None) -> list[Tensor]:
    """Moving soft shapes, (3 h w) float32 RGB; with `cut` a second scene starts at that frame."""
    generator = torch.Generator().manual_seed(seed)
    waves = torch.rand(2, 3, 4, 4, generator=generator)
    ys, xs = torch.linspace(0, 3, height)[:, None], torch.linspace(0, 3, width)[None]
    clip = []
    for n in range(frames):
        a, b, c, d = waves[int(cut is not None and n >= cut)].unbind(-1)
        rows = [
            torch.sin(6 * a[k, 0] * (ys + 0.1 * n) + 6 * b[k, 1]) * torch.cos(6 * c[k, 2] * (xs - 0.07 * n) + d[k, 3])
            for k in range(3)
        ]
        clip.append(((0.5 if cut is None or n < cut else 0.25) + 0.25 * torch.stack(rows)).float())
    return clip


def _one_torch_thread() -> Iterator[None]:
    """One thread of torch, and afterwards as many as before: tiny tensors are not worth sharing."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


one_torch_thread = pytest.fixture(_one_torch_thread, name="one_torch_thread")
"""For each test, whatever number of threads it sets itself."""
trainer_alone = pytest.fixture(_one_torch_thread, name="trainer_alone", scope="module")
"""For a whole file, and for what its tests share."""


@pytest.fixture(autouse=True)
def usual_scheduling() -> Iterator[None]:
    """No test leaves a process behind whose threads keep all others from running (SVT-AV1 would, run by root)."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    before = os.sched_getscheduler(0)
    yield
    assert os.sched_getscheduler(0) == before, "an encoder was opened outside of usual_scheduling()"


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["duovsr", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return call
