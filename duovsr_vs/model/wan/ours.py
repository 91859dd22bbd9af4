"""Model files of `base` that parts are added to; their transformer, its tokens and all settings stay as they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import ModelError, OptionError
from ..checkpoint import DETAILED, FAITHFUL, check_hash, check_weights, checked
from ..family import config_of
from ..registry import FORMAT, describe, read_header
from .config import BaseConfig
from .files import Weights, already

UNRECORDED = "not recorded"


@dataclass(frozen=True, slots=True)
class Ours:
    """What a model file of `base` holds."""

    config: BaseConfig
    parts: dict[str, dict[str, Tensor]]
    """Weights by part; they stay on the disk until they are looked at."""
    provenance: dict[str, Any]


def config_of_ours(file: Weights) -> BaseConfig:
    """The configuration of a model file of ours; ModelError for those of the other family."""
    config = checked(file.path, config_of(json.dumps(describe(file.path)["config"])))
    if not isinstance(config, BaseConfig):
        raise already(file.path)
    return config


def parts_of_ours(file: Weights, config: BaseConfig) -> Ours:
    """All of a model file of ours. ModelError: it is damaged, does not fit itself, or has a detail dial."""
    facts = describe(file.path)
    check_hash(file.path, facts, config, file.tensors)
    sets: dict[str, dict[str, Tensor]] = {}
    for name, tensor in file.tensors.items():
        prefix, _, inner = name.partition(".")
        sets.setdefault(prefix, {})[inner] = tensor
    found = [sets[prefix] for prefix in (DETAILED, FAITHFUL) if prefix in sets]
    if len(found) != 1:
        raise ModelError(f"{file.path} holds {len(found)} sets of weights; one is needed: export the model again")
    check_weights(file.path, config, found[0])
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in found[0].items():
        part, _, inner = name.partition(".")
        parts.setdefault(part, {})[inner] = tensor
    return Ours(config, parts, facts["provenance"])


def refuse_contradictions(file: Weights, config: BaseConfig, embedding: Path | None, windowed: bool) -> None:
    """OptionError where an option would change what the transformer was trained with."""
    own = config.transformer
    if embedding is not None:
        raise OptionError(
            f"--embedding {embedding}: the transformer in {file.path} comes with "
            f"{'the tokens of a text' if own.text else f'{own.context_tokens} learned tokens'}, and needs those; "
            "leave --embedding out"
        )
    if not windowed and own.attention_window:
        raise OptionError(
            f"--full-attention: the transformer in {file.path} has attention in windows of {own.attention_window} "
            "tokens, and needs what it was trained with; leave --full-attention out"
        )


def told_of_ours(ours: Ours, names: Sequence[str]) -> dict[str, Any]:
    """Provenance of a model file that others were put into: all of its own, and their names. names: its own first."""
    own = ours.config.transformer
    context = f"{own.context_tokens} tokens, {'of a text' if own.text else 'learned'}"
    before = ours.provenance.get("from")
    first = f"{names[0]} (from {before})" if before else names[0]
    return {"context": context, **ours.provenance, "from": ", ".join([first, *names[1:]])}


def told_of_pair(path: Path) -> str:
    """Where the light pair in a file comes from: file, updates and data of its stage."""
    notes = read_header(path).get("__metadata__") or {}
    if notes.get("format") == FORMAT:
        return str(describe(path)["provenance"].get("light", f"{path.name}: {UNRECORDED}"))
    if "steps" not in notes:
        return f"{path.name}: {UNRECORDED}"
    model, data = notes.get("model", "a model"), notes.get("data", UNRECORDED)
    return f"{path.name}: light for {model} ({notes['steps']} updates), data {data}"
