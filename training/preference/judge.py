"""What the heads of stage II think of a candidate: their mean logit, more is more like the ground truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from duovsr_vs.model import flow
from training.batch import Batch
from training.checkpoints import read_tensors
from training.discriminator import Discriminator, Scores, default_taps
from training.models import Model

TIME = 0.3
"""Noise level at which the heads look: enough to hide what tells a codec from a network, little enough to see detail.
Not given by the paper."""
PARTS = ("heads", "real", "fake")


@dataclass(frozen=True, slots=True)
class Judge:
    """Both score models of stage II and the heads on their features."""

    heads: Discriminator
    real: Model
    fake: Model

    @classmethod
    def read(cls, path: Path, taps: Scores, network: Callable[[Mapping[str, Tensor]], Model]) -> Judge | None:
        """From what stage II left behind; None if it left nothing, or not all three.

        taps: as in the recipe of stage II.  network: makes a frozen model of weights.
        """
        tensors = read_tensors(path) if path.is_file() else {}
        heads, real, fake = (
            {name.removeprefix(f"{part}."): t for name, t in tensors.items() if name.startswith(f"{part}.")}
            for part in PARTS
        )
        if not (heads and real and fake):
            return None
        score = network(real)
        config = score.config
        judge = cls(Discriminator(config.channels, default_taps(config.blocks), taps), score, network(fake))
        judge.heads.load_state_dict(heads)
        judge.heads.to(score.deviation.device).requires_grad_(False)
        return judge

    @torch.no_grad()
    def logits(self, latents: Tensor, noise: Tensor, sample: Batch) -> list[float]:
        """Mean logit of each candidate (k t c h w), all noised alike; noise: (1 t c h w), sample: the batch of one."""
        t = torch.full((1,), TIME, device=latents.device)
        return [self._look(flow.interpolate(x[None], noise, t), t, sample) for x in latents]

    def _look(self, z: Tensor, t: Tensor, sample: Batch) -> float:
        seen = []
        for score in (self.real, self.fake):
            activations: list[Tensor] = []
            score.denoise(z, t, sample.condition, sample.quality, taps=activations)
            seen.append(self.heads.choose(activations))
        return float(self.heads(*seen, z.shape[1]).mean())
