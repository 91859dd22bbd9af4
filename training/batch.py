"""A batch of packed samples as tensors, with its conditions and latents, and the noise that belongs to its step."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from duovsr_vs.model.config import NULL_CLASS
from duovsr_vs.model.features import Condition
from duovsr_vs.model.generator import Generator
from training.data.degrade import KINDS

SOFT_CLASS = 1
"""Quality class of targets that were softened; the null class is 0 and the best one is last."""
LARGEST_BLUR = 1.8


def random_source(seed: int, *names: object) -> torch.Generator:
    """A generator that depends on nothing but the seed and the names: every draw of a run has its own."""
    digest = hashlib.blake2b(repr((seed, *names)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


@dataclass(frozen=True, slots=True)
class Batch:
    """Pairs of neighbouring frames, ready for a loss."""

    condition: Condition
    """Of the two frames, (b 2 …)."""
    z0: Tensor
    """Latents of the (perhaps softened) ground truth, (b 2 96 h/2 w/2)."""
    quality: Tensor
    """(b,) quality class of each target."""
    clean: Tensor
    """(b,) float, 1 where the LR is the ground truth shrunk and nothing else."""
    flow: Tensor
    """(b 2 4h 4w) dx, dy from the first frame to the second, in HR pixels."""
    mask: Tensor
    """(b 4h 4w) float, 1 where the flow holds."""


def soften(hr: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of (b t 3 h w) by sigma (b,) in HR pixels; 0 leaves a sample as it is."""
    radius = 5
    x = torch.arange(-radius, radius + 1, dtype=torch.float32, device=hr.device)
    kernel = torch.exp(-0.5 * (x / sigma.clamp_min(1e-3)[:, None]) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    planes = rearrange(hr, "b t c h w -> (t c) b h w")
    count = planes.shape[1]
    for axis, pad in ((-1, (radius, radius, 0, 0)), (-2, (0, 0, radius, radius))):
        weights = kernel[:, None, None, :] if axis == -1 else kernel[:, None, :, None]
        planes = F.conv2d(F.pad(planes, pad, mode="replicate"), weights, groups=count)
    return rearrange(planes, "(t c) b h w -> b t c h w", c=3)


@torch.no_grad()
def prepare(generator: Generator, arrays: Mapping[str, Any], seed: int, step: int, soft: float, drop: float) -> Batch:
    """uint8 arrays of `PackedClips.batch` -> Batch, on the generator's device.

    soft: share of targets that are softened and labelled so; drop: share whose label is replaced by the null class.
    """
    device = generator.deviation.device
    lr, hr = (
        rearrange(torch.from_numpy(arrays[name]).to(device), "b t h w c -> b t c h w").float() / 255
        for name in ("lr", "hr")
    )
    count = hr.shape[0]
    draws = torch.rand(3, count, generator=random_source(seed, "quality", step))
    is_soft = draws[0] < soft
    if bool(is_soft.any()):
        sigma = 0.9 + (LARGEST_BLUR - 0.9) * draws[1, is_soft]
        hr[is_soft.to(device)] = soften(hr[is_soft.to(device)], sigma.to(device))
    quality = torch.where(is_soft, SOFT_CLASS, generator.config.best_class)
    quality = torch.where(draws[2] < drop, NULL_CLASS, quality)
    condition = generator.condition(lr)
    z0 = generator.encode(hr, condition)
    flow, mask = torch.from_numpy(arrays["flow"]).to(device), torch.from_numpy(arrays["mask"]).to(device).float()
    clean = torch.from_numpy(arrays["kind"]).to(device) == KINDS.index("clean")
    return Batch(condition, z0, quality.to(device), (clean & ~is_soft.to(device)).float(), flow, mask)


def shared_noise(like: Tensor, seed: int, *names: object) -> Tensor:
    """Standard normal noise (b t c h w), the same for the frames of a sample, as at run time."""
    source = random_source(seed, *names)
    noise = torch.randn(like.shape[0], 1, *like.shape[2:], generator=source).to(like.device)
    return noise.expand(like.shape).contiguous()
