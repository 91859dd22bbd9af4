"""Recipes: every number of a run. Frozen; `run` writes them beside its results.

The three stages are DUO-VSR's (arXiv 2603.22271); what each takes stands in stage_recipes.py.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any, Literal

from duovsr_vs.model.family import PRESETS
from training.families import SOFT_CLASS, config_of, family_of
from training.ranges import COUNT, NATURAL, SHARE, refused, require
from training.stage_recipes import (
    AutoencoderRecipe,
    DualStreamRecipe,
    GuidedRecipe,
    LightRecipe,
    PreferenceRecipe,
    ProgressiveRecipe,
    RegressionRecipe,
    StageRecipe,
    TeacherRecipe,
)

DIFFUSION = ("teacher", "guided", "progressive", "dual_stream", "preference")
"""The paper's: a base model and its three stages."""
STAGES = ("autoencoder", "regression", *DIFFUSION, "light")
"""All stages in the order of a run; a recipe lists those that it uses."""


def _regression() -> RegressionRecipe:
    return RegressionRecipe(steps=500, learning_rate=1e-3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A whole run."""

    name: str
    """What the run's files call it."""
    model: str
    """Preset of duovsr_vs.model.family.PRESETS: nano, small, base, base-fast; tiny, toy, base-tiny … for tests."""
    adapters: int = 0
    """Rank of low-rank adapters on one set of frozen weights that all networks of a stage share; those of the run's
    start. 0: every network has, and trains, all weights of its own. For `base`."""
    stages: tuple[str, ...] = DIFFUSION
    """Stages of the run, in order. The paper's start from a pretrained model: `--start` or a regression gives one."""
    seed: int = 0
    """Of first weights and of every draw."""
    video_share: float = 0.5
    """Share of samples from real video; the rest are moving photos."""
    lr_kinds: dict[str, float] | None = None
    """Weights of the kinds of LR (training/data/degrade.py); None: what suits the pack."""
    loss: Literal["velocity", "robust"] = "velocity"
    """Of latents: ‖v − v*‖² (paper), or ours: errors count by the energy of their coefficient, robustly."""
    device: str = "cpu"
    """cpu, or cuda; under torchrun each process takes the GPU of its local rank."""
    bf16: bool = True
    """Networks compute in bfloat16 where a loss allows; masters, reductions and losses stay float32."""
    gather: Literal["float32", "bfloat16"] = "float32"
    """What ranks send each other of the sharded student; bfloat16 halves it. Score models always send float32."""
    recompute: bool = False
    """Activations of a block are computed again in the backward pass, not kept: less memory, a third more time."""
    autoencoder: AutoencoderRecipe = field(default_factory=lambda: AutoencoderRecipe(steps=500, learning_rate=1e-3))
    regression: RegressionRecipe = field(default_factory=_regression)
    teacher: TeacherRecipe = field(default_factory=lambda: TeacherRecipe(steps=10000, learning_rate=1e-4))
    guided: GuidedRecipe = field(default_factory=lambda: GuidedRecipe(steps=500, learning_rate=1e-5))
    progressive: ProgressiveRecipe = field(default_factory=lambda: ProgressiveRecipe(steps=500, learning_rate=1e-5))
    dual_stream: DualStreamRecipe = field(default_factory=lambda: DualStreamRecipe(steps=2000, learning_rate=1e-5))
    preference: PreferenceRecipe = field(default_factory=lambda: PreferenceRecipe(steps=1000, learning_rate=2e-6))
    light: LightRecipe = field(default_factory=lambda: LightRecipe(steps=20000, learning_rate=2e-4))
    log_every: int = 25
    """Updates between two lines of the log."""
    save_every: int = 200
    """Updates between two checkpoints."""
    evaluate_every: int = 1000
    """Updates between two evaluations on the validation split; each stage ends with one."""
    evaluate_clips: int = 14
    """Held-out clips that are measured."""

    def __post_init__(self) -> None:
        if self.model not in PRESETS:
            raise refused(self, "model", f"known are {', '.join(PRESETS)}")
        require(self, adapters=NATURAL)
        known = [stage for stage in STAGES if stage in self.stages]
        if not known or tuple(known) != self.stages:
            raise refused(self, "stages", f"it must be some of {', '.join(STAGES)}, in this order")
        weights = [1.0] if self.lr_kinds is None else list(self.lr_kinds.values())
        if min(weights, default=0) < 0 or not 0 < sum(weights) < inf:
            raise refused(self, "lr_kinds", "weights must be 0 or more, and one above 0")
        require(
            self,
            seed=NATURAL,
            video_share=SHARE,
            log_every=COUNT,
            save_every=COUNT,
            evaluate_every=COUNT,
            evaluate_clips=COUNT,
        )
        self._fits_family()

    def _fits_family(self) -> None:
        """RecipeError: something that the model's family has not."""
        config = config_of(self.model)
        family = family_of(config)
        if self.adapters and not family.adapters:
            raise refused(self, "adapters", f"{self.model} is small enough to train whole; leave it at 0")
        classes = config.quality_classes
        if classes <= SOFT_CLASS + 1 and "teacher" in self.stages and self.teacher.soft:
            raise refused(self.teacher, "soft", f"{self.model} has no quality class for soft targets; give 0")
        if classes <= SOFT_CLASS + 1 and "guided" in self.stages and self.guided.negative == "soft":
            raise refused(self.guided, "negative", f'{self.model} has no quality class for soft targets; give "null"')
        for stage in map(self.stage, self.stages):
            if family.whole(stage.frames) != stage.frames:
                raise refused(stage, "frames", f"{self.model} takes {family.time}n + 1 frames")
            for name in ("temporal", "consistency", "structure"):
                if getattr(stage, name) and not family.in_pixels:
                    raise refused(stage, name, f"latents of {self.model} are too dear to decode for a loss; give 0")

    def to_json(self) -> str:
        """All fields as JSON."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    def stage(self, name: str) -> StageRecipe:
        """Recipe of a stage by name."""
        found: Any = getattr(self, name)
        assert isinstance(found, StageRecipe)
        return found
