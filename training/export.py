"""A finished run as a model file: two sets of weights for the detail dial, a golden frame, and where they come from."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from duovsr_vs import __version__
from duovsr_vs.engine.selftest import middle_frame
from duovsr_vs.model.checkpoint import DETAILED, FAITHFUL, Golden, save
from duovsr_vs.model.family import AnyConfig, generator_of
from training.checkpoints import TrainingError, read_facts
from training.data.dataset import PackedClips
from training.families import WAN, config_of, family_of
from training.lora import merge, rank_of
from training.models import Model
from training.recipes import STAGES
from training.results import Results, data_mark
from training.stages.base import Weights
from training.start import start_weights
from training.validate import Validation
from training.watch import LOG

ONE_STEP = ("regression", "progressive", "dual_stream", "preference")
"""Stages whose result makes a picture in one step."""
GOLDEN_SIZE = (48, 64)
"""Height and width of the golden frame's LR, in pixels."""
GOLDEN_TOLERANCE = 2e-3
"""Float32 of two machine classes differs by rounding only; the golden output is stored in float16."""


def last_stage(results: Results) -> str:
    """The furthest finished stage of a run that makes pictures in one step. TrainingError if there is none."""
    done = [stage for stage in results.finished() if stage in ONE_STEP]
    if not done:
        found = ", ".join(results.finished()) or "no finished stage"
        raise TrainingError(f"{results.folder} holds {found}; one of {', '.join(ONE_STEP)} is needed")
    return done[-1]


def both_ends(results: Results, start: Path | None = None) -> tuple[Weights, Weights]:
    """Weights of the faithful and of the detailed end of the dial: the regression's, if there is one, and the last.

    start: what the run began with; adapters are merged into it. TrainingError: they are there, and it is not.
    """
    detailed = results.weights(last_stage(results))
    if rank_of(detailed):
        if start is None:
            raise TrainingError(
                f"{results.folder} holds adapters, which are merged into the weights that they were trained on; give "
                "the file that the run began with by --from"
            )
        detailed = merge(start_weights(start, recipe_of(results)["model"]), detailed)
    try:
        return results.weights("regression"), detailed
    except TrainingError:
        return detailed, detailed


def recipe_of(results: Results) -> dict[str, Any]:
    """The recipe of a run as its folder has it."""
    found: dict[str, Any] = json.loads((results.folder / "recipe.json").read_text())
    return found


def provenance(results: Results, stages: Sequence[str], clips: PackedClips) -> dict[str, Any]:
    """What a user may want to know of the weights: recipe, stages with their updates and measures, data, revision."""
    recipe = recipe_of(results)
    passed = []
    for stage in stages:
        path = results.path(stage)
        facts = read_facts(path)
        log = path.with_name(LOG)
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
        scores = [line["evaluation"] for line in lines if "evaluation" in line]
        passed.append(
            {
                "stage": stage,
                "updates": int(facts.get("steps", 0)),
                "validation": _rounded(scores[-1]) if scores else {},
                **{name: facts[name] for name in ("grown_from",) if name in facts},
            }
        )
    sources = sorted({(row.source, row.author, row.licence) for row in clips.rows})
    data = [{"source": source, "author": author, "licence": licence} for source, author, licence in sources]
    return {
        "recipe": recipe["name"],
        "seed": recipe["seed"],
        "revision": revision(),
        "stages": passed,
        "data": data,
    }


def check_data(results: Results, stage: str, data: Path) -> None:
    """TrainingError: the pack is not the one that the stage was trained on; its sources go into the file."""
    known, found = read_facts(results.path(stage)).get("data"), data_mark(PackedClips(data, "train"))
    if known is not None and known != found:
        raise TrainingError(
            f"{results.path(stage)} was trained on other data than {data} holds; give --data the pack of the run: its "
            "sources and licences go into the model file"
        )


def revision() -> str:
    """The trainer's commit, marked if files were changed; the version where there is no git."""
    root = Path(__file__).parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return __version__


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in scores.items() if name.startswith("+")}


def mixed(config: AnyConfig, faithful: Weights, detailed: Weights, detail: float) -> Model:
    """The model at a position of the detail dial."""
    generator = generator_of(config)
    generator.load_state_dict({name: torch.lerp(faithful[name], detailed[name], detail) for name in faithful})
    generator.eval().requires_grad_(False)
    is_flat = family_of(config) is not WAN
    return generator.to(memory_format=torch.channels_last) if is_flat else generator


def golden_frames(clips: PackedClips) -> Tensor:
    """Three LR frames of a held-out clip, (3 3 h w) uint8."""
    height, width = GOLDEN_SIZE
    lr = clips.clip(0).of_kind("clean")[0]
    crop = lr[:3, :height, :width].copy()
    return rearrange(torch.from_numpy(crop), "t h w c -> t c h w").contiguous()


def export(results: Results, data: Path, out: Path, detail: float, start: Path | None = None) -> str:
    """Write the model file of a run; returns its hash. A model of `base` has one set of weights, in bfloat16.

    detail: default of the dial, 0 (the regression's weights) to 1 (those of the last finished stage).  start: what the
    run began with, for adapters.
    """
    last = last_stage(results)
    clips = PackedClips(data, "val")
    recipe = recipe_of(results)
    config, is_wan = config_of(recipe["model"]), family_of(config_of(recipe["model"])) is WAN
    config = config.with_values(default_detail=1.0 if is_wan else detail)
    faithful, detailed = both_ends(results, start)
    sets = {DETAILED: detailed} if is_wan else {FAITHFUL: faithful, DETAILED: detailed}
    passed = [stage for stage in recipe["stages"] if STAGES.index(stage) <= STAGES.index(last)]
    check_data(results, last, data)
    facts = provenance(results, passed, PackedClips(data, "train"))
    out.parent.mkdir(parents=True, exist_ok=True)
    if is_wan:  # a golden frame would take minutes of a CPU each time that it is checked
        return save(out, config, sets, facts, dtype=torch.bfloat16)
    frames = golden_frames(clips)
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "model.safetensors"
        save(bare, config, sets, facts)
        golden = Golden(frames, middle_frame(bare, frames).half(), GOLDEN_TOLERANCE)
    return save(out, config, sets, facts, golden)


def curve(
    results: Results, data: Path, positions: Sequence[float], start: Path | None = None
) -> list[dict[str, float]]:
    """Measures on the validation split along the detail dial."""
    faithful, detailed = both_ends(results, start)
    config = config_of(recipe_of(results)["model"])
    validation = Validation(PackedClips(data, "val"), config.back_projections)
    return [{"detail": d, **validation.measure(mixed(config, faithful, detailed, d))} for d in positions]


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m training export`."""
    parser = argparse.ArgumentParser(prog="python -m training export", description=__doc__)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("-o", "--out", type=Path, help="model file to write; without it the detail dial is measured")
    parser.add_argument("--data", type=Path, required=True, help="folder that `pack` wrote: golden frame, validation")
    parser.add_argument("--detail", type=float, default=0.5, help="default of the detail dial (default: 0.5)")
    parser.add_argument(
        "--from",
        dest="earlier",
        type=Path,
        help="folder of the stages that the run went on from; or, for adapters, the file that it began with",
    )
    options = parser.parse_args(argv)
    if not 0 <= options.detail <= 1:
        raise TrainingError(f"--detail {options.detail:g}: it must be from 0 to 1")
    if not (options.run / "recipe.json").is_file():
        raise TrainingError(f"{options.run} holds no recipe.json; name a run folder")
    is_start = options.earlier is not None and options.earlier.is_file()
    start, earlier = (options.earlier, None) if is_start else (None, options.earlier)
    results = Results(options.run, None, earlier)
    if options.out is not None:
        digest = export(results, options.data, options.out, options.detail, start)
        size = options.out.stat().st_size / 1e6
        print(f"{options.out}: {digest}, {size:.1f} MB")
        return 0
    for row in curve(results, options.data, (0, 0.25, 0.5, 0.75, 1), start):
        shown = "  ".join(f"{name} {value:+.2f}" for name, value in row.items() if name.startswith("+"))
        print(f"detail {row['detail']:g}: {shown}")
    return 0
