"""A whole model of the `base` family: condition, denoiser, and one-step generation of HR frames (arXiv 2603.22271 §3).

The same interface as the residual family's `Generator`, but latents stand for whole frames, four at a time: z is
(b n 16 h/2 w/2) for t = 4n − 3 frames, and the decoded frames less R are the residual.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from types import ModuleType
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ...errors import FormatError, ModelError
from .. import flow
from ..codec import to_latent_grid
from ..config import CELL, NULL_CLASS
from ..features import frames_of
from ..resample import back_project, enlarge, pad_edges
from .autoencoder import WanAutoencoder
from .condition import WanCondition
from .config import LATENT_CHANNELS, PATCH, TIME, BaseConfig
from .light import LightDecoder, LightEncoder
from .transformer import WanTransformer


class WanGenerator(nn.Module):
    """Transformer and autoencoder, or the light pair in the autoencoder's place.

    Weights may be of any float type; conditions, latents and results are float32. `ops` is the namespace that the
    transformer's layers come from (torch.nn, or a host's own with managed weights).
    """

    deviation: Tensor

    def __init__(self, config: BaseConfig, ops: ModuleType | Any = nn):
        super().__init__()
        self.config = config
        self.transformer = WanTransformer(config.transformer, ops)
        self.autoencoder = None if config.autoencoder is None else WanAutoencoder(config.autoencoder)
        self.light_encoder = None if config.light is None else LightEncoder(config.light)
        self.light_decoder = None if config.light is None else LightDecoder(config.light)
        self.set_constants()

    def set_constants(self) -> None:
        """What follows from the configuration alone, on the CPU; a model that was built without memory has it not."""
        self.register_buffer("deviation", torch.ones(LATENT_CHANNELS, 1, 1), persistent=False)
        if self.autoencoder is not None:
            self.autoencoder.set_constants()

    @classmethod
    def of(cls, config: BaseConfig, weights: Mapping[str, Tensor], ops: ModuleType | Any = nn) -> WanGenerator:
        """The model with these very tensors, uncopied and of their own types: of a file, they stay on the disk.

        Only where a part has weights of several types, all of it gets the one that holds them all.
        """
        with torch.device("meta"):
            generator = cls(config, ops)
        generator.load_state_dict(dict(weights), assign=True)
        for part in generator.children():
            kinds = {weight.dtype for weight in part.parameters()}
            if len(kinds) > 1:
                part.to(reduce(torch.promote_types, kinds))
        generator.set_constants()
        return generator

    # -- latents ------------------------------------------------------------------------------------------------

    @property
    def network(self) -> WanTransformer:
        """What the stages train: the transformer."""
        return self.transformer

    @property
    def codec(self) -> WanAutoencoder | None:
        """The autoencoder; None in a model that has the light pair alone."""
        return self.autoencoder

    @property
    def energy(self) -> Tensor:
        """(16 1 1): by how much an error of each latent channel counts; the channels are of equal rank."""
        return torch.ones_like(self.deviation)

    def freeze_codec(self) -> None:
        """Train the transformer alone: all stages but the light pair's own take autoencoder and pair as they are."""
        for part in (self.autoencoder, self.light_encoder, self.light_decoder):
            if part is not None:
                part.requires_grad_(False)

    def condition(self, lr: Tensor) -> WanCondition:
        """Condition of t frames from (b t+2 3 h w) LR frames, RGB in [0, 1], h and w even, t = 4n − 3.

        The first and the last frame are neighbours, which this family does not look at. FormatError for other sizes.
        """
        seen = lr[:, 1:-1]
        t, (h, w) = seen.shape[1], seen.shape[-2:]
        if t % TIME != 1 or h % CELL or w % CELL:
            raise FormatError(f"{t} LR frames of {w}x{h}: 4n + 1 frames with even sides are needed")
        base, missing = back_project(seen, self.config.back_projections)
        cells = frames_of(to_latent_grid(missing.flatten(0, 1)), t)
        if self.light_encoder is not None:
            latents = self.light_encoder(clip_of(seen).to(type_of(self.light_encoder)))
        else:
            latents = self._encoded(enlarge(base))
        return WanCondition(clip_of(latents).float(), seen, cells, base)

    def encode(self, hr: Tensor, condition: WanCondition) -> Tensor:
        """Latent (b n 16 h/2 w/2) of HR frames (b t 3 4h 4w), RGB in [0, 1]; the condition tells nothing about it."""
        return clip_of(self._encoded(hr)).float()

    def _encoded(self, frames: Tensor) -> Tensor:
        """(b t 3 H W) in [0, 1], held there -> (b 16 n H/8 W/8). One sample after the other: memory is that of one."""
        if self.autoencoder is None:
            raise ModelError(
                f"the model {self.config.name} holds a light pair and no autoencoder, which HR frames are encoded by; "
                "make the file with --vae beside --light"
            )
        kind = type_of(self.autoencoder)
        clips = (clip_of(one.clamp(0, 1) * 2 - 1).to(kind) for one in torch.split(frames, 1))
        return torch.cat([self.autoencoder.encode(clip) for clip in clips])

    def decode(self, z: Tensor, condition: WanCondition) -> Tensor:
        """HR residual (b t 3 4h 4w) of a latent: decoded frames − R."""
        return torch.cat(list(self.decoded(z, condition)), 1)

    def decoded(self, z: Tensor, condition: WanCondition, at_once: int = 1) -> Iterator[Tensor]:
        """The residual of `decode` part by part: 1 frame, then 4·at_once at a time, so that little is held at once."""
        first = 0
        for part in self._frames(z, condition, at_once):
            frames = clip_of(part).float() * 0.5 + 0.5
            last = first + frames.shape[1]
            yield frames - enlarge(condition.base[:, first:last])
            first = last

    def _frames(self, z: Tensor, condition: WanCondition, at_once: int) -> Iterator[Tensor]:
        """Parts (b 3 t H W) of the decoded frames, about [−1, 1]."""
        if self.light_decoder is not None:
            kind = type_of(self.light_decoder)
            return self.light_decoder.decoded(clip_of(z).to(kind), clip_of(condition.lr).to(kind), at_once)
        assert self.autoencoder is not None  # the configuration has one of the two
        return self.autoencoder.decoded(clip_of(z).to(type_of(self.autoencoder)), at_once)

    # -- denoising ----------------------------------------------------------------------------------------------

    def context(self, quality: Tensor) -> Tensor:
        """Context tokens (b m width) of quality classes (b,): those for "no text" of the null class, or the learned."""
        tokens: Tensor = self.transformer.context[(quality == NULL_CLASS).long()]
        return tokens

    def velocity(
        self, z_t: Tensor, t: Tensor, condition: WanCondition, quality: Tensor, taps: list[Tensor] | None = None
    ) -> Tensor:
        """v = ε − x̂0, as the transformer gives it.

        z_t: (b n 16 h w) float32; t: (b,) in [0, 1]; quality: (b,) class numbers. Returns v like z_t, float32.
        """
        kind = type_of(self.transformer)
        seen, beside = (clip_of(whole_tokens(x)).to(kind) for x in (z_t, condition.latents))
        v = clip_of(self.transformer(seen, t, self.context(quality), beside, taps)).float()
        return v[..., : z_t.shape[-2], : z_t.shape[-1]]

    def denoise(
        self, z_t: Tensor, t: Tensor, condition: WanCondition, quality: Tensor, taps: list[Tensor] | None = None
    ) -> Tensor:
        """x̂0 = z_t − t·v of noised latents, arguments as `velocity`.

        `taps` collects the activations after each block, (b·n width h/2 w/2), of whole tokens.
        """
        return flow.x0_from_velocity(z_t, self.velocity(z_t, t, condition, quality, taps), t)

    def generate(self, noise: Tensor, condition: WanCondition, quality: Tensor) -> Tensor:
        """The one-step student: x̂0 at t = 1, where z_1 = ε."""
        return self.denoise(noise, torch.ones(noise.shape[0], device=noise.device), condition, quality)


def clip_of(x: Tensor) -> Tensor:
    """(b t c h w) <-> (b c t h w): ours to the autoencoder's order of axes and back."""
    return rearrange(x, "b t c h w -> b c t h w")


def whole_tokens(x: Tensor) -> Tensor:
    """Latents (… h w) continued by their border to sides that are whole tokens."""
    h, w = x.shape[-2:]
    right, bottom = -w % PATCH[2], -h % PATCH[1]
    return pad_edges(x, 0, right, 0, bottom) if right or bottom else x


def type_of(module: nn.Module) -> torch.dtype:
    """Type of a module's weights."""
    return next(module.parameters()).dtype
