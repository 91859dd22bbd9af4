"""The two families of models behind one door: presets, configurations from files, empty models. Needs no torch yet."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from . import config as residual
from .config import ModelConfig, built, parsed
from .wan import config as wan
from .wan.config import BaseConfig

if TYPE_CHECKING:
    from .generator import Generator
    from .wan.generator import WanGenerator

AnyConfig = ModelConfig | BaseConfig
RESIDUAL = "residual"
"""The family of `nano` and `small`; their files need not name it."""
PRESETS: dict[str, AnyConfig] = {**residual.PRESETS, **wan.PRESETS}


def config_of(text: str) -> AnyConfig:
    """The configuration that a JSON string describes, of the family that it names; ModelError says what is wrong."""
    values = parsed(text)
    family = values.get("family", RESIDUAL)
    if family == wan.FAMILY:
        return BaseConfig.from_json(text)
    if family != RESIDUAL:
        raise ModelError(f"the model is of the family {str(family)[:40]!r}; a newer duovsr may know it")
    return built(ModelConfig, {name: value for name, value in values.items() if name != "family"})


def generator_of(config: AnyConfig, ops: ModuleType | Any = None) -> Generator | WanGenerator:
    """A model with random weights. ops: the namespace that layers come from, None: torch.nn."""
    from torch import nn

    from .generator import Generator
    from .wan.generator import WanGenerator

    kind = Generator if isinstance(config, ModelConfig) else WanGenerator
    return kind(config, ops or nn)  # type: ignore[arg-type]
