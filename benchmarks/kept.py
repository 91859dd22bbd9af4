"""The table of the README: what duovsr keeps, against what people upscale video with today. Every cell of ours is run.

    python benchmarks/kept.py [--matrix containers.json] [--out DIR] [--check]

Runs the tests that each row names, and the container matrix (benchmarks/containers.py) unless --matrix gives its JSON;
writes kept.json and containers.md to --out, and the table into README.md. A row whose proof fails ends it. --check:
writes nothing; fails where the README's table is not what the committed kept.json says.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import containers
import environment
from tables import table

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- kept: written by benchmarks/kept.py -->", "<!-- /kept -->"
PEERS = (
    "SeedVR2", "SeedVR2 nodes", "FlashVSR", "FlashVSR nodes", "DOVE", "STAR", "Upscale-A-Video", "Real-ESRGAN",
    "video2x", "vs-mlrt", "HolyWu's filters", "VSGAN", "chaiNNer",
)  # fmt: skip
"""Whose cells are read from their repositories and issues, as they were in 2025 and 2026; the nodes are numz's and
lihaoyun6's."""
SIGNS = {"Y": "yes", "~": "part", "-": "no", "?": "?", ".": ""}
"""Of a peer's cell: yes; partly; no; not known; not its job."""


@dataclass(frozen=True, slots=True)
class Row:
    """peers: a sign for each of PEERS.  reports: where people met the loss.  matrix: a row of the container matrix that
    must hold, none where it does not speak of it.  tests: all of them must pass.  besides: limits of
    containers that the matrix does not show, but a test.
    """

    name: str
    peers: str
    reports: str = ""
    matrix: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    besides: str = ""


ROWS = (
    Row(
        "every frame, exact size", "??--???~?..??",
        "FlashVSR#36, ComfyUI-FlashVSR_Ultra_Fast#27, #29, Real-ESRGAN#388, #404; 1038lab/ComfyUI-FlashVSR#3, "
        "smthemex/ComfyUI_FlashVSR#26",
        ("every frame",),
        (
            "test_cli.py::test_a_video_is_upscaled_with_its_sound_and_times_and_nothing_else_is_left",
            "test_cli_refusals.py::test_one_frame_of_an_odd_size_is_enough",
            "test_engine_output.py::test_any_size_gives_exactly_four_times_it",
            "test_engine_output.py::test_other_sizes_are_exact_and_show_the_same_picture",
            "test_engine_output.py::test_as_many_frames_out_as_in",
        ),
    ),
    Row(
        "every timestamp", "--------~~~--", "video2x#1269, #1360, VideoJaNai#27",
        ("every timestamp, also variable ones",),
        ("test_video_writer.py::test_count_and_timestamps_survive",
         "test_video_writer.py::test_ntsc_timestamps_stay_exact_in_mp4_and_mov"),
    ),
    Row(
        "sound", "---~---~Y..~~", "", ("sound, byte by byte",),
        ("test_video_streams.py::test_all_sounds_keep_packets_languages_titles_and_flags_in_mkv",),
    ),
    Row(
        "subtitles", "--------Y..?-", "", ("subtitles, byte by byte",),
        ("test_video_streams.py::test_text_takes_the_form_of_its_container",),
    ),
    Row(
        "chapters, sample aspect", "---------..?-", "video2x#1344", ("chapters", "sample aspect"),
        ("test_video_writer.py::test_sound_subtitles_chapters_attachments_and_titles_come_along",
         "test_video_writer.py::test_sample_aspect_is_kept_with_codecs_that_do_not_hold_it"),
    ),
    Row(
        "colour tags", "--------YYY?-", "", ("primaries, transfer, matrix, range",),
        ("test_video_writer.py::test_colour_tags_and_sample_aspect_are_kept",),
    ),
    Row(
        "10 and 12 bits", "---.-----YYY-", "", ("bits per sample",),
        ("test_video_depth.py::test_a_deep_ramp_keeps_more_than_256_levels",
         "test_video_depth.py::test_the_default_of_each_container_is_listed"),
        "webm 10 at most",
    ),
    Row(
        "HDR", "--------~----", "REAL-Video-Enhancer#36",
        ("HDR10 mastering display and light level",),
        ("test_video_hdr.py::test_mastering_display_and_content_light_are_kept_in_container_and_bitstream",
         "test_video_hdr.py::test_the_shipped_model_keeps_highlights_up_to_the_peak_and_more_levels_than_8_bits_have"),
    ),
    Row(
        "alpha", "-Y-----~----~", "", (),
        ("test_video_alpha.py::test_alpha_is_enlarged_and_kept", "test_segments.py::test_alpha_comes_through_segments",
         "test_video_alpha.py::test_one_sentence_says_that_alpha_is_dropped_and_what_keeps_it"),
        "mp4 none, webm 8 bits of it",
    ),
    Row(
        "finished work, through a crash", "-------------", "video2x#65, #264, #1458, PR#1501", (),
        ("test_resume.py::test_a_killed_job_goes_on_to_the_same_bytes",
         "test_resume.py::test_a_full_disk_keeps_what_is_finished"),
    ),
    Row(
        "same pixels after a seek, in any split", "--?????~?Y~??",
        "SeedVR#25, #46, ComfyUI-SeedVR2_VideoUpscaler#331",
        (),
        (
            "test_engine_order.py::test_order_of_requests", "test_engine_order.py::test_splits_of_the_job",
            "test_filter_hosts.py::test_parts_of_a_job_give_the_frames_of_the_whole",
            "test_segments.py::test_any_split_and_order_of_segments_gives_the_same_file_bit_by_bit",
            "test_resume_workers.py::test_two_workers_make_the_same_bytes",
        ),
    ),
    Row(
        "shots apart at a cut", "-------...~~-", "ComfyUI-SeedVR2_VideoUpscaler#307", (),
        ("test_engine_windows.py::test_nothing_reaches_back_over_a_cut",),
    ),
    Row(
        "whole folders", "YY-.YYY~~..YY", "", (),
        ("test_batch.py::test_a_folder_is_upscaled_with_its_sub_folders_and_done_files_are_skipped",
         "test_batch.py::test_a_failure_stops_only_its_own_file_and_is_told_at_the_end"),
    ),
)  # fmt: skip


def run_tests(names: list[str]) -> dict[str, dict[str, int]]:
    """Test (without its parameters) -> how many cases passed, were skipped, failed."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.xml"
        paths = [f"tests/{name}" for name in names]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={told}", *paths]
        ended = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False).returncode
        if not told.exists() or ended not in (0, 1):
            raise SystemExit(f"the tests did not run (pytest ended with {ended})")
        cases = ElementTree.parse(told).getroot().iter("testcase")
        found = {name: {"passed": 0, "skipped": 0, "failed": 0} for name in names}
        for case in cases:
            file, name = case.attrib["classname"].rpartition(".")[2], case.attrib["name"].partition("[")[0]
            found[f"{file}.py::{name}"][_outcome(case)] += 1
    return found


def _outcome(case: ElementTree.Element) -> str:
    inside = {element.tag for element in case}
    return "failed" if inside & {"failure", "error"} else "skipped" if "skipped" in inside else "passed"


def cells(files: list[dict[str, Any]], row: str) -> dict[str, Any]:
    """A row of the matrix: how many items are kept, and what happens to others: words -> containers."""
    names = containers.ROWS[row]
    wanted = (names,) if isinstance(names, str) else names
    kept = 0
    limits: dict[str, list[str]] = {}
    for target in containers.MUXERS:
        items = [item for one in files if one["target"] == target for item in containers.items_of(one, wanted)]
        kept += sum(item["status"] == "kept" for item in items)
        for reason in sorted({containers.reason(item) for item in items if item["status"] != "kept"}):
            limits.setdefault(reason, []).append(target)
    return {"kept": kept, "limits": limits}


def proved(files: list[dict[str, Any]], tests: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    """All rows with their proofs. Ends the program where one of them does not hold."""
    rows = []
    for row in ROWS:
        own = {name: tests[name] for name in row.tests}
        matrix = {name: cells(files, name) for name in row.matrix}
        bad = [name for name, counts in own.items() if counts["failed"] or not counts["passed"]]
        bad += [name for name, one in matrix.items() if not one["kept"] or "without a reason" in str(one["limits"])]
        if bad:
            raise SystemExit(f"{row.name}: not proved by {', '.join(bad)}")
        peers = dict(zip(PEERS, row.peers, strict=True))
        told = {"row": row.name, "peers": peers, "reports": row.reports, "besides": row.besides}
        rows.append({**told, "matrix": matrix, "tests": own})
    return rows


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """The README's table, and what containers themselves do not hold."""
    head = ["", "**duovsr**", *PEERS]
    body = [[row["row"], "yes", *(SIGNS[row["peers"][peer]] for peer in PEERS)] for row in rows]
    limits = [(row["row"], said) for row in rows if (said := _limits(row))]
    reports = [(row["row"], row["reports"]) for row in rows if row["reports"]]
    return [
        *table(head, body), "",
        *_sentence("What containers cannot hold, said before the run", limits), "",
        *_sentence("Where people met the losses", reports),
    ]  # fmt: skip


def _limits(row: dict[str, Any]) -> str:
    said: dict[str, list[str]] = {}
    for one in row["matrix"].values():
        for reason, targets in one["limits"].items():
            said.setdefault(" and ".join(targets), []).append(reason)
    limits = [f"{where} {' and '.join(reasons)}" for where, reasons in said.items()]
    return ", ".join([*limits, *([row["besides"]] if row["besides"] else [])])


def _sentence(head: str, parts: list[tuple[str, str]]) -> list[str]:
    """Lines of text."""
    said = "; ".join(f"{name} ({what})" for name, what in parts)
    return wrap(f"{head}: {said}.", 120, break_long_words=False, break_on_hyphens=False)


def write_table(readme: Path, text: list[str]) -> str:
    """README with the table between its markers. Ends the program where they are missing."""
    whole = readme.read_text()
    if whole.count(BEGIN) != 1 or whole.count(END) != 1:
        raise SystemExit(f"{readme.name} needs the lines {BEGIN} and {END}")
    before, after = whole.split(BEGIN)[0], whole.split(END)[1]
    return before + "\n".join([BEGIN, "", *text, "", END]) + after


def matrix_of(file: Path | None) -> dict[str, Any]:
    """What containers.py found, from its file or run now."""
    if file is not None:
        return dict(json.loads(file.read_text()))
    with tempfile.TemporaryDirectory() as folder:
        if containers.main(["--out", folder]):
            raise SystemExit("the container matrix has losses without a reason")
        return dict(json.loads((Path(folder) / "containers.json").read_text()))


def main(arguments: list[str] | None = None) -> int:
    """Run what proves the rows and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--matrix", type=Path, default=None, help="containers.json of a run that was made before")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder for kept.json and containers.md")
    parser.add_argument("--check", action="store_true", help="only compare README.md with kept.json")
    args = parser.parse_args(arguments)
    readme, told = ROOT / "README.md", args.out / "kept.json"
    if args.check:
        return int(write_table(readme, lines(json.loads(told.read_text())["rows"])) != readme.read_text())
    matrix = matrix_of(args.matrix)
    files = matrix["files"]
    rows = proved(files, run_tests(sorted({name for row in ROWS for name in row.tests})))
    told.write_text(json.dumps({"environment": environment.describe(), "rows": rows}, indent=1) + "\n")
    (args.out / "containers.md").write_text("\n".join(containers.document(files)) + "\n")
    readme.write_text(write_table(readme, lines(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
