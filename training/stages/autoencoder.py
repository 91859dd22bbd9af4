"""The learned codec, before anything else: what the flow network's latents stand for. It is frozen afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from duovsr_vs.errors import OptionError
from duovsr_vs.model.autoencoder import LearnedCodec
from duovsr_vs.model.config import COEFFICIENTS, ModelConfig
from duovsr_vs.model.features import frames_of
from duovsr_vs.model.generator import Generator, features_of
from training.batch import Batch
from training.distributed import ALONE, World, shard
from training.families import config_of
from training.losses import pixel_loss, robust_latent_loss, unit_loss
from training.models import Model, in_pixels
from training.recipes import Recipe
from training.stages.base import START, Figures, Networks, Stage, Weights, build
from training.validate import Clip, Sample, reconstructed

SMALLEST_DEVIATION = 1e-3
"""Of a latent channel; one that never moves is not divided by nothing."""


class Autoencoder(Stage):
    """L = ⟨ρ(e·(ŷ − y))⟩ + 20·⟨|x̂ − x|⟩ + λ_u·KL(z) + λ·pixel terms; z, ŷ: y there and back, y: coefficients.

    ŷ has had the consistency step, with the decoder's κ; x̂, x: ŷ and y in pixels. The flow network gets no gradient.
    Batches are made by `encoder`, so that their latents are the normalised coefficients.
    """

    name = "autoencoder"

    def __init__(self, recipe: Recipe, handed: Mapping[str, Weights], world: World = ALONE):
        config = config_of(recipe.model)
        if not isinstance(config, ModelConfig) or config.codec == "fixed":
            raise OptionError(
                f"the stage autoencoder has nothing to train: the preset {recipe.model} has a codec that is fixed; "
                "leave it out of the recipe's stages, or give a --model whose codec is learned"
            )
        networks = Networks(recipe, handed, world)
        student = build(recipe, handed.get(START), World(device=world.device))
        assert isinstance(student, Generator)
        self.codec = codec_to_train(student)
        if world.size > 1:
            shard(self.codec.to(memory_format=torch.contiguous_format), world, recipe.gather)
        super().__init__(networks, recipe.autoencoder, student)
        self.settings, self.soft = recipe.autoencoder, recipe.teacher.soft
        fixed = config.with_values(codec="fixed", latent_channels=COEFFICIENTS)
        self.generator = student
        self.encoder = self.fixed = Generator(fixed).to(world.device).requires_grad_(False)

    def there_and_back(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Latents (b t c h w) of the batch's coefficients and the consistent coefficients that they stand for."""
        _, condition = in_pixels(self.fixed, batch.condition)
        with self.autocast():
            found = self.codec(batch.z0.flatten(0, 1), features_of(condition))
        z, y, kappa = (frames_of(x.float(), batch.z0.shape[1]) for x in found)
        return z, self.generator.consist(y, kappa, condition)

    def update(self, step: int, batches: Iterator[Batch]) -> Figures:
        losses = (self.loss(batch) for batch in self.next_batch(batches))
        figures = self.descend("student", step, losses)
        if step + 1 == self.steps:
            self.measure(batches)
        return figures

    def loss(self, batch: Batch) -> tuple[Tensor, Figures]:
        """Of one part of a batch."""
        z, y = self.there_and_back(batch)
        error = self.generator.pixels(y - batch.z0, in_pixels(self.fixed, batch.condition)[1])
        latent, pixel, unit = robust_latent_loss(y, batch.z0, self.fixed.energy), pixel_loss(error), unit_loss(z)
        terms, figures = self.picture_terms(y, batch.z0, batch)
        loss = latent + pixel + self.settings.unit * unit + terms
        figures |= {"latent": float(latent.detach()), "pixel": float(pixel.detach()), "unit": float(unit.detach())}
        return loss, figures | {"ceiling": ceiling(error)}

    def render(self, generator: Model, sample: Sample) -> Clip:
        return reconstructed(generator, sample)

    @torch.no_grad()
    def measure(self, batches: Iterator[Batch]) -> None:
        """Set mean and deviation of each latent channel from further batches, with the averaged weights."""
        averaged, count = self.averaged().codec, self.settings.statistics * self.parts
        assert isinstance(averaged, LearnedCodec)
        moments = torch.zeros(2, self.generator.config.latent_channels, dtype=torch.float64)
        for _ in range(count):
            batch = next(batches)
            _, condition = in_pixels(self.fixed, batch.condition)
            raw = averaged.encoder(batch.z0.flatten(0, 1), features_of(condition))[0].double()
            moments += torch.stack([raw.mean((0, 2, 3)), raw.square().mean((0, 2, 3))]).cpu()
        of_all = self.world.mean({str(n): float(m) for n, m in enumerate(moments.flatten())})
        mean, square = torch.tensor([of_all[str(n)] for n in range(moments.numel())]).view(2, -1, 1, 1)
        mean, square = mean / count, square / count
        self.codec.normalisation.mean.copy_(mean)
        self.codec.normalisation.deviation.copy_((square - mean.square()).clamp_min(0).sqrt())
        self.codec.normalisation.deviation.clamp_(min=SMALLEST_DEVIATION)

    def state(self) -> Weights:
        """Also the statistics, which the last update sets."""
        return super().state() | {f"statistics.{name}": t for name, t in self.codec.normalisation.named_buffers()}


def codec_to_train(generator: Generator) -> LearnedCodec:
    """The codec, which gets gradients, with latents as the encoder gives them; the flow network gets none."""
    codec = generator.requires_grad_(False).codec
    assert codec is not None
    nn.init.zeros_(codec.normalisation.mean)
    nn.init.ones_(codec.normalisation.deviation)
    return codec.requires_grad_(True)


def ceiling(error: Tensor) -> float:
    """PSNR of what comes back, in dB against the fixed codec, mean over samples: no student of this codec has more."""
    per_sample = error.detach().square().flatten(1).mean(1)
    return float((-10 * torch.log10(per_sample.clamp_min(1e-12))).mean())
