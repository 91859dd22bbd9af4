"""One loop for all stages: batches ahead of time, checkpoints, a log, evaluation, and a stop that loses nothing.

Which batch, noise and time an update uses depends on (seed, stage, step, slot) alone, so a resumed run continues bit
for bit, and ranks together compute what one process would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from signal import SIGTERM

from training.batch import Batch, prepare
from training.checkpoints import Checkpoints, write_tensors
from training.data.dataset import PackedClips
from training.data.prefetch import Prefetch
from training.distributed import World
from training.guard import Guard
from training.plan import stage_plan
from training.recipes import STAGES
from training.stages.base import Figures, Stage
from training.stopping import StoppedError, at_once, later, stop_signals
from training.throughput import Throughput
from training.watch import Silent

DEPTH = 3
"""Batches that are held ready."""


def _nothing(_: int) -> Batch:
    raise AssertionError("a stage that makes its own batches asked for one")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stage's things are."""

    folder: Path
    """RUN/<stage>."""
    clips: PackedClips
    """The split to train on."""
    mark: dict[str, str]
    """What a checkpoint must agree with."""


class Loop:
    """Updates of one stage from where it stands to its end."""

    def __init__(self, stage: Stage, place: Place, world: World, watcher: Silent, first: int, peak: float | None):
        self.stage, self.place, self.world, self.watcher, self.first = stage, place, world, watcher, first
        self.recipe = stage.recipe
        self.checkpoints = Checkpoints(place.folder / "checkpoints", world)
        self.guard = Guard(stage.name, rates_of(stage), stage.common.clip)
        cost = stage_plan(self.recipe, stage.name, world.size, peak)
        self.throughput = Throughput(cost.flops, cost.samples, cost.tokens, peak)
        self.names: list[str] = []
        """Samples of the update's batches so far."""
        self._sums: dict[str, list[float]] = {}

    def batches(self) -> Prefetch[Batch]:
        """The batches of this rank from the first update on, made in a thread."""
        stage, settings, seed = self.stage, self.stage.common, self.recipe.seed

        def make(number: int) -> Batch:
            index, part = divmod(number, stage.parts)
            slots = self.world.slots(settings.batch, stage.parts, part)
            salt = STAGES.index(stage.name) * 1_000_000_000 + index
            arrays = self.place.clips.batch(
                seed,
                salt,
                len(slots),
                settings.patch,
                kinds=self.recipe.lr_kinds,
                video_share=self.recipe.video_share,
                first_slot=slots.start,
                frames=settings.frames,
            )
            rows = self.place.clips.rows
            names = tuple(
                f"{rows[i].source} frame {rows[i].first_frame + t}"
                for i, t in zip(arrays["clip"], arrays["t"], strict=True)
            )
            return prepare(
                stage.encoder, arrays, seed, salt, stage.soft, stage.drop, slots.start, names, stage.pictures
            )

        if not stage.batches_per_step:
            return Prefetch(_nothing)
        return Prefetch(make, first=self.first * stage.batches_per_step * stage.parts, depth=DEPTH)

    def _named(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; remembers what they hold."""
        for batch in batches:
            self.names += batch.names
            yield batch

    def run(self, evaluate: Callable[[int], None]) -> None:
        """All updates that are left. evaluate(step): called on all ranks between updates."""
        with stop_signals(), later() as stops, self.batches() as source:
            batches = self.throughput.batches(self._named(source))
            for step in range(self.first, self.stage.steps):
                done, self.names = step + 1, []
                with self.throughput.update(), self._saved_if_stopped(step):
                    figures = self.stage.update(step, batches)
                self._note(done, figures)
                if self.stage.keeps(done):
                    self._keep(done)
                if self.world.any(bool(stops.asked)):
                    self._stop(done, stops.asked)
                if self.stage.finished:
                    break
                if done % self.recipe.save_every == 0 or done == self.stage.steps:
                    self.save(done)
                if done % self.recipe.evaluate_every == 0 and done < self.stage.steps:
                    with self._saved_if_stopped(done), at_once(f"{self.stage.name} was evaluated"):
                        evaluate(done)

    @contextmanager
    def _saved_if_stopped(self, done: int) -> Iterator[None]:
        """What takes minutes is not waited for: it changes no weights, so those after `done` updates are saved.

        Several ranks save together or not at all; the last checkpoint then holds.
        """
        try:
            yield
        except StoppedError:
            if self.world.size == 1:
                self.save(done)
            raise

    def _note(self, done: int, figures: Figures) -> None:
        """Log means over the updates since the last line, over all ranks; stop what has gone wrong."""
        figures = self.world.mean(figures)
        self.guard.watch(done, figures, [*self.stage.names, *self.names])
        for name, value in figures.items():
            self._sums.setdefault(name, []).append(value)
        self.watcher.advance(done)
        if done % self.recipe.log_every == 0 or done == self.stage.steps or self.stage.finished:
            means = {name: sum(values) / len(values) for name, values in self._sums.items()}
            rate = self.stage.learners["student"].optimizer.param_groups[0]["lr"]
            self.watcher.figures(done, {**means, "rate": rate, **self.throughput.figures()})
            self._sums = {}

    def save(self, done: int) -> None:
        """A checkpoint, unless the last update was a bad one."""
        if not self.guard.trusts:
            return
        self.checkpoints.save(done, self.stage.state(), self.place.mark)

    def _keep(self, done: int) -> None:
        """Weights of the student so far, for a later stage."""
        weights = self.stage.result()
        if self.world.is_first:
            write_tensors(self.place.folder / f"late-{done}.safetensors", weights, self.place.mark)

    def _stop(self, done: int, asked: list[int]) -> None:
        self.save(done)
        raise StoppedError(
            f"stopped at update {done} of {self.stage.name} and saved; the same command goes on from there",
            asked[0] if asked else SIGTERM,
        )


def rates_of(stage: Stage) -> list[str]:
    """Options of the stage's learning rates."""
    names = [field.name for field in fields(stage.common) if field.name.endswith("learning_rate")]
    return [f"--{stage.name}.{name}".replace("_", "-") for name in names]
