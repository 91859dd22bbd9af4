"""`python -m training`: run all stages or one, pack data, evaluate, report, export."""

from __future__ import annotations

import argparse
import difflib
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import fields, is_dataclass, replace
from errno import ENOSPC
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads of the loader and of the networks share the cores

from duovsr_vs.errors import DuoVsrError
from training.presets import RECIPES
from training.ranges import RecipeError
from training.recipes import STAGES, Recipe
from training.stopping import GOES_ON, StoppedError, at_once, stop_signals

if TYPE_CHECKING:
    from training.distributed import World

OTHERS = ("pack", "evaluate", "report", "export")
COMMANDS = ("run", *STAGES, *OTHERS)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 failed with one sentence, 2 usage, 128 + n stopped by signal n and saved."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__, add_help=False)
    parser.add_argument("command", choices=COMMANDS, nargs="?")
    known, rest = parser.parse_known_args(arguments[:1])
    if known.command is None:
        print(f"usage: python -m training {{{','.join(COMMANDS)}}} …; add --help to a command for its options")
        return 0 if arguments[:1] in (["--help"], ["-h"]) else 2
    again = "the same command begins anew" if known.command in OTHERS else GOES_ON
    try:
        with stop_signals(), at_once(then=again):
            return dispatch(known.command, rest + arguments[1:])
    except RecipeError as error:
        print(error, file=sys.stderr)
        return 2
    except DuoVsrError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(in_words(error), file=sys.stderr)
        return 1
    except StoppedError as stop:
        print(stop, file=sys.stderr)
        return 128 + stop.number
    except RuntimeError as error:
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            raise
        print(f"a process of the run has ended or cannot be reached ({str(error).splitlines()[0]})", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; {again}", file=sys.stderr)
        return 130


def in_words(error: OSError) -> str:
    """What the system refused: the file, why, and what to do."""
    if error.errno == ENOSPC:
        return f"{error.filename or 'a file'}: no space is left on the disk; make room and give the same command again"
    named = error.filename is not None and error.strerror
    return f"{error.filename}: {error.strerror}; name another place, or change who may use it" if named else str(error)


def dispatch(command: str, arguments: list[str]) -> int:
    """One command with its own arguments; each imports what it needs."""
    if command == "pack":
        from training.data.pack import main as other
    elif command == "evaluate":
        from training.evaluate import main as other
    elif command == "report":
        from training.report import main as other
    elif command == "export":
        from training.export import main as other
    else:
        return train(command, arguments)
    return other(arguments)


def parser_of(command: str) -> argparse.ArgumentParser:
    """Options of `run` and of a stage by name that are not fields of the recipe."""
    parser = argparse.ArgumentParser(
        prog=f"python -m training {command}",
        description="Trains. The same command again goes on where it stopped. Under torchrun all processes train "
        "together.",
        epilog="Every field of the recipe can be overridden: --seed 1, --regression.steps 100, --dual-stream.taps real "
        "and so on; --fields lists them all with their meaning.",
    )
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="nano-cpu")
    parser.add_argument("--data", type=Path, help="folder that `pack` wrote; `smoke` makes its own if there is none")
    parser.add_argument("--out", type=Path, help="run folder; a run that stopped there goes on")
    parser.add_argument("--start", type=Path, help="weights that the first stage begins with (.safetensors of a stage)")
    parser.add_argument(
        "--from",
        dest="earlier",
        type=Path,
        help="folder of stage files, or another run, that this run goes on from; or a model file that it begins with",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the resolved recipe and what it costs, and stop")
    parser.add_argument("--peak", type=float, help="for --dry-run: TFLOP/s of a device that is not here")
    parser.add_argument(
        "--gpus", type=int, action="append", help="for --dry-run: plan for so many GPUs; may be repeated"
    )
    parser.add_argument("--memory", type=float, default=80, help="for --gpus: GB of each (default: 80)")
    parser.add_argument("--processes", type=int, default=1, help="for --dry-run: of torchrun")
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="for --dry-run: an update of each stage without contents, on any machine",
    )
    parser.add_argument("--fields", action="store_true", help="list the fields of the recipe and stop")
    return parser


def train(command: str, arguments: list[str]) -> int:
    """`run` or one stage."""
    parser = parser_of(command)
    options, overrides = parser.parse_known_args(arguments)
    recipe = resolve(RECIPES[options.recipe], ["--help"] if options.fields else overrides, parser.prog)
    if options.dry_run:
        print(recipe.to_json())
        print(planned(recipe, options))
        if options.rehearse:
            from training.rehearse import describe

            for line in describe(recipe):
                print(line, flush=True)
        return 0
    if options.out is None or (options.data is None and recipe.name != "smoke"):
        needed = "--out is" if recipe.name == "smoke" else "--data and --out are"
        parser.error(f"{needed} needed (without only --dry-run works)")
    from training.distributed import joined

    with joined(recipe.device) as world, training_data(options.data, options.out, world) as data:
        from training.run import Run

        run = Run(recipe, data, options.out, _say, options.start, options.earlier, world)
        run.all_stages() if command == "run" else run.stage(command)
    return 0


def planned(recipe: Recipe, options: argparse.Namespace) -> str:
    """What `--dry-run` prints below the recipe: plans for this machine, or for GPUs that are not here."""
    from training.families import WAN, config_of, family_of

    peak = options.peak and options.peak * 1e12
    if options.gpus is None and family_of(config_of(recipe.model)) is not WAN:
        from training.plan_text import describe

        return describe(recipe, options.processes, peak)
    from training import fleet

    if min(options.gpus or [1]) < 1 or options.memory <= 0:
        raise RecipeError("--gpus and --memory must be above 0")
    card = fleet.Card(options.memory * 1e9, peak or fleet.H100.peak)
    return fleet.describe(replace(recipe, device="cuda"), options.gpus or fleet.FLEETS, card)


def resolve(base: Recipe, overrides: list[str], prog: str) -> Recipe:
    """The recipe with its overrides. RecipeError: a field that it does not have, the nearest named; a bad value."""
    known = field_names(base)
    for word in overrides:
        name = word.split("=")[0].removeprefix("--").replace("-", "_")
        if word.startswith("--") and name not in known and name.removeprefix("no_") not in known and name != "help":
            parts = (name if "no_" not in name else name.replace("no_", "", 1)), *known
            own = [dotted for dotted in known if dotted.endswith(f".{parts[0]}")]
            near = own or difflib.get_close_matches(parts[0], parts[1:], n=1, cutoff=0.5)
            meant = f"did you mean --{near[0].replace('_', '-')}?" if near else "--fields lists those that it has"
            hint = meant if len(own) < 2 else f"every stage has its own: {meant}"
            raise RecipeError(f"the recipe has no field {word.split('=')[0]}; {hint}")
    return parsed(base, overrides, prog)


def parsed(base: Recipe, overrides: list[str], prog: str) -> Recipe:
    """By tyro, whose framed complaint becomes one sentence."""
    import tyro

    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(Recipe, default=base, args=overrides, prog=prog)
    except SystemExit as ended:
        if not ended.code:
            raise
        _, *parts = re.split(r"^.*(?:─────|-----).*$", said.getvalue(), flags=re.MULTILINE)  # first its title
        told = " ".join(parts[0].replace("│", " ").split()) if parts else said.getvalue()
        told = told.removeprefix("Error parsing ").rstrip(".")
        told = re.sub(r"invalid literal for int\(\) with base 10: (.*)", r"\1 is no whole number", told)
        told = re.sub(r"could not convert string to float: (.*)", r"\1 is no number", told)
        raise RecipeError(f"{told}; --fields lists what each field may be") from ended


def field_names(recipe: object, prefix: str = "") -> list[str]:
    """All of them, dotted."""
    assert is_dataclass(recipe)
    names: list[str] = []
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        names.append(prefix + field.name)
        if is_dataclass(value):
            names += field_names(value, f"{prefix}{field.name}.")
    return names


@contextmanager
def training_data(data: Path | None, out: Path, world: World) -> Iterator[Path]:
    """The pack: the one that was named, or for `smoke` one of the example and synthetic clips."""
    if data is not None:
        yield data
        return
    from training.data.synthetic import make_pack

    if world.is_first:
        with at_once("the clips of smoke were packed"):
            make_pack(out / "data")
    world.barrier()
    yield out / "data"


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
