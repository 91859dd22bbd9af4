"""The README's table of what is kept says what was measured, and every row of it names proofs that exist."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import containers
import kept

ROOT = Path(__file__).resolve().parents[1]


def test_the_table_of_the_readme_is_that_of_the_last_run() -> None:
    rows = json.loads((ROOT / "docs" / "kept.json").read_text())["rows"]
    assert kept.write_table(ROOT / "README.md", kept.lines(rows)) == (ROOT / "README.md").read_text()
    assert [row["row"] for row in rows] == [row.name for row in kept.ROWS]
    assert [row["peers"] for row in rows] == [dict(zip(kept.PEERS, row.peers, strict=True)) for row in kept.ROWS]


@pytest.mark.parametrize("row", kept.ROWS, ids=lambda row: row.name)
def test_every_row_has_proofs_that_exist(row: kept.Row) -> None:
    assert row.tests and len(row.peers) == len(kept.PEERS) and set(row.peers) <= set(kept.SIGNS)
    assert set(row.matrix) <= set(containers.ROWS)
    for name in row.tests:
        file, _, function = name.partition("::")
        tree = ast.parse((ROOT / "tests" / file).read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_what_is_not_proved_ends_the_program() -> None:
    counts = {name: {"passed": 1, "skipped": 0, "failed": 0} for row in kept.ROWS for name in row.tests}
    every = {names if isinstance(names, str) else names[0] for names in containers.ROWS.values()}
    item = {"source": 1, "output": 1, "status": "kept", "why": ""}
    items = [{"item": name, **item} for name in every]
    items += [{"item": f"stream 1: {kind} (x)", **item} for kind in ("audio", "subtitle", "attachment")]
    files = [{"target": "mkv", "items": items}]
    assert len(kept.proved(files, counts)) == len(kept.ROWS)
    for bad in ({"passed": 1, "skipped": 0, "failed": 1}, {"passed": 0, "skipped": 1, "failed": 0}):
        with pytest.raises(SystemExit, match="sound: not proved by"):
            kept.proved(files, counts | dict.fromkeys(kept.ROWS[2].tests, bad))
    lost = [{"target": "mkv", "items": [one | {"status": "dropped"} for one in items]}]
    with pytest.raises(SystemExit, match="not proved by every frame"):
        kept.proved(lost, counts)
