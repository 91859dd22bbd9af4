"""Model files: safetensors with the configuration and provenance in the header, and one or two sets of weights.

Sets with a common ancestor are kept under the prefixes `faithful.` and `detailed.`; the detail dial interpolates them
when loading (weight averaging, arXiv 2203.05482). `golden.*` is one input and its output, for a self-test.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import ModelError, OptionError
from .config import ModelConfig
from .generator import Generator
from .registry import FORMAT, describe

FAITHFUL, DETAILED, GOLDEN = "faithful", "detailed", "golden"
LARGEST = 65536
"""No whole number of a configuration is larger."""


@dataclass(frozen=True, slots=True)
class Golden:
    """One input and the output that the model must give for it."""

    frames: Tensor
    """(n 3 h w) uint8 LR frames."""
    output: Tensor
    """(3 4h 4w) float16 of the middle frame, from float32 on a CPU."""
    tolerance: float
    """Greatest allowed difference."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model as its file gave it."""

    generator: Generator
    config: ModelConfig
    hash: str
    detail: float
    provenance: dict[str, Any]


def model_hash(tensors: Mapping[str, Tensor], config: str) -> str:
    """sha256 over names, types, shapes and bytes of the tensors and the configuration, 16 hex digits."""
    digest = hashlib.sha256(config.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        flat = tensor.flatten()  # channels last a 1x1 kernel counts as contiguous, although its last stride is not 1
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()[:16]


def save(
    path: Path,
    config: ModelConfig,
    sets: Mapping[str, Mapping[str, Tensor]],
    provenance: Mapping[str, Any],
    golden: Golden | None = None,
    dtype: torch.dtype | None = None,
) -> str:
    """Write a model file atomically; `dtype` stores the weights in that type. Returns the model's hash."""
    tensors = {
        f"{prefix}.{name}": tensor.detach().to("cpu", dtype or tensor.dtype, copy=True).contiguous()
        for prefix, weights in sets.items()
        for name, tensor in weights.items()
    }
    metadata = {
        "format": FORMAT,
        "version": "1",
        "config": config.to_json(),
        "provenance": json.dumps(dict(provenance)),
    }
    if golden is not None:
        tensors |= {f"{GOLDEN}.frames": golden.frames.contiguous(), f"{GOLDEN}.output": golden.output.contiguous()}
        metadata["golden_tolerance"] = repr(golden.tolerance)
    metadata["hash"] = model_hash(tensors, metadata["config"])
    part = path.with_name(path.name + ".part")
    save_file(tensors, part, metadata)
    part.replace(path)
    return metadata["hash"]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a model file."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged ({error}); fetch or export it again") from error


def load(path: Path, detail: float | None = None, ops: ModuleType | Any = nn) -> LoadedModel:
    """Build the model of a file in float32 on the CPU, ready to run.

    detail: position of the dial in [0, 1], None for the file's default. ModelError if the file does not fit itself,
    OptionError if the dial has no second set of weights to turn to.
    """
    facts = describe(path)
    config = checked(path, ModelConfig.from_json(json.dumps(facts["config"])))
    tensors = read_tensors(path)
    found = model_hash(tensors, config.to_json())
    if facts["hash"] not in (None, found):
        raise ModelError(f"{path} is damaged: its contents do not match its hash; fetch or export it again")
    weights, position = blend(path, config, tensors, detail)
    if config.blocks + config.codec_blocks * (config.codec == "learned") > len(weights):
        raise ModelError(
            f"{path} does not fit its own configuration: it has fewer tensors than blocks; export it again"
        )
    with torch.device("meta"):  # without memory: the configuration may ask for any amount of it
        check_fit(path, Generator(config, ops), weights)
    generator = Generator(config, ops)
    generator.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return LoadedModel(generator.eval().requires_grad_(False), config, found, position, facts["provenance"])


def checked(path: Path, config: ModelConfig) -> ModelConfig:
    """The configuration itself; ModelError where a field is of another type, or larger than any model's."""
    for field in fields(config):
        value = getattr(config, field.name)
        numbers = value if field.name == "latent_std" else [value] if field.name == "default_detail" else []
        sound = type(value) is int and value <= LARGEST if field.type == "int" else True
        if not sound or not all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
            raise ModelError(f"{path}: its configuration has {field.name}={str(value)[:40]}; export the model again")
    return config


def blend(
    path: Path, config: ModelConfig, tensors: Mapping[str, Tensor], detail: float | None
) -> tuple[dict[str, Tensor], float]:
    """Weights at a position of the detail dial: (1 − d)·faithful + d·detailed."""
    faithful, detailed = (
        {name.removeprefix(f"{prefix}."): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}
        for prefix in (FAITHFUL, DETAILED)
    )
    if not faithful or not detailed:
        if detail is not None:
            raise OptionError(
                f"detail={detail:g}: {path.name} holds one set of weights, so it has no detail dial; leave it out"
            )
        return faithful or detailed, 1.0
    position = config.default_detail if detail is None else detail
    if set(faithful) != set(detailed):
        raise ModelError(f"{path}: the two sets of weights differ in {sorted(set(faithful) ^ set(detailed))[:4]}")
    mixed = {name: torch.lerp(faithful[name].float(), detailed[name].float(), position) for name in faithful}
    return mixed, position


def check_fit(path: Path, generator: Generator, weights: Mapping[str, Tensor]) -> None:
    """ModelError that names the first tensors that are missing, unknown or of another shape."""
    wanted = {name: tuple(tensor.shape) for name, tensor in generator.state_dict().items()}
    wrong = [f"{name} is missing" for name in wanted if name not in weights]
    wrong += [f"{name} is unknown" for name in weights if name not in wanted]
    wrong += [
        f"{name} is {tuple(weights[name].shape)}, {shape} is needed"
        for name, shape in wanted.items()
        if name in weights and tuple(weights[name].shape) != shape
    ]
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise ModelError(f"{path} does not fit its own configuration: {'; '.join(wrong[:4])}{more}; export it again")


def read_golden(path: Path) -> Golden | None:
    """The golden frame of a model file, if it has one."""
    tensors = read_tensors(path)
    if f"{GOLDEN}.frames" not in tensors:
        return None
    return Golden(tensors[f"{GOLDEN}.frames"], tensors[f"{GOLDEN}.output"], describe(path)["golden_tolerance"])
