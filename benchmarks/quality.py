"""Quality of models beside bicubic, Lanczos and back-projection, on ground-truth clips made four times smaller.

    python benchmarks/quality.py --data DIR [--model NAME_OR_FILE ...] [--out DIR]

DIR holds eval_public/*.mp4 and make_lr.py. Written to --out: quality.json (everything), quality.md (the tables) and,
for each kind of LR, sheet_<kind>.png (crops at 1:1) and profile_<kind>.png (one pixel column over time).
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import cache
import environment
import report
import sheet
from cliprun import Result, Task, load_maker, run_clip

from duovsr_vs.engine.options import Options
from duovsr_vs.errors import DuoVsrError, OptionError
from duovsr_vs.model.registry import resolve

KINDS = ("clean", "web", "real")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with eval_public/ and make_lr.py")
    add(
        "--model",
        nargs="*",
        default=None,
        help="shipped names or files; none given: the default model; empty: baselines only",
    )
    add("--frames", type=int, default=24, help="first frames of each clip (24)")
    add("--clips", nargs="+", default=None, help="names of clips without .mp4 (all)")
    add("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of LR (all three)")
    add("--detail", type=float, nargs="+", default=[None], help="detail dials to compare (the model's default)")
    add("--strength", type=float, default=1.0, help="strength of the residual (1)")
    add("--precision", default="auto", help="auto, float32, bfloat16 or float16")
    add("--device", default="auto", help="auto, cpu or cuda")
    add("--step", "--ssimu2-step", type=int, default=1, help="per-frame measures on every step-th frame (1: all)")
    add("--jobs", type=int, choices=(1, 2), default=1, help="processes of one thread each (1)")
    add("--out", type=Path, default=Path("benchmarks/results"), help="folder for JSON, table and pictures")
    add("--sheet-kb", type=int, default=300, help="greatest size of a picture in kB; 0: any")
    add("--cache", type=Path, default=cache.default_folder(), help="keeps LR clips and the baselines' scores")
    add("--no-cache", action="store_true", help="compute everything again")
    return parser.parse_args(arguments)


def model_options(args: argparse.Namespace) -> dict[str, Options]:
    """Label -> options, one for each model and detail."""
    result: dict[str, Options] = {}
    for name in [None] if args.model is None else args.model:
        for detail in args.detail:
            label = resolve(name).stem + ("" if detail is None else f" d={detail:g}")
            while label in result:
                label += "'"
            result[label] = Options(
                model=None if name is None else str(name), detail=detail, strength=args.strength,
                precision=args.precision, device=args.device,
            )  # fmt: skip
    return result


def tasks(args: argparse.Namespace) -> list[Task]:
    maker = args.data / "make_lr.py"
    load_maker(maker)
    files = {path.stem: path for path in sorted((args.data / "eval_public").glob("*.mp4"))}
    unknown = sorted(set(args.clips or ()) - set(files))
    if unknown or not files:
        found = ", ".join(files) or "none"
        raise OptionError(f"--clips {' '.join(unknown)}: the clips in {args.data / 'eval_public'} are {found}")
    if args.frames < 2 or args.step < 1:
        raise OptionError(f"--frames {args.frames} --step {args.step}: at least 2 frames and a step of 1 are needed")
    models, folder = model_options(args), None if args.no_cache else args.cache
    kinds = tuple(kind for kind in KINDS if kind in args.kinds)
    return [Task(files[n], maker, kinds, args.frames, models, args.step, folder) for n in args.clips or files]


def say(text: str) -> None:
    """Progress and errors, apart from the tables."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started inside compute with one thread: on a busy machine more of them mostly wait for each other.

    What torch, OpenBLAS and OpenMP read when they are loaded; the results are the same with any number.
    """
    before = os.environ.copy()
    os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def run_all(work: list[Task], jobs: int) -> list[Result]:
    """Results in the order of the tasks."""
    with _one_thread_each(), ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        return list(pool.map(run_clip, work, [say] * len(work)))


def write(args: argparse.Namespace, results: list[Result]) -> str:
    """Write all files; returns the tables."""
    args.out.mkdir(parents=True, exist_ok=True)
    arguments = {name: str(v) if isinstance(v, Path) else v for name, v in vars(args).items()}
    record = {"machine": environment.describe(), "arguments": arguments} | report.record(results)
    text = report.tables(results, record["machine"])
    (args.out / "quality.json").write_text(json.dumps(record, indent=1) + "\n")
    (args.out / "quality.md").write_text(text)
    for kind in results[0].panels:
        panels = {result.name: result.panels[kind] for result in results}
        limit = args.sheet_kb * 1000 or None
        sheet.save(args.out / f"sheet_{kind}.png", panels, sheet.crops, limit)
        sheet.save(args.out / f"profile_{kind}.png", panels, sheet.profiles, limit)
    return text


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    try:
        print(write(args, run_all(tasks(args), args.jobs)))
    except (DuoVsrError, OSError) as error:
        say(f"quality: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    say(f"written to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
