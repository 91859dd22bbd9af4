"""Whether the preference stage did what it is for: the ranking's own score of its result, on held-out clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from duovsr_vs.metrics.bootstrap import Interval, paired_interval
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

    makers: as at the stage's beginning; the scores are those of its group.  held: a split that nothing was trained on.
    """
    settings = recipe.preference
    try:
        held.require(settings.frames, settings.patch)
    except DataError as error:
        return f"the ranking was not asked about held-out clips: {error}"
    judging = replace(Judging.of(recipe, held, ROUND), settings=replace(settings, pairs=min(settings.pairs, SAMPLES)))
    contests = list(judging.contests(makers, result))
    return in_words(contests) if contests else "the vetoes leave no candidate of a held-out sample"


def in_words(contests: Sequence[Contest]) -> str:
    """The mean gain in score with its interval over clips, how often it is one, and whom the vetoes take out."""
    gains = [contest.gain for contest in contests]
    found = paired_interval(gains, [contest.clip for contest in contests])
    share = sum(gain > 0 for gain in gains) / len(gains)
    before, after = (sum(contest.ruled_out[k] for contest in contests) for k in range(2))
    return (
        f"on {len(gains)} held-out samples the ranking gives the result {found.mean:+.2f}{_ends(found)} over what the "
        f"stage began with, more on {share:.0%}; vetoes take out {after}, of what it began with {before}"
    )


def _ends(found: Interval) -> str:
    """The interval's ends, where several clips give it one."""
    return "" if found.groups < 2 else f" [{found.low:+.2f}, {found.high:+.2f}]"
