"""`duovsr models`: the shipped models, from their headers; `convert` and `embed` make the files that `base` needs."""

from __future__ import annotations

import json

import typer

from . import arguments as a
from .convert import register as register_convert
from .embed import register as register_embed
from .exits import guarded

app = typer.Typer(
    help="List the shipped models; make model files from those of Wan2.1.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
register_convert(app)
register_embed(app)


@app.callback()
def models(context: typer.Context, as_json: a.AsJson = False) -> None:
    """List the shipped models; make model files from those of Wan2.1."""
    if context.invoked_subcommand is None:
        with guarded():
            run(as_json)


def run(as_json: bool) -> None:
    """Print a line (or a JSON object) per shipped model."""
    from ..model.registry import DEFAULT, describe, known, stages_of

    facts = {name: describe(path) for name, path in known().items()}
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    for name, fact in facts.items():
        mark = " (default)" if name == DEFAULT else ""
        stages = stages_of(fact["provenance"])
        print(f"{name}{mark}: {fact['bytes'] / 1e6:.1f} MB, {str(fact['hash'])[:16]}, stages: {stages}")
