"""How fast a GPU runs each model: fps, milliseconds per part, peak memory, and TFLOP/s against what the GPU can do.

    python benchmarks/gpu.py [--device cuda|cpu] [--preset NAME ...] [--size WxH ...] [--form NAME ...]

Ceilings (a large bfloat16 product, a large copy) are measured first, in the same run; FLOPs are those that roofline.py
counts. Weights are random. The most important rows come first and each is printed and written as it comes; what fails
is noted, and when the time is spent the rest is left out. On a CPU: `small` from 480x270 and one block of `base`. Needs
torch, numpy, einops and safetensors only, and matplotlib for the plot.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a checkout, installed or not
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that wait must not take busy cores

import environment
import gpu_report
import roofline
import torch
from arguments import RESULTS
from gpu_choices import choices
from gpu_clock import ceilings, name_of
from gpu_measure import Row, measure, measure_block
from gpu_paths import FORMS

from duovsr_vs.engine.kernels import attention_name
from duovsr_vs.engine.machine import resolve_device
from duovsr_vs.errors import DuoVsrError
from duovsr_vs.model.family import PRESETS

MAIN = (1920, 1080)
"""The size that the targets are for; it goes first."""
FAST_ONLY = 1920 * 1080
"""Above so many pixels the slow form is left out unless it is asked for."""
MODELS = ("small", "base-fast", "base", "nano")
BUDGET = 330.0
ONCE = ("engine", "streams", "compiled")
BLOCK_SIZE = (960, 544)
BUSY = 0.5
"""Load average above which figures from a CPU mean little."""
Task = tuple[str, str, tuple[int, int]]


def tasks(presets: Sequence[str], sizes: Sequence[tuple[int, int]], forms: Sequence[str], every: bool) -> list[Task]:
    """(preset, form, size), the most telling first: the main size fast, then slow, then the others.

    Forms of ONCE at the main size alone. every: leave nothing out.
    """
    first = sizes[0] if MAIN not in sizes else MAIN
    order = sorted(sizes, key=lambda size: (size != first, size[0] * size[1]))
    found = []
    for size in order:
        for form in (form for form in FORMS if form in forms):
            small = size[0] * size[1] <= FAST_ONLY
            if every or form == "fast" or (form == "slow" and small) or (form in ONCE and size == first):
                found += [(preset, form, size) for preset in presets]
    return found


def counted(row: Row) -> None:
    """What a frame costs, by roofline.py."""
    parts = roofline.parts_of(PRESETS[row.preset], *row.size)
    row.tflop_per_frame = sum(cost.flops for cost in parts.values()) / 1e12


def run(args: argparse.Namespace, device: torch.device, record: dict[str, Any]) -> None:
    """Everything that was asked for, until the time is spent."""
    began = time.monotonic()
    record["ceilings"] = ceilings(device)
    say(gpu_report.ceilings_line(record["ceilings"], record["device"]))
    for preset, form, size in tasks(args.preset, args.size, args.form, args.all):
        row = Row(preset, form, size)
        if time.monotonic() - began > args.budget:
            row.note = "left out: the time was spent"
        else:
            counted(row)
            measure(row, PRESETS[preset], device)
        add(record, row, args.json)
    if device.type == "cpu" and args.block:
        for form in ("slow", "fast"):
            row = Row("base, one block", form, args.block)
            measure_block(row, PRESETS["base"], device)
            add(record, row, args.json)
    if not args.no_choices and time.monotonic() - began < args.budget:
        scale = 1 if device.type == "cuda" else 8
        record["choices"] = choices(device, lambda choice: say(gpu_report.choice_line(choice)), scale)
    record["seconds"] = time.monotonic() - began


def add(record: dict[str, Any], row: Row, path: Path) -> None:
    """Print a row and write what there is so far."""
    record["rows"].append(row.record())
    say(gpu_report.row_line(row.record(), record["ceilings"]))
    write(record, path)


def write(record: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")


def say(line: str) -> None:
    print(line, flush=True)


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--device", default="auto", help="cuda, cuda:N or cpu (the first GPU, else the CPU)")
    add("--preset", nargs="+", choices=PRESETS, default=None, help=f"models ({' '.join(MODELS)}; on a CPU small)")
    add("--size", nargs="+", type=roofline.size_of, default=None, help="of the output (720p to 4K; on a CPU 1080p)")
    add(
        "--form",
        nargs="+",
        choices=FORMS,
        default=None,
        help=f"of running ({' '.join(FORMS)}; on a CPU neither of the last two)",
    )
    add("--all", action="store_true", help="also the slow form of large sizes, and compiling at every size")
    add("--budget", type=float, default=BUDGET, help=f"seconds after which nothing new is begun ({BUDGET:g})")
    add("--block", type=roofline.size_of, default=BLOCK_SIZE, help="on a CPU: size for one block of base (960x544)")
    add("--no-block", dest="block", action="store_const", const=None, help="without it")
    add("--no-choices", action="store_true", help="without the table of single kernels")
    add("--no-plot", action="store_true", help="without the picture")
    add("--json", type=Path, default=RESULTS / "gpu.json", help="file for the record; table and plot lie beside it")
    return parser.parse_args(given)


def defaults(args: argparse.Namespace, device: torch.device) -> None:
    """What was not given."""
    on_cpu = device.type == "cpu"
    args.preset = args.preset or (["small"] if on_cpu else list(MODELS))
    args.size = args.size or ([MAIN] if on_cpu else [roofline.size_of(text) for text in roofline.SIZES])
    args.form = args.form or [form for form in FORMS if not (on_cpu and form in ("streams", "compiled"))]


def main(given: Sequence[str] | None = None) -> int:
    args = parse(given)
    try:
        device = resolve_device(args.device)
    except DuoVsrError as error:
        print(f"gpu: {error}", file=sys.stderr)
        return 1
    defaults(args, device)
    machine = environment.describe() | {"attention": attention_name(device), "load": os.getloadavg()[0]}
    record: dict[str, Any] = {"machine": machine, "device": name_of(device), "cuda": torch.version.cuda, "rows": []}
    if device.type == "cpu" and machine["load"] > BUSY:
        record["rehearsal"] = f"load average {machine['load']:.1f}: taken beside other work, the figures mean nothing"
    run(args, device, record)
    write(record, args.json)
    text = gpu_report.report(record)
    args.json.with_suffix(".md").write_text(text + "\n")
    say("\n" + text)
    if not args.no_plot:
        say(gpu_report.draw(record, args.json.with_suffix(".png")))
    say(f"written to {args.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
