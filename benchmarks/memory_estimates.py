"""The engine's memory, as its plan expects it and as it is: many sizes, presets, types, tiles; for `memory.py`."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import child
from speed_figures import Figure
from tables import table

PART = Path(__file__).resolve().parent / "memory_part.py"
BOUND = 0.15
"""How far an estimate may be off, of what was measured."""
FRAMES = 24
"""Two frames in flight are seldom both at their peak: one case took 653 to 727 MB in 6 frames, up to 832 MB in 24 …"""
REPEATS = 5
"""… and another, in 24 frames, 320 MB once and 385 MB once: where as many are in flight side by side, the median of so
many runs counts."""


@dataclass(frozen=True)
class Case:
    """A preset with random weights, a size, options of the engine."""

    preset: str
    width: int
    height: int
    frames: int
    options: dict[str, Any]


@dataclass(frozen=True)
class Estimate:
    """A case, and the bytes that the plan expected and that the process or the GPU's allocator took, in each run."""

    case: Case
    expected: int
    peaks: list[int]

    @property
    def peak(self) -> float:
        """Of the runs the median."""
        return median(self.peaks)

    @property
    def ratio(self) -> float:
        """Expected over measured."""
        return self.expected / self.peak


def cases(quick: bool, device: str) -> list[Case]:
    """What is measured; a quick run is one small case."""
    both = [{"precision": "bfloat16"}, {"precision": "float32"}]
    if quick:
        return [Case("nano", 96, 64, 4, both[1] | {"device": device})]
    chosen = [
        Case("nano", *size, FRAMES, more | {"threads": threads})
        for size in ((320, 180), (480, 270), (640, 360), (960, 540))
        for more in both
        for threads in (1, 2)
    ]
    chosen += [Case("small", 320, 180, 16, more) for more in both]
    chosen += [Case("small", 480, 270, 16, both[0]), Case("small", 320, 180, 12, both[0] | {"tile": 64})]
    chosen += [Case("toy", 320, 180, 40, more) for more in both]
    chosen += [Case("nano", 640, 360, FRAMES, more | {"tile": 128}) for more in both]
    chosen += [Case("nano", 640, 360, FRAMES, both[1] | {"width": 1280}), Case("nano", 1280, 720, FRAMES, both[0])]
    chosen += [Case("nano", 1920, 1080, 8, more | {"threads": threads}) for more in both for threads in (1, 2)]
    return [Case(c.preset, c.width, c.height, c.frames, c.options | {"device": device}) for c in chosen]


def measure(chosen: list[Case], folder: str, say: Callable[[str], None]) -> list[Estimate]:
    """Each in a process of its own, one after another."""
    files = {case.preset: str(Path(folder) / f"{case.preset}.safetensors") for case in chosen}
    _part({"write": files})
    found = []
    for case in chosen:
        spec = asdict(case) | {"model": files[case.preset]}
        runs = [json.loads(_part(spec))]
        while len(runs) < REPEATS and case.frames >= FRAMES and runs[0]["plan"]["in_flight"] > 1:
            runs.append(json.loads(_part(spec)))
        found.append(Estimate(case, runs[0]["expected"], [run["peak"] for run in runs]))
        say(f"{case.preset} {case.width}x{case.height}: {found[-1].ratio:.2f}")
    return found


def _part(spec: dict[str, Any]) -> str:
    return child.run([sys.executable, str(PART), json.dumps(spec)]).out


def results(found: list[Estimate]) -> list[Figure]:
    """The worst case, with its bound."""
    worst = max(abs(each.ratio - 1) for each in found)
    return [Figure("largest error of the expected memory", "", (worst,), BOUND)]


def estimates_table(found: list[Estimate]) -> list[str]:
    rows = []
    for each in found:
        more = ", ".join(f"{name}={value}" for name, value in each.case.options.items() if name != "device")
        sizes = [f"{size / 1e6:.0f}" for size in (each.expected, each.peak)]
        rows.append([each.case.preset, f"{each.case.width}x{each.case.height}", more, *sizes, f"{each.ratio:.2f}"])
    return table(["preset", "input", "options", "expected MB", "measured MB", "ratio"], rows)


def record(found: list[Estimate]) -> list[dict[str, Any]]:
    """For JSON."""
    return [asdict(each) | {"peak": each.peak, "ratio": each.ratio} for each in found]
