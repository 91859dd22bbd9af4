"""A whole model: condition, denoiser with the consistency step, and one-step generation of HR frames."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from . import flow
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
    """Flow network + codec + consistency. Latents z are coefficients / (gain · deviation), (b t 96 h/2 w/2)."""

    deviation: Tensor

    def __init__(self, config: ModelConfig, ops: ModuleType | Any = nn):
        super().__init__()
        self.config = config
        self.network = FlowNetwork(config, ops)
        deviation = torch.tensor(config.latent_std).repeat(CELL * CELL)
        self.register_buffer("deviation", deviation[:, None, None], persistent=False)

    # -- latents ------------------------------------------------------------------------------------------------

    def scale(self, condition: Condition) -> Tensor:
        """gain · deviation, (b t 96 h w): what a latent of size 1 stands for."""
        return condition.gain * self.deviation

    def condition(self, lr: Tensor) -> Condition:
        """Condition of t frames from (b t+2 3 h w) LR frames, RGB in [0, 1], h and w even."""
        return condition(lr, self.config.back_projections)

    def encode(self, hr: Tensor, condition: Condition) -> Tensor:
        """Latent of HR frames (b t 3 4h 4w), RGB in [0, 1], given the condition of their LR frames."""
        residual = rearrange(hr - enlarge(condition.base), "b t c h w -> (b t) c h w")
        latent: Tensor = frames_of(encode_residual(residual), hr.shape[1]) / self.scale(condition)
        return latent

    def decode(self, z: Tensor, condition: Condition) -> Tensor:
        """HR residual (b t 3 4h 4w) of a latent."""
        return frames_of(decode_residual((z * self.scale(condition)).flatten(0, 1)), z.shape[1])

    # -- denoising ----------------------------------------------------------------------------------------------

    def consist(self, x0: Tensor, kappa: Tensor, condition: Condition) -> Tensor:
        """R + residual made consistent with the LR: y ← y − U·q, q of `to_take_off` for D·y − m.

        y: coefficients of x̂0; m = LR − D·R, what the base misses of the LR. Shapes (b t …), κ (b t 1 h w).
        """
        scale = self.scale(condition).flatten(0, 1)
        q = to_latent_grid(to_take_off(self.mismatch(x0, condition), kappa.flatten(0, 1)))
        return x0 - frames_of(fixed_convolution(q, cell_enlarge()) / scale, x0.shape[1])

    def mismatch(self, x0: Tensor, condition: Condition) -> Tensor:
        """D·(R + residual) − LR of clean latents, (b·t 12 h/2 w/2), channels ordered (dy dx c)."""
        coefficients = (x0 * self.scale(condition)).flatten(0, 1)
        return fixed_convolution(coefficients, cell_shrink()).float() - condition.missing.flatten(0, 1)

    def denoise(
        self, z_t: Tensor, t: Tensor, condition: Condition, quality: Tensor, taps: list[Tensor] | None = None
    ) -> Tensor:
        """x̂0 of noised latents: flow preconditioning, then the consistency step.

        z_t: (b t 96 h w) float32; t: (b,) in [0, 1]; quality: (b,) class numbers.  Returns x̂0 like z_t, float32.
        """
        frames = z_t.shape[1]
        scaled = (z_t * flow.expand(flow.input_scale(t), z_t)).flatten(0, 1)
        bias = self.network.embedding(t, quality)
        features = condition.features.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        predicted, kappa = self.network(features, self.network.lift(scaled), bias, frames, taps)
        x0 = flow.precondition(z_t, frames_of(predicted.float(), frames), t)
        return self.consist(x0, frames_of(kappa, frames), condition)

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
        coefficients = predicted.mul_(self.deviation.to(dtype)).mul_(condition.gain[0].to(dtype))
        mismatch = fixed_convolution(coefficients, cell_shrink()).float() - condition.missing[0]
        return coefficients, to_take_off(mismatch, kappa)
