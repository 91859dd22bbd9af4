"""`duovsr models`: the shipped models, from their headers."""

from __future__ import annotations

import json

from ..model.registry import DEFAULT, describe, known, stages_of


def run(as_json: bool) -> None:
    """Print a line (or a JSON object) per shipped model."""
    facts = {name: describe(path) for name, path in known().items()}
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    for name, fact in facts.items():
        mark = " (default)" if name == DEFAULT else ""
        stages = stages_of(fact["provenance"])
        print(f"{name}{mark}: {fact['bytes'] / 1e6:.1f} MB, {str(fact['hash'])[:16]}, stages: {stages}")
