"""Candidates of many LR samples, judged: what pairs are made of. A function of seed, weights and clips alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Generator, Tensor

from training.batch import Batch, prepare, random_source
from training.data.dataset import PackedClips
from training.models import Model
from training.preference.candidates import Variation, draw_variations, fresh_noise, make_candidates
from training.preference.judge import Judge
from training.preference.learned import Ranker
from training.preference.measures import decoded, measure
from training.preference.ranker import Scale, Values, Verdict, rank, vetoes, weights_of
from training.recipes import Recipe
from training.stage_recipes import PreferenceRecipe

SEARCHED = 4
"""Samples that are looked at for each one wanted: those whose truth is soft itself cannot show what is preferred."""
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Makers:
    """Who makes candidates and who judges them; all whole, on this process, without gradients."""

    sources: Sequence[Model]
    """The student, then other weights with the same ancestor."""
    regression: Model | None = None
    judge: Judge | None = None
    ranker: Ranker | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """One LR sample and the verdict on its candidates, of which the best and the worst are kept."""

    arrays: Arrays
    """Of `PackedClips.batch`, one sample."""
    truth: Tensor
    """Latents of the ground truth, (1 t c h w), as the others."""
    best: Tensor
    worst: Tensor
    verdict: Verdict
    measures: dict[str, Values]
    twice: dict[str, Values]
    """Measures (2,) of the student's plain output and of the same with another seed."""


@dataclass(frozen=True, slots=True)
class Contest:
    """What the ranking makes of one sample's plain outputs of two students, in a group that both belong to."""

    film: str
    """What the sample was cut from."""
    gain: float
    """Score of the second student's output less that of the first's."""
    ruled_out: tuple[bool, bool]
    """Whether a veto takes out the first one's, the second one's, each in a group without the other."""


@dataclass(slots=True)
class Judging:
    """Groups of one round, and what was left out on the way."""

    clips: PackedClips
    settings: PreferenceRecipe
    video_share: float
    lr_kinds: dict[str, float] | None
    seed: int
    round: int
    """Update before which the round is made; every round has its own samples and noise."""
    vetoed: Counter[str] = field(default_factory=Counter)
    """Candidates by the rule that took them out."""
    soft: int = 0
    """Samples whose truth is soft."""
    without: int = 0
    """Samples of which the vetoes left no candidate."""

    @classmethod
    def of(cls, recipe: Recipe, clips: PackedClips, round: int) -> Judging:
        """As a recipe has it."""
        return cls(clips, recipe.preference, recipe.video_share, recipe.lr_kinds, recipe.seed, round)

    def groups(self, makers: Makers) -> Iterator[Group]:
        """One group per LR sample, in order."""
        for number, arrays in self._samples():
            group = self._judge(number, arrays, makers)
            if group is None:
                self.without += 1
            else:
                yield group

    def _samples(self) -> Iterator[tuple[int, Arrays]]:
        """Samples of the clips by number, from the stage's own random stream."""
        s, found = self.settings, 0
        stream = random_source(self.seed, "preference", "clips", self.round).initial_seed()
        for number in range(SEARCHED * s.pairs):
            arrays = self.clips.batch(
                stream,
                0,
                1,
                s.patch,
                kinds=self.lr_kinds,
                video_share=self.video_share,
                first_slot=number,
                frames=s.frames,
            )
            if arrays["soft"][0]:
                self.soft += 1
                continue
            yield number, arrays
            found += 1
            if found == s.pairs:
                return

    def contests(self, makers: Makers, rival: Model) -> Iterator[Contest]:
        """The student against another, with the same noise."""
        for number, arrays in self._samples():
            sample, source = self._sample(number, arrays, makers)
            variations = draw_variations(self.settings, len(makers.sources), source)
            noise = fresh_noise(sample, len(variations), source)[[*range(len(variations)), 0]]
            variations.append(Variation(source=len(makers.sources)))
            sources = [*makers.sources, rival]
            latents = make_candidates(sources, makers.regression, sample, variations, noise)
            every = self._measures(arrays, sample, latents, makers)
            kept = ~np.logical_or.reduce(list(vetoes(every).values()))
            kept[[0, -1]] = True  # a score that its own candidate has no part in knows no bounds
            scale, last = Scale.of(every, kept, weights_of(self.settings)), len(variations) - 1
            scores = scale.score(every)
            first, second = (_first_is_out(every, [k, *range(1, last)]) for k in (0, last))
            film = self.clips.rows[int(arrays["clip"][0])].group
            yield Contest(film, float(scores[-1] - scores[0]), (first, second))

    def _sample(self, number: int, arrays: Arrays, makers: Makers) -> tuple[Batch, Generator]:
        """A batch of one, and where its variations and noise are drawn from."""
        sample = prepare(makers.sources[0], arrays, self.seed, 0, soft=0, drop=0)
        return sample, random_source(self.seed, "preference", "candidates", self.round, number)

    def _judge(self, number: int, arrays: Arrays, makers: Makers) -> Group | None:
        sample, source = self._sample(number, arrays, makers)
        variations = draw_variations(self.settings, len(makers.sources), source)
        variations.append(variations[0])  # once more, to see what the seed alone changes
        noise = fresh_noise(sample, len(variations), source)
        latents = make_candidates(makers.sources, makers.regression, sample, variations, noise)
        every = self._measures(arrays, sample, latents, makers)
        measures = {name: values[:-1] for name, values in every.items()}
        self.vetoed.update({rule: int(out.sum()) for rule, out in vetoes(measures).items()})
        verdict = rank(measures, weights_of(self.settings))
        if verdict is None:
            return None
        best, worst = (latents[k : k + 1].cpu() for k in (verdict.best, verdict.worst))
        twice = {name: values[[0, -1]] for name, values in every.items()}
        return Group(arrays, sample.z0.cpu(), best, worst, verdict, measures, twice)

    def _measures(self, arrays: Arrays, sample: Batch, latents: Tensor, makers: Makers) -> Mapping[str, Values]:
        frames = decoded(makers.sources[0], latents, sample)
        found = measure(frames, arrays)
        if makers.ranker is not None:
            found["model"] = np.array(makers.ranker.scores(frames))
        if makers.judge is not None:
            noise = fresh_noise(sample, 1, random_source(self.seed, "preference", "judge", self.round))
            found["logit"] = np.array(makers.judge.logits(latents, noise, sample))
        return found


def _first_is_out(measures: Mapping[str, Values], group: list[int]) -> bool:
    """Whether a veto takes out the first of some of the candidates, in the group that they are."""
    return any(out[0] for out in vetoes({name: values[group] for name, values in measures.items()}).values())
