"""Every loss as a pure function under its equation. Latents are (b t c h w) float32; sg is stop-gradient."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import reduce
from torch import Tensor


def charbonnier(error: Tensor) -> Tensor:
    """2·(√(e² + 1) − 1): e² for small errors, 2|e| for large ones (Charbonnier 1994). Elementwise."""
    return 2 * (torch.sqrt(error.square() + 1) - 1)


def robust_latent_loss(x0: Tensor, target: Tensor, energy: Tensor, weight: Tensor | None = None) -> Tensor:
    """⟨ρ(w(t) · σ_c/rms(σ) · (x̂0 − z0))⟩ with ρ of `charbonnier`: errors count by the energy of their coefficient.

    energy: (c 1 1), deviation of each latent channel over their root mean square.  weight: (b,), √d/t of
    `flow.error_weight`, which turns an error of x̂0 into the error of F.
    """
    return charbonnier(weighted_error(x0, target, energy, weight)).mean()


def distillation_loss(x0: Tensor, target: Tensor, energy: Tensor, weight: Tensor) -> Tensor:
    """⟨(w(t) · σ_c/rms(σ) · (x̂0 − sg x̂*))²⟩: ‖v − sg v*‖² up to the weight, as x̂0 = z_t − t·v. As above."""
    return weighted_error(x0, target.detach(), energy, weight).square().mean()


def weighted_error(x0: Tensor, target: Tensor, energy: Tensor, weight: Tensor | None) -> Tensor:
    """w(t) · σ_c/rms(σ) · (x̂0 − target), (b t c h w)."""
    error = (x0 - target) * energy
    return error if weight is None else error * weight.reshape(-1, 1, 1, 1, 1)


def temporal_loss(error: Tensor, flow: Tensor, mask: Tensor, scale: float = 20.0) -> Tensor:
    """scale · ⟨M·|e_t − W e_{t+1}|⟩: what flickers along the motion of the ground truth.

    error: (b 2 3 h w) output − ground truth of frames t, t+1.  flow: (b 2 h w) from t to t+1, dx dy in pixels.
    mask: (b h w), 1 where the flow holds.  W samples frame t+1 at p + flow(p).
    """
    h, w = error.shape[-2:]
    ys, xs = torch.meshgrid(torch.arange(h, device=error.device), torch.arange(w, device=error.device), indexing="ij")
    x = (xs + flow[:, 0] + 0.5) * (2 / w) - 1
    y = (ys + flow[:, 1] + 0.5) * (2 / h) - 1
    warped = F.grid_sample(error[:, 1], torch.stack((x, y), dim=-1), padding_mode="border", align_corners=False)
    difference = (error[:, 0] - warped).abs() * mask[:, None]
    return scale * difference.sum() / (3 * mask.sum()).clamp_min(1)


def consistency_loss(mismatch: Tensor, clean: Tensor, scale: float = 20.0) -> Tensor:
    """scale · ⟨|D·x̂ − LR|⟩ over the samples whose LR holds nothing but the ground truth.

    mismatch: (b t 12 h w), D·x̂ − LR in units of the pixel range.  clean: (b,), 1 or 0. The outermost positions do not
    count: there the residual beyond the crop is missing.
    """
    per_sample = reduce(mismatch[..., 1:-1, 1:-1].abs(), "b t c h w -> b", "mean")
    return scale * (per_sample * clean).sum() / clean.sum().clamp_min(1)


def guided_velocity(v_class: Tensor, v_null: Tensor, guidance: float) -> Tensor:
    """v_cfg = (1 + w)·v_c − w·v_∅; the coefficients sum to 1."""
    return (1 + guidance) * v_class - guidance * v_null


def distribution_matching_loss(x: Tensor, x_real: Tensor, x_fake: Tensor, eps: float = 1e-5) -> Tensor:
    """DMD, arXiv 2311.18828 eq. 7-8:  g = (x_fake − x_real) / mean|x − x_real|,  L = ½‖x − sg(x − g)‖²,  so ∂L/∂x = g.

    The sign makes gradient *descent* move x towards the real score model's estimate. x: student output with
    gradient, (b t c h w).  x_real, x_fake: clean estimates of the frozen and the online score model for the same
    noised x.  Returns the mean over elements; the normaliser is one number per sample.
    """
    with torch.no_grad():
        scale = reduce((x - x_real).abs(), "b t c h w -> b 1 1 1 1", "mean").clamp_min(eps)
        gradient = torch.nan_to_num((x_fake - x_real) / scale)
        target = x - gradient
    return 0.5 * F.mse_loss(x.float(), target.float())


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """L_D = ⟨relu(1 − D(real))⟩ + ⟨relu(1 + D(fake))⟩."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """L_G = −⟨D(fake)⟩."""
    return -fake.mean()


def feature_matching_loss(fake: list[Tensor], real: list[Tensor]) -> Tensor:
    """L_FM = Σ_l ⟨(φ_l(fake) − sg φ_l(real))²⟩ over the taps of both score models."""
    terms = [F.mse_loss(f.float(), r.detach().float()) for f, r in zip(fake, real, strict=True)]
    return torch.stack(terms).sum()
