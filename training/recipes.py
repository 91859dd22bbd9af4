"""Recipes: every number of a run, with its unit and where it comes from. Frozen; `run` writes them beside its results.

The three stages are DUO-VSR's (arXiv 2603.22271); `paper` values stand in the field defaults where the paper gives one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from duovsr_vs.errors import OptionError
from duovsr_vs.model.config import PRESETS

STAGES = ("regression", "teacher", "guided", "progressive", "dual_stream")
"""Order in which a run goes through the stages; each starts from the one before."""


def _require(**conditions: bool) -> None:
    for name, good in conditions.items():
        if not good:
            raise OptionError(f"the recipe's {name} is out of range; see its description in training/recipes.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecipe:
    """What all stages have in common."""

    steps: int
    """Updates of the student."""
    learning_rate: float
    """Peak of AdamW's rate; it rises over `warmup` updates and falls along a half cosine to 5 %."""
    warmup: int = 50
    batch: int = 8
    """Pairs of neighbouring frames per update."""
    patch: int = 48
    """Side of a crop in LR pixels, even."""
    temporal: float = 0.15
    """Weight of the loss on what flickers along the motion (not in the paper)."""
    consistency: float = 0.5
    """Weight of the loss on what the output, shrunk, misses of a clean LR (not in the paper)."""
    ema: float = 0.998
    """Decay of the weight average that is evaluated and handed on."""
    clip: float = 1.0
    """Greatest norm of a network's gradient; larger ones are scaled down."""

    def __post_init__(self) -> None:
        _require(
            steps=self.steps >= 1,
            learning_rate=self.learning_rate > 0,
            batch=self.batch >= 1,
            patch=self.patch >= 16 and self.patch % 2 == 0,
            ema=0 <= self.ema < 1,
            clip=self.clip > 0,
            warmup=self.warmup >= 0,
            temporal=self.temporal >= 0,
            consistency=self.consistency >= 0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionRecipe(StageRecipe):
    """One step at t = 1 against the ground truth: where the teacher starts, and the faithful end of the detail dial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherRecipe(StageRecipe):
    """Base diffusion model: denoising at every t, with a quality label that guidance can push away from."""

    soft: float = 0.2
    """Share of targets that are blurred and labelled so."""
    drop: float = 0.1
    """Share of labels replaced by the null class."""
    noise_only: float = 0.15
    """Share of samples at t = 1, the others are uniform in t before the shift."""
    shift: float = 1.0
    """t ← s·t/(1 + (s − 1)·t)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedRecipe(StageRecipe):
    """Stage I, first half: the student alone gives what the teacher gives with guidance. Paper: 500 updates."""

    guidance: float = 1.0
    """w of v_cfg = (1 + w)·v_c − w·v_neg."""
    negative: Literal["null", "soft"] = "soft"
    """Class pushed away from: the null class (paper) or that of blurred targets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressiveRecipe(StageRecipe):
    """Stage I, second half: N → N/2 → … → 1 steps (arXiv 2202.00512). `steps` counts the updates of one round."""

    start_steps: int = 64
    """Steps of the first teacher; a power of two. Paper: 64."""
    shift: float = 1.0

    def __post_init__(self) -> None:
        StageRecipe.__post_init__(self)
        _require(start_steps=self.start_steps >= 2 and self.start_steps & (self.start_steps - 1) == 0)

    @property
    def rounds(self) -> int:
        """How often the number of steps is halved."""
        return self.start_steps.bit_length() - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DualStreamRecipe(StageRecipe):
    """Stage II: distribution matching and the GAN on the features of both score models, together.

    Paper: N = 3, λ 1.0 / 0.1 / 0.05; regression and temporal terms, and the start between student and regression, are
    ours (for small models) and 0 in the paper.
    """

    aux_per_student: int = 3
    """Updates of fake score and heads per update of the student (N), each on its own batch."""
    matching: float = 1.0
    """λ of the distribution matching loss."""
    matching_end: float = 1.0
    """λ is faded to this share of itself over four fifths of the stage."""
    adversarial: float = 0.1
    feature: float = 0.05
    regression: float = 0.0
    """Weight of the robust latent loss against the ground truth."""
    low: float = 0.02
    high: float = 0.98
    """Range of t of the noised samples that both streams share."""
    fake_learning_rate: float = 1e-4
    head_learning_rate: float = 2e-4
    start_blend: float = 1.0
    """The student starts at (1 − a)·regression + a·progressive."""

    def __post_init__(self) -> None:
        StageRecipe.__post_init__(self)
        _require(
            aux_per_student=self.aux_per_student >= 1,
            low=0 < self.low < self.high <= 1,
            start_blend=0 <= self.start_blend <= 1,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A whole run."""

    name: str
    model: str
    """Preset of duovsr_vs.model.config.PRESETS."""
    seed: int = 0
    video_share: float = 0.5
    """Share of samples from real video; the rest are moving photos."""
    device: str = "cpu"
    bf16: bool = True
    """Networks compute in bfloat16 where a loss allows; masters and losses stay float32."""
    regression: RegressionRecipe = field(default_factory=lambda: RegressionRecipe(steps=500, learning_rate=1e-3))
    teacher: TeacherRecipe = field(default_factory=lambda: TeacherRecipe(steps=500, learning_rate=1e-3))
    guided: GuidedRecipe = field(default_factory=lambda: GuidedRecipe(steps=500, learning_rate=3e-4))
    progressive: ProgressiveRecipe = field(default_factory=lambda: ProgressiveRecipe(steps=500, learning_rate=3e-4))
    dual_stream: DualStreamRecipe = field(default_factory=lambda: DualStreamRecipe(steps=2000, learning_rate=1e-4))
    log_every: int = 25
    """Updates between two lines of the log."""
    save_every: int = 200
    """Updates between two checkpoints."""
    evaluate_every: int = 1000
    """Updates between two evaluations on the validation split; each stage ends with one."""

    def __post_init__(self) -> None:
        if self.model not in PRESETS:
            raise OptionError(f"the recipe's model is {self.model!r}; known are {', '.join(PRESETS)}")
        _require(
            video_share=0 <= self.video_share <= 1,
            log_every=self.log_every >= 1,
            save_every=self.save_every >= 1,
            evaluate_every=self.evaluate_every >= 1,
        )

    def to_json(self) -> str:
        """All fields as JSON."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    def stage(self, name: str) -> StageRecipe:
        """Recipe of a stage by name."""
        found: Any = getattr(self, name)
        assert isinstance(found, StageRecipe)
        return found


RECIPES = {
    "smoke": Recipe(
        name="smoke",
        model="tiny",
        regression=RegressionRecipe(steps=4, learning_rate=1e-3, batch=2, patch=24),
        teacher=TeacherRecipe(steps=4, learning_rate=1e-3, batch=2, patch=24),
        guided=GuidedRecipe(steps=3, learning_rate=3e-4, batch=2, patch=24),
        progressive=ProgressiveRecipe(steps=2, learning_rate=3e-4, batch=2, patch=24, start_steps=4),
        dual_stream=DualStreamRecipe(steps=2, learning_rate=1e-4, batch=2, patch=24, aux_per_student=2),
        log_every=1,
        save_every=2,
        evaluate_every=1000,
    ),
    "nano-cpu": Recipe(
        name="nano-cpu",
        model="nano",
        regression=RegressionRecipe(steps=10000, learning_rate=1.5e-3),
        teacher=TeacherRecipe(steps=3000, learning_rate=8e-4),
        guided=GuidedRecipe(steps=300, learning_rate=3e-4, guidance=2.0),
        progressive=ProgressiveRecipe(steps=250, learning_rate=3e-4, start_steps=4),
        dual_stream=DualStreamRecipe(
            steps=300,
            learning_rate=3e-4,
            batch=4,
            matching=0.5,
            matching_end=0.3,
            adversarial=0.2,
            feature=0.0125,
            regression=1.0,
            temporal=0.5,
            high=0.6,
            start_blend=0.5,
            fake_learning_rate=3e-4,
            head_learning_rate=4e-4,
            ema=0.99,
        ),
    ),
}
