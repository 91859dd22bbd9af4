"""The light pair of `base-fast`, distilled from the video autoencoder: an encoder of the LR, a decoder beside it.

The pair speaks the autoencoder's latents, so that one transformer serves both. The autoencoder is most of a one-step
model's run time; FlashVSR (arXiv 2510.12747) and ReCaVSR (arXiv 2609.37831) have decoders that see the LR too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from duovsr_vs.errors import OptionError
from duovsr_vs.model.wan.autoencoder import WanAutoencoder
from duovsr_vs.model.wan.config import BaseConfig
from duovsr_vs.model.wan.generator import WanGenerator, clip_of
from duovsr_vs.model.wan.sizes import autoencoder_config
from training.batch import Batch
from training.distributed import ALONE, World, settle, shard, whole
from training.families import config_of
from training.losses import gradient_loss, latent_distance
from training.models import UNUSED, Model, Pair, encoder_of, first_layers, moved
from training.recipes import Recipe
from training.stages.base import START, Figures, Networks, Stage, Weights
from training.start import autoencoder_weights
from training.validate import Clip, Sample, reconstructed

SCALES = 3
"""Of gradients: whole pictures, halves, quarters."""
AUTOENCODER = "autoencoder."


class Light(Stage):
    """L = ⟨|ẑ − z_LR| + (ẑ − z_LR)²⟩ + λ_p⟨|x̂ − x|⟩ + λ_t⟨|x̂ − D(z)|⟩ + λ_g·Σ⟨|∇x̂ − ∇x|⟩ + λ_f⟨|φ(x̂) − φ(x)|⟩.

    ẑ: of the light encoder; z_LR: the autoencoder's latents of the enlarged LR.  x̂: of the light decoder for z, the
    autoencoder's latents of the truth x, and D(z) what it decodes itself.  φ: first layers of its encoder.
    """

    name = "light"
    pictures = True

    def __init__(self, recipe: Recipe, handed: Mapping[str, Weights], world: World = ALONE):
        config = config_of(recipe.model)
        if not isinstance(config, BaseConfig) or config.light is None:
            raise OptionError(
                f"the stage light trains a light pair, which {recipe.model} has not; give --model base-fast"
            )
        teacher = teacher_of(config, handed.get(START, {}))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            student = WanGenerator(teacher.config.with_values(light=config.light))
        assert student.autoencoder is not None and teacher.autoencoder is not None
        student.autoencoder = teacher.autoencoder  # what decodes latents of the truth, and is never trained
        student.requires_grad_(False)
        self.pair = Pair(moved(student, world.device)).requires_grad_(True)
        self.teacher = teacher.autoencoder
        if world.size > 1:
            shard(self.pair, world, recipe.gather)
        super().__init__(Networks(recipe, handed, world), recipe.light, student)
        self.settings, self.encoder = recipe.light, encoder_of(moved(teacher, world.device), recipe.bf16)

    @classmethod
    def read_start(cls, path: Path, recipe: Recipe) -> Weights:
        """The autoencoder of a model file."""
        return autoencoder_weights(path)

    def update(self, step: int, batches: Iterator[Batch]) -> Figures:
        return self.descend("student", step, (self.loss(batch) for batch in self.next_batch(batches)))

    def loss(self, batch: Batch) -> tuple[Tensor, Figures]:
        """Of one part of a batch."""
        s = self.settings
        assert batch.pictures is not None, "batches of this stage keep their pictures"
        z, truth = clip_of(batch.z0), clip_of(batch.pictures) * 2 - 1
        with torch.no_grad(), self.autocast():
            taught = self.teacher.decode(z).float()
            wanted = first_layers(self.teacher, truth)
        with self.autocast():
            z_lr, frames = self.pair(clip_of(batch.condition.lr), z)
            seen = first_layers(self.teacher, frames)
        frames = frames.float()
        terms = {
            "latent": latent_distance(z_lr.float(), clip_of(batch.condition.latents)),
            "pixel": s.pixel * (frames - truth).abs().mean(),
            "taught": s.taught * (frames - taught).abs().mean(),
            "edges": s.edges * gradient_loss(frames, truth, SCALES),
            "features": s.features * (seen.float() - wanted.float()).abs().mean(),
        }
        figures = {name: float(term.detach()) for name, term in terms.items()}
        error = (frames - truth).detach().square().flatten(1).mean(1) / 4
        figures["psnr"] = float((-10 * torch.log10(error.clamp_min(1e-12))).mean())
        return torch.stack([*terms.values()]).sum(), figures

    # -- what it hands on ---------------------------------------------------------------------------------------

    def result(self) -> Weights:
        """The averaged pair."""
        fixed = {name: whole(t) for name, t in settle(self.pair).state_dict().items()}
        return {**fixed, **self.learners["student"].result()}

    def averaged(self) -> Model:
        """A model of autoencoder and averaged pair, which decodes by the pair."""
        assert isinstance(self.student, WanGenerator)
        weights = {name: t for name, t in self.student.state_dict().items() if not name.startswith("light_")}
        model = WanGenerator.of(self.student.config, {**weights, **self.result()})
        return moved(model, self.world.device).eval().requires_grad_(False)

    def render(self, generator: Model, sample: Sample) -> Clip:
        """The truth there by the autoencoder and back by the pair."""
        return reconstructed(generator, sample)


def teacher_of(config: BaseConfig, weights: Mapping[str, Tensor]) -> WanGenerator:
    """A model of hardly more than the autoencoder. OptionError: there is none to learn from."""
    own = {name.removeprefix(AUTOENCODER): t for name, t in weights.items() if name.startswith(AUTOENCODER)}
    if not own:
        raise OptionError(
            "the stage light learns from a video autoencoder; give --from a model file of base that holds one, as "
            "`duovsr models convert` makes it"
        )
    plain = config.with_values(transformer=UNUSED, light=None, autoencoder=autoencoder_config(own))
    teacher = WanGenerator(plain)
    assert isinstance(teacher.autoencoder, WanAutoencoder)
    teacher.autoencoder.load_state_dict(own)
    return teacher.eval().requires_grad_(False)
