"""`python -m training`: run all stages or one, pack data, export a model."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads of the loader and of the networks share the cores

from duovsr_vs.errors import DuoVsrError
from training.recipes import RECIPES, STAGES

COMMANDS = ("run", *STAGES, "pack", "export")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 failed with one sentence, 130 interrupted (go on with the same command)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__, add_help=False)
    parser.add_argument("command", choices=COMMANDS, nargs="?")
    known, rest = parser.parse_known_args(arguments[:1])
    if known.command is None:
        print(f"usage: python -m training {{{','.join(COMMANDS)}}} …; add --help to a command for its options")
        return 0 if arguments[:1] in (["--help"], ["-h"]) else 2
    try:
        return dispatch(known.command, rest + arguments[1:])
    except (DuoVsrError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def dispatch(command: str, arguments: list[str]) -> int:
    """One command with its own arguments."""
    if command == "pack":
        from training.data.pack import main as pack

        return pack(arguments)
    if command == "export":
        from training.export import main as export

        return export(arguments)
    return train(command, arguments)


def train(command: str, arguments: list[str]) -> int:
    """`run` or one stage."""
    parser = argparse.ArgumentParser(
        prog=f"python -m training {command}",
        description="Every field of the recipe can be overridden: --regression.steps 100, --seed 1 and so on. "
        "--dry-run prints them all; training/recipes.py says what they mean.",
    )
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="nano-cpu")
    parser.add_argument("--data", type=Path, help="folder that `pack` wrote")
    parser.add_argument("--out", type=Path, help="run folder; a run that stopped there goes on")
    parser.add_argument("--start", type=Path, help="result.safetensors that the regression begins with")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved recipe and stop")
    options, overrides = parser.parse_known_args(arguments)

    import tyro

    from training.loop import Run
    from training.recipes import Recipe

    recipe = tyro.cli(Recipe, default=RECIPES[options.recipe], args=overrides, prog=parser.prog)
    if options.dry_run:
        print(recipe.to_json())
        return 0
    if options.data is None or options.out is None:
        parser.error("--data and --out are needed (without them only --dry-run works)")
    run = Run(recipe, options.data, options.out, lambda text: print(text, flush=True), options.start)
    run.all_stages() if command == "run" else run.stage(command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
