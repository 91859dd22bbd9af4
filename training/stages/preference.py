"""Stage III: direct preference optimisation on pairs of the student's own outputs (Flow-DPO, arXiv 2501.13918)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from duovsr_vs.model import flow
from training.batch import Batch, noise_for, prepare, uniform
from training.checkpoints import read_tensors
from training.data.dataset import PackedClips
from training.distributed import ALONE, World, settle, whole
from training.lora import own_state
from training.losses import anchor_loss, denoising_error, preference_loss
from training.models import Model, velocity
from training.preference.groups import Makers
from training.preference.held_out import verdict
from training.preference.judge import Judge
from training.preference.learned import ranker_of
from training.preference.pairs import Chosen
from training.preference.rounds import Rounds, mark, round_of
from training.recipes import Recipe
from training.stages.base import Figures, Networks, Stage, Weights
from training.stages.dual_stream import DualStream, blend

RANKER = "ranker.safetensors"
DETAIL = 0.5
"""Point of the detail dial from which some candidates come: (1 − d)·regression + d·student."""


class Preference(Stage):
    """L = −⟨log σ(−β/2·(Δ_w − Δ_l))⟩ + λ_a·⟨(e·(G(ε) − x_w))²⟩ (+ pixel terms), Δ_x = e(S, x) − e(ref, x).

    e(θ, x) is the error of v_θ at (1 − t)·x + t·ε; one t and one fresh ε per pair: with the noise that made a candidate
    v_ref would be the target already, and there would be no gradient. The reference is the student as the stage begins.
    """

    name = "preference"
    batches_per_step = 0

    def __init__(self, recipe: Recipe, handed: Mapping[str, Weights], world: World = ALONE):
        networks = Networks(recipe, handed, world)
        super().__init__(networks, recipe.preference, networks.make(handed["dual_stream"]))
        self.settings = recipe.preference
        self.handed = {name: handed[name] for name in self.needs_of(recipe) if name in handed}
        self.reference = networks.make(handed["dual_stream"], train=False)
        self.before = {name: t.clone() for name, t in self.learners["student"].average.items()}
        """The weight average as it was when Δ_w became positive."""
        self.streak = torch.zeros(())
        """Updates in a row with Δ_w > 0."""
        self.rounds: Rounds | None = None

    @classmethod
    def needs_of(cls, recipe: Recipe) -> tuple[str, ...]:
        return ("regression", "dual_stream") if "regression" in recipe.stages else ("dual_stream",)

    def state(self) -> Weights:
        return {**super().state(), **{f"before.{name}": t for name, t in self.before.items()}, "streak": self.streak}

    # -- pairs --------------------------------------------------------------------------------------------------

    def prepare(self, clips: PackedClips, folder: Path) -> None:
        stage_two = folder.parent / DualStream.name
        late, heads = sorted(stage_two.glob("late-*.safetensors")), stage_two / "heads.safetensors"

        def makers(student: Mapping[str, Tensor]) -> Makers:
            ranked = self.settings.rank_model > 0
            ranker = ranker_of(folder / RANKER, clips, self.recipe, run, self.world.device) if ranked else None
            return replace(self.makers(student, late, heads), ranker=ranker)

        files = [*late, heads] if heads.is_file() else late
        run = mark(self.recipe, self.handed, files, clips)
        self.rounds = Rounds(self.recipe, clips, folder, run, self.world, makers)
        self.rounds.begin(0, self.handed[DualStream.name])

    def makers(self, student: Mapping[str, Tensor], late: Sequence[Path], heads: Path) -> Makers:
        """The student, points on its way and on the detail dial, and who judges; whole copies on this process."""

        network = self.networks.alone
        others = [read_tensors(path) for path in late]
        regression = self.handed.get("regression")
        if regression is not None:
            others.append(blend(regression, dict(student), DETAIL))
        return Makers(
            sources=[network(student), *map(network, others)],
            regression=None if regression is None else network(regression),
            judge=Judge.read(heads, self.recipe.dual_stream.taps, network),
        )

    def verdict(self, result: Model, held: PackedClips) -> str:
        assert self.rounds is not None, "prepare comes first"
        return verdict(self.recipe, held, self.rounds.makers(self.handed[DualStream.name]), result)

    def pairs_for(self, step: int, part: int = 0) -> tuple[Batch, Chosen]:
        """A part of this rank's samples of an update, and their winners and losers."""
        assert self.rounds is not None, "prepare comes first"
        if step > 0 and round_of(step, self.settings) == step:
            self.rounds.begin(step, {name: whole(t) for name, t in own_state(settle(self.student))})
        pairs, slots = self.rounds.pairs(step), self.world.slots(self.settings.batch, self.parts, part)
        numbers = pairs.order(self.seed, step * self.settings.batch + slots.start, len(slots))
        self.names = tuple(f"pair {n} of {pairs.path.name}" for n in numbers)
        arrays = pairs.arrays(numbers)
        batch = prepare(self.encoder, arrays, self.seed, step, soft=0, drop=0, first_slot=slots.start, names=self.names)
        return batch, pairs.chosen(numbers).to(batch.z0)

    # -- losses -------------------------------------------------------------------------------------------------

    def times(self, batch: Batch, step: int) -> Tensor:
        """t = 1, where the student lives, for most pairs; uniform in [low, 1] for the others. (b,)"""
        s = self.settings
        at_one = uniform(batch, self.seed, self.name, "at one", step) < s.at_one
        between = s.low + (1 - s.low) * uniform(batch, self.seed, self.name, "t", step)
        return torch.where(at_one, 1.0, between)

    def errors(self, network: Model, x: Tensor, noise: Tensor, t: Tensor, batch: Batch) -> Tensor:
        """e(θ, x), (b,); in float32, since what counts are small differences of it, but for weights that were gathered
        in bfloat16."""
        with self.autocast(self.recipe.gather == "bfloat16" and self.world.size > 1):
            v = velocity(network, flow.interpolate(x, noise, t), t, batch.condition, batch.quality)
        return denoising_error(v, x, noise, self.energy)

    def difference(self, x: Tensor, noise: Tensor, t: Tensor, batch: Batch) -> Tensor:
        """Δ_x = e(S, x) − e(ref, x), (b,)."""
        with torch.no_grad():
            reference = self.errors(self.reference, x, noise, t, batch)
        return self.errors(self.student, x, noise, t, batch) - reference

    def anchor(self, x0: Tensor, pair: Chosen) -> Tensor:
        """⟨m·(e·(G(ε) − x_w))²⟩ over all pairs, m = 1 where the winner is an output and 0 where it is the ground truth:
        towards that it would be a regression, which blurs."""
        counts = pair.made.reshape(-1, 1, 1, 1, 1) * self.energy
        return anchor_loss(x0 * counts, pair.winner * counts)

    def update(self, step: int, batches: Iterator[Batch]) -> Figures:
        if self.finished:
            return {"stopped": 1.0}
        figures = self.descend("student", step, self.losses(step))
        return {**figures, "stopped": float(self.stop())}

    def losses(self, step: int) -> Iterator[tuple[Tensor, Figures]]:
        """Of the parts of a batch. After the last, and before the weights change, it is counted how winners fare."""
        worse = 0.0
        for part in range(self.parts):
            loss, figures = self.loss(step, *self.pairs_for(step, part))
            worse += figures["delta_w"] / self.parts
            yield loss, figures
        self.count(worse)

    def loss(self, step: int, batch: Batch, pair: Chosen) -> tuple[Tensor, Figures]:
        """Of one part of a batch."""
        noise, t = noise_for(batch, self.seed, self.name, step), self.times(batch, step)
        delta_w, delta_l = (self.difference(x, noise, t, batch) for x in (pair.winner, pair.loser))
        preference = preference_loss(delta_w, delta_l, self.settings.beta)
        with self.autocast():
            x0 = self.student.generate(noise, batch.condition, batch.quality)
        anchor = self.anchor(x0, pair)
        pixels, figures = self.pixel_terms(x0, batch)
        figures |= {
            "preference": float(preference.detach()),
            "anchor": float(anchor.detach()),
            "delta_w": float(delta_w.detach().mean()),
            "delta_l": float(delta_l.detach().mean()),
            "accuracy": float((delta_w < delta_l).float().mean()),
        }
        return preference + self.settings.anchor * anchor + pixels, figures

    # -- early stop ---------------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """The stage ended early: nothing changes any more."""
        return int(self.streak) >= self.settings.stop_after

    def count(self, delta_w: float) -> None:
        """How long the student has been worse at winners than the reference; the weights of before are remembered."""
        if self.world.mean({"delta_w": delta_w})["delta_w"] <= 0:
            self.streak.zero_()
            return
        if not int(self.streak):
            for name, average in self.learners["student"].average.items():
                self.before[name].copy_(average)
        self.streak += 1

    def stop(self) -> bool:
        """After `stop_after` such updates in a row the weights of before are handed on."""
        if self.finished:
            for name, average in self.learners["student"].average.items():
                average.copy_(self.before[name])
        return self.finished
