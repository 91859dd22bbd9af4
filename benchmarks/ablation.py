"""Do the directions of the paper's ablation hold at toy scale? Trains every arm with several seeds and compares them.

    python benchmarks/ablation.py --data PACK --out DIR [--seeds 3] [--scale 1] [--only full dmd_only]

PACK is a folder that `python -m training pack` wrote, with eight held-out sources or more. DIR keeps the runs: the same
command again skips what is finished and goes on where it was stopped. Written at the end: ablation.json (everything),
ablation.md (tables), ablation.png, into --results; of a rehearsal (--scale below 1) into DIR.

For each seed a small model learns regression, teacher and Stage I once; all arms start from these, see the same batches
and noises, and make the same number of student updates in Stage II. Each student is measured on held-out segments, and
differences are paired. The lead measure, |ΔNIQE|, and the second, SSIMULACRA2, were chosen before the first run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ablation_figures as figures
import ablation_plot
import environment
from ablation_arms import ARMS, BASE, RECIPE, SHOWN, Arm, recipe_of
from ablation_scores import LEAST_SEGMENTS, Segment, scores, segments

from duovsr_vs.errors import DuoVsrError, OptionError
from training.data.dataset import PackedClips
from training.recipes import Recipe
from training.results import Results
from training.run import Run
from training.stages.base import build
from training.watch import LOG

RESULTS = Path(__file__).resolve().parent / "results"
QUIET = 15.0
"""Seconds between two lines of a training."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder that `pack` wrote")
    add("--out", type=Path, required=True, help="folder for the runs; they go on from there")
    add("--results", type=Path, default=None, help="folder for JSON, tables and plot (benchmarks/results)")
    add("--seeds", type=int, default=3, help="how many (3)")
    add("--scale", type=float, default=1.0, help="factor of all numbers of updates (1); below 1 nothing is shown")
    add("--only", nargs="+", choices=[arm.name for arm in ARMS], default=None, help="arms to train now (all)")
    args = parser.parse_args(arguments)
    if args.seeds < 1:
        raise OptionError(f"--seeds {args.seeds}: 1 or more is needed")
    if not 0 < args.scale <= 10:
        raise OptionError(f"--scale {args.scale}: a factor above 0 and up to 10 is needed")
    args.results = args.results or (RESULTS if args.scale >= 1 else args.out)
    return args


class Calm:
    """Prints a line at most every `QUIET` seconds: a training says one at each update."""

    def __init__(self, head: str):
        self.head, self.last = head, 0.0

    def __call__(self, line: str) -> None:
        if time.monotonic() - self.last >= QUIET:
            self.last = time.monotonic()
            print(f"{self.head}: {line[:150]}", flush=True)


class Ablation:
    """The folder of one ablation."""

    def __init__(self, args: argparse.Namespace, say: Callable[[str], None] = print):
        self.data, self.out, self.scale, self.say = args.data, args.out, args.scale, say
        self.clips = PackedClips(self.data, "val")
        self.segments: list[Segment] = segments(self.clips)
        if len(self.segments) < LEAST_SEGMENTS:
            raise DuoVsrError(
                f"{len(self.segments)} held-out segments found, {LEAST_SEGMENTS} are needed; pack more sources"
            )

    def seed_folder(self, seed: int) -> Path:
        """Where the runs of a seed are."""
        return Path(self.out) / f"seed{seed}"

    def base(self, seed: int) -> None:
        """Regression, teacher and Stage I of a seed."""
        run = Run(recipe_of(seed, self.scale), self.data, self.seed_folder(seed) / "base", Calm(f"seed {seed} base"))
        for stage in BASE:
            run.stage(stage)

    def arm(self, seed: int, arm: Arm) -> None:
        """Trains an arm and measures it, unless that is done."""
        folder, recipe = self.seed_folder(seed), recipe_of(seed, self.scale, arm)
        path = folder / f"{arm.name}.json"
        mark = self.mark(recipe, arm)
        if path.is_file():
            if json.loads(path.read_text())["mark"] != mark:
                raise DuoVsrError(f"{path} comes from another recipe or other clips; give another --out, or delete it")
            return
        began = time.monotonic()
        if arm not in SHOWN:
            run = Run(recipe, self.data, folder / arm.folder, Calm(f"seed {seed} {arm.name}"), earlier=folder / "base")
            for stage in dict.fromkeys(("dual_stream", arm.stage)):
                run.stage(stage)
        student = build(recipe, Results(folder / arm.folder, recipe).weights(arm.stage), train=False)
        trained = time.monotonic()
        found = {"mark": mark, "scores": scores(student, self.segments)}
        text = json.dumps({**found, "seconds": round(trained - began, 1)})
        path.with_suffix(".tmp").write_text(text + "\n")
        path.with_suffix(".tmp").replace(path)
        self.say(f"seed {seed} {arm.name}: {trained - began:.0f} s, measured in {time.monotonic() - trained:.0f} s")

    def mark(self, recipe: Recipe, arm: Arm) -> str:
        """Of all that an arm's scores depend on."""
        stages = {name: repr(recipe.stage(name)) for name in recipe.stages}
        if arm in SHOWN:
            del stages["dual_stream"]
        if arm.stage != "preference":
            del stages["preference"]
        held_out = [(segment.source, segment.kind, segment.hr.shape) for segment in self.segments]
        text = json.dumps([stages, recipe.seed, recipe.loss, recipe.model, arm.name, held_out])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    # -- what came of it ----------------------------------------------------------------------------------------

    def scores(self, seeds: Iterable[int]) -> figures.Scores:
        """Of all arms that are finished."""
        found: figures.Scores = {}
        for arm in (*SHOWN, *ARMS):
            for seed in seeds:
                path = self.seed_folder(seed) / f"{arm.name}.json"
                if path.is_file():
                    found.setdefault(arm.name, {})[seed] = json.loads(path.read_text())["scores"]
        return found

    def logged(self, seeds: Iterable[int], figure: str) -> dict[str, dict[int, list[float]]]:
        """arm -> seed -> one figure of each update of Stage II that has it."""
        found: dict[str, dict[int, list[float]]] = {}
        for arm in ARMS:
            for seed in seeds:
                path = self.seed_folder(seed) / arm.name / "dual_stream" / LOG
                if path.is_file():
                    lines = map(json.loads, path.read_text().splitlines())
                    values = [line[figure] for line in lines if line.get(figure) is not None]
                    found.setdefault(arm.name, {})[seed] = values
        return found

    def record(self, seeds: list[int]) -> dict[str, Any]:
        """Everything, for JSON."""
        scores, norms = self.scores(seeds), self.logged(seeds, "gradient")
        sources = [segment.source for segment in self.segments]
        ratios = self.logged(seeds, "ratio")
        return {
            "machine": environment.describe(),
            "scale": self.scale,
            "seeds": seeds,
            "recipe": json.loads(RECIPE.to_json()),
            "arms": {arm.name: {"title": arm.title, "changes": arm.changes} for arm in ARMS},
            "segments": [{"source": segment.source, "kind": segment.kind} for segment in self.segments],
            "comparisons": figures.comparisons(scores, sources),
            "gradients": figures.gradient_summary(norms),
            "gan_to_dmd": {
                arm: [_mean(values) for _, values in sorted(by.items()) if values] for arm, by in ratios.items()
            },
            "scores": scores,
        }

    def write(self, seeds: list[int], folder: Path) -> None:
        """ablation.json, .md and .png."""
        folder.mkdir(parents=True, exist_ok=True)
        record = self.record(seeds)
        (folder / "ablation.json").write_text(json.dumps(record) + "\n")
        (folder / "ablation.md").write_text("\n".join(self.page(record)) + "\n")
        ablation_plot.draw(record, folder / "ablation.png")

    def page(self, record: dict[str, Any]) -> list[str]:
        """The tables."""
        machine = record["machine"]
        return [
            "# Directions of the paper's ablation at toy scale",
            "",
            f"{figures.summary(record)}. Trained and measured on {machine['processor']}, {machine['cores']} cores, "
            f"torch {machine['versions']['torch']}, by `benchmarks/ablation.py`; what the arms are: "
            "`benchmarks/ablation_arms.py`. Lead measure: |ΔNIQE|, the distance of NIQE to the truth's; second: "
            "SSIMULACRA2; both chosen before the first run.",
            "",
            "Difference of the two arms, its interval, and the verdict:",
            "",
            *figures.directions_table(record["comparisons"]),
            "Stage III ranks its candidates by SSIMULACRA2 and NIQE among others (on training clips), so for it the "
            "texture distance and the detail are the measures that nothing was trained for.",
            "",
            "Means over segments and seeds:",
            "",
            *figures.means_table(record["scores"]),
            "",
            "Norm of the student's gradient before clipping, one value for each seed; the last column is the share of "
            "the GAN's gradient to that of DMD, both at the student's output. With Stage I the variance is lower in "
            f"{figures.calmer(record['gradients'], 'variance')} seeds, relative to the mean in "
            f"{figures.calmer(record['gradients'], 'relative_variance')}.",
            "",
            *figures.gradient_table(
                record["gradients"], {arm: record["gan_to_dmd"].get(arm, []) for arm in record["gradients"]}
            ),
        ]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def main(arguments: list[str] | None = None) -> int:
    try:
        args = parse(arguments)
        ablation = Ablation(args)
        seeds, wanted = list(range(args.seeds)), args.only or [arm.name for arm in ARMS]
        for seed in seeds:
            ablation.base(seed)
            for arm in (*SHOWN, *(arm for arm in ARMS if arm.name in wanted)):
                ablation.arm(seed, arm)
            ablation.write(seeds, args.results)
    except DuoVsrError as error:
        print(f"ablation: {error}", file=sys.stderr)
        return 1
    print(f"written: {args.results}/ablation.json, .md and .png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
