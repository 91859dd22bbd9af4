"""Pairs of a preferred and a rejected output for one LR sample, in a file that holds all that an update needs.

RUN/preference/pairs-<n>.safetensors, made before update n: the samples' arrays as the pack gives them, the latents of
winner and loser, scores, and in the header how they came about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from training.batch import random_source
from training.checkpoints import TrainingError, read_facts, write_tensors
from training.preference.groups import Arrays, Group, Judging, Makers
from training.preference.ranker import SIGNS, rerun_noise

KEPT = ("lr", "hr", "flow", "mask", "kind", "soft", "clip", "t")
"""Arrays of a sample that are stored."""
WINNER, LOSER, SCORES, TRUTH = "x_w", "x_l", "scores", "truth"


def takes_truth(number: int, share: float) -> bool:
    """Whether the ground truth wins in group `number`: evenly spread, `share` of them."""
    return int((number + 1) * share) > int(number * share)


def make_pairs(path: Path, judging: Judging, makers: Makers, marks: Mapping[str, str]) -> None:
    """Judge candidates and write the pairs: best against worst where the gap is clear, the truth against the worst in
    some groups whether it is clear or not.

    marks: what the file is made from, for its header. TrainingError: no pair is left, or the file cannot be written.
    """
    groups = list(judging.groups(makers))
    noise = rerun_noise([group.twice for group in groups])
    truth = [takes_truth(n, judging.settings.truth_share) for n in range(len(groups))]
    pairs = [(g, t) for g, t in zip(groups, truth, strict=True) if t or g.verdict.is_clear(noise)]
    if not pairs:
        raise TrainingError(
            f"preference: of {len(groups)} groups of candidates none shows a preference beyond what the seed changes "
            f"(vetoed: {dict(judging.vetoed)}); widen noise_scale or latent_gain, or raise truth_share"
        )
    write_tensors(path, _tensors(pairs), {**marks, **_facts(judging, groups, pairs, noise)})


def _tensors(pairs: Sequence[tuple[Group, bool]]) -> dict[str, Tensor]:
    arrays = {name: torch.from_numpy(np.concatenate([g.arrays[name] for g, _ in pairs])) for name in KEPT}
    latents = {
        WINNER: torch.cat([g.truth if truth else g.best for g, truth in pairs]),
        LOSER: torch.cat([g.worst for g, _ in pairs]),
    }
    scores = torch.from_numpy(np.stack([g.verdict.scores for g, _ in pairs]))
    return {**arrays, **latents, SCORES: scores, TRUTH: torch.tensor([truth for _, truth in pairs])}


def _facts(
    judging: Judging, groups: Sequence[Group], pairs: Sequence[tuple[Group, bool]], noise: Mapping[str, float]
) -> dict[str, str]:
    """For a reader of the file; PSNR-Y is what the ranking was not told."""
    chosen = [group for group, truth in pairs if not truth]
    facts = {
        "groups": len(groups),
        "pairs": len(pairs),
        "truth": len(pairs) - len(chosen),
        "unclear": len(groups) - len(pairs),
        "soft": judging.soft,
        "without": judging.without,
        "vetoed": dict(judging.vetoed),
        "rerun_noise": noise,
        "measures": sorted({name for group in groups for name in group.verdict.scale.weight}),
        "gap": _mean([group.verdict.gap for group in chosen]),
        "winner_over_loser": {name: _mean([_gain(g, name) for g in chosen]) for name in (*SIGNS, "psnr_y")},
    }
    return {name: json.dumps(value) for name, value in facts.items()}


def _gain(group: Group, name: str) -> float:
    values = group.measures.get(name)
    return float("nan") if values is None else float(values[group.verdict.best] - values[group.verdict.worst])


def _mean(values: Sequence[float]) -> float | None:
    finite = [v for v in values if np.isfinite(v)]
    return float(np.mean(finite)) if finite else None


@dataclass(frozen=True, slots=True)
class Chosen:
    """Winners and losers of an update."""

    winner: Tensor
    loser: Tensor
    """(b t c h w) latents each."""
    made: Tensor
    """(b,) float, 1 where the winner is an output, 0 where it is the ground truth."""

    def to(self, like: Tensor) -> Chosen:
        """On the device of a tensor."""
        return Chosen(*(x.to(like.device) for x in (self.winner, self.loser, self.made)))


class Pairs:
    """The pairs of a file; only those asked for are read."""

    def __init__(self, path: Path):
        self.path, self.facts = path, read_facts(path)
        self._file: Any = safe_open(path, framework="np")

    def __len__(self) -> int:
        return int(json.loads(self.facts["pairs"]))

    def _rows(self, name: str, numbers: Sequence[int]) -> Any:
        rows = self._file.get_slice(name)
        return np.concatenate([rows[n : n + 1] for n in numbers])

    def arrays(self, numbers: Sequence[int]) -> Arrays:
        """The samples as `PackedClips.batch` gives them."""
        return {name: self._rows(name, numbers) for name in KEPT}

    def chosen(self, numbers: Sequence[int]) -> Chosen:
        """Winners and losers."""
        winner, loser, truth = (torch.from_numpy(self._rows(name, numbers)) for name in (WINNER, LOSER, TRUTH))
        return Chosen(winner, loser, made=(~truth).float())

    def order(self, seed: int, first: int, count: int) -> list[int]:
        """Pairs number first … first + count − 1 of an endless sequence that takes all of them, shuffled, in turn."""
        out = []
        for place in range(first, first + count):
            epoch, within = divmod(place, len(self))
            source = random_source(seed, "preference", "order", self.facts["round"], epoch)
            out.append(int(torch.randperm(len(self), generator=source)[within]))
        return out
