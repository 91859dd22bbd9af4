"""What the ablation's scores say: paired differences, their intervals over sources and seeds, verdicts, tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
from ablation_arms import ARMS, DIRECTIONS, SHOWN, Direction
from ablation_scores import LEAD, MEASURES, SECOND
from tables import table

from duovsr_vs.metrics.bootstrap import LEVEL, RESAMPLES, Interval

Real = npt.NDArray[np.float64]
Scores = dict[str, dict[int, dict[str, list[float]]]]
"""arm -> seed -> measure -> value on each segment."""

FEWEST_SEEDS = 3
"""Below this nothing counts as resolved: what one training shows may be that training's luck."""

AGREES, DISAGREES, OPEN = "as in the paper", "the other way round", "not resolved"


def crossed_interval(differences: Real, sources: Sequence[str], resamples: int = RESAMPLES) -> Interval:
    """Mean difference; sources are drawn with replacement, and seeds are, independently of them.

    differences: (seeds, segments), paired.  sources: of each segment; one whose every value is missing is left out.
    Every seed's student is measured on every source, so the two are crossed, and a draw takes its sources in all of
    its seeds.
    """
    cells = np.full((len(differences), len(set(sources))), np.nan)
    for column, source in enumerate(dict.fromkeys(sources)):
        own = differences[:, [name == source for name in sources]]
        known = ~np.isnan(own).all(1)
        cells[known, column] = np.nanmean(own[known], axis=1)
    cells = cells[:, ~np.isnan(cells).any(0)]
    seeds, groups = cells.shape
    count = int(np.isfinite(differences).sum())
    if groups < 2:
        return Interval(float(cells.mean()) if groups else float("nan"), float("nan"), float("nan"), count, groups)
    rng = np.random.Generator(np.random.PCG64(0))
    of_seeds, of_groups = (rng.multinomial(n, np.full(n, 1 / n), resamples) / n for n in (seeds, groups))
    means = np.einsum("rk,ks,rs->r", of_seeds, cells, of_groups, optimize=True)
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(float(cells.mean()), float(low), float(high), count, groups)


def verdict(interval: Interval, sign: int, seeds: int) -> str:
    """sign: 1 where more is better."""
    if not interval.resolved or seeds < FEWEST_SEEDS:
        return OPEN
    return AGREES if sign * interval.mean > 0 else DISAGREES


def compare(scores: Scores, direction: Direction, sources: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Measure -> difference `better` − `worse` with its interval and verdict, over the seeds that both have."""
    a, b = scores.get(direction.better, {}), scores.get(direction.worse, {})
    seeds = sorted(a.keys() & b.keys())
    found: dict[str, dict[str, Any]] = {}
    for name, (_, sign) in MEASURES.items() if seeds else ():
        differences = np.array([a[seed][name] for seed in seeds]) - np.array([b[seed][name] for seed in seeds])
        interval = crossed_interval(differences, sources)
        per_seed = [float(np.nanmean(row)) for row in differences]
        found[name] = {**asdict(interval), "per_seed": per_seed, "verdict": verdict(interval, sign, len(seeds))}
    return found


def comparisons(scores: Scores, sources: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Claim -> measure -> what `compare` finds; claims without both arms are left out."""
    found = {d.claim: compare(scores, d, sources) for d in DIRECTIONS}
    return {claim: measures for claim, measures in found.items() if measures}


def gradient_summary(norms: dict[str, dict[int, list[float]]]) -> dict[str, dict[str, list[float]]]:
    """arm -> mean, variance and variance/mean² of the norms of stage II's student gradients, one for each seed.

    Before clipping, without the first fifth of the updates, in which the optimizer warms up.
    """
    result: dict[str, dict[str, list[float]]] = {}
    for arm, by_seed in norms.items():
        settled = [np.array(by_seed[seed][len(by_seed[seed]) // 5 :]) for seed in sorted(by_seed)]
        means, variances = ([float(f(values)) for values in settled] for f in (np.mean, np.var))
        relative = [v / m**2 if m > 0 else float("nan") for v, m in zip(variances, means, strict=True)]
        result[arm] = {"mean": means, "variance": variances, "relative_variance": relative}
    return result


def calmer(gradients: dict[str, dict[str, list[float]]], key: str) -> str:
    """In how many seeds the gradients of Stage II vary less after Stage I than without it; the paper says they do."""
    pair = [gradients.get(arm, {}).get(key, []) for arm in ("full", "no_stage_1")]
    both = list(zip(*pair, strict=False))
    return f"{sum(a < b for a, b in both)} of {len(both)}"


def summary(record: dict[str, Any]) -> str:
    """One line about what was measured; record: of ablation.json."""
    segments, scale = record["segments"], record["scale"]
    sources = len({segment["source"] for segment in segments})
    rehearsal = "" if scale == 1 else f", a rehearsal with {scale:g} of the updates"
    return (
        f"{len(segments)} held-out segments of {sources} sources, seeds: {len(record['seeds'])}; 95 % intervals, "
        f"sources and seeds drawn{rehearsal}"
    )


# -- markdown -----------------------------------------------------------------------------------------------------


def means_table(scores: Scores) -> list[str]:
    """Mean over seeds and segments of each arm; ± is the deviation between the seeds' means."""
    rows = []
    for arm in (*SHOWN, *ARMS):
        if arm.name not in scores:
            continue
        cells = []
        for name in MEASURES:
            by_seed = [float(np.nanmean(values[name])) for values in scores[arm.name].values()]
            cells.append(f"{np.mean(by_seed):.4g} ± {np.std(by_seed):.2g}")
        rows.append([arm.title, *cells])
    return table(["", *(f"{title} {'↑' if sign > 0 else '↓'}" for title, sign in MEASURES.values())], rows)


def directions_table(found: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """Difference and interval of the two measures that decide, with their verdicts, then of the others."""
    lines = []
    for names in ((LEAD, SECOND), tuple(MEASURES)[2:]):
        rows = [[claim, *(_cell(measures[name]) for name in names)] for claim, measures in found.items()]
        signs = [f"{MEASURES[name][0]} {'↑' if MEASURES[name][1] > 0 else '↓'}" for name in names]
        lines += [*table(["direction", *signs], rows), ""]
    return lines


def _cell(entry: dict[str, Any]) -> str:
    return f"{entry['mean']:+.3g} [{entry['low']:+.3g}, {entry['high']:+.3g}] {entry['verdict']}"


def gradient_table(gradients: dict[str, dict[str, list[float]]], ratios: dict[str, list[float]]) -> list[str]:
    """Norms of the student's gradients, seed by seed."""
    titles = {arm.name: arm.title for arm in ARMS}

    def listed(values: Sequence[float]) -> str:
        return ", ".join(f"{value:.3g}" for value in values) or "–"

    rows = [
        [titles[arm], *(listed(found[key]) for key in ("mean", "variance", "relative_variance")), listed(ratios[arm])]
        for arm, found in gradients.items()
    ]
    return table(["stage II", "mean norm", "variance", "variance / mean²", "GAN : DMD"], rows)
