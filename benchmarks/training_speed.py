"""How fast the stages train: an update against its bare forward and backward pass, and the waiting for data.

    python benchmarks/training_speed.py [--data PACK] [--recipe NAME] [--stage NAME ...] [--json FILE]

Bare is the student's forward and backward pass on the same batch and nothing else: no other network, no loss in
pixels, no optimizer, no data. Blocks of updates, as the trainer makes them, and blocks of bare passes take turns in one
process; medians over the blocks count. Weights are untrained ones, for speed does not depend on them.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the trainer's command line does, before torch

import environment
import torch
from tables import table

from duovsr_vs.engine.machine import resolve_device
from duovsr_vs.errors import DuoVsrError
from duovsr_vs.model import flow
from training.batch import Batch
from training.data.dataset import PackedClips
from training.distributed import World
from training.loop import Loop, Place
from training.machine import measured_peak
from training.plan_text import amount
from training.presets import RECIPES
from training.recipes import STAGES, Recipe
from training.stages import CLASSES, build_stage
from training.stages.base import Stage, build
from training.watch import Silent

SETTLE = 4
"""Updates before the clock of a block starts: those that use the batches made ahead in the meantime."""
BARE_LIMIT = 1.5
"""Greatest cost of the teacher's update in terms of its bare passes."""
WAIT_LIMIT = 0.05
"""Greatest share of the time that an update may wait for data."""
BUSY = 0.5
"""Load average above which figures mean little."""
FIGURES = ("seconds", "wait", "samples_per_second", "tokens_per_second", "mfu")


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, help="folder that `python -m training pack` wrote (a small synthetic one)")
    add("--recipe", choices=sorted(RECIPES), default="nano-cpu", help="whose stages (nano-cpu)")
    add("--stage", nargs="+", choices=STAGES, help="which of them (all)")
    add("--updates", type=int, default=12, help="per block (12)")
    add("--blocks", type=int, default=5, help="of updates, and as many of bare passes (5)")
    add("--json", type=Path, default=Path("benchmarks/results/training_speed.json"), help="where the record goes")
    return parser.parse_args(given)


def measured(recipe: Recipe) -> Recipe:
    """The recipe with few pairs: they are made before the updates of the preference stage, which is not timed.

    Untrained students make candidates that nobody can tell apart, so all winners are the ground truth.
    """
    pairs = replace(
        recipe.preference,
        pairs=2 * recipe.preference.batch,
        candidates=2,
        truth_share=1.0,
        refresh=1.0,
        mixed=0.0,
        stop_after=10**9,
    )
    return replace(recipe, preference=pairs)


class Bench:
    """One stage with batches from a pack."""

    def __init__(self, name: str, recipe: Recipe, clips: PackedClips, folder: Path):
        self.world = World(device=resolve_device(recipe.device))
        needs = CLASSES[name].needs_of(recipe)
        self.stage: Stage = build_stage(name, recipe, {n: build(recipe).state_dict() for n in needs}, self.world)
        self.place = Place(folder / name, clips, {})
        self.place.folder.mkdir(parents=True)
        self.stage.prepare(clips, self.place.folder)
        peak = measured_peak(str(self.world.device), recipe.bf16)
        self.loop = Loop(self.stage, self.place, self.world, Silent(), 0, peak)
        self.step = 0
        self.last: Batch | None = None

    def _remembered(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for self.last in batches:
            yield self.last

    def run(self, blocks: int, updates: int) -> list[dict[str, float]]:
        """Figures of each block, with `bare`: seconds of a bare pass."""
        with self.loop.batches() as source:
            batches = self.loop.throughput.batches(self._remembered(source))
            return [self._updates(updates, batches) | {"bare": self._bare(updates)} for _ in range(blocks)]

    def _updates(self, count: int, batches: Iterator[Batch]) -> dict[str, float]:
        for number in range(SETTLE + count):
            if number == SETTLE:
                self.loop.throughput.figures()
            with self.loop.throughput.update():
                self.stage.update(self.step % self.stage.steps, batches)
            self.step += 1
        return self.loop.throughput.figures()

    def _bare(self, count: int) -> float:
        """Seconds of a pass; the data thread has filled its queue by then and rests."""
        batch = self.last or next(self._pairs())
        begin = 0.0
        for number in range(SETTLE + count):
            if number == SETTLE:
                begin = self._now()
            self._pass(batch)
        return (self._now() - begin) / count

    def _pairs(self) -> Iterator[Batch]:
        """The preference stage has batches of its own."""
        yield self.stage.pairs_for(0)[0]  # type: ignore[attr-defined]

    def _pass(self, batch: Batch) -> None:
        t = torch.full((len(batch.slots),), 0.5, device=batch.z0.device)
        z_t = flow.interpolate(batch.z0, torch.zeros_like(batch.z0), t)
        with self.stage.autocast():
            x0 = self.stage.student.denoise(z_t, t, batch.condition, batch.quality)
        (x0 - batch.z0).square().mean().backward()
        self.stage.learners["student"].forget_gradients()

    def _now(self) -> float:
        if self.world.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def summary(blocks: Sequence[dict[str, float]]) -> dict[str, float]:
    """Medians over the blocks, and how many bare passes an update costs."""
    found = {name: median(block[name] for block in blocks) for name in blocks[0]}
    return found | {"over_bare": median(block["seconds"] / block["bare"] for block in blocks)}


def bars(model: str, found: dict[str, dict[str, float]]) -> list[tuple[str, float, float, bool]]:
    """What must hold, found, at most, and whether it does."""
    out = []
    if model == "nano" and "teacher" in found:
        ratio = found["teacher"]["over_bare"]
        out.append(("teacher: update over bare passes", ratio, BARE_LIMIT, ratio <= BARE_LIMIT))
    for name, figures in found.items():
        out.append((f"{name}: share of waiting", figures["wait"], WAIT_LIMIT, figures["wait"] <= WAIT_LIMIT))
    return out


def tables_of(model: str, found: dict[str, dict[str, float]]) -> list[str]:
    """What is printed below the machine."""
    head = ["stage", "update ms", "bare ms", "over bare", "waiting", "samples/s", "tokens/s", "MFU", "memory GB"]
    rows = [
        [
            name,
            f"{1000 * f['seconds']:.0f}",
            f"{1000 * f['bare']:.0f}",
            f"{f['over_bare']:.2f}",
            f"{f['wait']:.1%}",
            f"{f['samples_per_second']:.1f}",
            amount(f["tokens_per_second"]),
            f"{f['mfu']:.0%}" if "mfu" in f else "",
            f"{f['memory_gb']:.2f}",
        ]
        for name, f in found.items()
    ]
    checks = [
        [what, f"{value:.3f}", f"{most:g}", "pass" if met else "FAIL"] for what, value, most, met in bars(model, found)
    ]
    return [*table(head, rows), "", *table(["what", "found", "at most", ""], checks)]


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every stage of the recipe that was asked for, one after the other."""
    recipe = measured(RECIPES[args.recipe])
    data = args.data
    if data is None:
        from training.data.synthetic import make_pack

        data = make_pack(folder / "pack")
    clips = PackedClips(data, "train")
    found = {}
    for name in args.stage or recipe.stages:
        print(f"{name} …", file=sys.stderr)
        found[name] = Bench(name, recipe, clips, folder).run(args.blocks, args.updates)
    return {"recipe": recipe.name, "model": recipe.model, "clips": len(clips), "blocks": found}


def main(given: Sequence[str] | None = None) -> int:
    args = parse(given)
    load = os.getloadavg()[0]
    machine = environment.describe()
    try:
        with tempfile.TemporaryDirectory(prefix="duovsr-training-") as folder:
            record = measure(args, Path(folder))
    except (DuoVsrError, OSError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 1
    found = {name: summary(blocks) for name, blocks in record["blocks"].items()}
    threads = torch.get_num_threads()
    print(f"{machine['processor']}, {machine['cores']} cores, {threads} threads; load average before {load:.2f}")
    if load > BUSY:
        print("the machine was busy with other work: the figures mean little")
    print("\n".join(tables_of(record["model"], found)))
    whole = {"machine": machine, "threads": threads, "load": load, "updates": args.updates, **record, "summary": found}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(whole, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
