"""A finished run as a model file: two sets of weights for the detail dial, a golden frame, and where they come from."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from duovsr_vs.engine.selftest import middle_frame
from duovsr_vs.model.checkpoint import DETAILED, FAITHFUL, Golden, save
from duovsr_vs.model.config import PRESETS, ModelConfig
from duovsr_vs.model.generator import Generator
from training.data.dataset import PackedClips
from training.loop import LOG, RESULT, TrainingError, read_facts, result_of
from training.recipes import STAGES
from training.stages.base import Weights
from training.validate import Validation

GOLDEN_SIZE = (48, 64)
"""Height and width of the golden frame's LR, in pixels."""
GOLDEN_TOLERANCE = 2e-3
"""Float32 of two machine classes differs by rounding only; the golden output is stored in float16."""


def last_stage(run: Path) -> str:
    """The furthest finished stage of a run folder. TrainingError if there is none but the regression."""
    done = [stage for stage in STAGES if (run / stage / RESULT).exists()]
    if len(done) < 2:
        raise TrainingError(f"{run} holds {done or 'no finished stage'}; the regression and one more stage are needed")
    return done[-1]


def provenance(run: Path, stages: Sequence[str], clips: PackedClips) -> dict[str, Any]:
    """What a user may want to know of the weights: recipe, stages with their updates and measures, data."""
    recipe = json.loads((run / "recipe.json").read_text())
    passed = []
    for stage in stages:
        facts = read_facts(run / stage / RESULT)
        lines = [json.loads(line) for line in (run / stage / LOG).read_text().splitlines()]
        scores = [line["evaluation"] for line in lines if "evaluation" in line]
        passed.append(
            {"stage": stage, "updates": int(facts["steps"]), "validation": _rounded(scores[-1]) if scores else {}}
        )
    sources = sorted({(row.source, row.author, row.licence) for row in clips.rows})
    data = [{"source": source, "author": author, "licence": licence} for source, author, licence in sources]
    return {"recipe": recipe["name"], "seed": recipe["seed"], "stages": passed, "data": data}


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in scores.items() if name.startswith("+")}


def mixed(config: ModelConfig, faithful: Weights, detailed: Weights, detail: float) -> Generator:
    """The model at a position of the detail dial."""
    generator = Generator(config)
    generator.load_state_dict({name: torch.lerp(faithful[name], detailed[name], detail) for name in faithful})
    return generator.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def golden_frames(clips: PackedClips) -> Tensor:
    """Three LR frames of a held-out clip, (3 3 h w) uint8."""
    height, width = GOLDEN_SIZE
    lr = clips.clip(0).of_kind("clean")[0]
    crop = lr[:3, :height, :width].copy()
    return rearrange(torch.from_numpy(crop), "t h w c -> t c h w").contiguous()


def export(run: Path, data: Path, out: Path, detail: float) -> str:
    """Write the model file of a run; returns its hash.

    detail: default of the dial, 0 (the regression's weights) to 1 (those of the last finished stage).
    """
    last = last_stage(run)
    clips = PackedClips(data, "val")
    recipe = json.loads((run / "recipe.json").read_text())
    config = PRESETS[recipe["model"]].with_values(default_detail=detail)
    sets = {FAITHFUL: result_of(run, "regression"), DETAILED: result_of(run, last)}
    facts = provenance(run, STAGES[: STAGES.index(last) + 1], PackedClips(data, "train"))
    frames = golden_frames(clips)
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "model.safetensors"
        save(bare, config, sets, facts)
        golden = Golden(frames, middle_frame(bare, frames).half(), GOLDEN_TOLERANCE)
    out.parent.mkdir(parents=True, exist_ok=True)
    return save(out, config, sets, facts, golden)


def curve(run: Path, data: Path, positions: Sequence[float]) -> list[dict[str, float]]:
    """Measures on the validation split along the detail dial."""
    recipe = json.loads((run / "recipe.json").read_text())
    config = PRESETS[recipe["model"]]
    faithful, detailed = result_of(run, "regression"), result_of(run, last_stage(run))
    validation = Validation(PackedClips(data, "val"), config.back_projections)
    return [{"detail": d, **validation.measure(mixed(config, faithful, detailed, d))} for d in positions]


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m training export`."""
    parser = argparse.ArgumentParser(prog="python -m training export", description=__doc__)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("-o", "--out", type=Path, help="model file to write; without it the detail dial is measured")
    parser.add_argument("--data", type=Path, required=True, help="folder that `pack` wrote: golden frame, validation")
    parser.add_argument("--detail", type=float, default=0.5, help="default of the detail dial (default: 0.5)")
    options = parser.parse_args(argv)
    if not 0 <= options.detail <= 1:
        raise TrainingError(f"--detail {options.detail:g}: it must be from 0 to 1")
    if options.out is not None:
        digest = export(options.run, options.data, options.out, options.detail)
        size = options.out.stat().st_size / 1e6
        print(f"{options.out}: {digest}, {size:.1f} MB")
        return 0
    for row in curve(options.run, options.data, (0, 0.25, 0.5, 0.75, 1)):
        shown = "  ".join(f"{name} {value:+.2f}" for name, value in row.items() if name.startswith("+"))
        print(f"detail {row['detail']:g}: {shown}")
    return 0
