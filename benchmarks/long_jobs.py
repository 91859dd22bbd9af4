"""Long jobs: memory over length, the cost of segments and of the check, and what splitting over workers loses.

    python benchmarks/long_jobs.py [--only memory cost workers] [--full] [--model NAME_OR_FILE] [--json FILE]

memory: peak of a 10-minute clip through `duovsr upscale` in segments over that of a 1-minute clip.
cost: core time per frame of the whole command, with segments and check, over that of engine, decoding, conversion and
encoding alone.
workers: wall time per frame of two workers with a thread each over that of one process with two threads.

At 640x360 and 25 fps ten minutes are 15000 frames, which take an hour on two cores: that is --full. Without it the
clips for the memory have as many minutes and segments of whole frames, but only three frames in two seconds; the output
says so. Each of the three takes about five minutes on two cores. The frames are those of examples/dog.mp4, forward and
backward. Leave the machine alone meanwhile.
"""

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import arguments
import av
import child
import environment
import speed_figures as figures
from speed_figures import Cost, Figure, Sample
from speed_parts import CODEC, EXAMPLE, PRESET, Spec, there_and_back
from tables import table

from duovsr_vs.errors import DuoVsrError, OptionError
from duovsr_vs.video.scheduling import usual_scheduling

HERE = Path(__file__).resolve().parent
CHOICES = ("memory", "cost", "workers")
MINUTES = (1, 10)
SPLITTING = 1.05
"""Wall time per frame of two workers over that of one process with as many threads."""
PARTS = ("engine", "decode", "to RGB", "from RGB", "encode")
FULL_SIZE = "640x360"
FULL_RATE, LOW_RATE = Fraction(25), Fraction(3, 2)
"""Frames per second of the clips for the memory."""
SEGMENTS = 2, 6
"""Segments of the short and of the long run for cost and workers."""


@dataclass(frozen=True)
class Setting:
    """What is measured.

    size: of the input.  options: of the engine.  rate, minutes: of the two clips for the memory.  long_segment: frames
    of their segments, ten seconds.  segment: frames of a segment for cost and workers.
    """

    size: str
    options: dict[str, Any]
    rate: Fraction
    minutes: tuple[int, int]
    long_segment: int
    segment: int

    @property
    def shape(self) -> tuple[int, int]:
        """Width and height of the input."""
        return arguments.input_size(self.size)

    @property
    def frames(self) -> tuple[int, int]:
        """Frames of the short and of the long clip for the memory."""
        short, long = (int(60 * minutes * self.rate) for minutes in self.minutes)
        return short, long

    @property
    def lengths(self) -> tuple[int, int]:
        """Frames of the two runs for cost and workers: whole segments, as many for each of two workers."""
        return SEGMENTS[0] * self.segment, SEGMENTS[1] * self.segment

    @property
    def is_full(self) -> bool:
        """Whether the clips for the memory are what is promised: 360p at a usual rate, with the usual output."""
        shape = (self.size, self.rate, self.minutes, self.options.get("scale", 4))
        return shape == (FULL_SIZE, FULL_RATE, MINUTES, 4)


def parse(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", nargs="+", choices=CHOICES, default=list(CHOICES), help="which measurements (all)")
    add("--full", action="store_true", help=f"memory: at {FULL_RATE} fps, an hour on two cores")
    add("--rate", type=Fraction, help=f"memory: frames per second of the clips ({LOW_RATE})")
    add("--segment", type=int, default=48, help="cost, workers: frames of a segment, a multiple of 24 (48)")
    add("--repeats", type=int, default=2, help="cost, workers: repetitions (2)")
    add("--scale", type=int, help="output size over input size (4)")
    arguments.add_engine(parser)
    arguments.add_output(parser, "long_jobs.json")
    parser.set_defaults(size=None)
    return parser.parse_args(given)


def settings(args: argparse.Namespace) -> tuple[Setting, Setting]:
    """For the memory, and for cost and workers. OptionError where an argument is out of range."""
    arguments.positive(segment=args.segment, repeats=args.repeats)
    if args.segment % figures.STEP:
        raise OptionError(f"--segment {args.segment}: a multiple of {figures.STEP} is needed, of whole chunks")
    options, scale = arguments.engine_options(args), {"scale": args.scale} if args.scale else {}
    rate = args.rate or (FULL_RATE if args.full else LOW_RATE)
    size, minutes, segment = FULL_SIZE, MINUTES, args.segment
    if args.quick:
        rate, size, minutes, segment, args.size = Fraction(2, 5), "32x32", (1, 2), figures.STEP, args.size or "48x32"
    if rate * min(minutes) * 60 < 16:
        raise OptionError(f"--rate {rate}: a minute must have 16 frames, which are two segments")
    long_segment = max(round(10 * rate / 8), 1) * 8
    memory = Setting(args.size or size, options | scale, rate, minutes, long_segment, segment)
    timed = replace(memory, size=args.size or "480x270", options=options | scale)
    assert memory.shape and timed.shape
    return memory, timed


def say(text: str) -> None:
    """Progress and errors, apart from the tables."""
    print(text, file=sys.stderr, flush=True)


def make_clip(path: Path, what: Setting, frames: int) -> Path:
    """The example, forward and backward, at the size and rate of a setting."""
    with av.open(str(EXAMPLE)) as container:
        source = [frame.reformat(*what.shape, "yuv420p") for frame in container.decode(video=0)]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=what.rate, options={"crf": "12", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *what.shape, "yuv420p"
        with usual_scheduling():
            container.start_encoding()
        for n, number in enumerate(there_and_back(len(source), frames)):
            source[number].pts, source[number].time_base = n, 1 / what.rate
            container.mux(stream.encode(source[number]))
        container.mux(stream.encode())
    return path


class Bench:
    """One run: what was measured."""

    def __init__(self, memory: Setting, timed: Setting, folder: str, only: list[str]):
        self.long, self.timed, self.only = memory, timed, only
        self.folder = Path(folder)
        width, height = timed.shape
        self.spec = Spec(
            part="", folder=folder, lengths=list(timed.lengths), width=width, height=height, options=timed.options
        )
        self.peaks: dict[int, int] = {}
        self.samples: dict[str, list[Sample]] = {}

    def memory(self) -> None:
        """The peak of both clips, whatever the machine does meanwhile."""
        for frames in self.long.frames:
            clip = make_clip(self.folder / f"long_{frames}.mp4", self.long, frames)
            used = self.upscaled(clip, self.long.options, self.long.long_segment)
            self.peaks[frames] = used.peak
            say(f"{frames} frames: {used.peak / 1e6:.0f} MB ({used.wall:.0f} s)")
            clip.unlink()

    def prepare(self) -> None:
        """The clips and frames that the parts need."""
        self.part("clips")
        if "cost" in self.only:
            self.part("frames")
            self.part("outputs")

    def repeat(self) -> None:
        """Cost and workers once."""
        if "cost" in self.only:
            self.add("command in segments", self.command)
            for name in PARTS:
                self.add(name, partial(self.alone, name))
        if "workers" in self.only:
            self.add("one process, two threads", partial(self.command, threads=2))
            self.add("two workers, a thread each", partial(self.command, threads=1, workers=2))

    def add(self, name: str, measure: Callable[[], Sample]) -> None:
        """One measurement, remembered and told."""
        found = measure()
        self.samples.setdefault(name, []).append(found)
        say(f"{name}: {1000 * found.core:.2f} core-ms, {1000 * found.wall:.2f} ms a frame")

    def command(self, **more: int) -> Sample:
        """`duovsr upscale` in segments, from file to checked file. more: threads and workers."""
        workers = more.pop("workers", 1)
        costs = []
        for length in self.timed.lengths:
            options = self.timed.options | more
            used = self.upscaled(self.spec.clip(length), options, self.timed.segment, "--workers", str(workers))
            costs.append(Cost(used.wall, used.core))
        return figures.sample(costs[0], costs[1], self.timed.lengths)

    def alone(self, name: str) -> Sample:
        """One part by itself, in a process of its own."""
        answer = self.part(name.replace(" ", "_").lower())
        costs = [Cost(*cost) for cost in answer["costs"]]
        return figures.sample(costs[0], costs[1], self.timed.lengths)

    def upscaled(self, clip: Path, options: dict[str, Any], segment: int, *more: str) -> child.Used:
        """One run of the command line; core time is that of it and of the workers that it waits for."""
        words = ["--codec", CODEC, "--encoder-options", f"preset={PRESET}", "--overwrite", "--segment", str(segment)]
        words += arguments.as_words(options)
        output = str(self.folder / "upscaled.mkv")
        used = child.run([child.program("duovsr"), "upscale", str(clip), "-o", output, *words, *more])
        if not re.search(r"^segments \d+ of up to", used.err, re.MULTILINE):
            raise DuoVsrError(f"{clip.name} was not written in segments of {segment} frames")
        return used

    def part(self, name: str, spec: Spec | None = None) -> dict[str, Any]:
        given = json.dumps(asdict(replace(spec or self.spec, part=name)))
        answer: dict[str, Any] = json.loads(child.run([sys.executable, str(HERE / "speed_parts.py"), given]).out)
        return answer


def results(bench: Bench, judged: bool = True) -> list[Figure]:
    """All figures with their bars."""
    found: list[Figure] = []
    if bench.peaks:
        few, many = sorted(bench.peaks)
        ratio = bench.peaks[many] / bench.peaks[few]
        name = f"peak memory of {many} frames over that of {few}"
        found.append(Figure(name, "", (ratio,), figures.GROWTH, note=f"{bench.peaks[many] / 1e9:.2f} GB"))
    cores = {name: [one.core for one in samples] for name, samples in bench.samples.items()}
    walls = {name: [one.wall for one in samples] for name, samples in bench.samples.items()}
    if "command in segments" in cores:
        sums = [sum(values) for values in zip(*(cores[part] for part in PARTS), strict=True)]
        name, bar = "command in segments with check, core time over its parts'", figures.WHOLE_OVER_PARTS
        found.append(figures.paired(name, "", cores["command in segments"], sums, bar))
    if "two workers, a thread each" in walls:
        one, two = walls["one process, two threads"], walls["two workers, a thread each"]
        found.append(figures.paired("two workers over one process, wall time a frame", "", two, one, SPLITTING))
    return found if judged else [replace(figure, bar=None) for figure in found]


def report(bench: Bench, found: list[Figure], machine: dict[str, Any], load: float, quick: bool) -> str:
    """All that is printed."""
    lines = [f"{machine['processor']}, {machine['cores']} cores; load average before the run {load:.2f}"]
    if quick:
        lines.append("a quick run: that it ends is all it says, the figures mean nothing")
    if bench.peaks:
        what, (few, many) = bench.long, bench.long.frames
        word = "" if what.is_full else f"; less than {FULL_SIZE} at {FULL_RATE} fps, with as many segments"
        lines.append(
            f"memory: {what.minutes[0]} and {what.minutes[1]} minutes of {what.size} at {what.rate} fps, {few} and "
            f"{many} frames in segments of {what.long_segment}, scale {what.options.get('scale', 4)}{word}"
        )
    if bench.samples:
        what, (few, many) = bench.timed, bench.timed.lengths
        lines.append(f"time: {what.size}, {few} and {many} frames in segments of {what.segment}, {CODEC} {PRESET}")
    lines += ["", *figures.figures_table(found)]
    if bench.peaks:
        rows = [[str(frames), f"{peak / 1e6:.0f}"] for frames, peak in sorted(bench.peaks.items())]
        lines += ["", *table(["frames", "peak MB"], rows)]
    if bench.samples:
        lines += ["", *figures.parts_table(bench.samples)]
    return "\n".join(lines)


def main(given: list[str] | None = None) -> int:
    args = parse(given)
    load = os.getloadavg()[0]
    try:
        with tempfile.TemporaryDirectory(prefix="duovsr-long-") as folder:
            bench = Bench(*settings(args), folder, args.only)
            if "memory" in args.only:
                bench.memory()
            if {"cost", "workers"} & set(args.only):
                bench.prepare()
                for number in range(1 if args.quick else args.repeats):
                    say(f"repetition {number + 1}")
                    bench.repeat()
        found, machine = results(bench, judged=not args.quick), environment.describe()
        print(report(bench, found, machine, load, args.quick))
        record = {
            "machine": machine,
            "arguments": arguments.recorded(args) | {"rate": str(bench.long.rate)},
            "load": load,
            "settings": [asdict(one) | {"rate": str(one.rate)} for one in (bench.long, bench.timed)],
            "peaks": bench.peaks,
            "samples": {name: [asdict(s) for s in samples] for name, samples in bench.samples.items()},
            "figures": [figure.record() for figure in found],
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(record, indent=1) + "\n")
    except (DuoVsrError, OSError, ValueError) as error:
        say(f"long_jobs: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    say(f"written to {args.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
