"""Sizes of the `base` family. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import ModelError

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
            "attention_window": self.attention_window >= 0 and self.attention_window % 2 == 0,
        }
        for field, good in checks.items():
            if not good:
                raise ModelError(f"the transformer's {field}={getattr(self, field)!r} is out of range")

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


BASE = TransformerConfig(condition_channels=LATENT_CHANNELS, context_tokens=64)
"""Wan2.1-T2V-1.3B's transformer with the LR latent and learned tokens beside it."""
