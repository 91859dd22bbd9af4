"""The recipes that have a name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from training.recipes import DIFFUSION, Recipe
from training.stage_recipes import (
    AutoencoderRecipe,
    DualStreamRecipe,
    GuidedRecipe,
    LightRecipe,
    PreferenceRecipe,
    ProgressiveRecipe,
    RegressionRecipe,
    TeacherRecipe,
)

SMALL_FAMILY = ("regression", *DIFFUSION)
"""Stages of models with the fixed codec: a regression gives the teacher its start."""

SMOKE = Recipe(
    name="smoke",
    model="tiny",
    stages=SMALL_FAMILY,
    loss="robust",
    autoencoder=AutoencoderRecipe(steps=4, learning_rate=1e-3, batch=2, patch=24, statistics=2),
    regression=RegressionRecipe(
        steps=4, learning_rate=1e-3, batch=2, patch=24, temporal=0.15, consistency=0.5, structure=2.0
    ),
    teacher=TeacherRecipe(steps=4, learning_rate=1e-3, batch=2, patch=24, temporal=0.15, consistency=0.5),
    guided=GuidedRecipe(steps=3, learning_rate=3e-4, batch=2, patch=24, negative="soft"),
    progressive=ProgressiveRecipe(steps=2, learning_rate=3e-4, batch=2, patch=24, start_steps=4),
    dual_stream=DualStreamRecipe(steps=2, learning_rate=1e-4, batch=2, patch=24, aux_per_student=2, temporal=0.15),
    preference=PreferenceRecipe(
        steps=4, learning_rate=3e-5, batch=2, patch=24, pairs=4, candidates=3, temporal=0.15, ranker_updates=8
    ),
    log_every=1,
    save_every=2,
    evaluate_clips=2,
)
"""All stages in two minutes on two cores, to see that everything works; its weights are good for nothing."""

NANO_CPU = Recipe(
    name="nano-cpu",
    model="nano",
    stages=SMALL_FAMILY,
    loss="robust",
    regression=RegressionRecipe(
        steps=10000, learning_rate=1.5e-3, temporal=0.6, consistency=0.5, structure=2.0, ema=0.998
    ),
    teacher=TeacherRecipe(
        steps=3000,
        learning_rate=8e-4,
        temporal=0.15,
        consistency=0.5,
        ema=0.998,
        times="uniform",
        noise_only=0.15,
    ),
    guided=GuidedRecipe(steps=300, learning_rate=3e-4, guidance=2.0, negative="soft", ema=0.998),
    progressive=ProgressiveRecipe(
        steps=250, learning_rate=3e-4, start_steps=4, temporal=0.15, consistency=0.5, ema=0.998
    ),
    dual_stream=DualStreamRecipe(
        steps=700,
        learning_rate=3e-4,
        batch=4,
        aux_per_student=2,
        matching=0.5,
        matching_end=0.3,
        adversarial=0.3,
        feature=0.0125,
        paired=0.5,
        temporal=0.4,
        consistency=0.5,
        structure=1.0,
        high=0.6,
        start_blend=0.5,
        fake_learning_rate=3e-4,
        head_learning_rate=4e-4,
    ),
    preference=PreferenceRecipe(
        steps=150,
        learning_rate=3e-5,
        pairs=110,
        temporal=0.3,
        consistency=0.5,
        structure=1.0,
        mixed=0.34,
        rank_ssimulacra2=0.25,
        rank_niqe=0.35,
        rank_logit=0.05,
        rank_warp=0.15,
    ),
)
"""About three hours on two cores, no stage above an hour. Docs/LOG.md has the experiments behind the numbers."""

SMALL_GPU = replace(
    NANO_CPU,
    name="small-gpu",
    model="small",
    device="cuda",
    regression=replace(NANO_CPU.regression, steps=15000, learning_rate=8e-4, batch=32, frames=4, ema=0.999, warmup=200),
    teacher=replace(NANO_CPU.teacher, learning_rate=5e-4, batch=32, frames=4, ema=0.999),
    guided=replace(NANO_CPU.guided, steps=500, learning_rate=2e-4, batch=16, frames=4),
    progressive=replace(NANO_CPU.progressive, steps=300, learning_rate=2e-4, batch=16, frames=4, start_steps=8),
    dual_stream=replace(
        NANO_CPU.dual_stream,
        steps=1000,
        learning_rate=2e-4,
        batch=8,
        frames=4,
        fake_learning_rate=2e-4,
        head_learning_rate=3e-4,
    ),
    preference=replace(NANO_CPU.preference, learning_rate=2e-5, frames=4),
    save_every=500,
    evaluate_every=3000,
)
"""Half an hour on one GPU of the H200's class, by the count of FLOPs; not run on one yet."""

_CLIPS: dict[str, Any] = {"batch": 64, "patch": 128, "frames": 21, "micro_batch": 1}
"""21 frames are a window of `base`; 128 LR pixels are 512x512 at the output, so a clip must have that."""

PAPER = Recipe(
    name="paper",
    model="base",
    device="cuda",
    gather="bfloat16",
    recompute=True,
    teacher=TeacherRecipe(steps=10000, learning_rate=1e-4, soft=0.0, warmup=500, **_CLIPS),
    guided=GuidedRecipe(steps=500, learning_rate=1e-5, **_CLIPS),
    progressive=ProgressiveRecipe(steps=500, learning_rate=1e-5, **_CLIPS),
    dual_stream=DualStreamRecipe(steps=2000, learning_rate=2e-6, fake_learning_rate=4e-7, **_CLIPS),
    preference=PreferenceRecipe(steps=1000, learning_rate=4e-7, **{**_CLIPS, "batch": 16}),
    save_every=250,
)
"""The paper's numbers: updates, N, λ, rounds, pairs, and a model of Wan2.1's 1.3 B in place of its own. What it does
not give is our reading (docs/method.md). Begins with `--from` a file that `duovsr models convert` makes of Wan's."""

LIGHT = Recipe(
    name="light",
    model="base-fast",
    stages=("light",),
    device="cuda",
    light=LightRecipe(steps=20000, learning_rate=2e-4, batch=16, micro_batch=1, patch=64, frames=13, ema=0.999),
    save_every=500,
)
"""The light pair of `base-fast` from the autoencoder of `--from base.safetensors`; not run at this size yet."""

RECIPES = {recipe.name: recipe for recipe in (SMOKE, NANO_CPU, SMALL_GPU, PAPER, LIGHT)}
