"""Model files: safetensors with the configuration and provenance in the header, and one or two sets of weights.

Sets with a common ancestor are kept under the prefixes `faithful.` and `detailed.`; the detail dial interpolates them
when loading (weight averaging, arXiv 2203.05482). `golden.*` is one input and its output, for a self-test.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import ModelError, OptionError
from .config import ModelConfig
from .family import AnyConfig, config_of, generator_of
from .generator import Generator
from .registry import FORMAT, describe
from .wan.generator import WanGenerator

FAITHFUL, DETAILED, GOLDEN = "faithful", "detailed", "golden"
TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
NUMBERS = ", ".join(str(kind).removeprefix("torch.") for kind in TYPES)
"""Types that weights may be stored in."""
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

    generator: Generator | WanGenerator
    config: AnyConfig
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
        if flat.numel():
            digest.update(flat.view(torch.uint8).numpy())  # read where it lies: a file's tensors are not all in memory
    return digest.hexdigest()[:16]


def save(
    path: Path,
    config: AnyConfig,
    sets: Mapping[str, Mapping[str, Tensor]],
    provenance: Mapping[str, Any],
    golden: Golden | None = None,
    dtype: torch.dtype | None = None,
) -> str:
    """Write a model file atomically; `dtype` stores the weights in that type. Returns the model's hash."""
    tensors = {
        f"{prefix}.{name}": tensor.detach().to("cpu", dtype or tensor.dtype).contiguous()
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
    with whole_or_not_at_all(path) as part:
        save_file(apart(tensors), part, metadata)
    return metadata["hash"]


@contextmanager
def whole_or_not_at_all(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes `path` once all went well; nothing is left of it where something did not."""
    part = path.with_name(path.name + ".part")
    try:
        part.touch()
        mode = part.stat().st_mode  # what the user's files have; safetensors lets nobody else read them
        yield part
        part.chmod(mode)
        part.replace(path)
    except SafetensorError as error:  # a full disk, a folder that is not there
        raise ModelError(f"{path} cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, copied where they share their memory with another: safetensors wants it so."""
    seen: set[int] = set()
    out = {}
    for name, tensor in tensors.items():
        place = tensor.data_ptr()
        out[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return out


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a model file; they stay on the disk until they are looked at."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged ({error}); fetch or export it again") from error


def load(path: Path, detail: float | None = None, ops: ModuleType | Any = nn) -> LoadedModel:
    """Build the model of a file on the CPU, ready to run; ModelError if the file does not fit itself.

    `nano` and `small` become float32. `base` keeps the types and, on the disk, the bytes of its file: 3 GB are read
    once for the hash (page by page, nothing stays) and again where they are used.
    detail: position of the dial in [0, 1], None for the file's default; OptionError if there is no second set of
    weights to turn to.
    """
    facts = describe(path)
    config = checked(path, config_of(json.dumps(facts["config"])))
    tensors = read_tensors(path)
    found = check_hash(path, facts, config, tensors)
    weights, position = blend(path, config, tensors, detail)
    check_weights(path, config, weights, ops)
    generator = filled(config, weights, ops)
    return LoadedModel(generator.eval().requires_grad_(False), config, found, position, facts["provenance"])


def check_hash(path: Path, facts: Mapping[str, Any], config: AnyConfig, tensors: Mapping[str, Tensor]) -> str:
    """The hash of a file's contents, which are read once; ModelError where it is not what the header says."""
    found = model_hash(tensors, config.to_json())
    if facts["hash"] not in (None, found):
        raise ModelError(f"{path} is damaged: its contents do not match its hash; fetch or export it again")
    return found


def check_weights(path: Path, config: AnyConfig, weights: Mapping[str, Tensor], ops: ModuleType | Any = nn) -> None:
    """ModelError where a set of weights is not the one that the configuration speaks of."""
    if config.layers > len(weights):
        raise ModelError(
            f"{path} does not fit its own configuration: it has fewer tensors than blocks; export it again"
        )
    with torch.device("meta"):  # without memory: the configuration may ask for any amount of it
        check_fit(path, generator_of(config, ops), weights)


def filled(config: AnyConfig, weights: Mapping[str, Tensor], ops: ModuleType | Any = nn) -> Generator | WanGenerator:
    """The model with these weights, which fit it."""
    if not isinstance(config, ModelConfig):
        return WanGenerator.of(config, weights, ops)
    generator = Generator(config, ops)
    generator.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return generator


def checked[Config: AnyConfig](path: Path, config: Config) -> Config:
    """The configuration itself; ModelError where a field is of another type, or larger than any model's."""
    for name, value in wrong_values(config):
        raise ModelError(f"{path}: its configuration has {name}={str(value)[:40]}; export the model again")
    return config


def wrong_values(config: Any) -> Iterator[tuple[str, Any]]:
    """Fields of a configuration, and of those inside it, with numbers of another type than they say, or too large."""
    for field in fields(config):
        value, kind = getattr(config, field.name), str(field.type)
        if is_dataclass(value):
            yield from wrong_values(value)
        numbers = value if kind.startswith("tuple") else [value] if kind in ("int", "float") else []
        whole = kind == "int" or "int," in kind
        if not all(_is_number(number, whole) for number in numbers):
            yield field.name, value


def _is_number(value: Any, whole: bool) -> bool:
    if whole:
        return type(value) is int and value <= LARGEST
    return type(value) in (int, float) and math.isfinite(value)


def blend(
    path: Path, config: AnyConfig, tensors: Mapping[str, Tensor], detail: float | None
) -> tuple[dict[str, Tensor], float]:
    """Weights at a position of the detail dial: (1 − d)·faithful + d·detailed; those of `base` keep their type."""
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
    shapes = [{(name, tensor.shape) for name, tensor in weights.items()} for weights in (faithful, detailed)]
    if shapes[0] != shapes[1]:
        names = sorted({name for name, _ in shapes[0] ^ shapes[1]})
        raise ModelError(f"{path}: the two sets of weights differ in {names[:4]}")
    if position in (0.0, 1.0):
        return (detailed if position else faithful), position
    kept = not isinstance(config, ModelConfig)
    mixed = {}
    for name, tensor in faithful.items():
        blended = torch.lerp(tensor.float(), detailed[name].float(), position)
        mixed[name] = blended.to(tensor.dtype) if kept else blended
    return mixed, position


def check_fit(path: Path, generator: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """ModelError that names the first tensors that are missing, unknown, or of another shape or type."""
    if wrong := misfits(generator, weights):
        raise ModelError(f"{path} does not fit its own configuration: {wrong}; export it again")


def misfits(module: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """The first four things that keep a module from taking weights; "" if nothing does."""
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    wrong = [f"{name} is missing" for name in wanted if name not in weights]
    wrong += [f"{name} is unknown" for name in weights if name not in wanted]
    wrong += [
        f"{name} is {tuple(weights[name].shape)}, {shape} is needed"
        for name, shape in wanted.items()
        if name in weights and tuple(weights[name].shape) != shape
    ]
    wrong += [
        f"{name} is {str(tensor.dtype).removeprefix('torch.')}, {NUMBERS} are known"
        for name, tensor in weights.items()
        if tensor.dtype not in TYPES
    ]
    return "; ".join(wrong[:4]) + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else "")


def read_golden(path: Path) -> Golden | None:
    """The golden frame of a model file, if it has one."""
    tensors = read_tensors(path)
    if f"{GOLDEN}.frames" not in tensors:
        return None
    return Golden(tensors[f"{GOLDEN}.frames"], tensors[f"{GOLDEN}.output"], describe(path)["golden_tolerance"])
