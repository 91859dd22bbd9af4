"""What `duovsr upscale` keeps of a file: small files with every pair of traits go through it and are compared.

    python benchmarks/containers.py [--out DIR] [--model NAME_OR_FILE] [--cases N]

Written to --out: containers.json (every comparison of every file) and containers.md (what each
container keeps, and the encoders that are taken by default).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av.logging
import environment
from container_sources import MUXERS, Case, covering, make_source
from tables import table

from duovsr_vs.video.colour import ColourTags, resolve_matrix
from duovsr_vs.video.encoding import choose
from duovsr_vs.video.facts import facts_of
from duovsr_vs.video.kept import kept, surprises
from duovsr_vs.video.pixels import layout_of
from duovsr_vs.video.reader import VideoReader
from duovsr_vs.video.streams import Span, StreamCopier

Upscale = Callable[[Path, Path], object]
"""Makes the second file of the first."""
ROWS = {
    "every frame": "frames",
    "every timestamp, also variable ones": "timestamps",
    "sample aspect": "sample aspect",
    "rotation": "rotation",
    "primaries, transfer, matrix, range": ("primaries", "transfer", "matrix", "full range"),
    "chroma location": "chroma location",
    "bits per sample": "bits per sample",
    "HDR10 mastering display and light level": "HDR metadata",
    "chapters": "chapters",
    "metadata": ("metadata", "tags of the video"),
    "sound, byte by byte": "audio",
    "subtitles, byte by byte": "subtitle",
    "attachments and cover": ("attachment", "cover picture"),
}
"""Row of the table -> items of the reports."""


SAMPLES = [
    ("8 bits", "yuv420p", 1),
    ("10 bits", "yuv420p10le", 1),
    ("12 bits", "yuv420p12le", 1),
    ("PQ, HLG", "yuv420p10le", 16),
    ("RGB", "gbrp", 13),
    ("alpha, 8 bits", "yuva420p", 1),
    ("alpha, deeper", "yuva444p10le", 1),
]
"""Kinds of sources for the table of encoders: name, pixel format, transfer."""


def report_of(source: Path, target: Path, kind: str) -> dict[str, Any]:
    """Compare an output with its source; kind: muxer of the output."""
    with VideoReader(str(source)) as reader:
        info = reader.info
        with VideoReader(str(target)) as made:
            size = made.info.width, made.info.height
        tags, _ = resolve_matrix(info.tags, info.layout, info.height, None)
        encoding = choose(str(target), info.layout, tags, size, hdr=info.hdr)
        copier = StreamCopier(reader.container, reader.stream.index, kind, Span())
        return kept(facts_of(reader), target, kind=kind, encoding=encoding, left_out=copier.left_out)


def run_case(case: Case, folder: Path, upscale: Upscale) -> dict[str, Any]:
    """Make the source of a case, upscale it, compare: name, items, and what nothing explains."""
    folder.mkdir(parents=True, exist_ok=True)
    source, target = make_source(case, folder), folder / f"target.{case.target}"
    upscale(source, target)
    report = report_of(source, target, MUXERS[case.target])
    return {"case": case.name, "target": case.target, "items": report["items"], "unexplained": surprises(report)}


def by_command_line(model: str | None) -> Upscale:
    """The real thing, in this process."""
    from duovsr_vs.cli.main import main

    def upscale(source: Path, target: Path) -> None:
        chosen = ["--model", model] if model else []
        sys.argv = ["duovsr", "upscale", str(source), "-o", str(target), "--scale", "2", "--overwrite", *chosen]
        try:
            main()
        except SystemExit as ended:
            if ended.code:
                raise RuntimeError(f"{source} to {target}: exit code {ended.code}") from None

    return upscale


def summary(results: list[dict[str, Any]]) -> list[str]:
    """The table: a row for each property, a column for each container that was written."""
    targets = list(MUXERS)
    rows = []
    for row, names in ROWS.items():
        wanted = (names,) if isinstance(names, str) else names
        rows.append(
            [row, *(_cell([i for r in results if r["target"] == t for i in items_of(r, wanted)]) for t in targets)]
        )
    return table(["", *targets], rows)


def items_of(result: dict[str, Any], wanted: tuple[str, ...]) -> list[dict[str, Any]]:
    """The comparisons of a file that belong to a row of the table; not what its container adds."""
    return [item for item in result["items"] if _kind(item["item"]) in wanted and item["status"] != "added"]


def _kind(item: str) -> str:
    """`audio` of `stream 2: audio (aac, eng)`; other items are their own kind."""
    return item.partition(": ")[2].partition(" (")[0] if item.startswith("stream ") else item


def _cell(items: list[dict[str, Any]]) -> str:
    """`yes (12)`: kept in all files that have it; else what happened besides."""
    if not items:
        return "-"
    others = sorted({reason(item) for item in items if item["status"] != "kept"})
    held = sum(item["status"] == "kept" for item in items)
    return f"yes ({held})" if not others else "; ".join(([f"yes ({held})"] if held else []) + others)


def reason(item: dict[str, Any]) -> str:
    """What happened to an item, in three words."""
    why = str(item["why"])
    if not why:
        return f"{item['status']} without a reason"
    for words, short in (("whole milliseconds", "to 0.5 ms"), ("no more than 8 bits", "8 bits with odd sides")):
        if words in why:
            return short
    if "cannot hold it" in why:
        return f"not {item['item'].partition('(')[2].partition(',')[0].rstrip(')')}"
    if "the text that" in why:
        return why.partition(",")[0]
    return f"without its {why.partition('no place for its ')[2]}" if "no place for its" in why else why


def defaults() -> list[str]:
    """The table of the encoders that are taken where none is asked for."""
    rows = []
    for name, pix_fmt, transfer in SAMPLES:
        tags = ColourTags(1, 1, transfer)
        chosen = [choose(f"a.{kind}", layout_of(pix_fmt), tags, (1920, 1080)) for kind in MUXERS]
        rows.append([name, *(f"{one.codec} {one.pix_fmt.removesuffix('le')}" for one in chosen)])
    return table(["source", *MUXERS], rows)


def document(results: list[dict[str, Any]]) -> list[str]:
    """Both tables, with what they mean."""
    return [
        "# What containers keep",
        "",
        f"{len(results)} small files, in which every two traits of a video that can meet do meet (container of source "
        "and output, timing, odd sizes, sample aspect, rotation, colours, depth, tracks of sound and subtitles, "
        "chapters, attachments), went through `duovsr upscale` and were compared with their sources. The columns are "
        "the container of the output; in brackets, how many items were kept. Beside it, what happened to the others, "
        "which the run says beforehand.",
        "",
        *summary(results),
        "",
        "The encoders that are taken where `--codec` names none:",
        "",
        *defaults(),
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder for JSON and table")
    parser.add_argument("--model", default=None, help="shipped name or file (the default model)")
    parser.add_argument("--cases", type=int, default=None, help="only the first N of the set")
    args = parser.parse_args(arguments)
    av.logging.set_level(None)
    upscale, results = by_command_line(args.model), []
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(covering()[: args.cases]):
            results.append(run_case(case, Path(folder) / str(number), upscale))
    args.out.mkdir(parents=True, exist_ok=True)
    lines = document(results)
    told = {"environment": environment.describe(), "files": results}
    (args.out / "containers.json").write_text(json.dumps(told, indent=1) + "\n")
    (args.out / "containers.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    bad = [f"{one['case']}: {text}" for one in results for text in one["unexplained"]]
    print("\n".join(bad), end="\n" if bad else "", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
