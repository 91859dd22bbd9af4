"""Sizes and constants of a model: everything that its file must say so that it can be built again. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from ..errors import ModelError

SCALE = 4
"""HR pixels per LR pixel along each axis, the same for every model."""
CELL = 2
"""LR pixels per latent position along each axis."""
LUMA_COEFFICIENTS = 16
"""DCT coefficients kept of the 4x4 block that belongs to one LR pixel: all of luma …"""
CHROMA_COEFFICIENTS = 4
"""… and the four lowest of each colour difference."""
LATENT_PER_PIXEL = LUMA_COEFFICIENTS + 2 * CHROMA_COEFFICIENTS
COEFFICIENTS = LATENT_PER_PIXEL * CELL * CELL
"""Coefficients of a latent position: the channels of the fixed codec's latents, and what a learned one makes its of."""
CODEC_FIELDS = ("codec", "latent_channels", "codec_channels", "codec_blocks")
NULL_CLASS = 0
"""Quality class that says nothing; guidance pushes away from it."""


def within(what: str, config: object, checks: Mapping[str, bool]) -> None:
    """ModelError that names the first field of a configuration whose check failed."""
    for field, good in checks.items():
        if not good:
            raise ModelError(f"{what} has {field}={getattr(config, field)!r}, which is out of range")


def parsed(text: str) -> dict[str, Any]:
    """The JSON object of a configuration; ModelError if it is none."""
    try:
        values: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the model's configuration is not JSON ({error}); export the model again") from error
    if not isinstance(values, dict):
        raise ModelError("the model's configuration is not a JSON object; export the model again")
    return values


def built[Config](kind: type[Config], values: Mapping[str, Any]) -> Config:
    """A configuration from the values of its fields; ModelError names what is unknown, missing or of another type."""
    known = {field.name: str(field.type) for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(known)):
        raise ModelError(f"the model's configuration has unknown fields {unknown}; a newer duovsr may know them")
    try:
        return kind(**{
            name: tuple(value) if known[name].startswith("tuple") else value for name, value in values.items()
        })  # fmt: skip
    except TypeError as error:
        raise ModelError(f"the model's configuration is incomplete or of wrong types: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One model of the `nano`/`small` family; the two differ by these numbers only."""

    name: str
    """Preset that the sizes come from."""
    channels: int
    """Width of the network at half the LR resolution."""
    blocks: int
    """Residual blocks of two 3x3 convolutions."""
    attention_every: int = 0
    """A space-time attention layer follows every n-th block; 0: none."""
    heads: int = 4
    """Attention heads."""
    attention_window: int = 8
    """Side of the attention's square windows, in latent positions."""
    window: int = 1
    """Frames that are generated together (F). 1: each frame on its own from its two neighbours."""
    overlap: int = 0
    """Frames by which consecutive windows overlap (O); they are cross-faded. Stride S = F − O."""
    quality_classes: int = 3
    """Learned classes of the target's quality; 0 is the null class, the last is the best and is used at run time."""
    latent_std: tuple[float, ...] = (1.0,) * LATENT_PER_PIXEL
    """Standard deviation of each of the 24 coefficients after division by the local gain, measured on training data."""
    back_projections: int = 2
    """Back-projections of the base resampler."""
    default_detail: float = 1.0
    """Default of the detail dial, 0 (faithful weights) to 1 (detailed weights)."""
    chunk: int = 8
    """Frames that a host asks for at once; a grid, so that results do not depend on the order of requests."""
    codec: Literal["fixed", "learned"] = "fixed"
    """fixed: latents are the 96 normalised coefficients; learned: an encoder and a decoder lie between the two."""
    latent_channels: int = COEFFICIENTS
    """Channels of a latent position."""
    codec_channels: int = 64
    """Width of a learned codec's encoder and decoder."""
    codec_blocks: int = 2
    """Residual blocks of a learned codec's encoder, and as many of its decoder."""

    def __post_init__(self) -> None:
        checks = {
            "channels": self.channels >= 8,
            "blocks": self.blocks >= 1,
            "attention_every": self.attention_every >= 0,
            "heads": self.heads >= 1 and self.channels % self.heads == 0,
            "attention_window": self.attention_window >= 2 and self.attention_window % 2 == 0,
            "window": self.window >= 1,
            "overlap": self.overlap >= 0 and 2 * self.overlap <= max(self.window - 1, 0),
            "quality_classes": self.quality_classes >= 2,
            "latent_std": len(self.latent_std) == LATENT_PER_PIXEL and min(self.latent_std) > 0,
            "back_projections": 0 <= self.back_projections <= 8,
            "default_detail": 0.0 <= self.default_detail <= 1.0,
            "chunk": self.chunk >= 1,
            "codec": self.codec in ("fixed", "learned"),
            "latent_channels": self.latent_channels == COEFFICIENTS
            if self.codec == "fixed"
            else 1 <= self.latent_channels <= COEFFICIENTS,
            "codec_channels": self.codec_channels >= 8,
            "codec_blocks": self.codec_blocks >= 1,
        }
        within("the model's configuration", self, checks)

    @property
    def stride(self) -> int:
        """Frames from one window to the next (S = F − O)."""
        return self.window - self.overlap

    @property
    def best_class(self) -> int:
        """Quality class asked for at run time."""
        return self.quality_classes - 1

    @property
    def receptive_field(self) -> int:
        """Halo in LR pixels beyond which nothing reaches an output pixel; a multiple of `tile_step`.

        Convolutions reach one latent position each (input, two per block, output) and the consistency step eight, an
        attention layer reaches to the far side of its window; the base resampler, gain and local mean reach less than
        16 LR pixels. A learned decoder comes after the network: two positions per block, one at its end.
        """
        reach = 2 * self.blocks + 10
        if self.codec == "learned":
            reach += 2 * self.codec_blocks + 1
        if self.attention_every:
            reach += (self.blocks // self.attention_every) * self.attention_window
        halo = reach * CELL + 2 * 4
        return max(-(-halo // self.tile_step) * self.tile_step, 16)

    @property
    def layers(self) -> int:
        """Blocks that have weights of their own: no file of this configuration has fewer tensors."""
        return self.blocks + (self.codec_blocks if self.codec == "learned" else 0)

    @property
    def tile_step(self) -> int:
        """Tiles start at multiples of this many LR pixels, so that latent positions and attention windows line up."""
        return CELL * self.attention_window if self.attention_every else CELL

    def to_json(self) -> str:
        """The configuration as one JSON string with sorted keys.

        A fixed codec has no sizes to tell, so that its files and their hashes stay what they were without them.
        """
        values = asdict(self)
        if self.codec == "fixed":
            for name in CODEC_FIELDS:
                del values[name]
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Inverse of `to_json`; ModelError names what is unknown or missing."""
        return built(cls, parsed(text))

    def with_values(self, **changes: Any) -> ModelConfig:
        """A copy with some fields replaced."""
        return replace(self, **changes)


LATENT_STD = (
    # luma, lowest frequencies first
    7.067,
    5.334,
    5.298,
    3.263,
    3.06,
    3.088,
    2.043,
    2.069,
    1.457,
    1.575,
    1.581,
    1.137,
    1.171,
    0.888,
    0.908,
    0.616,
    # (R − B)/2, (−R + 2G − B)/4
    6.001,
    2.054,
    1.918,
    0.962,
    2.795,
    0.974,
    0.909,
    0.497,
)
"""Deviations of the coefficients on the training data (three kinds of LR); `nano` and `small` share a latent space."""

PRESETS = {
    "nano": ModelConfig(name="nano", channels=64, blocks=5, latent_std=LATENT_STD),
    "small": ModelConfig(
        name="small",
        channels=160,
        blocks=12,
        attention_every=3,
        heads=5,
        window=8,
        overlap=2,
        chunk=6,
        latent_std=LATENT_STD,
    ),
    "tiny": ModelConfig(name="tiny", channels=16, blocks=1, heads=2),
    "toy": ModelConfig(
        name="toy",
        channels=16,
        blocks=2,
        attention_every=1,
        heads=2,
        attention_window=4,
        window=21,
        overlap=5,
        chunk=16,
    ),
    "toy-learned": ModelConfig(
        name="toy-learned",
        channels=16,
        blocks=1,
        heads=2,
        latent_std=LATENT_STD,
        codec="learned",
        latent_channels=16,
        codec_channels=16,
        codec_blocks=2,
    ),
}
"""`nano` and `small` are for users; `tiny`, `toy` (windows of F = 21 with attention) and `toy-learned` for tests."""
