"""A run: goes through the stages of a recipe, each from where it stands to the weights that it hands on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from duovsr_vs.engine.machine import machine_class
from duovsr_vs.errors import OptionError
from training.checkpoints import Checkpoints, TrainingError, read_facts, write_tensors
from training.data.dataset import PackedClips
from training.distributed import ALONE, World
from training.families import config_of, has_learned_codec
from training.loop import Loop, Place
from training.machine import measured_peak
from training.recipes import Recipe
from training.results import Results, data_mark, differing, digest, fingerprint
from training.samples import guidance_strip, strips
from training.stages import CLASSES, build_stage
from training.stages.base import START, Stage, Weights
from training.stages.guided import Guided
from training.start import smaller_start
from training.stopping import at_once, later, stop_signals
from training.validate import Validation
from training.watch import Silent, Watcher


class Run:
    """A run folder, on each process of it.

    data: folder that `pack` wrote.  start: weights that the first stage begins with.  earlier: folder with results of
    stages that this run has not made; a file is a start.  say: where lines for people go.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Path,
        out: Path,
        say: Callable[[str], None] = print,
        start: Path | None = None,
        earlier: Path | None = None,
        world: World = ALONE,
    ):
        if earlier is not None and earlier.is_file():
            start, earlier = start or earlier, None
        self.recipe, self.data, self.out, self.world, self.start = recipe, data, out, world, start
        self.say: Callable[[str], None] = say if world.is_first else _silence
        self.results = Results(out, recipe, earlier)
        for name in recipe.stages:
            parts_of(recipe, name, world)
        if recipe.adapters and start is None:
            raise TrainingError(
                f"adapters of rank {recipe.adapters} stand on weights that all networks share; name them by --from FILE"
            )
        is_new = "autoencoder" not in recipe.stages and start is earlier is None
        if is_new and has_learned_codec(config_of(recipe.model)):
            raise TrainingError(
                f"{recipe.model} has a learned codec, which nothing has trained: begin the recipe's --stages with "
                "autoencoder, or give --start with weights whose codec is trained"
            )
        self.train = PackedClips(data, "train")
        self._validation: Validation | None = None
        self._peak: float | None = None

    @property
    def validation(self) -> Validation:
        """Held-out clips, measured once for the base resampler."""
        if self._validation is None:
            projections, count = config_of(self.recipe.model).back_projections, self.recipe.evaluate_clips
            self._validation = Validation(PackedClips(self.data, "val"), projections, count)
        return self._validation

    @property
    def peak(self) -> float | None:
        """FLOP/s that all devices together can do, measured once."""
        if self._peak is None:
            alone = measured_peak(str(self.world.device), self.recipe.bf16)
            self._peak = None if alone is None else alone * self.world.size
        return self._peak

    def all_stages(self) -> None:
        """Every stage in order; finished ones are left alone. DataError: no clip is large and long enough for one."""
        for name in self.recipe.stages:
            self.train.require(self.recipe.stage(name).frames, self.recipe.stage(name).patch)
        for name in self.recipe.stages:
            if self.results.is_earlier(name):
                self.say(f"{name}: taken from {self.results.path(name)}")
            else:
                self.stage(name)

    def stage(self, name: str) -> None:
        """One stage from where it stands to its end. TrainingError: what it needs is missing or does not fit.

        StoppedError: a signal asked for a stop.
        """
        with stop_signals(), at_once(f"{name} was prepared"):
            self._stage(name)

    def _stage(self, name: str) -> None:
        handed = self._handed(name)
        mark = fingerprint(self.recipe, name)
        if self.results.own(name).exists():
            self.results.check(name, mark, handed)
            Checkpoints(self.results.own(name).parent / "checkpoints", self.world).clear()  # a kill may have left them
            self.say(f"{name}: finished before")
            return
        folder = self.results.own(name).parent
        folder.mkdir(parents=True, exist_ok=True)
        stage = build_stage(name, self.recipe, handed, self.world)
        inputs = _digests(handed, with_start=self.recipe.adapters > 0)
        facts = {"recipe": mark, "data": data_mark(self.train), "inputs": inputs, "model": self.recipe.model}
        checkpoints = Checkpoints(folder / "checkpoints", self.world)
        first = self._resume(stage, checkpoints, facts)
        facts |= self._origin(name, checkpoints.facts() or {})
        if self.world.is_first:
            (self.out / "recipe.json").write_text(self.recipe.to_json() + "\n")
            _ = self.validation  # clips that cannot be measured are found before the training, not after it
        self._work(stage, Place(folder, self.train, facts), first)
        self._hand_on(stage, facts)

    def _handed(self, name: str) -> dict[str, Weights]:
        """What a stage starts from, by stage."""
        needs = CLASSES[name].needs_of(self.recipe)
        handed = {needed: self.results.weights(needed) for needed in needs}
        is_first = name == self.recipe.stages[0]
        if self.start is not None and needs and is_first and not self.recipe.adapters:
            raise TrainingError(
                f"--start: {name} begins with the results of {' and '.join(needs)}; give those by --from"
            )
        if self.start is not None and (is_first or self.recipe.adapters):
            handed[START] = CLASSES[name].read_start(self.start, self.recipe)
        return handed

    def _origin(self, name: str, known: Mapping[str, str]) -> dict[str, str]:
        """Updates that a stage's start has had, and what it was grown from; of a stage that goes on, as it began."""
        if "before" in known:
            return {fact: known[fact] for fact in ("before", "grown_from") if fact in known}
        if self.start is None or name != self.recipe.stages[0]:
            return {"before": "0"}
        if smaller := smaller_start(self.start, self.recipe.model):
            self.say(f"{name}: begins with {smaller}, grown to {self.recipe.model}")
            return {"before": "0", "grown_from": smaller}
        facts = read_facts(self.start)
        grown = {"grown_from": facts["grown_from"]} if "grown_from" in facts else {}
        return {"before": facts.get("steps", "0"), **grown}

    def _resume(self, stage: Stage, checkpoints: Checkpoints, facts: Mapping[str, str]) -> int:
        """Updates that are done already; the stage is as it was after them."""
        known = checkpoints.facts()
        if known is None:
            return 0
        says = {"recipe": "another recipe", "data": "other training data", "inputs": "other results of earlier stages"}
        for key, what in says.items():
            if known.get(key) != facts[key]:
                where = differing(known.get(key), facts[key]) if key == "recipe" else ""
                raise TrainingError(
                    f"{checkpoints.all()[-1]} comes from {what}{where}; give another --out, or delete the folder of "
                    "that stage"
                )
        checkpoints.load(stage.state())
        return int(known["step"])

    def _work(self, stage: Stage, place: Place, first: int) -> None:
        watcher = Watcher(place.folder, stage.name, first, stage.steps, self.say) if self.world.is_first else Silent()
        with watcher:
            watcher.machine(machine_class(str(self.world.device)))
            if first:
                watcher.event(first, "resumed")
            if not stage.batches_per_step:
                self.say(f"{stage.name}: making its samples")
            stage.prepare(self.train, place.folder)

            def evaluate(done: int) -> None:
                self._evaluate(stage, watcher, done)

            Loop(stage, place, self.world, watcher, first, self.peak).run(evaluate)
            if isinstance(stage, Guided) and self.world.is_first:
                self._show_guidance(stage, watcher)
            with at_once(f"{stage.name} was evaluated"):
                self._evaluate(stage, watcher, stage.steps)

    def _evaluate(self, stage: Stage, watcher: Silent, done: int) -> None:
        """Measures and pictures of the weights so far, on the first rank; the others wait."""
        averaged = stage.averaged()
        if self.world.is_first:
            watcher.evaluation(done, self.validation.measure(averaged, stage.render))
            many = stage.shown_steps > 1
            pictures = strips(averaged, self.validation, steps=stage.shown_steps, render=None if many else stage.render)
            watcher.samples(done, pictures)
            if done == stage.steps and (text := stage.verdict(averaged, PackedClips(self.data, "val"))):
                watcher.verdict(done, text)
        self.world.barrier()

    def _show_guidance(self, stage: Guided, watcher: Silent) -> None:
        """What w changes in the picture, by the teacher that is distilled."""
        teacher = stage.networks.alone(self.results.weights("teacher"))
        watcher.samples(stage.steps, {"guidance": guidance_strip(teacher, self.validation, stage.negative)})

    def _hand_on(self, stage: Stage, facts: Mapping[str, str]) -> None:
        with later():
            self._write(stage, facts)

    def _write(self, stage: Stage, facts: Mapping[str, str]) -> None:
        result, extras = stage.result(), stage.extras()
        if self.world.is_first:
            path = self.results.own(stage.name)
            steps = {"steps": str(int(facts["before"]) + stage.steps), "weights": digest(result)}
            for name, tensors in extras.items():
                write_tensors(path.with_name(f"{name}.safetensors"), tensors, facts)
            write_tensors(path, result, {**facts, **steps})
            Checkpoints(path.parent / "checkpoints", self.world).clear()
        self.world.barrier()


def _digests(handed: Mapping[str, Weights], with_start: bool) -> str:
    """Of what a stage starts from; adapters are nothing without the weights that they stand on."""
    known = {name: digest(weights) for name, weights in handed.items() if with_start or name != START}
    return json.dumps(known, sort_keys=True)


def parts_of(recipe: Recipe, stage: str, world: World) -> int:
    """Parts of this rank's share of a stage's batch. TrainingError names the stage whose batch cannot be divided."""
    settings, option = recipe.stage(stage), stage.replace("_", "-")
    field = "batch"
    try:
        world.share(settings.batch)
        field = "micro-batch"
        return world.parts(settings.batch, settings.micro_batch)
    except OptionError as error:
        raise TrainingError(f"--{option}.{field}: {error}") from error


def _silence(_: str) -> None:
    """What the other ranks say."""
