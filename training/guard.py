"""Stops a training that has gone wrong, before it spoils its checkpoints, and names what it was looking at."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from statistics import median

from training.checkpoints import TrainingError

BAD_IN_A_ROW = 5
"""Updates without a finite loss or gradient after which it stops; each of them has changed nothing."""
EXPLODED = 1e3
"""Times the usual gradient."""
EXPLODED_IN_A_ROW = 10
USUAL = 200
"""Updates over which the usual gradient is the median; none counts as exploding before there are half as many."""


class Guard:
    """Watches the figures of each update."""

    def __init__(self, stage: str):
        self.stage = stage
        self._norms: deque[float] = deque(maxlen=USUAL)
        self._bad = self._exploding = 0

    @property
    def trusts(self) -> bool:
        """Whether the last update was a good one, so that its weights may be saved."""
        return not self._bad and not self._exploding

    def watch(self, step: int, figures: Mapping[str, float], names: tuple[str, ...]) -> None:
        """figures: of update `step`; names: samples of its last batch. TrainingError: it has gone wrong."""
        norm = figures.get("gradient", 0.0)
        wrong = [name for name, value in figures.items() if not math.isfinite(value)]
        self._bad = self._bad + 1 if wrong else 0
        usual = median(self._norms) if len(self._norms) >= USUAL // 2 else math.inf
        exploding = math.isfinite(norm) and norm > EXPLODED * usual
        self._exploding = self._exploding + 1 if exploding else 0
        if not wrong and not exploding:
            self._norms.append(norm)
        if self._bad >= BAD_IN_A_ROW:
            self._stop(step, f"{', '.join(wrong)} not finite in {BAD_IN_A_ROW} updates in a row", names)
        if self._exploding >= EXPLODED_IN_A_ROW:
            self._stop(step, f"the gradient is {norm:.3g}, usual is {usual:.3g}", names)

    def _stop(self, step: int, why: str, names: tuple[str, ...]) -> None:
        option = self.stage.replace("_", "-")
        samples = "; ".join(names) or "unnamed samples"
        raise TrainingError(
            f"{self.stage} has gone wrong at update {step}: {why}; its batch holds {samples}. Nothing of it "
            "was saved: look at those clips, or delete the stage's folder and begin it anew with a lower "
            f"--{option}.learning-rate"
        )
