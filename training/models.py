"""The models that the trainer trains, and the few places where their families differ behind one interface.

Both classes have `config`, `network`, `codec`, `deviation`, `energy`, `freeze_codec`, and `condition`, `encode`,
`decode`, `denoise`, `generate` of one signature each. Latents are (b t c h/2 w/2), t counting latent frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, cast

import torch
from torch import Tensor, nn

from duovsr_vs.model import flow
from duovsr_vs.model.config import CELL
from duovsr_vs.model.family import PRESETS
from duovsr_vs.model.features import Condition
from duovsr_vs.model.generator import Generator
from duovsr_vs.model.wan.autoencoder import WanAutoencoder
from duovsr_vs.model.wan.blocks import Cache, run
from duovsr_vs.model.wan.condition import WanCondition
from duovsr_vs.model.wan.config import PATCH, TIME, BaseConfig
from duovsr_vs.model.wan.generator import WanGenerator, type_of
from duovsr_vs.model.wan.transformer import WanTransformer
from training.families import family_of
from training.ranges import RecipeError

Model = Generator | WanGenerator
Seen = Any
"""Condition or WanCondition: a model takes what it has made itself."""


def layers_of(model: Model) -> Iterable[nn.Module]:
    """What is sharded by itself and computed again by itself: the blocks."""
    if isinstance(model, WanGenerator):
        return list(model.network.blocks)
    return [*model.network.blocks, *model.network.attention.values()]


def in_pixels(model: Model, condition: Seen) -> tuple[Generator, Condition]:
    """Model and condition, where losses in pixels are cheap. RecipeError for the other family."""
    if not isinstance(model, Generator) or not isinstance(condition, Condition):
        raise RecipeError(
            "losses in pixels (temporal, consistency, structure) are for models whose latents decode linearly, "
            "nano and small; leave them at 0"
        )
    return model, condition


def velocity(model: Model, z_t: Tensor, t: Tensor, condition: Seen, quality: Tensor) -> Tensor:
    """v = (z_t − x̂0)/t: by `denoise`, the one method through which sharded weights are gathered."""
    return flow.velocity_from_x0(z_t, model.denoise(z_t, t, condition, quality), t)


def encoder_of(model: Model, half: bool) -> Model:
    """What makes conditions and latents of pictures: the model, or, where that is dear, its autoencoder in bfloat16."""
    if not half or not isinstance(model, WanGenerator):
        return model
    device, unused = model.deviation.device, WanTransformer(UNUSED).state_dict()
    weights = {name: t for name, t in model.state_dict().items() if not name.startswith("transformer.")}
    weights |= {f"transformer.{name}": t.to(device) for name, t in unused.items()}
    halves = {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
    encoder = WanGenerator.of(model.config.with_values(transformer=UNUSED), halves)
    return moved(encoder, device).eval().requires_grad_(False)


def moved[M: nn.Module](module: M, device: torch.device) -> M:
    """The module on a device; untouched if it is there."""
    tensors = [*module.parameters(), *module.buffers()]
    return module if all(tensor.device == device for tensor in tensors) else module.to(device)


UNUSED = cast(BaseConfig, PRESETS["base-tiny"]).transformer
"""Of a model that is asked for conditions and latents only."""


class Pair(nn.Module):
    """Both halves as one network to train."""

    def __init__(self, generator: WanGenerator):
        super().__init__()
        assert generator.light_encoder is not None and generator.light_decoder is not None
        self.light_encoder, self.light_decoder = generator.light_encoder, generator.light_decoder

    def forward(self, lr: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """LR frames (b 3 t h w) in [0, 1], latents (b 16 n h/2 w/2) -> latents of the LR, frames about [−1, 1]."""
        return self.light_encoder(lr), self.light_decoder(z, lr)


def first_layers(autoencoder: WanAutoencoder, frames: Tensor) -> Tensor:
    """What the first quarter of an autoencoder's encoder makes of the last latent's frames (b 3 t h w)."""
    cache, encoder = Cache(), autoencoder.encoder
    layers = encoder.downsamples[: len(encoder.downsamples) // 4]
    return run(layers, encoder.conv1(frames[:, :, -TIME:].to(type_of(encoder)), cache), cache)


# -- conditions -------------------------------------------------------------------------------------------------


def repeated(condition: Seen, count: int) -> Seen:
    """The condition of one sample, (1 …), for `count` of them."""
    parts: list[Tensor] = [getattr(condition, field.name) for field in fields(condition)]
    return type(condition)(*(x.expand(count, *x.shape[1:]) for x in parts))


def blank_condition(model: Model, batch: int, frames: int, patch: int) -> Seen:
    """One of the right shapes; what an autoencoder would have to make is not made."""
    if isinstance(model, Generator):
        return model.condition(torch.rand(batch, frames + 2, 3, patch, patch))
    side, pictures = patch // CELL, torch.rand(batch, frames, 3, patch, patch)
    latents = torch.rand(batch, family_of(model.config).latents(frames), model.config.latent_channels, side, side)
    return WanCondition(latents, pictures, torch.rand(batch, frames, 3 * CELL**2, side, side), pictures.clone())


def tap_shape(model: Model, z: Tensor) -> tuple[int, ...]:
    """Of the activations after a block for latents (b t c h w)."""
    b, t, _, h, w = z.shape
    step = PATCH[1] if isinstance(model, WanGenerator) else 1
    return b * t, model.config.channels, -(-h // step), -(-w // step)


def base_latent(model: Model, condition: Seen, like: Tensor) -> Tensor:
    """Latents of the base resampler's output: what the LR says by itself."""
    return condition.latents if isinstance(condition, WanCondition) else torch.zeros_like(like)


def whole_clip(model: Model, lr: Tensor) -> Tensor:
    """(1 t 3 h w) -> (1 t'+2 3 h w): the ends repeated as neighbours, the last one until the model takes the length."""
    missing = family_of(model.config).whole(lr.shape[1]) - lr.shape[1]
    return torch.cat((lr[:, :1], lr, lr[:, -1:].expand(-1, 1 + missing, -1, -1, -1)), 1)


def run_noise(model: Model, lr: Tensor, source: torch.Generator) -> Tensor:
    """Standard normal noise for LR frames of `whole_clip`, (1 t c h/2 w/2), on the model's device."""
    family = family_of(model.config)
    frames, height, width = lr.shape[1] - 2, lr.shape[-2], lr.shape[-1]
    latents = family.latents(frames)
    shape = (1, 1 if family.steady else latents, model.config.latent_channels, height // CELL, width // CELL)
    noise = torch.randn(shape, generator=source)
    return noise.to(model.deviation.device).expand(1, latents, *shape[2:])
