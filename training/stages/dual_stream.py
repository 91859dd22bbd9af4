"""Stage II: distribution matching (DMD) and a GAN on the features of both score models (RFS-GAN), together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from duovsr_vs.model import flow
from training.batch import Batch, noise_for, random_source, uniform
from training.discriminator import Discriminator, default_taps
from training.distributed import ALONE, Taps, World, settle, shard, whole
from training.lora import own_state
from training.losses import (
    distribution_matching_loss,
    feature_matching_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    smoothness_penalty,
)
from training.models import Model, moved
from training.recipes import Recipe
from training.stages.base import Figures, Networks, Stage, Weights, mean_of

RATIO_EVERY = 25
"""Student updates between two measurements of how the two streams' gradients compare."""
PERTURBATION = 0.1
"""σ of the noise on the features whose logits must not jump (approximate R1)."""


@contextmanager
def held(*networks: nn.Module) -> Iterator[None]:
    """Gradients go through these networks, not into them."""
    trained = [p for network in networks for p in network.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def blend(a: Weights, b: Weights, share: float) -> Weights:
    """(1 − share)·a + share·b of weights with a common ancestor."""
    return {name: torch.lerp(a[name], b[name], share) for name in a}


class DualStream(Stage):
    """N updates of fake score and heads, then one of the student: L_S = λ_D·L_DMD + λ_G·L_G + λ_F·L_FM (+ ours).

    Student S starts from the one-step model, real score R (frozen) and fake score F from the guided one, which is valid
    at every t. Both streams look at the same noised sample ẑ_t = (1 − t)·x̂ + t·ε'.
    """

    name = "dual_stream"

    def __init__(self, recipe: Recipe, handed: Mapping[str, Weights], world: World = ALONE):
        settings = recipe.dual_stream
        start = handed[settings.student_from]
        if settings.start_blend < 1:
            start = blend(handed["regression"], start, settings.start_blend)
        networks = Networks(recipe, handed, world)
        super().__init__(networks, settings, networks.make(start))
        self.settings = settings
        self.batches_per_step = settings.aux_per_student + 1
        scores = handed[settings.scores_from]
        self.real = networks.make(scores, train=False, gather="float32")
        self.fake = networks.make(scores, gather="float32").eval()
        config = self.student.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            heads = Discriminator(config.channels, default_taps(config.blocks), settings.taps)
        self.heads = moved(heads, world.device)
        shard(self.heads, world, "float32")
        updates = settings.steps * settings.aux_per_student
        self.learners["fake"] = self.learner(self.fake, settings.fake_learning_rate, updates)
        self.learners["heads"] = self.learner(self.heads, settings.head_learning_rate, updates)

    @classmethod
    def needs_of(cls, recipe: Recipe) -> tuple[str, ...]:
        settings = recipe.dual_stream
        first = ("regression",) if settings.start_blend < 1 else ()
        return (*first, *dict.fromkeys((settings.scores_from, settings.student_from)))

    @property
    def matches(self) -> bool:
        """Whether the stream of distribution matching is on."""
        return self.settings.matching > 0

    @property
    def plays(self) -> bool:
        """Whether the stream of the GAN is on."""
        return self.settings.adversarial > 0 or self.settings.feature > 0

    # -- what both kinds of update look at ----------------------------------------------------------------------

    def times(self, batch: Batch, low: float, high: float, *names: object) -> Tensor:
        """t ~ U[low, high], shifted, (b,)."""
        draw = uniform(batch, self.seed, self.name, "t", *names)
        return low + (high - low) * flow.shift_time(draw, self.settings.shift)

    def generated(self, batch: Batch, *names: object) -> Tensor:
        """x̂ = G(ε)."""
        with self.autocast():
            return self.student.generate(noise_for(batch, self.seed, *names), batch.condition, batch.quality)

    def look(
        self, score: Model, z: Tensor, t: Tensor, batch: Batch, precise: bool = True
    ) -> tuple[Tensor, list[Tensor]]:
        """Clean estimate and the heads' features of a score model for noised latents.

        precise: in float32, because x_F − x_R would drown in the rounding of bfloat16.
        """
        activations = Taps()
        with self.autocast(not precise):
            x0 = score.denoise(z, t, batch.condition, batch.quality, taps=activations)
        return x0, self.heads.choose(activations)

    # -- auxiliary update ---------------------------------------------------------------------------------------

    def auxiliary(self, index: int, *parts: Batch) -> Figures:
        """One update of the fake score on what the student makes, and of the heads; parts: of one batch."""
        with torch.no_grad():
            made = [(self.generated(batch, "aux", index), batch) for batch in parts]
        figures = self.descend_beside("fake", index, (self.fake_loss(index, x, batch) for x, batch in made))
        if self.plays:
            figures |= self.descend_beside("heads", index, (self.heads_loss(index, x, batch) for x, batch in made))
        return figures

    def descend_beside(self, name: str, index: int, losses: Iterable[tuple[Tensor, Figures]]) -> Figures:
        """`descend` of a learner beside the student; its gradient's norm as "gradient_<name>"."""
        figures = self.descend(name, index, losses)
        figures[f"gradient_{name}"] = figures.pop("gradient")
        return figures

    def heads_loss(self, index: int, x: Tensor, batch: Batch) -> tuple[Tensor, Figures]:
        """The heads learn to tell x̂ from the ground truth, both noised, by features that get no gradient."""
        t = self.times(batch, self.settings.low, self.settings.high, "heads", index)
        noise = noise_for(batch, self.seed, "heads", index)
        with torch.no_grad():
            noised = [flow.interpolate(clean, noise, t) for clean in (batch.z0, x)]
            seen = [
                [self.look(score, z, t, batch, precise=False)[1] for score in (self.real, self.fake)] for z in noised
            ]
        frames = batch.z0.shape[1]
        real, fake = (self.heads(*taps, frames) for taps in seen)
        loss = hinge_discriminator_loss(real, fake)
        if self.settings.smoothness:
            loss = loss + self.settings.smoothness * self.roughness(index, seen[0], real, batch)
        saturated = ((real > 1).float().mean() + (fake < -1).float().mean()) / 2
        return loss, {
            "heads": float(loss.detach()),
            "d_real": float(real.detach().mean()),
            "d_fake": float(fake.detach().mean()),
            "saturated": float(saturated),
        }

    def roughness(self, index: int, seen: list[list[Tensor]], logits: Tensor, batch: Batch) -> Tensor:
        """Approximate R1: how far a little noise on the features moves the logits."""
        frames = batch.z0.shape[1]
        moved = [
            [
                tap + PERTURBATION * tap.std() * self.feature_noise(tap, frames, batch, index, n, k)
                for k, tap in enumerate(taps)
            ]
            for n, taps in enumerate(seen)
        ]
        return smoothness_penalty(self.heads(*moved, frames), logits)

    def feature_noise(self, tap: Tensor, frames: int, batch: Batch, *names: object) -> Tensor:
        """Standard normal noise like features (b·t c h w)."""
        sources = [random_source(self.seed, self.name, "features", *names, slot) for slot in batch.slots]
        draws = [torch.randn(frames, *tap.shape[1:], generator=source) for source in sources]
        return torch.cat(draws).to(tap)

    def fake_loss(self, index: int, x: Tensor, batch: Batch) -> tuple[Tensor, Figures]:
        """The fake score learns to denoise the student's output, with the teacher's loss of latents."""
        t = self.times(batch, 0.02, 1.0, "fake", index)
        z = flow.interpolate(x, noise_for(batch, self.seed, "fake", index), t)
        with self.autocast():
            x0 = self.fake.denoise(z, t, batch.condition, batch.quality)
        loss = self.latent_loss(x0, x, t)
        return loss, {"fake": float(loss.detach())}

    # -- student update -----------------------------------------------------------------------------------------

    def matching(self, step: int) -> float:
        """λ_D, faded over four fifths of the stage."""
        progress = min(1.0, step / (0.8 * self.steps))
        return self.settings.matching * (1 + (self.settings.matching_end - 1) * progress)

    def streams(self, step: int, x: Tensor, batch: Batch) -> dict[str, Tensor]:
        """L_DMD, L_G and L_FM of generated latents; gradients reach x through both score models' activations."""
        t = self.times(batch, self.settings.low, self.settings.high, "student", step)
        noise = noise_for(batch, self.seed, "shared", step)
        z_fake = flow.interpolate(x, noise, t)
        with torch.set_grad_enabled(self.plays):
            x_real, real_taps = self.look(self.real, z_fake, t, batch)
            x_fake, fake_taps = self.look(self.fake, z_fake, t, batch)
        e, terms = self.energy, {}
        if self.matches:
            terms["dmd"] = distribution_matching_loss(x * e, x_real.detach() * e, x_fake.detach() * e)
        if self.plays:
            terms["gan"] = hinge_generator_loss(self.heads(real_taps, fake_taps, x.shape[1]))
            z_real = flow.interpolate(batch.z0, noise, t)
            with torch.no_grad():  # as precisely as the others: the features of equal latents must be equal
                paired = [self.look(score, z_real, t, batch)[1] for score in (self.real, self.fake)]
            terms["features"] = feature_matching_loss(self.heads.seen(real_taps, fake_taps), self.heads.seen(*paired))
        return terms

    def update_student(self, step: int, *parts: Batch) -> Figures:
        """One update of the student; parts: of one batch."""
        with held(self.fake, self.heads):
            figures = self.descend("student", step, (self.student_loss(step, batch) for batch in parts))
        for name in ("fake", "heads"):  # sharded weights collect gradients although they are held
            self.learners[name].forget_gradients()
        return figures

    def student_loss(self, step: int, batch: Batch) -> tuple[Tensor, Figures]:
        """Of one part of a batch."""
        s = self.settings
        weights = {"dmd": self.matching(step), "gan": s.adversarial, "features": s.feature}
        x = self.generated(batch, self.name, step)
        figures: Figures = {}
        if step % RATIO_EVERY == 0 and self.matches and s.adversarial > 0:
            figures["ratio"] = self.gradient_ratio(step, x, batch)
        terms = self.streams(step, x, batch)
        figures |= {name: float(term.detach()) for name, term in terms.items()}
        latent = self.latent_loss(x, batch.z0, torch.ones(len(batch.slots), device=x.device))
        pixels, more = self.pixel_terms(x, batch)
        loss = sum((weights[name] * term for name, term in terms.items()), s.paired * latent + pixels)
        return loss, figures | {"latent": float(latent.detach()), **more}

    def gradient_ratio(self, step: int, x: Tensor, batch: Batch) -> float:
        """‖∂λ_G L_G/∂x̂‖ / ‖∂λ_D L_DMD/∂x̂‖: what carries over between settings, unlike the λ's.

        On a graph of its own, because sharded weights are gone after one backward pass.
        """
        leaf = x.detach().requires_grad_()
        terms = self.streams(step, leaf, batch)
        weighted = (self.matching(step) * terms["dmd"], self.settings.adversarial * terms["gan"])
        dmd, gan = (torch.autograd.grad(term, leaf, retain_graph=True)[0].norm() for term in weighted)
        return float(gan / dmd.clamp_min(1e-12))

    def update(self, step: int, batches: Iterator[Batch]) -> Figures:
        count = self.settings.aux_per_student
        made = [self.auxiliary(step * count + k, *self.next_batch(batches)) for k in range(count)]
        return mean_of(made) | self.update_student(step, *self.next_batch(batches))

    def extras(self) -> dict[str, Weights]:
        """The heads and both score models: the preference stage may ask them. Nothing where heads have not learned."""
        if not self.plays:
            return {}
        parts = {"heads": self.heads, "fake": self.fake, "real": self.real}
        return {
            "heads": {
                f"{key}.{name}": whole(tensor)
                for key, part in parts.items()
                for name, tensor in own_state(settle(part))
            }
        }

    def keeps(self, done: int) -> bool:
        """Whether the student after so many updates is one of the `late` checkpoints of the last fifth."""
        late = self.settings.late
        return done in {self.steps - round(self.steps * 0.2 * k / (late + 1)) for k in range(1, late + 1)}
