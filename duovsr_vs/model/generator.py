"""A whole model: condition, denoiser with the consistency step, and one-step generation of HR frames."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from . import flow
from .autoencoder import LearnedCodec
from .codec import (
    cell_enlarge,
    cell_shrink,
    decode_residual,
    encode_residual,
    fixed_convolution,
    to_latent_grid,
)
from .config import CELL, ModelConfig
from .consistency import to_take_off
from .features import Condition, condition, frames_of
from .network import Block, FlowNetwork
from .resample import enlarge


class Generator(nn.Module):
    """Flow network + codec + consistency.

    Normalised coefficients y = coefficients / (gain · deviation), (b t 96 h/2 w/2), stand for a picture. Latents z
    (b t c h/2 w/2), which the flow is about, are y itself with the fixed codec, and what an encoder makes of it with a
    learned one. The consistency step acts on y: before the flow sees it with the fixed codec, else after the decoder.
    """

    deviation: Tensor

    def __init__(self, config: ModelConfig, ops: ModuleType | Any = nn):
        super().__init__()
        self.config = config
        self.network = FlowNetwork(config, ops)
        self.codec = LearnedCodec(config, ops) if config.codec == "learned" else None
        deviation = torch.tensor(config.latent_std).repeat(CELL * CELL)
        self.register_buffer("deviation", deviation[:, None, None], persistent=False)

    # -- latents ------------------------------------------------------------------------------------------------

    def scale(self, condition: Condition) -> Tensor:
        """gain · deviation, (b t 96 h w): what a normalised coefficient of size 1 stands for."""
        return condition.gain * self.deviation

    @property
    def energy(self) -> Tensor:
        """(c 1 1): by how much an error of each latent channel counts, of mean square 1.

        Deviation over root mean square for the fixed codec; a learned one has channels of equal rank.
        """
        if self.codec is not None:
            return torch.ones_like(self.codec.normalisation.deviation)
        return self.deviation / self.deviation.square().mean().sqrt()

    def condition(self, lr: Tensor) -> Condition:
        """Condition of t frames from (b t+2 3 h w) LR frames, RGB in [0, 1], h and w even."""
        return condition(lr, self.config.back_projections)

    def encode(self, hr: Tensor, condition: Condition) -> Tensor:
        """Latent of HR frames (b t 3 4h 4w), RGB in [0, 1], given the condition of their LR frames."""
        frames = hr.shape[1]
        residual = rearrange(hr - enlarge(condition.base), "b t c h w -> (b t) c h w")
        y: Tensor = frames_of(encode_residual(residual), frames) / self.scale(condition)
        if self.codec is None:
            return y
        return frames_of(self.codec.encode(y.flatten(0, 1), features_of(condition)), frames)

    def coefficients(self, z: Tensor, condition: Condition) -> Tensor:
        """Normalised coefficients (b t 96 h w) of a latent, after the consistency step."""
        if self.codec is None:
            return z  # clean latents of the network have had the step
        y, kappa = (frames_of(x, z.shape[1]) for x in self.codec.decode(z.flatten(0, 1), features_of(condition)))
        return self.consist(y.float(), kappa, condition)

    def pixels(self, y: Tensor, condition: Condition) -> Tensor:
        """HR residual (b t 3 4h 4w) of normalised coefficients; linear in them."""
        return frames_of(decode_residual((y * self.scale(condition)).flatten(0, 1)), y.shape[1])

    def decode(self, z: Tensor, condition: Condition) -> Tensor:
        """HR residual (b t 3 4h 4w) of a latent."""
        return self.pixels(self.coefficients(z, condition), condition)

    def freeze_codec(self) -> None:
        """Train the flow network alone: all stages but the codec's own take a learned codec as it is."""
        if self.codec is not None:
            self.codec.requires_grad_(False)

    # -- denoising ----------------------------------------------------------------------------------------------

    def consist(self, y: Tensor, kappa: Tensor, condition: Condition) -> Tensor:
        """R + residual made consistent with the LR: y ← y − U·q, q of `to_take_off` for D·y − m.

        y: normalised coefficients; m = LR − D·R, what the base misses of the LR. Shapes (b t …), κ (b t 1 h w).
        """
        scale = self.scale(condition).flatten(0, 1)
        q = to_latent_grid(to_take_off(self.mismatch(y, condition), kappa.flatten(0, 1)))
        return y - frames_of(fixed_convolution(q, cell_enlarge()) / scale, y.shape[1])

    def mismatch(self, y: Tensor, condition: Condition) -> Tensor:
        """D·(R + residual) − LR of normalised coefficients, (b·t 12 h/2 w/2), channels ordered (dy dx c)."""
        coefficients = (y * self.scale(condition)).flatten(0, 1)
        return fixed_convolution(coefficients, cell_shrink()).float() - condition.missing.flatten(0, 1)

    def denoise(
        self, z_t: Tensor, t: Tensor, condition: Condition, quality: Tensor, taps: list[Tensor] | None = None
    ) -> Tensor:
        """x̂0 of noised latents: flow preconditioning, then, with the fixed codec, the consistency step.

        z_t: (b t c h w) float32; t: (b,) in [0, 1]; quality: (b,) class numbers.  Returns x̂0 like z_t, float32.
        """
        frames = z_t.shape[1]
        scaled = (z_t * flow.expand(flow.input_scale(t), z_t)).flatten(0, 1)
        bias = self.network.embedding(t, quality)
        predicted, kappa = self.network(features_of(condition), self.network.lift(scaled), bias, frames, taps)
        x0 = flow.precondition(z_t, frames_of(predicted.float(), frames), t)
        return x0 if kappa is None else self.consist(x0, frames_of(kappa, frames), condition)

    def velocity(self, z_t: Tensor, t: Tensor, condition: Condition, quality: Tensor) -> Tensor:
        """v = (z_t − x̂0)/t."""
        return flow.velocity_from_x0(z_t, self.denoise(z_t, t, condition, quality), t)

    def generate(self, noise: Tensor, condition: Condition, quality: Tensor) -> Tensor:
        """The one-step student: x̂0 at t = 1, where z_1 = ε."""
        return self.denoise(noise, torch.ones(noise.shape[0], device=noise.device), condition, quality)

    # -- run time -----------------------------------------------------------------------------------------------

    def fold_for_one_step(self) -> None:
        """Fold the embedding of t = 1 and the best quality class into the blocks; only `one_step` works then."""
        device = self.deviation.device
        best = torch.tensor([self.config.best_class], device=device)
        bias = self.network.embedding(torch.ones(1, device=device), best)
        for n, block in enumerate(self.network.blocks):
            assert isinstance(block, Block)
            block.fold_bias(bias[n, 0])

    def one_step(self, condition: Condition, lifted: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Residual of frames, with the network in `dtype`; the same as `generate` but never leaves the latent grid.

        condition: of one clip (1 t …); lifted: (1 c h/2 w/2) of the noise.  Returns the residual's coefficients
        (t 96 h/2 w/2) in `dtype`, channels last, and what consistency takes off on the LR grid, (t 3 h w) float32:
        what `compose` takes.
        """
        frames = condition.features.shape[1]
        features = condition.features[0].to(dtype).contiguous(memory_format=torch.channels_last)
        predicted, kappa = self.network(features, lifted, None, frames)
        if self.codec is not None:
            predicted, kappa = self.codec.decode(predicted, features)
        coefficients = predicted.mul_(self.deviation.to(dtype)).mul_(condition.gain[0].to(dtype))
        mismatch = fixed_convolution(coefficients, cell_shrink()).float() - condition.missing[0]
        return coefficients, to_take_off(mismatch, kappa)


def features_of(condition: Condition) -> Tensor:
    """The features of a condition as networks take them, (b·t 37 h w), channels last."""
    return condition.features.flatten(0, 1).contiguous(memory_format=torch.channels_last)
