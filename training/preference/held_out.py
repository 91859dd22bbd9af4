"""Whether the preference stage did what it is for: the ranking's own score of its result, on held-out clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from duovsr_vs.metrics.bootstrap import FEWEST, paired_interval
from training.data.dataset import PackedClips
from training.data.sources import DataError
from training.models import Model
from training.preference.groups import Contest, Judging, Makers
from training.recipes import Recipe

SAMPLES = 40
"""At most; no more than a round of the training has."""
ROUND = -1
"""Its samples and noise are no round's of the training."""


def verdict(recipe: Recipe, held: PackedClips, makers: Makers, result: Model) -> str:
    """One sentence: what the ranking thinks of the stage's result beside the student that it began with.

    Nothing of the clips can end a run that has come so far: what they lack is said instead.
    makers: as at the stage's beginning.  held: a split that nothing was trained on; of the kinds of LR that it holds.
    """
    settings = replace(recipe.preference, pairs=min(recipe.preference.pairs, SAMPLES))
    judging = replace(Judging.of(recipe, held, ROUND), settings=settings, lr_kinds=None)
    try:
        contests = list(judging.contests(makers, result))
    except DataError as error:
        return f"the ranking was not asked about held-out clips: {error}"
    if not contests:
        why = f"all {judging.soft} samples are soft; pack sharper films"
        return f"the ranking was not asked about held-out clips: {why}"
    return in_words(contests)


def in_words(contests: Sequence[Contest]) -> str:
    """The mean gain in score with its interval over films, how often it is one, and whom the vetoes take out."""
    gains = [contest.gain for contest in contests]
    found = paired_interval(gains, [contest.film for contest in contests])
    ends = f"[{found.low:+.2f}, {found.high:+.2f}]" if found.groups >= FEWEST else "(too few for an interval)"
    share = sum(gain > 0 for gain in gains) / len(gains)
    before, after = (sum(contest.ruled_out[k] for contest in contests) for k in range(2))
    return (
        f"on {len(gains)} samples of {found.groups} held-out films the ranking gives the result {found.mean:+.2f} "
        f"{ends} over what the stage began with, more on {share:.0%}; vetoes take out {after}, of what it began with "
        f"{before}"
    )
