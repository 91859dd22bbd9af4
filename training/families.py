"""What the trainer must know of a family of models before it builds one: lengths of clips, noise, losses. No torch.

`residual`: nano, small; a latent for every frame, cheap and linear to decode. `wan`: base; latents of four frames, but
for the first, from a video autoencoder that is dearer than losses in pixels are worth.
"""

from __future__ import annotations

from dataclasses import dataclass

from duovsr_vs.model.config import ModelConfig
from duovsr_vs.model.family import PRESETS, AnyConfig
from duovsr_vs.model.wan.config import TIME, BaseConfig

SOFT_CLASS = 1
"""Quality class of soft targets, of models that have more than the null class, this one and the best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Models that share classes."""

    name: str
    time: int
    """Frames of a latent; a clip has one frame and then whole groups of them. 1: any length."""
    steady: bool
    """The noise of a sample is the same for all frames, so that it cannot flicker; else every latent has its own."""
    in_pixels: bool
    """Whether there are losses in pixels (temporal, consistency)."""
    adapters: bool
    """Whether networks may share weights and have low-rank adapters of their own."""
    efficiency: float
    """Share of a GPU's peak that updates are taken to reach: assumed, not measured."""

    def latents(self, frames: int) -> int:
        """Latent frames of a clip."""
        return (frames - 1) // self.time + 1

    def whole(self, frames: int) -> int:
        """The least length of a clip that holds so many frames."""
        return -(-(frames - 1) // self.time) * self.time + 1


RESIDUAL = Family(name="residual", time=1, steady=True, in_pixels=True, adapters=False, efficiency=0.1)
WAN = Family(name="wan", time=TIME, steady=False, in_pixels=False, adapters=True, efficiency=0.35)


def family_of(config: AnyConfig) -> Family:
    """By the class of a configuration."""
    return WAN if isinstance(config, BaseConfig) else RESIDUAL


def config_of(model: str) -> AnyConfig:
    """Of a preset by name."""
    return PRESETS[model]


def has_learned_codec(config: AnyConfig) -> bool:
    """Whether latents are those of a codec that a stage of its own trains."""
    return isinstance(config, ModelConfig) and config.codec == "learned"


def needs_truth(config: AnyConfig) -> bool:
    """Whether latents of the ground truth can be made: a light pair alone sees the LR only."""
    return not isinstance(config, BaseConfig) or config.autoencoder is not None
