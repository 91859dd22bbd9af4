"""What the ablation trains: one small model, the base that all arms of a seed share, and the arms themselves.

All numbers were set before the first run: the paper's where a toy can follow them, else those of the recipe `nano-cpu`.
No held-out score was looked at to choose any of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from duovsr_vs.model.config import LATENT_STD, ModelConfig
from duovsr_vs.model.family import PRESETS
from training.recipes import Recipe
from training.stage_recipes import (
    DualStreamRecipe,
    GuidedRecipe,
    PreferenceRecipe,
    ProgressiveRecipe,
    RegressionRecipe,
    StageRecipe,
    TeacherRecipe,
)

MODEL = ModelConfig(name="ablation", channels=32, blocks=2, latent_std=LATENT_STD)
"""82 thousand parameters, of the family of `nano` and in its latent space."""
PRESETS.setdefault(MODEL.name, MODEL)

BASE = ("regression", "teacher", "guided", "progressive")
"""Trained once for each seed; every arm starts from their results."""
CROP: dict[str, Any] = {"batch": 4, "patch": 24}

RECIPE = Recipe(
    name="ablation",
    model=MODEL.name,
    stages=(*BASE, "dual_stream", "preference"),
    loss="velocity",
    bf16=False,
    regression=RegressionRecipe(steps=2000, learning_rate=1.5e-3, ema=0.998, **CROP),
    teacher=TeacherRecipe(steps=5000, learning_rate=8e-4, ema=0.998, times="uniform", **CROP),
    guided=GuidedRecipe(steps=300, learning_rate=3e-4, negative="soft", **CROP),
    progressive=ProgressiveRecipe(steps=250, learning_rate=3e-4, start_steps=16, **CROP),
    dual_stream=DualStreamRecipe(
        steps=400, learning_rate=3e-4, fake_learning_rate=3e-4, head_learning_rate=4e-4, **CROP
    ),
    preference=PreferenceRecipe(
        steps=100, learning_rate=3e-5, batch=4, patch=48, pairs=48, candidates=4, refresh=1.0, rank_model=0.0
    ),
    evaluate_clips=1,
)
"""λ_D = 1, λ_G = 0.1, λ_F = 0.05, N = 3, heads on both scores, no loss of ours (paired, temporal and consistency are 0
in every stage of every arm): the paper's. Ours: rates, lengths, four rounds of halving, the soft class as guidance's
negative (there is no text), and a regression that gives the small teacher its start."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of training the student."""

    name: str
    title: str
    stage: str = "dual_stream"
    """Stage whose result is measured."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the recipe of stage II that differ from `full`."""
    within: str = ""
    """Arm whose run it goes on from; its own where empty."""

    @property
    def folder(self) -> str:
        """Of its run, in the folder of the seed."""
        return self.within or self.name


ARMS = (
    Arm("full", "I + II"),
    Arm("no_stage_1", "II without I", changes={"student_from": "teacher", "scores_from": "teacher"}),
    Arm("dmd_only", "I + II, DMD alone", changes={"adversarial": 0.0, "feature": 0.0}),
    Arm("gan_only", "I + II, GAN alone", changes={"matching": 0.0}),
    Arm("taps_real", "I + II, heads on the real score", changes={"taps": "real"}),
    Arm("taps_fake", "I + II, heads on the fake score", changes={"taps": "fake"}),
    Arm("full_3", "I + II + III", stage="preference", within="full"),
)
SHOWN = (
    Arm("regression", "regression, one step", stage="regression", within="base"),
    Arm("teacher", "teacher in one step", stage="teacher", within="base"),
    Arm("stage_1", "I alone", stage="progressive", within="base"),
)
"""Where the arms come from; nothing is claimed about these."""


@dataclass(frozen=True, slots=True)
class Direction:
    """A claim of the paper's ablation: `better` beats `worse`."""

    better: str
    worse: str
    claim: str


DIRECTIONS = (
    Direction("full", "no_stage_1", "with Stage I > without"),
    Direction("full", "dmd_only", "joint > DMD alone"),
    Direction("full", "gan_only", "joint > GAN alone"),
    Direction("full", "taps_real", "both taps > real alone"),
    Direction("full", "taps_fake", "both taps > fake alone"),
    Direction("full_3", "full", "II + III ≥ II"),
)


def shorter(settings: StageRecipe, scale: float) -> StageRecipe:
    """A stage with `scale` times its updates, and a warm-up that fits."""
    steps = max(2, round(settings.steps * scale))
    return replace(settings, steps=steps, warmup=min(settings.warmup, max(1, steps // 6)))


def recipe_of(seed: int, scale: float, arm: Arm | None = None) -> Recipe:
    """Of an arm, or of the base; stage II is logged at every update, for the norms of its gradients."""
    stages = {name: shorter(RECIPE.stage(name), scale) for name in RECIPE.stages}
    if scale < 1:
        preference = stages["preference"]
        stages["preference"] = replace(preference, pairs=max(4, round(RECIPE.preference.pairs * scale)))  # type: ignore[call-arg]
    stages["dual_stream"] = replace(stages["dual_stream"], **(arm.changes if arm else {}))
    return replace(RECIPE, seed=seed, log_every=25 if arm is None else 1, **stages)  # type: ignore[arg-type]
