"""Sizes of the `base` family. Needs no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from ...errors import ModelError
from ..config import SCALE, built, parsed, within

LATENT_CHANNELS = 16
PATCH = (1, 2, 2)
"""Latent frames, rows and columns of a token."""
SPACE, TIME = 8, 4
"""HR pixels and frames per latent position; 4n + 1 frames are n + 1 latents."""
LATENT_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
LATENT_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig:
    """One transformer; the defaults are those of Wan2.1-T2V-1.3B."""

    width: int = 1536
    heads: int = 12
    blocks: int = 30
    inner: int = 8960
    """Width inside the feed-forward layers."""
    text_width: int = 4096
    """Of umT5-xxl's embeddings."""
    text_length: int = 512
    """Tokens to which embeddings are filled up with zeros; there is no mask, so the zeros take part."""
    frequencies: int = 256
    """Of the time's sinusoid."""
    condition_channels: int = 0
    """Channels of the normalised LR latent beside the noised one; 0: plain text-to-video."""
    context_tokens: int = 0
    """Learned tokens in place of a text, and as many for "no text"; 0: embeddings must be given."""
    text: bool = False
    """The context tokens are those of a text and of its opposite: given with the file, never trained."""
    attention_window: int = 0
    """Side in tokens of the windows of self-attention, half of it shifted in every second block; 0: full attention."""

    def __post_init__(self) -> None:
        checks = {
            "width": self.width >= 8 and self.width % (2 * self.heads) == 0,
            "heads": self.heads >= 1,
            "blocks": self.blocks >= 1,
            "inner": self.inner >= 1,
            "text_length": self.text_length >= 1,
            "frequencies": self.frequencies >= 2 and self.frequencies % 2 == 0,
            "condition_channels": self.condition_channels >= 0,
            "context_tokens": 0 <= self.context_tokens <= self.text_length,
            "text": not self.text or self.context_tokens == self.text_length,
            "attention_window": self.attention_window >= 0 and self.attention_window % 2 == 0,
        }
        within("the transformer's configuration", self, checks)

    @property
    def head_width(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderConfig:
    """One video autoencoder; the defaults are those of Wan2.1."""

    width: int = 96
    factors: tuple[int, ...] = (1, 2, 4, 4)
    """Channels of each resolution over `width`."""
    blocks: int = 2
    """Residual blocks of a resolution in the encoder; the decoder has one more."""
    latent_mean: tuple[float, ...] = LATENT_MEAN
    latent_std: tuple[float, ...] = LATENT_STD

    def __post_init__(self) -> None:
        checks = {
            "width": self.width >= 4,
            "factors": len(self.factors) == 4 and min(self.factors) >= 1,  # three halvings make the eighth
            "blocks": self.blocks >= 1,
            "latent_mean": len(self.latent_mean) == LATENT_CHANNELS,
            "latent_std": len(self.latent_std) == LATENT_CHANNELS and min(self.latent_std) > 0,
        }
        within("the autoencoder's configuration", self, checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class LightConfig:
    """Sizes of the light pair."""

    encoder_width: int = 192
    encoder_blocks: int = 4
    decoder_widths: tuple[int, ...] = (256, 128, 64)
    """At an eighth, a quarter and half of the HR's side."""
    decoder_blocks: tuple[int, ...] = (3, 3, 3)

    def __post_init__(self) -> None:
        checks = {
            "encoder_width": self.encoder_width >= 4,
            "encoder_blocks": self.encoder_blocks >= 0,
            "decoder_widths": len(self.decoder_widths) == 3 and min(self.decoder_widths) >= 4,
            "decoder_blocks": len(self.decoder_blocks) == 3 and min(self.decoder_blocks) >= 0,
        }
        within("the light pair's configuration", self, checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseConfig:
    """One model of the `base` family."""

    name: str
    """Preset that the sizes come from."""
    transformer: TransformerConfig
    autoencoder: AutoencoderConfig | None = None
    """The video autoencoder; a model for running alone may have the light pair in its place."""
    light: LightConfig | None = None
    """The light pair; where there is one, the condition is made and latents are decoded by it."""
    window: int = 21
    """Frames that are generated together (F = 4m + 1)."""
    overlap: int = 5
    """Frames by which consecutive windows overlap (O). Stride S = F − O, a multiple of 4: groups of a latent align."""
    chunk: int = 16
    """Frames that a host asks for at once."""
    kappa: float = 1.0
    """Weight of the consistency step at run time: 1 on clean LR, less where its noise must go."""
    back_projections: int = 2
    """Back-projections of the base resampler."""
    quality_classes: int = 2
    """0 is the null class with the tokens for "no text", the others have the learned tokens."""
    default_detail: float = 1.0
    """Default of the detail dial, 0 (faithful weights) to 1 (detailed weights)."""

    def __post_init__(self) -> None:
        checks = {
            "transformer": isinstance(self.transformer, TransformerConfig),
            "autoencoder": isinstance(self.autoencoder, AutoencoderConfig | None),
            "light": isinstance(self.light, LightConfig | None),
            "window": self.window >= 5 and self.window % TIME == 1,
            "overlap": self.overlap >= 0 and 2 * self.overlap <= self.window - 1 and self.stride % TIME == 0,
            "chunk": self.chunk >= 1,
            "kappa": 0.0 <= self.kappa <= 1.0,
            "back_projections": 0 <= self.back_projections <= 8,
            "quality_classes": self.quality_classes >= 2,
            "default_detail": 0.0 <= self.default_detail <= 1.0,
        }
        within("the model's configuration", self, checks)
        if self.autoencoder is None and self.light is None:
            raise ModelError("the model's configuration has neither an autoencoder nor a light pair; one is needed")
        if self.transformer.condition_channels != LATENT_CHANNELS or self.transformer.context_tokens < 1:
            raise ModelError(
                f"the model's transformer has {self.transformer.condition_channels} channels for the LR latent and "
                f"{self.transformer.context_tokens} context tokens; {LATENT_CHANNELS} and at least 1 are needed"
            )

    # -- what the engine asks of every family ---------------------------------------------------------------------

    @property
    def stride(self) -> int:
        """Frames from one window to the next (S = F − O)."""
        return self.window - self.overlap

    @property
    def best_class(self) -> int:
        """Quality class asked for at run time."""
        return self.quality_classes - 1

    @property
    def channels(self) -> int:
        """Width of the transformer."""
        return self.transformer.width

    @property
    def blocks(self) -> int:
        """Of the transformer."""
        return self.transformer.blocks

    @property
    def heads(self) -> int:
        """Of the transformer's attention."""
        return self.transformer.heads

    @property
    def latent_channels(self) -> int:
        """Channels of a latent position."""
        return LATENT_CHANNELS

    @property
    def receptive_field(self) -> int:
        """Overlap of tiles in LR pixels, half a window of attention and 16 at least.

        Everything inside a window, or with full attention inside the frame, reaches everything else: no halo makes
        tiles exact, they are feathered.
        """
        return max(self.tile_step, 16)

    @property
    def tile_step(self) -> int:
        """Tiles start at multiples of this many LR pixels: whole tokens, and half the windows of attention."""
        return TOKEN * max(1, self.transformer.attention_window // 2)

    @property
    def layers(self) -> int:
        """Blocks that have weights of their own: no file of this configuration has fewer tensors."""
        own = self.transformer.blocks
        if self.autoencoder is not None:
            own += 2 * self.autoencoder.blocks * len(self.autoencoder.factors)
        if self.light is not None:
            own += self.light.encoder_blocks + sum(self.light.decoder_blocks)
        return own

    # -- JSON -----------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The configuration as one JSON string with sorted keys; `family` tells it from the other family's."""
        return json.dumps({"family": FAMILY, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> BaseConfig:
        """Inverse of `to_json`; ModelError names what is unknown, missing or of another type."""
        values: dict[str, Any] = {name: value for name, value in parsed(text).items() if name != "family"}
        for name, kind in _PARTS.items():
            if isinstance(given := values.get(name), dict):
                values[name] = built(kind, given)
        return built(cls, values)

    def with_values(self, **changes: Any) -> BaseConfig:
        """A copy with some fields replaced."""
        return replace(self, **changes)


FAMILY = "wan"
"""Of this family's model files."""
TOKEN = SPACE * PATCH[1] // SCALE
"""LR pixels along a side of a token."""
_PARTS = {"transformer": TransformerConfig, "autoencoder": AutoencoderConfig, "light": LightConfig}
BASE = TransformerConfig(condition_channels=LATENT_CHANNELS, context_tokens=64, attention_window=16)
"""Wan2.1-T2V-1.3B's transformer with the LR latent and learned tokens beside it."""
WITH_TEXT = replace(BASE, context_tokens=BASE.text_length, text=True)
"""The same with the tokens of a text, which are filled up to this length."""
_TINY = TransformerConfig(
    width=48, heads=2, blocks=2, inner=64, text_width=20, text_length=12, frequencies=32,
    condition_channels=LATENT_CHANNELS, context_tokens=4, attention_window=4,
)  # fmt: skip
_TINY_LIGHT = LightConfig(encoder_width=16, encoder_blocks=1, decoder_widths=(16, 12, 8), decoder_blocks=(1, 1, 1))
_TINY_BASE = BaseConfig(
    name="base-tiny", transformer=_TINY, autoencoder=AutoencoderConfig(width=8), window=13, overlap=5, chunk=8
)
PRESETS = {
    "base": BaseConfig(name="base", transformer=BASE, autoencoder=AutoencoderConfig()),
    "base-text": BaseConfig(name="base-text", transformer=WITH_TEXT, autoencoder=AutoencoderConfig()),
    "base-fast": BaseConfig(name="base-fast", transformer=BASE, light=LightConfig()),
    "base-tiny": _TINY_BASE,
    "base-tiny-text": _TINY_BASE.with_values(
        name="base-tiny-text", transformer=replace(_TINY, context_tokens=_TINY.text_length, text=True)
    ),
    "base-tiny-light": _TINY_BASE.with_values(name="base-tiny-light", autoencoder=None, light=_TINY_LIGHT),
}
"""`base`, `base-text` and `base-fast` are for users; `base-tiny` and those named after it for tests."""
