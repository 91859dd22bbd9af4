"""Scores of all clips, their means, and the differences between methods with their intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from duovsr_vs.metrics.bootstrap import FEWEST, LEVEL, RESAMPLES, Interval, paired_interval

type Values = dict[str, float]
"""Measure -> value."""


@dataclass(slots=True)
class Findings:
    """What an evaluation found. Methods are in the order of the tables, the model that is judged last."""

    methods: tuple[str, ...]
    measures: tuple[str, ...]
    groups: dict[str, str]
    """Clip -> the film that it shows."""
    scores: dict[str, dict[str, dict[str, Values]]] = field(default_factory=dict)
    """Kind of LR -> clip -> method -> values."""
    truth: dict[str, Values] = field(default_factory=dict)
    """Clip -> what the ground truth itself measures."""

    @property
    def model(self) -> str:
        return self.methods[-1]

    def add(self, kind: str, clip: str, method: str, values: Values) -> None:
        self.scores.setdefault(kind, {}).setdefault(clip, {})[method] = values

    def means(self) -> dict[str, dict[str, Values]]:
        """Kind -> method -> mean over the clips that have a value (an infinite one counts)."""
        return {
            kind: {
                method: {m: mean_of(values[method][m] for values in clips.values()) for m in self.measures}
                for method in self.methods
            }
            for kind, clips in self.scores.items()
        }

    def differences(self) -> dict[str, dict[str, dict[str, Interval]]]:
        """Kind -> other method -> measure -> model minus the other, over clips, paired; whole films are resampled."""
        found: dict[str, dict[str, dict[str, Interval]]] = {}
        for kind, clips in self.scores.items():
            groups = [self.groups[name] for name in clips]
            for other in self.methods[:-1]:
                found.setdefault(kind, {})[other] = {
                    m: paired_interval([v[self.model][m] - v[other][m] for v in clips.values()], groups)
                    for m in self.measures
                }
        return found

    def record(self, complete: bool) -> dict[str, Any]:
        """For JSON; the differences only when all clips are there."""
        raw = {"complete": complete, "measures": list(self.measures), "clips": self.scores, "ground_truth": self.truth}
        if not complete:
            return raw
        differences = {
            kind: {
                other: {m: asdict(i) | {"resolved": i.resolved} for m, i in intervals.items()}
                for other, intervals in others.items()
            }
            for kind, others in self.differences().items()
        }
        bootstrap = {"resamples": RESAMPLES, "level": LEVEL, "fewest_groups": FEWEST, "groups": self.groups}
        return raw | {"means": self.means(), "differences": differences, "bootstrap": bootstrap}


def mean_of(values: Iterable[float]) -> float:
    """Mean of what is not NaN; NaN of nothing."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else float("nan")


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Replace a JSON file at once. What is no number (NaN, infinity) becomes null, which every reader of JSON knows."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(_plain(record), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(path)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
