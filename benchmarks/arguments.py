"""Arguments that the benchmarks of speed and memory share. No torch: whoever measures memory must be small itself."""

import argparse
import re
from pathlib import Path
from typing import Any

from duovsr_vs.engine.options import Options
from duovsr_vs.errors import OptionError
from duovsr_vs.model.registry import resolve

RESULTS = Path(__file__).resolve().parent / "results"


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Size and options of the engine."""
    add = parser.add_argument
    add("--size", default="480x270", metavar="WxH", help="of the input; the output is four times as wide and high")
    add("--model", default=None, help="shipped name or file (the default model)")
    add("--device", default="cpu", help="cpu, cuda or cuda:N (cpu)")
    add("--threads", type=int, default=None, help="CPU threads of the model (torch's choice)")


def add_output(parser: argparse.ArgumentParser, name: str) -> None:
    """Where the record goes, and the quick run."""
    parser.add_argument("--json", type=Path, default=RESULTS / name, help="file for the record")
    parser.add_argument("--quick", action="store_true", help="a small run, to see that all works; nothing is judged")


def engine_options(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of `Options` that were given. OptionError or ModelError where they are refused."""
    resolve(args.model)
    given = {"model": args.model, "device": args.device, "threads": args.threads}
    options = {name: value for name, value in given.items() if value is not None}
    Options(**options)
    return options


def as_words(options: dict[str, Any]) -> list[str]:
    """The same for the command line."""
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def input_size(text: str) -> tuple[int, int]:
    """Width and height of `480x270`. OptionError or FormatError where it cannot be upscaled."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise OptionError(f"--size {text}: width x height is needed, such as 480x270")
    Options().output_size(int(match[1]), int(match[2]))
    return int(match[1]), int(match[2])


def positive(**given: int) -> None:
    """OptionError where a count is not 1 or more."""
    for name, value in given.items():
        if value < 1:
            raise OptionError(f"--{name} {value}: 1 or more is needed")


def recorded(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments for JSON."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
