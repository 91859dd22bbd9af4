"""Wan2.1-T2V-1.3B's public files to one model file of `base`: the same weights, and channels for the LR that are zero.

Until it is trained it makes what it was released for, and does not look at the LR. Or a model file of `base` with its
transformer as it is, and a light pair or another autoencoder put into it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ModelError
from ..checkpoint import DETAILED, misfits, read_tensors, save
from ..registry import read_header
from .autoencoder import WanAutoencoder
from .config import BASE, LATENT_CHANNELS, BaseConfig, LightConfig, TransformerConfig
from .embedding import read_embedding
from .files import Weights, already, public_place, read
from .fp8 import is_scaled, multiplied_out
from .keys import Part, holds, original, refuse_others, without_prefix
from .light import LightDecoder, LightEncoder
from .ours import config_of_ours, parts_of_ours, refuse_contradictions, told_of_ours, told_of_pair
from .sizes import autoencoder_config, light_config, transformer_config
from .transformer import WanTransformer

SEED = 0
"""Of the learned tokens that stand in for a text."""
LICENCE = "Apache-2.0, as Wan2.1-T2V-1.3B by Alibaba's Wan team, whose weights these are"
UNTRAINED = "none yet: text-to-video as released, the LR is not looked at before it is trained"
UNKNOWN = "not recorded: the transformer had channels for the LR already"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Files to make a model from."""

    transformer: Path
    """A safetensors file, a folder, or an index of shards; or a model file of `base`."""
    autoencoder: Path | None = None
    """Likewise, but no model file; None: in the transformer's file or folder."""
    embedding: Path | None = None
    """Embeddings of a text; None: learned tokens, random at first."""
    light: Path | None = None
    """A trained light pair."""

    @property
    def files(self) -> list[Path]:
        """What was given."""
        given = (self.transformer, self.autoencoder, self.embedding, self.light)
        return [path for path in given if path is not None]


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written."""

    config: BaseConfig
    hash: str
    provenance: dict[str, Any]

    @property
    def is_trained(self) -> bool:
        """Whether its transformer went through a stage of ours."""
        stages = self.provenance.get("stages")
        return isinstance(stages, list) and any(isinstance(stage, dict) for stage in stages)


@dataclass(frozen=True, slots=True)
class _Made:
    """What a file is written from."""

    config: BaseConfig
    parts: dict[str, dict[str, Tensor]]
    told: dict[str, Any]


def convert(sources: Sources, output: Path, dtype: torch.dtype | None = None, windowed: bool = True) -> Converted:
    """Write the model file whole or not at all; an existing one is replaced.

    dtype: of all weights, None: each part's own (8-bit floats become bfloat16).  windowed: attention in windows; a
    model file of ours keeps what it has.
    ModelError names the file that is missing, of another model, or not whole. OptionError: an option contradicts it.
    """
    file = read(sources.transformer, "transformer", ours=True)
    make = _from_ours if file.is_ours else _from_wans
    made = make(sources, file, dtype, windowed)
    told = made.told | {"weights": ", ".join(f"{part} {_facts(own)}" for part, own in made.parts.items())}
    if sources.light is not None:
        told["light"] = told_of_pair(sources.light)
    state = {f"{part}.{name}": tensor for part, own in made.parts.items() for name, tensor in own.items()}
    return Converted(made.config, save(output, made.config, {DETAILED: state}, told), told)


def _from_wans(sources: Sources, file: Weights, dtype: torch.dtype | None, windowed: bool) -> _Made:
    """Of public files."""
    with named(file.path):
        transformer, weights = _transformer(file, dtype)
    parts = _autoencoder(_autoencoder_file(sources, file), dtype) | _light(sources.light, dtype)
    context = _context(sources.embedding, transformer, weights)
    parts["transformer"] = {**weights, "context": context.to(weights["patch_embedding.weight"].dtype)}
    transformer = replace(transformer, context_tokens=context.shape[1], text=sources.embedding is not None)
    config = _config(transformer, windowed, parts)
    told = {
        "stages": [UNKNOWN if transformer.condition_channels else UNTRAINED],
        "licence": LICENCE,
        "from": ", ".join(path.name for path in sources.files),
        "context": f"{context.shape[1]} tokens, "
        + (f"of {sources.embedding.name}" if sources.embedding else "random until they are trained"),
    }
    return _Made(config, parts, told)


def _from_ours(sources: Sources, file: Weights, dtype: torch.dtype | None, windowed: bool) -> _Made:
    """Of a model file of `base`: its parts, and what is given beside it in their place."""
    with named(file.path):
        config = config_of_ours(file)
    refuse_contradictions(file, config, sources.embedding, windowed)
    if sources.light is None and sources.autoencoder is None:
        raise already(file.path, ", or --light PAIR beside it here for base-fast")
    found = _light(sources.light, dtype)
    if sources.autoencoder is not None:
        found |= _autoencoder(read(sources.autoencoder, "autoencoder"), dtype)
    ours = parts_of_ours(file, config)
    kept = {part: own for part, own in ours.parts.items() if part not in found}
    if dtype is not None:
        kept = {part: one_type(own, dtype) for part, own in kept.items()}
    parts = kept | found
    autoencoder = autoencoder_config(parts["autoencoder"]) if "autoencoder" in found else config.autoencoder
    light = _pair_config(found) if "light_decoder" in found else config.light
    name = _name(config.transformer, light is not None)
    config = config.with_values(name=name, autoencoder=autoencoder, light=light)
    return _Made(config, parts, told_of_ours(ours, [path.name for path in sources.files]))


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Errors that do not say which file they are about get its name."""
    try:
        yield
    except ModelError as error:
        raise ModelError(str(error) if str(path) in str(error) else f"{path}: {error}") from error


def _config(transformer: TransformerConfig, windowed: bool, parts: Mapping[str, Mapping[str, Tensor]]) -> BaseConfig:
    """The configuration of what was put together."""
    light = _pair_config(parts) if "light_decoder" in parts else None
    window = BASE.attention_window if windowed else 0
    return BaseConfig(
        name=_name(transformer, light is not None),
        transformer=replace(transformer, condition_channels=LATENT_CHANNELS, attention_window=window),
        autoencoder=autoencoder_config(parts["autoencoder"]) if "autoencoder" in parts else None,
        light=light,
    )


def _name(transformer: TransformerConfig, is_fast: bool) -> str:
    """`base`, `base-fast`, with the width where it is another than Wan's, and `-text`."""
    name = "base-fast" if is_fast else "base"
    name = name if transformer.width == BASE.width else f"{name}-{transformer.width}"
    return f"{name}-text" if transformer.text else name


def _pair_config(parts: Mapping[str, Mapping[str, Tensor]]) -> LightConfig:
    """Of the light pair among parts."""
    return light_config({f"{part}.{name}": tensor for part, own in parts.items() for name, tensor in own.items()})


def _facts(weights: Mapping[str, Tensor]) -> str:
    """`1418.997 million in bfloat16`."""
    kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights.values()})
    return f"{sum(tensor.numel() for tensor in weights.values()) / 1e6:.3f} million in {' and '.join(kinds)}"


# -- parts ----------------------------------------------------------------------------------------------------------


def _transformer(file: Weights, dtype: torch.dtype | None) -> tuple[TransformerConfig, dict[str, Tensor]]:
    """Configuration and weights, with channels for the LR latent."""
    own = _own(file, "transformer")
    config = transformer_config(own)
    with torch.device("meta"):
        empty = WanTransformer(config)
    weights = one_type(_fitting(own, "transformer", empty), dtype)
    if not config.condition_channels:
        patch = weights["patch_embedding.weight"]
        weights["patch_embedding.weight"] = torch.cat((patch, torch.zeros_like(patch)), 1)
    return config, weights


def _autoencoder_file(sources: Sources, transformer: Weights) -> Weights | None:
    """Where the autoencoder lies; None where a light pair alone will do. ModelError if it is nowhere."""
    if sources.autoencoder is not None:
        return read(sources.autoencoder, "autoencoder")
    beside = sources.transformer / "vae"
    if beside.is_dir():
        return read(beside, "autoencoder")
    if holds(transformer.tensors, "autoencoder"):
        return transformer
    if sources.light is not None:
        return None
    raise ModelError(
        f"the autoencoder is missing: {sources.transformer} does not hold it; take {public_place('autoencoder')}, and "
        f"run `duovsr models convert --transformer {sources.transformer} --vae FILE -o OUTPUT`"
    )


def _autoencoder(file: Weights | None, dtype: torch.dtype | None) -> dict[str, dict[str, Tensor]]:
    """Weights of the autoencoder by part, none without a file."""
    if file is None:
        return {}
    with named(file.path):
        own = _own(file, "autoencoder")
        with torch.device("meta"):
            empty = WanAutoencoder(autoencoder_config(own))
        return {"autoencoder": one_type(_fitting(own, "autoencoder", empty), dtype)}


def _light(path: Path | None, dtype: torch.dtype | None) -> dict[str, dict[str, Tensor]]:
    """Weights of the light encoder and decoder by part, none without a file: a model's, or a stage's result."""
    if path is None:
        return {}
    if not path.is_file():
        raise ModelError(f"{path} is no file; `python -m training run --recipe light` makes one with a light pair")
    read_header(path)  # says what else it is
    parts: dict[str, dict[str, Tensor]] = {}
    tensors = {name.removeprefix(f"{DETAILED}."): tensor for name, tensor in read_tensors(path).items()}
    for name, tensor in tensors.items():
        part, _, inner = name.partition(".")
        if part in ("light_encoder", "light_decoder"):
            parts.setdefault(part, {})[inner] = tensor
    with named(path):
        if len(parts) < 2:
            raise ModelError(
                f"the file holds no light pair (its tensors begin with {', '.join(sorted(tensors)[:3]) or 'nothing'}); "
                "`python -m training run --recipe light` makes one"
            )
        config = _pair_config(parts)
        with torch.device("meta"):
            empty = {"light_encoder": LightEncoder(config), "light_decoder": LightDecoder(config)}
        for part, own in parts.items():
            if wrong := misfits(empty[part], own):
                raise ModelError(f"its light pair is not whole: {wrong}; export it again")
    return {part: one_type(own, dtype) for part, own in parts.items()}


def _own(file: Weights, part: Part) -> dict[str, Tensor]:
    """The weights of a part, without prefix, multiplied out where they are scaled."""
    own = without_prefix(file.tensors, part)
    refuse_others(own, part)
    return multiplied_out(own, file.notes) if is_scaled(own) or any("comfy_quant" in name for name in own) else own


def _fitting(own: Mapping[str, Tensor], part: Part, empty: nn.Module) -> dict[str, Tensor]:
    """The weights under our names; ModelError where they are not all there, or of other shapes."""
    weights = original(own, part, empty.state_dict())
    if wrong := misfits(empty, weights):
        raise ModelError(f"it is not whole, or mixed from several versions: {wrong}; fetch it again")
    return weights


def one_type(weights: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """All weights in `dtype`, or in the type that most of their numbers have."""
    counts: dict[torch.dtype, int] = {}
    for tensor in weights.values():
        counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.numel()
    kind = dtype or max(counts, key=lambda each: counts[each])
    return {name: tensor.to(kind) for name, tensor in weights.items()}


# -- context --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def _context(path: Path | None, config: TransformerConfig, weights: Mapping[str, Tensor]) -> Tensor:
    """(2 n width) float32: tokens of a text, or random ones, and those for "no text"."""
    if path is None:
        tokens = torch.randn(2, BASE.context_tokens, config.width, generator=torch.Generator().manual_seed(SEED))
        return tokens * 0.02
    embedding = read_embedding(path, config)
    with torch.device("meta"):
        transformer = WanTransformer(config)  # only the two layers for text get weights
    layers = {name: tensor.float() for name, tensor in weights.items() if name.startswith("text_embedding.")}
    transformer.load_state_dict(layers, strict=False, assign=True)
    null = torch.zeros_like(embedding.text[:, :0]) if embedding.null is None else embedding.null
    return torch.cat([transformer.tokens_of(text.float()) for text in (embedding.text, null)])
