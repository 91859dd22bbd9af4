"""Stage II: distribution matching (DMD) and a GAN on the features of both score models (RFS-GAN), together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from duovsr_vs.model import flow
from duovsr_vs.model.generator import Generator
from training.batch import Batch, random_source, shared_noise
from training.discriminator import Discriminator, default_taps
from training.losses import (
    distribution_matching_loss,
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    robust_latent_loss,
)
from training.recipes import Recipe
from training.stages.base import Figures, Stage, Weights, build, frozen

RATIO_EVERY = 25
"""Student updates between two measurements of how the two streams' gradients compare."""


@contextmanager
def held(*networks: nn.Module) -> Iterator[None]:
    """Gradients go through these networks, not into them."""
    for network in networks:
        network.requires_grad_(False)
    try:
        yield
    finally:
        for network in networks:
            network.requires_grad_(True)


def blend(a: Weights, b: Weights, share: float) -> Weights:
    """(1 − share)·a + share·b of weights with a common ancestor."""
    return {name: torch.lerp(a[name], b[name], share) for name in a}


class DualStream(Stage):
    """N updates of fake score and heads, then one of the student: L_S = λ_D·L_DMD + λ_G·L_G + λ_F·L_FM (+ ours).

    Student S starts from the one-step model, real score R (frozen) and fake score F from the guided one, which is valid
    at every t. Both streams look at the same noised sample ẑ_t = (1 − t)·x̂ + t·ε'.
    """

    name = "dual_stream"
    needs = ("regression", "guided", "progressive")

    def __init__(self, recipe: Recipe, handed: Mapping[str, Weights]):
        settings = recipe.dual_stream
        start = blend(handed["regression"], handed["progressive"], settings.start_blend)
        super().__init__(recipe, settings, build(recipe, start))
        self.settings = settings
        self.batches_per_step = settings.aux_per_student + 1
        self.real = frozen(recipe, handed["guided"])
        self.fake = build(recipe, handed["guided"]).eval()
        config = self.student.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            self.heads = Discriminator(config.channels, default_taps(config.blocks)).to(recipe.device)
        updates = settings.steps * settings.aux_per_student
        self.learners["fake"] = self.learner(self.fake, settings.fake_learning_rate, updates)
        self.learners["heads"] = self.learner(self.heads, settings.head_learning_rate, updates)

    # -- what both kinds of update look at ----------------------------------------------------------------------

    def times(self, batch: Batch, low: float, high: float, *names: object) -> Tensor:
        """t ~ U[low, high], (b,)."""
        draw = torch.rand(batch.z0.shape[0], generator=random_source(self.seed, self.name, "t", *names))
        return (low + (high - low) * draw).to(batch.z0.device)

    def generated(self, batch: Batch, *names: object) -> Tensor:
        """x̂ = G(ε)."""
        with self.autocast():
            return self.student.generate(shared_noise(batch.z0, self.seed, *names), batch.condition, batch.quality)

    def look(self, score: Generator, z: Tensor, t: Tensor, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """Clean estimate and the heads' features of a score model for noised latents, float32.

        float32, because x_F − x_R would drown in the rounding of bfloat16.
        """
        activations: list[Tensor] = []
        x0 = score.denoise(z, t, batch.condition, batch.quality, taps=activations)
        return x0, self.heads.choose(activations)

    # -- auxiliary update ---------------------------------------------------------------------------------------

    def auxiliary(self, index: int, batch: Batch) -> Figures:
        """One update of the fake score on what the student makes, and of the heads."""
        with torch.no_grad():
            x = self.generated(batch, "aux", index)
        figures = {"fake": self.update_fake(index, x, batch)}
        t = self.times(batch, self.settings.low, self.settings.high, "heads", index)
        noise = shared_noise(x, self.seed, "heads", index)
        with torch.no_grad(), self.autocast():
            seen = [
                [self.look(score, flow.interpolate(clean, noise, t), t, batch)[1] for score in (self.real, self.fake)]
                for clean in (batch.z0, x)
            ]
        real, fake = (self.heads(*taps) for taps in seen)
        loss = hinge_discriminator_loss(real, fake)
        self.learners["heads"].update(loss, index)
        saturated = ((real > 1).float().mean() + (fake < -1).float().mean()) / 2
        return figures | {
            "heads": float(loss.detach()),
            "d_real": float(real.detach().mean()),
            "d_fake": float(fake.detach().mean()),
            "saturated": float(saturated),
        }

    def update_fake(self, index: int, x: Tensor, batch: Batch) -> float:
        """The fake score learns to denoise the student's output, with the loss that the real score was trained with."""
        t = self.times(batch, 0.02, 1.0, "fake", index)
        z = flow.interpolate(x, shared_noise(x, self.seed, "fake", index), t)
        with self.autocast():
            x0 = self.fake.denoise(z, t, batch.condition, batch.quality)
        loss = robust_latent_loss(x0, x, self.energy, flow.error_weight(t))
        self.learners["fake"].update(loss, index)
        return float(loss.detach())

    # -- student update -----------------------------------------------------------------------------------------

    def matching(self, step: int) -> float:
        """λ_D, faded over four fifths of the stage."""
        progress = min(1.0, step / (0.8 * self.steps))
        return self.settings.matching * (1 + (self.settings.matching_end - 1) * progress)

    def streams(self, step: int, x: Tensor, batch: Batch) -> dict[str, Tensor]:
        """L_DMD, L_G and L_FM of generated latents; gradients reach x through both score models' activations."""
        t = self.times(batch, self.settings.low, self.settings.high, "student", step)
        noise = shared_noise(x, self.seed, "shared", step)
        z_fake, z_real = flow.interpolate(x, noise, t), flow.interpolate(batch.z0, noise, t)
        x_real, real_taps = self.look(self.real, z_fake, t, batch)
        x_fake, fake_taps = self.look(self.fake, z_fake, t, batch)
        with torch.no_grad():  # in float32 as the others: the features of equal latents must be equal
            paired = [*self.look(self.real, z_real, t, batch)[1], *self.look(self.fake, z_real, t, batch)[1]]
        e = self.energy
        return {
            "dmd": distribution_matching_loss(x * e, x_real * e, x_fake * e),
            "gan": hinge_generator_loss(self.heads(real_taps, fake_taps)),
            "features": feature_matching_loss([*real_taps, *fake_taps], paired),
        }

    def update_student(self, step: int, batch: Batch) -> Figures:
        """One update of the student."""
        s = self.settings
        with held(self.fake, self.heads):
            x = self.generated(batch, self.name, step)
            terms = self.streams(step, x, batch)
            figures = {name: float(term.detach()) for name, term in terms.items()}
            if step % RATIO_EVERY == 0:
                figures["ratio"] = self.gradient_ratio(
                    x, self.matching(step) * terms["dmd"], s.adversarial * terms["gan"]
                )
            latent = robust_latent_loss(x, batch.z0, self.energy)
            pixels, more = self.pixel_terms(x, batch)
            loss = self.matching(step) * terms["dmd"] + s.adversarial * terms["gan"] + s.feature * terms["features"]
            loss = loss + s.regression * latent + pixels
            figures["gradient"] = self.learners["student"].update(loss, step)
        return figures | {"latent": float(latent.detach()), **more}

    @staticmethod
    def gradient_ratio(x: Tensor, matching: Tensor, adversarial: Tensor) -> float:
        """‖∂λ_G L_G/∂x̂‖ / ‖∂λ_D L_DMD/∂x̂‖: what carries over between settings, unlike the λ's."""
        gan, dmd = (torch.autograd.grad(term, x, retain_graph=True)[0].norm() for term in (adversarial, matching))
        return float(gan / dmd.clamp_min(1e-12))

    def update(self, step: int, batches: Iterator[Batch]) -> Figures:
        figures: Figures = {}
        count = self.settings.aux_per_student
        for k in range(count):
            figures |= self.auxiliary(step * count + k, next(batches))
        return figures | self.update_student(step, next(batches))
