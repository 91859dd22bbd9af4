"""Quality of models beside classical and public methods, on ground-truth clips made four times smaller.

    python benchmarks/quality.py --data DIR [--model NAME_OR_FILE ...] [--out DIR]
    python benchmarks/quality.py --data DIR --stages checkpoints/nano --public --curve --speed --page docs/results.md

DIR holds eval_public/*.mp4 and make_lr.py. Written to --out: quality.json (everything), quality.md (the tables) and,
for each kind of LR, sheet_<kind>.png (crops at 1:1) and profile_<kind>.png (one pixel column over time). --page writes
the results page for people and its pictures into a folder of its name beside it.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import cache
import environment

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # from a checkout, installed or not

import quality_curve
import quality_page
import quality_pictures
import quality_public
import quality_speed
import quality_stages
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
    add("--cache", type=Path, default=cache.default_folder(), help="keeps LR clips and scores that cost time")
    add("--no-cache", action="store_true", help="compute everything again")
    _add_more(parser)
    return parser.parse_args(arguments)


def _add_more(parser: argparse.ArgumentParser) -> None:
    """What the results page needs beside models and classical methods."""
    add = parser.add_argument_group("for the results page").add_argument
    add("--stages", type=Path, default=None, help="folder of stage files such as checkpoints/nano")
    add("--preset", default=None, help="their model (the folder's name)")
    add("--stage-frames", type=int, default=4, help="first frames of each clip for the stages (4)")
    add("--guidance", type=float, default=2.0, help="w of the teacher's guided rows (2)")
    add("--public", action="store_true", help=f"public networks through {quality_public.PACKAGE}, if it is there")
    add("--heavy-frames", type=int, default=2, help="frames of the smallest clip for the large public one (2; 0: none)")
    add("--curve", action="store_true", help="measures over detail and strength, and what two seeds differ by")
    add("--speed", action="store_true", help="time of every method")
    add("--again", action="store_true", help="take quality.json of --out, and make only times and page anew")
    add("--page", type=Path, default=None, help="write the results page, such as docs/results.md")


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


def regression_options(models: dict[str, Options]) -> dict[str, Options]:
    """Label -> options of the faithful end of every file that has one, where it is not asked for already."""
    files = {o.model: o for o in models.values() if quality_curve.has_dial(o.model)}
    ends = [replace(options, detail=0.0) for options in files.values()]
    wanted = [options for options in ends if options not in models.values()]
    if len(wanted) == 1:
        return {"regression": wanted[0]}
    return {f"regression of {resolve(options.model).stem}": options for options in wanted}


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
    chosen = [files[n] for n in args.clips or files]
    work = [
        Task(path, maker, kinds, args.frames, models, args.step, folder, regression_options(models), _stages(args),
             args.public, 0, args.curve)
        for path in chosen
    ]  # fmt: skip
    if args.public and args.heavy_frames:
        smallest = min(range(len(chosen)), key=lambda n: _pixels(chosen[n]))
        work[smallest] = replace(work[smallest], heavy=_at_least_two("--heavy-frames", args.heavy_frames))
    return work


def _stages(args: argparse.Namespace) -> quality_stages.Stages | None:
    if args.stages is None:
        return None
    return quality_stages.open_stages(args.stages, args.preset, args.stage_frames, args.guidance)


def _at_least_two(name: str, frames: int) -> int:
    if frames < 2:
        raise OptionError(f"{name} {frames}: 2 or more are needed, for E_warp compares neighbours")
    return frames


def _pixels(path: Path) -> int:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.width * stream.height


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


def notes(args: argparse.Namespace, work: Sequence[Task]) -> list[str]:
    """Sentences on what was not measured."""
    found = quality_public.check() if args.public else ["the public networks were not asked for (--public)"]
    stages = work[0].stages
    found += ["the stages were not asked for (--stages)"] if stages is None else stages.missing()
    return found if args.curve else [*found, "the dials were not asked for (--curve)"]


def measure(args: argparse.Namespace, work: Sequence[Task]) -> dict[str, Any]:
    """Everything but times; writes the pictures. Returns the record."""
    results = run_all(list(work), args.jobs)
    args.out.mkdir(parents=True, exist_ok=True)
    arguments = {name: str(v) if isinstance(v, Path) else v for name, v in vars(args).items()}
    record = {"machine": environment.describe(), "arguments": arguments, "notes": notes(args, work)}
    record["command"] = command(args)
    limit = args.sheet_kb * 1000 or None
    for kind in results[0].panels:
        panels = {result.name: result.panels[kind] for result in results}
        sheet.save(args.out / f"sheet_{kind}.png", panels, sheet.crops, limit)
        sheet.save(args.out / f"profile_{kind}.png", panels, sheet.profiles, limit)
    if args.page is not None:
        clips = {result.name: result.panels for result in results}
        quality_pictures.save_all(args.page.with_suffix(""), clips, limit or sys.maxsize)
    return record | report.record(results, work)


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """The record of the run before. OptionError if there is none."""
    path = args.out / "quality.json"
    if not path.is_file():
        raise OptionError(f"--again: {path} does not exist; measure once without --again")
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def write(args: argparse.Namespace, record: dict[str, Any], work: Sequence[Task]) -> str:
    """Take times, and write record, tables and page; returns the tables."""
    if args.speed:
        _write_record(args, record)  # so that a stop while times are taken loses no more than them
        record["speed"] = quality_speed.measure(work[0])
    _write_record(args, record)
    text: str = report.tables(record)
    (args.out / "quality.md").write_text(text)
    if args.page is not None:
        write_page(args, record)
    return text


def _write_record(args: argparse.Namespace, record: dict[str, Any]) -> None:
    part = args.out / "quality.json.part"
    part.write_text(json.dumps(record, indent=1) + "\n")
    part.replace(args.out / "quality.json")


def write_page(args: argparse.Namespace, record: dict[str, Any]) -> None:
    """The page; its pictures lie in a folder of its name beside it."""
    folder = args.page.with_suffix("")
    plot = None
    model = next(iter(record["models"]), None)
    curves = {kind: models[model] for kind, models in record.get("curves", {"means": {}})["means"].items()}
    if curves and all("detail 0" in positions for positions in curves.values()):
        quality_curve.draw(curves, record["models"][model]["detail"], folder / "detail.png")
        plot = f"{folder.name}/detail.png"
    found = {clip: quality_pictures.files(folder, clip) for clip in record["clips"]}
    args.page.write_text(quality_page.page(record, quality_page.relative(found, args.page), plot))


def command(args: argparse.Namespace) -> str:
    """The command that repeats the run but for times, with folders of this machine left out."""
    parts = ["python benchmarks/quality.py --data DIR"]
    if args.model is not None:
        parts.append("--model " + " ".join(Path(name).name for name in args.model))
    if args.stages is not None:
        parts.append(f"--stages checkpoints/{args.stages.resolve().name} --stage-frames {args.stage_frames}")
    parts += [f"--{name}" for name in ("public", "curve") if getattr(args, name)]
    parts += [f"--clips {' '.join(args.clips)}"] if args.clips else []
    return " ".join([*parts, f"--frames {args.frames} --page docs/results.md"])


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    try:
        work = tasks(args)
        for sentence in notes(args, work):
            say(sentence)
        print(write(args, measured(args) if args.again else measure(args, work), work))
    except (DuoVsrError, OSError) as error:
        say(f"quality: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    say(f"written to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
