"""Speed: the engine alone, the VapourSynth filter against it, the command line against the sum of its parts, --help.

    python benchmarks/speed.py [--only engine filter cli help] [--model NAME_OR_FILE] [--device cpu] [--json FILE]

Everything runs in fresh processes with the command line's environment, part after part, again and again, so that all
parts meet the same machine. Times per frame are difference quotients of two lengths: what happens once, such as loading
torch or filling the encoder, falls out and stands beside. The frames are those of examples/dog.mp4, forward and
backward. Leave the machine alone meanwhile: the bars are for two cores that do nothing else.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import arguments
import av
import child
import environment
import speed_figures as figures
from speed_figures import Cost, Figure, Sample
from speed_parts import CODEC, PARTS, PRESET, Spec

from duovsr_vs.errors import DuoVsrError

HERE = Path(__file__).resolve().parent
CHOICES = ("engine", "filter", "cli", "help")
STAGES = {"decoding": ("decode", "to RGB"), "engine": ("engine",), "encoding": ("from RGB", "encode")}
"""The threads of the command line, and the parts that each of them does."""
HELP_RUNS = 5
BUSY = 0.5
"""Load average of the last minute above which somebody else is at work."""


def parse(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", nargs="+", choices=CHOICES, default=list(CHOICES), help="which measurements (all)")
    add("--frames", type=int, default=144, help="of the longer of the two runs (144), a multiple of 24")
    add("--repeats", type=int, default=3, help="repetitions of everything (3)")
    add("--random", choices=("nano", "small"), help="instead of --model: random weights of this preset")
    arguments.add_engine(parser)
    arguments.add_output(parser, "speed.json")
    args = parser.parse_args(given)
    if args.quick:
        args.size, args.frames, args.repeats = "64x48", 48, 1
    return args


def spec_of(args: argparse.Namespace, folder: str) -> Spec:
    """The arguments, checked."""
    arguments.positive(frames=args.frames, repeats=args.repeats)
    width, height = arguments.input_size(args.size)
    lengths, options = list(figures.two_lengths(args.frames)), arguments.engine_options(args)
    return Spec(part="", folder=folder, lengths=lengths, width=width, height=height, options=options)


def say(text: str) -> None:
    """Progress and errors, apart from the tables."""
    print(text, file=sys.stderr, flush=True)


def stream_hash(path: Path) -> str:
    """Of the packets of a file's video stream: equal where engine, conversion and encoder did the same work."""
    digest = hashlib.sha256()
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            digest.update(bytes(packet))
    return digest.hexdigest()[:16]


class Bench:
    """One run: its samples, part by part, and what the parts said of themselves."""

    def __init__(self, spec: Spec, only: list[str]):
        self.spec, self.only = spec, only
        self.lengths = spec.lengths[0], spec.lengths[1]
        self.samples: dict[str, list[Sample]] = {}
        self.help: list[float] = []
        self.plans: dict[str, dict[str, Any]] = {}
        self.streams: dict[str, str] = {}

    def prepare(self) -> None:
        """Make the clips and frames that all measurements share."""
        if {"engine", "filter", "cli"} & set(self.only):
            self.part("clips")
            self.part("frames")
        if "cli" in self.only:
            self.part("outputs")

    def repeat(self) -> None:
        """Every measurement once."""
        for name, measure in self._measurements():
            began = time.perf_counter()
            found = measure()
            self.samples.setdefault(name, []).append(found)
            say(f"{name}: {1000 * found.wall:.2f} ms a frame ({time.perf_counter() - began:.0f} s)")

    def time_help(self) -> None:
        """The command line's help, several times."""
        command = [child.program("duovsr"), "--help"]
        self.help = [child.run(command).wall for _ in range(HELP_RUNS)]

    def _measurements(self) -> Iterator[tuple[str, Callable[[], Sample]]]:
        """Name and measurement; the engine comes first, and next to it what is compared with it."""
        if {"engine", "filter", "cli"} & set(self.only):
            yield "engine", partial(self._alone, "engine")
        if "filter" in self.only:
            yield "filter, RGBS", partial(self._filter, "RGBS")
            yield "filter, YUV420P8", partial(self._filter, "YUV420P8")
        if "cli" in self.only:
            yield "command line", self._command_line
            for name in ("decode", "to RGB", "from RGB", "encode"):
                yield name, partial(self._alone, name)
        if "engine" in self.only and self.plans["auto"]["precision"] != "float32":
            yield "engine, float32", partial(self._alone, "engine", precision="float32")

    def _alone(self, name: str, **options: Any) -> Sample:
        """A part by itself, timed within its process."""
        spec = replace(self.spec, options=self.spec.options | options)
        answer = self.part(name.replace(" ", "_").lower(), spec)
        if name == "encode":
            self.streams[name] = stream_hash(self.spec.path("encoded.mkv"))
        if "plan" in answer:
            self.plans[options.get("precision", "auto")] = answer["plan"]
        found = figures.sample(*(Cost(*cost) for cost in answer["costs"]), self.lengths)
        return replace(found, start=answer.get("ready", 0.0))

    def _filter(self, kind: str) -> Sample:
        """vspipe to nothing, the source in memory; by its own clock, which does not see torch being loaded."""
        given = self.spec.options | {"frames": self.spec.path("lr.npy"), "format": kind}
        pairs = [word for name, value in given.items() for word in ("-a", f"{name}={value}")]
        script = str(HERE / "speed_source.vpy")
        costs, before = [], []
        for length in self.lengths:
            used = child.run([child.program("vspipe"), "-e", str(length - 1), *pairs, script, "--"])
            costs.append(Cost(figures.vspipe_seconds(used.err, length), used.core))
            before.append(used.wall - costs[-1].wall)
        return replace(figures.sample(*costs, self.lengths), start=min(before))

    def _command_line(self) -> Sample:
        """`duovsr upscale`, from file to file."""
        output = self.spec.path("upscaled.mkv")
        more = [
            *arguments.as_words(self.spec.options),
            "--codec",
            CODEC,
            "--encoder-options",
            f"preset={PRESET}",
            "--overwrite",
        ]
        costs = []
        for length in self.lengths:
            used = child.run(
                [child.program("duovsr"), "upscale", str(self.spec.clip(length)), "-o", str(output), *more]
            )
            costs.append(Cost(used.wall, used.core))
        self.streams["command line"] = stream_hash(output)
        return figures.sample(*costs, self.lengths)

    def part(self, name: str, spec: Spec | None = None) -> dict[str, Any]:
        assert name in PARTS
        given = asdict(replace(spec or self.spec, part=name, began=time.time()))
        answer: dict[str, Any] = json.loads(
            child.run([sys.executable, str(HERE / "speed_parts.py"), json.dumps(given)]).out
        )
        return answer


# -- results -----------------------------------------------------------------------------------------------------------


def results(bench: Bench, quick: bool) -> list[Figure]:
    """All figures with their bars; a quick run has no bars."""
    found: list[Figure] = []
    walls = {name: [s.wall for s in samples] for name, samples in bench.samples.items()}
    cores = {name: [s.core for s in samples] for name, samples in bench.samples.items()}
    for plan, name in (("auto", "engine"), ("float32", "engine, float32")):
        if "engine" in bench.only and name in walls:
            found.append(_speed(bench, bench.plans[plan], walls[name]))
    for kind, bar in (("RGBS", figures.FILTER_SLOWER), ("YUV420P8", None)):
        name = f"filter, {kind}"
        if name in walls:
            found.append(figures.percent_slower(f"{name}, over engine alone", walls[name], walls["engine"], bar))
    if "command line" in cores:
        parts = [part for stage in STAGES.values() for part in stage]
        sums = [sum(values) for values in zip(*(cores[part] for part in parts), strict=True)]
        bar = figures.WHOLE_OVER_PARTS
        found.append(figures.paired("command line, core time over its parts'", "", cores["command line"], sums, bar))
    if bench.help:
        best = f"best {min(bench.help):.2f}"
        found.append(Figure("duovsr --help", "s", tuple(bench.help), figures.HELP_SECONDS, note=best))
    return [replace(figure, bar=None) for figure in found] if quick else found


def _speed(bench: Bench, plan: dict[str, Any], walls: list[float]) -> Figure:
    """Frames per second of the engine; there is a bar for one model, size and kind of device only."""
    slow = plan["precision"] == "float32"
    known = plan["model_name"] == "nano" and (bench.spec.width, bench.spec.height) == (480, 270)
    bar = figures.FAST_FLOAT32 if slow else figures.FAST_BF16
    goal = "" if slow else f"goal {figures.GOAL_BF16:g}"
    name = f"engine alone, {plan['precision']}"
    fps = tuple(1 / wall for wall in walls)
    known = known and plan["device"] == "cpu"
    return Figure(name, "fps", fps, bar if known else None, at_least=True, note=goal if known else "")


def report(bench: Bench, found: list[Figure], machine: dict[str, Any], load: tuple[float, float], quick: bool) -> str:
    """All that is printed."""
    lines = [f"{machine['processor']}, {machine['cores']} cores; load average before the run {load[0]:.2f}"]
    if quick:
        lines.append("a quick run: that it ends is all it says, the figures mean nothing")
    elif load[0] > BUSY:
        lines.append("the machine was busy with other work: the figures mean little")
    if machine["cores"] != 2:
        lines.append("the bars are for two cores")
    if bench.plans:
        plan = bench.plans["auto"]
        lines += [
            f"model {plan['model_name']} ({plan['model_hash']}), {plan['machine']}, {plan['precision']}, "
            f"{plan['threads']} threads, {plan['width']}x{plan['height']} to {plan['out_width']}x{plan['out_height']}, "
            f"{bench.lengths[0]} and {bench.lengths[1]} frames"
        ]
    lines += ["", *figures.figures_table(found), ""]
    if bench.samples:
        lines += [*figures.parts_table(bench.samples), ""]
    if "command line" in bench.samples:
        stage, seconds = figures.slowest_stage(bench.samples, STAGES)
        lines.append(f"the limit of the command line is {stage}: {1000 * seconds:.1f} ms a frame by itself")
        equal = len(set(bench.streams.values())) == 1
        lines.append(f"its video stream and that of the encoder alone {'are equal' if equal else 'DIFFER'}")
    return "\n".join(lines)


def record(bench: Bench, found: list[Figure]) -> dict[str, Any]:
    """Everything measured, for JSON."""
    return {
        "plans": bench.plans,
        "lengths": bench.lengths,
        "streams": bench.streams,
        "samples": {name: [asdict(s) for s in samples] for name, samples in bench.samples.items()},
        "help_seconds": bench.help,
        "figures": [figure.record() for figure in found],
    }


def measure(args: argparse.Namespace, folder: str) -> Bench:
    """The whole run."""
    spec = spec_of(args, folder)
    bench = Bench(spec, args.only)
    if args.random is not None:
        bench.part("model", replace(spec, options={"model": args.random}))
        bench.spec = replace(spec, options=spec.options | {"model": str(spec.path("model.safetensors"))})
    bench.prepare()
    for number in range(args.repeats):
        say(f"repetition {number + 1} of {args.repeats}")
        bench.repeat()
    if "help" in args.only:
        bench.time_help()
    return bench


def main(given: list[str] | None = None) -> int:
    args = parse(given)
    before = os.getloadavg()[0]
    try:
        with tempfile.TemporaryDirectory(prefix="duovsr-speed-") as folder:
            bench = measure(args, folder)
        found, machine, load = results(bench, args.quick), environment.describe(), (before, os.getloadavg()[0])
        print(report(bench, found, machine, load, args.quick))
        whole = {"machine": machine, "arguments": arguments.recorded(args), "load": load} | record(bench, found)
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(whole, indent=1) + "\n")
    except (DuoVsrError, OSError, ValueError) as error:
        say(f"speed: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    say(f"written to {args.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
