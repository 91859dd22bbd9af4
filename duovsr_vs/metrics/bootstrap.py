"""Is a mean difference more than the luck of which clips were there? Paired percentile bootstrap, in numpy alone."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import OptionError

RESAMPLES = 10_000
LEVEL = 0.95
FEWEST = 6
"""Independent differences below which nothing counts as resolved: of five, all have one sign in 2 of 2^5 = 6 % of
cases although nothing differs, and a resampling of so few cannot know it. A percentile interval of few is too narrow
all the same: of normal differences of mean 0 it leaves out zero in 13 % of cases of 6, 11 % of 8, 8 % of 14."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference, and where the mean of other such clips would lie."""

    mean: float
    low: float
    high: float
    """Ends of the interval; NaN where fewer than two groups are known."""
    count: int
    """Differences that are finite; the others (a measure without a value on some clip) are left out."""
    groups: int
    """What was drawn: groups of differences that belong together."""

    @property
    def resolved(self) -> bool:
        """Whether the interval leaves out zero and stands on enough groups."""
        return self.groups >= FEWEST and (self.low > 0 or self.high < 0)


def paired_interval(
    differences: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Mean of paired differences with its bootstrap interval (Efron 1979, percentiles).

    differences: method minus baseline, one for each clip, in the same clips.  groups: what each clip belongs to (its
    film, say); whole groups are drawn, since clips of one film are alike; None: each clip for itself.  The same
    arguments give the same interval.  OptionError where there are not as many groups as differences.
    """
    values = np.asarray(differences, np.float64)
    names = list(range(len(values))) if groups is None else list(groups)
    if len(names) != len(values):
        raise OptionError(f"{len(values)} differences and {len(names)} groups found; one group each is needed")
    known = np.isfinite(values)
    order = {name: i for i, name in enumerate(dict.fromkeys(n for n, k in zip(names, known, strict=True) if k))}
    member = np.array([order[n] for n, k in zip(names, known, strict=True) if k], np.int64)
    sums, sizes = (np.bincount(member, weights, len(order)) for weights in (values[known], None))
    mean = float(sums.sum() / sizes.sum()) if len(order) else float("nan")
    if len(order) < 2:
        return Interval(mean, float("nan"), float("nan"), int(known.sum()), len(order))
    rng = np.random.Generator(np.random.PCG64(seed))
    times = rng.multinomial(len(order), np.full(len(order), 1 / len(order)), resamples)  # how often each was drawn
    low, high = np.quantile((times @ sums) / (times @ sizes), ((1 - level) / 2, (1 + level) / 2))
    return Interval(mean, float(low), float(high), int(known.sum()), len(order))
