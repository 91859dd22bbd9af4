"""Stops a training that has gone wrong, before it spoils its checkpoints, and names what it was looking at."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from statistics import median

from training.checkpoints import TrainingError

BAD_IN_A_ROW = 5
"""Updates without a finite loss or gradient after which it stops; each of them has changed nothing."""
EXPLODED = 1e3
"""Times the usual gradient."""
AT_LEAST = 10
"""Times the norm to which gradients are clipped: heads that are nearly saturated have tiny ones and may wake up."""
EXPLODED_IN_A_ROW = 10
USUAL = 200
"""Updates over which the usual gradient is the median; none counts as exploding before there are half as many."""
NAMED = 32
"""Samples that a message names."""


class Guard:
    """Watches the figures of each update; those whose name begins with "gradient" are norms of a network's gradient.

    rates: options that lower a learning rate of the stage.  clip: norm to which gradients are clipped.
    """

    def __init__(self, stage: str, rates: Sequence[str], clip: float):
        self.stage, self.rates, self.clip = stage, rates, clip
        self._norms: dict[str, deque[float]] = {}
        self._bad = 0
        self._exploding: Counter[str] = Counter()

    @property
    def trusts(self) -> bool:
        """Whether the last update was a good one, so that its weights may be saved."""
        return not self._bad and not self._exploding

    def watch(self, step: int, figures: Mapping[str, float], names: Sequence[str]) -> None:
        """figures: of update `step`; names: samples of its batches. TrainingError: it has gone wrong."""
        wrong = [name for name, value in figures.items() if not math.isfinite(value)]
        self._bad = self._bad + 1 if wrong else 0
        for name in (name for name in figures if name.startswith("gradient")):
            self._look(step, name, figures[name], names)
        if self._bad >= BAD_IN_A_ROW:
            self._stop(step, f"{', '.join(wrong)} not finite in {BAD_IN_A_ROW} updates in a row", names)

    def _look(self, step: int, name: str, norm: float, names: Sequence[str]) -> None:
        """At the norm of one network's gradient, against what is usual for that network."""
        known = self._norms.setdefault(name, deque(maxlen=USUAL))
        usual = median(known) if len(known) >= USUAL // 2 else math.inf
        if math.isfinite(norm) and norm > max(EXPLODED * usual, AT_LEAST * self.clip):
            self._exploding[name] += 1
        else:
            del self._exploding[name]
            if not self._bad:
                known.append(norm)
        if self._exploding[name] >= EXPLODED_IN_A_ROW:
            of = name.removeprefix("gradient").removeprefix("_")
            self._stop(step, f"the gradient{of and ' of '}{of} is {norm:.3g}, usual is {usual:.3g}", names)

    def _stop(self, step: int, why: str, names: Sequence[str]) -> None:
        shown = "; ".join(dict.fromkeys(names[:NAMED])) or "unnamed samples"
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        raise TrainingError(
            f"{self.stage} has gone wrong at update {step}: {why}; its batch holds {shown}{more}. Nothing of it "
            "was saved: look at those clips, or delete the stage's folder and begin it anew with a lower "
            f"{' or '.join(self.rates)}"
        )
