"""Every loss as a pure function under its equation. Latents are (b t c h w) float32; sg is stop-gradient.

Each is a mean over the samples of a batch of something that knows one sample only: the mean over the ranks of a
distributed run is then the loss of the global batch.
"""

from __future__ import annotations

from collections.abc import Callable

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


def velocity_loss(v: Tensor, z0: Tensor, noise: Tensor) -> Tensor:
    """Flow matching, arXiv 2210.02747:  L = ⟨‖v_θ(z_t, t) − (ε − z0)‖²⟩."""
    return (v - (noise - z0)).square().mean()


def temporal_loss(error: Tensor, flow: Tensor, mask: Tensor, scale: float = 20.0) -> Tensor:
    """scale · ⟨M·|e_t − W e_{t+1}|⟩: what flickers along the motion of the ground truth.

    error: (b t 3 h w) output − ground truth.  flow: (b t−1 2 h w) from each frame to the next, dx dy in pixels.
    mask: (b t−1 h w), 1 where the flow holds.  W samples the next frame at p + flow(p); ⟨·⟩ is the mean over the places
    of a sample where the flow holds, then over samples.
    """
    h, w = error.shape[-2:]
    ys, xs = torch.meshgrid(torch.arange(h, device=error.device), torch.arange(w, device=error.device), indexing="ij")
    x = (xs + flow[:, :, 0] + 0.5) * (2 / w) - 1
    y = (ys + flow[:, :, 1] + 0.5) * (2 / h) - 1
    place = torch.stack((x, y), dim=-1).flatten(0, 1)
    follow = error[:, 1:].flatten(0, 1)
    warped = F.grid_sample(follow, place, padding_mode="border", align_corners=False).reshape(error[:, 1:].shape)
    difference = (error[:, :-1] - warped).abs() * mask[:, :, None]
    per_sample = difference.flatten(1).sum(1) / (error.shape[2] * mask.flatten(1).sum(1)).clamp_min(1)
    return scale * per_sample.mean()


def consistency_loss(mismatch: Tensor, clean: Tensor, scale: float = 50.0) -> Tensor:
    """scale · ⟨C·|D·x̂ − LR|⟩, C = 1 for samples whose LR holds nothing but the ground truth, 0 for the others.

    mismatch: (b t 12 h w), D·x̂ − LR in units of the pixel range.  clean: (b,), 1 or 0. The outermost positions do not
    count: there the residual beyond the crop is missing.
    """
    per_sample = reduce(mismatch[..., 1:-1, 1:-1].abs(), "b t c h w -> b", "mean")
    return scale * (per_sample * clean).mean()


STRUCTURE_FLOOR = 9e-4
"""Keeps ratios of variances apart from 0/0; a contrast of 0.03 counts half. SSIMULACRA2's."""
WINDOW = 3
"""Side of a window of local statistics, in pairs of pixels."""
STRUCTURE_MEAN = (0.0, 0.0, 1.0, 0.75, 0.0)
"""What the mean of d counts at each halving of the picture: the LR's own scale, and the one above …"""
STRUCTURE_WORST = (0.03, 0.03, 0.08, 0.1, 0.15)
"""… and what its worst places count. Both are the larger weights of SSIMULACRA2's luma, which were fitted to people's
judgements, rounded and over the largest."""
STRUCTURE_POWER = 0.6
"""Of the sum: a fault in a clean picture is seen more than one among others. About SSIMULACRA2's."""


def structure_loss(x: Tensor, truth: Tensor) -> Tensor:
    """⟨(Σ_s m_s⟨d_s⟩ + w_s⟨d_s⁴⟩^¼)^p⟩,  d = 1 − (1 − (μ_x − μ_y)²)·(2σ_xy + c)/(σ_x² + σ_y² + c).

    What SSIMULACRA2 takes for a loss of structure (Sneyers 2023): contrast must be as high as the truth's, and where it
    is. x, truth: luma (b t 1 h w) in [0, 1]; μ, σ² and σ_xy are of windows; s counts halvings of the picture, as long
    as it holds a window. The inner means are over one sample, the outer one over samples.
    """
    pair, total = torch.cat((x, truth), dim=2).flatten(0, 1), x.new_full(x.shape[:1], 1e-3)
    for halving, (mean, worst) in enumerate(zip(STRUCTURE_MEAN, STRUCTURE_WORST, strict=True)):
        pair = F.avg_pool2d(pair, 2) if halving else pair
        if min(pair.shape[-2:]) < 2 * WINDOW:
            break
        d = frames_structure(pair[:, :1], pair[:, 1:]).reshape(len(x), -1)
        total = total + mean * d.mean(1) + worst * d.square().square().mean(1).add(1e-12).pow(0.25)
    return total.pow(STRUCTURE_POWER).mean()


def frames_structure(x: Tensor, y: Tensor) -> Tensor:
    """d of `structure_loss` for each window of (n 1 h w), 0 or more: (n 1 h/2−2 w/2−2)."""
    means = window_means(torch.cat((x, y, x * x, y * y, x * y), dim=1))
    mean_x, mean_y, xx, yy, xy = (means[:, n : n + 1] for n in range(5))
    shared, spread = xy - mean_x * mean_y, xx - mean_x.square() + yy - mean_y.square()
    likeness = (2 * shared + STRUCTURE_FLOOR) / (spread + STRUCTURE_FLOOR)
    return F.relu(1 - (1 - (mean_x - mean_y).square()) * likeness)


def window_means(x: Tensor) -> Tensor:
    """Means of the windows of 6x6 pixels around every second corner of (n c h w), h and w even: about the spread of
    SSIMULACRA2's Gaussian (σ = 1.5), at a quarter of its places."""
    return F.avg_pool2d(F.avg_pool2d(x, 2), WINDOW, stride=1)


def guided_velocity(v_class: Tensor, v_null: Tensor, guidance: float) -> Tensor:
    """v_cfg = (1 + w)·v_c − w·v_∅; the coefficients sum to 1."""
    return (1 + guidance) * v_class - guidance * v_null


def two_step_velocity(
    velocity: Callable[[Tensor, Tensor], Tensor], z_t: Tensor, times: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """Progressive distillation, arXiv 2202.00512:  v* = (z_t − z_t'')/(t − t'').

    z_t' = z_t + (t' − t)·v(z_t, t) and z_t'' = z_t' + (t'' − t')·v(z_t', t') are two Euler steps of the teacher;
    times: (t, t', t''), each (b,), t > t' > t'', neighbouring points of the teacher's grid.  velocity(z, t) -> like z.
    """
    t, middle, end = (time.reshape(-1, *([1] * (z_t.ndim - 1))) for time in times)
    z_middle = z_t + (middle - t) * velocity(z_t, times[0])
    z_end = z_middle + (end - middle) * velocity(z_middle, times[1])
    return (z_t - z_end) / (t - end)


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


def smoothness_penalty(logits: Tensor, perturbed: Tensor) -> Tensor:
    """Approximate R1 (arXiv 2506.05301):  ⟨(D(x) − D(x + σn))²⟩, n standard normal: heads that do not jump."""
    return (logits - perturbed).square().mean()


def denoising_error(v: Tensor, x: Tensor, noise: Tensor, weight: Tensor | None = None) -> Tensor:
    """e(θ, x) = mean‖w·(v_θ(z_t, t) − (ε − x))‖² of each sample, (b,).  weight: (c 1 1) or None."""
    error = v - (noise - x)
    return reduce((error if weight is None else error * weight).square(), "b ... -> b", "mean")


def preference_loss(winner: Tensor, loser: Tensor, beta: float) -> Tensor:
    """Flow-DPO, arXiv 2501.13918:  L = −⟨log σ(−β/2·(Δ_w − Δ_l))⟩.

    winner, loser: Δ = e(S, x) − e(ref, x) of `denoising_error`, (b,), one t and ε per pair.  At the start S = ref, and
    the loss is ln 2 with a gradient that is not zero.  β belongs to errors that are means over elements.
    """
    return -F.logsigmoid(-0.5 * beta * (winner - loser)).mean()


def anchor_loss(x: Tensor, winner: Tensor) -> Tensor:
    """⟨‖G(ε) − x_w‖²⟩: keeps the student near what was preferred; the preference loss alone only knows differences."""
    return (x - winner).square().mean()


def pixel_loss(error: Tensor, scale: float = 20.0) -> Tensor:
    """scale · ⟨|x̂ − x|⟩ in pixels; error: (b t 3 h w), in units of the pixel range."""
    return scale * error.abs().mean()


def latent_distance(z: Tensor, target: Tensor) -> Tensor:
    """⟨|z − sg z*|⟩ + ⟨(z − sg z*)²⟩: small errors of latents count, large ones more. Both (b c t h w)."""
    error = z - target.detach()
    return error.abs().mean() + error.square().mean()


def gradient_loss(x: Tensor, target: Tensor, scales: int) -> Tensor:
    """Σ_s ⟨|∇x_s − ∇x*_s|⟩ over halvings s = 0 … scales − 1 of the pictures: edges and texture, not levels.

    x, target: (b c t h w); differences between neighbours along rows and columns.
    """
    error, total = (x - target).flatten(0, 2)[:, None], x.new_zeros(())
    for scale in range(scales):
        if scale:
            error = F.avg_pool2d(error, 2)
        total = total + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return total


def unit_loss(z: Tensor, smallest: float = 1e-4) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) = ½⟨μ² + σ² − 1 − ln σ²⟩, μ and σ² of each channel of each sample.  z: (b t c h w)."""
    mean, square = (reduce(x, "b t c h w -> b c", "mean") for x in (z, z.square()))
    variance = (square - mean.square()).clamp_min(smallest)
    return 0.5 * (mean.square() + variance - 1 - variance.log()).mean()
