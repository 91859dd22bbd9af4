"""The container matrix: from every container to every container, with every two traits of a file together somewhere."""

from __future__ import annotations

import itertools
import sys
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest
from video_files import convert

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import containers
from container_sources import TRAITS, Case, covering

CASES = covering()
ALWAYS = (
    "frames", "timestamps", "sample aspect", "rotation", "primaries", "transfer", "matrix", "full range",
    "HDR metadata", "chapters", "metadata", "tags of the video",
)  # fmt: skip
"""Items that every container of the matrix keeps, whatever the source."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("matrix")
    return [containers.run_case(case, folder / str(n), convert) for n, case in enumerate(CASES)]


def test_every_two_traits_that_can_meet_do_meet() -> None:
    met = {pair for case in CASES for pair in itertools.combinations(enumerate(astuple(case)), 2)}
    names = list(TRAITS)
    for (i, one), (j, other) in itertools.combinations(enumerate(names), 2):
        for a, b in itertools.product(TRAITS[one], TRAITS[other]):
            free = [TRAITS[name] for name in names]
            free[i], free[j] = (a,), (b,)
            possible = any(Case(*values).makes_sense for values in itertools.product(*free))
            assert ((i, a), (j, b)) in met or not possible, f"{one} {a} and {other} {b}"


def test_nothing_is_lost_without_a_reason(results: list[dict[str, Any]]) -> None:
    assert [f"{one['case']}: {text}" for one in results for text in one["unexplained"]] == []


@pytest.mark.parametrize("item", ALWAYS)
def test_kept_by_every_container(results: list[dict[str, Any]], item: str) -> None:
    met = [(result["case"], one) for result in results for one in result["items"] if one["item"] == item]
    assert len(met) >= 3
    for case, one in met:
        rounded = item == "timestamps" and "whole milliseconds" in one["why"]
        assert one["status"] == "kept" or rounded, f"{case}: {one}"


@pytest.mark.parametrize("kind", ["audio", "subtitle", "attachment", "cover picture"])
def test_streams_are_kept_byte_by_byte_where_the_container_takes_their_codec(
    results: list[dict[str, Any]], kind: str
) -> None:
    """What is not taken is a fact of the formats: opus in mov, aac in webm, fonts in all but mkv."""
    kept = 0
    for result in results:
        for one in result["items"]:
            if containers._kind(one["item"]) == kind:
                told = (
                    one["why"].endswith("cannot hold it")
                    or "the text that" in one["why"]
                    or "disposition" in one["why"]
                )
                assert one["status"] == "kept" or told, f"{result['case']}: {one}"
                kept += one["status"] == "kept"
    assert kept


def test_the_table_has_a_cell_for_each_property_and_container(results: list[dict[str, Any]]) -> None:
    lines = containers.summary(results)
    assert len(lines) == 2 + len(containers.ROWS)
    head = [cell.strip() for cell in lines[0].split("|")[2:-1]]
    assert head == ["mkv", "mp4", "mov", "webm"]
    frames = next(line for line in lines if line.startswith("| every frame"))
    counts = [sum(case.target == name for case in CASES) for name in head]
    assert [cell.strip() for cell in frames.split("|")[2:-1]] == [f"yes ({n})" for n in counts]
    assert not any("without a reason" in line for line in lines)


def test_the_table_of_default_encoders_names_one_for_each_container_and_kind_of_source() -> None:
    lines = containers.defaults()
    assert len(lines) == 2 + len(containers.SAMPLES)
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines}
    assert cells["8 bits"] == ["libx264 yuv420p"] * 3 + ["libvpx-vp9 yuv420p"]
    assert cells["PQ, HLG"] == ["libx265 yuv420p10"] * 3 + ["libsvtav1 yuv420p10"]


@pytest.mark.slow
def test_the_command_line_keeps_what_the_writer_keeps(tmp_path: Path, tiny_model: Path) -> None:
    result = containers.run_case(CASES[0], tmp_path, containers.by_command_line(str(tiny_model)))
    assert result["unexplained"] == []
