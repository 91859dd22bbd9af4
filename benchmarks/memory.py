"""Peak memory of the command line: does it stay below its bar, and does it depend on the length of the clip?

    python benchmarks/memory.py [--frames 100 600] [--model NAME_OR_FILE] [--json FILE]

    python benchmarks/memory.py --estimates [--device cuda]

Each clip is made from examples/dog.mp4, played forward and backward, and upscaled by `duovsr upscale` in a process of
its own; the peak is what the kernel has counted for that process. Beside it stands what the plan had announced.
With --estimates, the engine alone runs on many sizes instead: is what its plan expects within 15 % of what it takes?
"""

import argparse
import json
import os
import re
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import arguments
import child
import environment
import memory_estimates
import speed_figures as figures
from speed_figures import Figure
from tables import table

from duovsr_vs.errors import DuoVsrError

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Run:
    """One run: its frames, its peak of resident memory and what the plan announced, in bytes, and its seconds."""

    frames: int
    peak: int
    announced: float | None
    wall: float


def parse(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--frames", type=int, nargs="+", default=[100, 600], help="lengths of the clips (100 600)")
    add("--repeats", type=int, default=1, help="runs of each length; the highest peak counts (1)")
    add("--estimates", action="store_true", help="hold the engine's own estimates against what it takes")
    arguments.add_engine(parser)
    arguments.add_output(parser, "memory.json")
    args = parser.parse_args(given)
    if args.estimates and args.json == arguments.RESULTS / "memory.json":
        args.json = arguments.RESULTS / "memory_estimates.json"
    if args.quick:
        args.frames = [4, 12]
    return args


def announced(text: str) -> float | None:
    """Bytes that the plan announces, of a line such as `memory   about 1.2 GB in all…`; None where it names none."""
    match = re.search(r"^memory +about ([\d.]+) ([GM])B in all", text, re.MULTILINE)
    return None if match is None else float(match[1]) * {"G": 1e9, "M": 1e6}[match[2]]


def results(runs: list[Run], full_size: bool) -> list[Figure]:
    """Figures with their bars; full_size: the output is 1920x1080 on a CPU, which the bar for the peak is for."""
    peaks = {length: max(run.peak for run in runs if run.frames == length) for length in {r.frames for r in runs}}
    few, many = min(peaks), max(peaks)
    bar = figures.PEAK_BYTES / 1e9 if full_size else None
    found = [Figure("peak, the higher of all lengths", "GB", (max(peaks.values()) / 1e9,), bar)]
    if few < many:
        name = f"peak of {many} frames over that of {few}"
        found.append(Figure(name, "", (peaks[many] / peaks[few],), figures.GROWTH))
    return found


def runs_table(runs: list[Run]) -> list[str]:
    """Each run with the plan's own estimate beside it."""
    rows = []
    for run in runs:
        plan = "-" if run.announced is None else f"{run.announced / 1e9:.2f}"
        rows.append([str(run.frames), f"{run.peak / 1e9:.3f}", plan, f"{run.wall:.0f}"])
    return table(["frames", "peak GB", "plan says GB", "seconds"], rows)


def measure(args: argparse.Namespace, folder: str) -> list[Run]:
    """All runs, one after another."""
    arguments.positive(frames=min(args.frames), repeats=args.repeats)
    width, height = arguments.input_size(args.size)
    lengths, more = sorted(set(args.frames)), arguments.as_words(arguments.engine_options(args))
    spec = {"part": "clips", "folder": folder, "lengths": lengths, "width": width, "height": height, "options": {}}
    child.run([sys.executable, str(HERE / "speed_parts.py"), json.dumps(spec)])
    runs = []
    for length in lengths * args.repeats:
        clip, output = str(Path(folder) / f"clip_{length}.mp4"), str(Path(folder) / "upscaled.mkv")
        used = child.run([child.program("duovsr"), "upscale", clip, "-o", output, "--overwrite", *more])
        runs.append(Run(length, used.peak, announced(used.err), used.wall))
        say(f"{length} frames: {used.peak / 1e9:.3f} GB ({used.wall:.0f} s)")
    return runs


def say(text: str) -> None:
    """Progress and errors, apart from the tables."""
    print(text, file=sys.stderr, flush=True)


def report(args: argparse.Namespace, rows: list[str], found: list[Figure], machine: dict[str, Any]) -> str:
    """All that is printed."""
    lines = [f"{machine['processor']}, {machine['cores']} cores"]
    if not args.estimates:
        lines[0] += f"; input {args.size}, output four times that"
    if args.quick:
        lines.append("a quick run: that it ends is all it says, the figures mean nothing")
    return "\n".join([*lines, "", *rows, "", *figures.figures_table(found)])


def estimates(args: argparse.Namespace, folder: str) -> tuple[list[str], list[Figure], dict[str, Any]]:
    """The engine's estimates against what it took: table, figures, record."""
    found = memory_estimates.measure(memory_estimates.cases(args.quick, args.device), folder, say)
    return (
        memory_estimates.estimates_table(found),
        memory_estimates.results(found),
        {"estimates": memory_estimates.record(found)},
    )


def lengths(args: argparse.Namespace, folder: str) -> tuple[list[str], list[Figure], dict[str, Any]]:
    """The command line on clips of several lengths: table, figures, record."""
    runs = measure(args, folder)
    found = results(runs, args.size == "480x270" and args.device == "cpu")
    return runs_table(runs), found, {"runs": [asdict(run) for run in runs]}


def main(given: list[str] | None = None) -> int:
    args = parse(given)
    load = os.getloadavg()[0]
    try:
        with tempfile.TemporaryDirectory(prefix="duovsr-memory-") as folder:
            lines, found, details = (estimates if args.estimates else lengths)(args, folder)
        found = [replace(figure, bar=None) for figure in found] if args.quick else found
        machine = environment.describe()
        print(report(args, lines, found, machine))
        record = {
            "machine": machine,
            "arguments": arguments.recorded(args),
            "load": load,
            **details,
        }
        record["figures"] = [figure.record() for figure in found]
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(record, indent=1) + "\n")
    except (DuoVsrError, OSError) as error:
        say(f"memory: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    say(f"written to {args.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
