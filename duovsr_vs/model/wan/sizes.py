"""What the shapes of weights say of a model's configuration; names of any family, without what stands before them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import count

from torch import Tensor

from ...errors import ModelError
from .config import LATENT_CHANNELS, AutoencoderConfig, LightConfig, TransformerConfig

HEAD = 128
"""Width of an attention head in all of Wan's transformers."""


def transformer_config(weights: Mapping[str, Tensor]) -> TransformerConfig:
    """Of a text-to-video transformer of any width. ModelError if it is Wan2.1-T2V-1.3B, but not whole."""
    width, inputs = _shape(weights, "patch_embedding.weight")[:2]
    if width % HEAD:
        raise ModelError(
            f"its width is {width}, no multiple of {HEAD}; Wan2.1-T2V-1.3B's is {TransformerConfig().width}"
        )
    found = TransformerConfig(
        width=width,
        heads=width // HEAD,
        blocks=how_many(weights, "blocks"),
        inner=_shape(weights, "blocks.0.ffn.0.weight", "blocks.0.ffn.net.0.proj.weight")[0],
        text_width=_shape(weights, "text_embedding.0.weight", "condition_embedder.text_embedder.linear_1.weight")[1],
        frequencies=_shape(weights, "time_embedding.0.weight", "condition_embedder.time_embedder.linear_1.weight")[1],
        condition_channels=inputs - LATENT_CHANNELS,
    )
    whole = TransformerConfig()
    if found.width == whole.width and found.blocks != whole.blocks:
        raise ModelError(f"it holds {found.blocks} of Wan2.1-T2V-1.3B's {whole.blocks} blocks; fetch all of it")
    return found


def autoencoder_config(weights: Mapping[str, Tensor]) -> AutoencoderConfig:
    """Of a video autoencoder of Wan2.1's layout."""
    return AutoencoderConfig(width=_shape(weights, "encoder.conv1.weight", "encoder.conv_in.weight")[0])


def light_config(weights: Mapping[str, Tensor]) -> LightConfig:
    """Of a light pair."""
    widths = [_shape(weights, "light_decoder.inner.weight")[0]]
    widths += [_shape(weights, f"light_decoder.enlarge.{n}.weight")[0] // 8 for n in range(2)]
    return LightConfig(
        encoder_width=_shape(weights, "light_encoder.inner.weight")[0],
        encoder_blocks=how_many(weights, "light_encoder.blocks"),
        decoder_widths=tuple(widths),
        decoder_blocks=tuple(how_many(weights, f"light_decoder.stages.{n}") for n in range(3)),
    )


def how_many(names: Iterable[str], what: str) -> int:
    """Numbers 0, 1, … that follow `what.` in names, without a gap."""
    seen = {int(found[1]) for name in names if (found := re.match(rf"{re.escape(what)}\.(\d+)\.", name))}
    return next(n for n in count() if n not in seen)


def _shape(weights: Mapping[str, Tensor], *names: str) -> tuple[int, ...]:
    """Shape of the weight that has one of the names."""
    for name in names:
        if name in weights:
            return tuple(weights[name].shape)
    raise ModelError(f"{names[0]} is missing; the file is not whole, or of another version: fetch it again")
