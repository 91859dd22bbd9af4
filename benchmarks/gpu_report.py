"""What `gpu.py` prints, its tables and its picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tables import table

NEEDED = {("small", 1080): (150, 4), ("base-fast", 1080): (20, 20), ("base", 1080): (6, 30)}
"""(preset, lines of output) -> frames per second on the device at least, GB at most, on a GPU of an H200's class."""
COLOURS = {"fast": "#1b7837", "slow": "#b2182b", "compiled": "#2166ac", "engine": "#762a83",
           "streams": "#5aae61"}  # fmt: skip
PART_COLOURS = {"upload": "#bbbbbb", "condition": "#4393c3", "transformer": "#1b7837", "decode": "#d6604d",
                "compose": "#fdae61", "download": "#777777"}  # fmt: skip
Record = dict[str, Any]


def ceilings_line(ceilings: dict[str, float], device: str) -> str:
    return (
        f"{device}: a bfloat16 product runs at {ceilings['tflops']:.3g} TFLOP/s, "
        f"a copy moves {ceilings['tbytes']:.3g} TB/s"
    )


def row_line(row: Record, ceilings: dict[str, float]) -> str:
    """A row as it comes."""
    head = f"{row['preset']}, {row['form']}, {row['size'][0]}x{row['size'][1]}:"
    if not row["ms"]:
        found = f"{row['fps_whole']:.4g} fps, {row['peak_gb']:.3g} GB" if row["fps_whole"] else row["note"]
        return f"{head} {found}"
    parts = ", ".join(f"{name} {ms:.3g}" for name, ms in row["ms"].items())
    share = row["tflops"] / ceilings["tflops"]
    note = f"; {row['note']}" if row["note"] else ""
    return (
        f"{head} {row['fps_device']:.4g} fps on the device ({row['fps_whole']:.4g} with transfers), "
        f"{row['peak_gb']:.3g} GB, {row['tflops']:.3g} TFLOP/s ({share:.0%}); ms per frame: {parts}{note}"
    )


def choice_line(choice: Record) -> str:
    found = choice["note"] or f"{choice['ms']:.3g} ms, {choice['tflops']:.3g} TFLOP/s"
    return f"{choice['what']}, {choice['way']}: {found}"


def verdict(row: Record) -> str:
    """What is needed of a row, and whether it is there; a CPU's peak is that of the process and not judged."""
    needed = NEEDED.get((row["preset"], row["size"][1]))
    if needed is None or row["form"] == "slow" or not row["ms"]:
        return ""
    fps, memory = needed
    met = row["fps_device"] >= fps and row["peak_gb"] <= memory
    return f">= {fps} fps, <= {memory} GB: {'met' if met else 'missed'}"


def report(record: Record) -> str:
    """All of it in markdown."""
    ceilings, machine = record["ceilings"], record["machine"]
    lines = [
        f"Measured on {record['device']} ({machine['processor']}), torch {machine['versions']['torch']}, "
        f"CUDA {record['cuda']}, attention: {machine['attention']}. Random weights, bfloat16.",
        ceilings_line(ceilings, record["device"]) + ".",
    ]
    if "rehearsal" in record:
        lines.append(f"A rehearsal: {record['rehearsal']}.")
    names = list(dict.fromkeys(name for row in record["rows"] for name in row["ms"]))
    head = ["preset", "form", "output", "fps", "with transfers", "peak GB", "TFLOP/s", "of ceiling"]
    head += [f"{name} ms" for name in names] + ["needed", "note"]
    judged = record["device"] != "cpu"
    rows = [_cells(row, names, ceilings, judged) for row in record["rows"]]
    lines += ["", *table(head, rows)]
    if choices := record.get("choices"):
        cells = [[c["what"], c["way"], _number(c["ms"]), _number(c["tflops"]), c["note"]] for c in choices]
        lines += ["", *table(["kernel", "way", "ms", "TFLOP/s", "note"], cells)]
    return "\n".join(lines)


def _cells(row: Record, names: list[str], ceilings: dict[str, float], judged: bool) -> list[str]:
    start = [row["preset"], row["form"], f"{row['size'][0]}x{row['size'][1]}"]
    if not row["ms"] and not row["fps_whole"]:
        return [*start, *[""] * (6 + len(names)), row["note"]]
    numbers = [_number(row[key]) for key in ("fps_device", "fps_whole", "peak_gb", "tflops")]
    parts = [_number(row["ms"].get(name)) for name in names]
    share = f"{row['tflops'] / ceilings['tflops']:.0%}" if row["tflops"] else ""
    return [*start, *numbers, share, *parts, verdict(row) if judged else "", row["note"]]


def _number(value: float | None) -> str:
    return "" if not value else f"{value:.4g}"


def draw(record: Record, path: Path) -> str:
    """A picture of frames per second and of the time per part; the sentence to print."""
    rows = [row for row in record["rows"] if row["ms"]]
    if not rows:
        return "no row, no picture"
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        return "no matplotlib, no picture"
    figure, (left, right) = plt.subplots(1, 2, figsize=(14, 1.5 + 0.3 * len(rows)), layout="constrained", sharey=True)
    labels = [f"{row['preset']}, {row['form']}, {row['size'][1]}p" for row in rows]
    left.barh(labels, [row["fps_device"] for row in rows], color=[COLOURS[row["form"]] for row in rows])
    left.set_xscale("log")
    left.set_xlabel("frames per second on the device")
    left.invert_yaxis()
    starts = [0.0] * len(rows)
    for name, colour in PART_COLOURS.items():
        widths = [row["ms"].get(name, 0.0) / sum(row["ms"].values()) for row in rows]
        right.barh(labels, widths, left=starts, color=colour, label=name)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    right.set_xlabel("share of a frame's time")
    figure.legend(loc="outside lower right", ncols=len(PART_COLOURS), frameon=False)
    figure.suptitle(f"{record['device']}, random weights, bfloat16", fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return f"drawn to {path}"
