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
from training.data.degrade import KINDS
from training.families import SOFT_CLASS, family_of
from training.models import Model, Seen

LARGEST_BLUR = 1.8


def random_source(seed: int, *names: object) -> torch.Generator:
    """A generator that depends on nothing but the seed and the names: every draw of a run has its own."""
    digest = hashlib.blake2b(repr((seed, *names)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


@dataclass(frozen=True, slots=True)
class Batch:
    """Short runs of consecutive frames, ready for a loss; b of them on this process."""

    condition: Seen
    """Of the t frames, (b t …)."""
    z0: Tensor
    """Latents of the (perhaps softened) ground truth, (b t c h/2 w/2), t counting latent frames."""
    quality: Tensor
    """(b,) quality class of each target."""
    clean: Tensor
    """(b,) float, 1 where the LR is the ground truth shrunk and nothing else."""
    flow: Tensor
    """(b t-1 2 4h 4w) dx, dy from each frame to the next, in HR pixels."""
    mask: Tensor
    """(b t-1 4h 4w) float, 1 where the flow holds."""
    slots: range
    """Numbers of the samples in the global batch; every random draw belongs to one."""
    names: tuple[str, ...] = ()
    """What each sample is, for messages."""
    pictures: Tensor | None = None
    """The ground truth itself, (b t 3 4h 4w) in [0, 1], for stages that ask for it."""
    steady: bool = True
    """Whether noise is the same for the frames of a sample, as at run time."""


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


def soften_some(hr: Tensor, draws: Tensor, share: float) -> Tensor:
    """Blur a share of the samples (b t 3 h w) in place; draws: (2 b) in [0, 1), whether and how far. (b,), which."""
    chosen = draws[0] < share
    if bool(chosen.any()):
        sigma, where = 0.9 + (LARGEST_BLUR - 0.9) * draws[1, chosen], chosen.to(hr.device)
        hr[where] = soften(hr[where], sigma.to(hr.device))
    return chosen


@torch.no_grad()
def prepare(
    generator: Model,
    arrays: Mapping[str, Any],
    seed: int,
    step: int,
    soft: float,
    drop: float,
    first_slot: int = 0,
    names: tuple[str, ...] = (),
    pictures: bool = False,
) -> Batch:
    """uint8 arrays of `PackedClips.batch` -> Batch, on the generator's device.

    soft: share of targets that are softened; those, and targets that are soft themselves, are labelled so. 0: all count
    as best.  drop: share whose label is replaced by the null class.  pictures: whether the batch keeps them.
    """
    device = generator.deviation.device
    lr, hr = (
        rearrange(torch.from_numpy(arrays[name]).to(device), "b t h w c -> b t c h w").float() / 255
        for name in ("lr", "hr")
    )
    slots = range(first_slot, first_slot + hr.shape[0])
    draws = torch.stack([torch.rand(3, generator=random_source(seed, "quality", step, slot)) for slot in slots], 1)
    blurred = soften_some(hr, draws[:2], soft)
    is_soft = blurred | (torch.from_numpy(arrays["soft"]) & (soft > 0))
    quality = torch.where(is_soft, SOFT_CLASS, generator.config.best_class)
    quality = torch.where(draws[2] < drop, NULL_CLASS, quality).to(device)
    family = family_of(generator.config)
    condition: Seen = generator.condition(lr)
    z0 = generator.encode(hr, condition)
    seen = slice(None) if family.in_pixels else slice(0)  # motion is for losses in pixels only
    flow, mask = (torch.from_numpy(arrays[name][:, seen]).to(device) for name in ("flow", "mask"))
    clean = (torch.from_numpy(arrays["kind"]) == KINDS.index("clean")) & ~blurred
    kept = hr if pictures else None
    known = clean.float().to(device)
    return Batch(condition, z0, quality, known, flow, mask.float(), slots, names, kept, family.steady)


def noise_for(batch: Batch, seed: int, *names: object) -> Tensor:
    """Standard normal noise like batch.z0: the same for the frames of a sample, or each latent's own, as at run
    time."""
    shape = (1 if batch.steady else batch.z0.shape[1], *batch.z0.shape[2:])
    draws = [torch.randn(shape, generator=random_source(seed, *names, slot)) for slot in batch.slots]
    return torch.stack(draws).to(batch.z0.device).expand(batch.z0.shape).contiguous()


def uniform(batch: Batch, seed: int, *names: object) -> Tensor:
    """(b,) in [0, 1)."""
    draws = [torch.rand((), generator=random_source(seed, *names, slot)) for slot in batch.slots]
    return torch.stack(draws).to(batch.z0.device)
