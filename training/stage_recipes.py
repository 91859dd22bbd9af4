"""What each stage of a run takes: every number with its unit and where it comes from. Frozen.

Field defaults are the paper's (DUO-VSR, arXiv 2603.22271) where it gives one and our reading of it where it does not
(docs/method.md says which); what we add to the paper is off by default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.ranges import (
    COUNT,
    DECAY,
    FINITE,
    NATURAL,
    PART,
    POSITIVE,
    SEVERAL,
    SHARE,
    Range,
    RecipeError,
    refused,
    require,
)

PATCH = Range("even, 16 or more", lambda x: x >= 16 and x % 2 == 0)
STEPS_OF_HALVING = Range("a power of two, 2 or more", lambda x: x >= 2 and int(x) & (int(x) - 1) == 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecipe:
    """What all stages have in common."""

    steps: int
    """Updates of the student, 1 or more."""
    learning_rate: float
    """Peak of AdamW's rate; it rises over `warmup` updates and falls along a half cosine to 5 %."""
    warmup: int = 50
    """Updates over which the rate rises to its peak."""
    batch: int = 8
    """Samples per update, over all processes; they must divide it."""
    micro_batch: int = 0
    """Samples that a process computes at once, a divisor of its share; gradients of the parts are added. 0: all."""
    patch: int = 48
    """Side of a crop in LR pixels, even, 16 or more; every clip of the pack must be that large."""
    frames: int = 2
    """Consecutive frames of a sample, 2 or more; shorter clips are not drawn."""
    temporal: float = 0.0
    """Weight of the loss on what flickers along the motion. Ours; 0 in the paper."""
    consistency: float = 0.0
    """Weight of the loss on what the output, shrunk, misses of a clean LR. Ours; 0 in the paper."""
    structure: float = 0.0
    """Weight of the loss on local structure and contrast, in pixels. Ours; 0 in the paper."""
    ema: float = 0.99
    """Decay of the weight average that is evaluated and handed on. Not given; of Self-Forcing (arXiv 2506.08009)."""
    clip: float = 1.0
    """Greatest norm of a network's gradient; larger ones are scaled down. Not given; ours."""
    weight_decay: float = 0.0
    """Of AdamW. Not given; ours."""

    def __post_init__(self) -> None:
        require(
            self,
            steps=COUNT,
            learning_rate=POSITIVE,
            batch=COUNT,
            micro_batch=NATURAL,
            patch=PATCH,
            frames=SEVERAL,
            ema=DECAY,
            clip=POSITIVE,
            warmup=NATURAL,
            temporal=NATURAL,
            consistency=NATURAL,
            structure=NATURAL,
            weight_decay=NATURAL,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderRecipe(StageRecipe):
    """Learned codecs only: what the flow network's latents stand for. Not part of the paper, which takes its VAE."""

    unit: float = 1e-3
    """Weight of the term that keeps latents near unit variance."""
    statistics: int = 32
    """Batches from which the mean and deviation of each latent channel are taken at the end."""

    def __post_init__(self) -> None:
        StageRecipe.__post_init__(self)
        require(self, unit=NATURAL, statistics=COUNT)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionRecipe(StageRecipe):
    """One step at t = 1 against the ground truth: where a small teacher starts, and the faithful end of the detail
    dial. Not part of the paper, whose teacher starts from a pretrained video model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherRecipe(StageRecipe):
    """Base diffusion model: denoising at every t, with a quality label that guidance can push away from."""

    soft: float = 0.2
    """Share of targets that are blurred and labelled so; above 0 clips that `pack` found soft are labelled so too."""
    drop: float = 0.1
    """Share of labels replaced by the null class."""
    times: Literal["logit_normal", "uniform"] = "logit_normal"
    """Density of t before the shift: σ(n), n standard normal (arXiv 2403.03206), or uniform."""
    noise_only: float = 0.0
    """Share of samples at t = 1, where the one-step student lives. Ours; 0 in the paper."""
    shift: float = 1.0
    """s of t ← s·t/(1 + (s − 1)·t): above 1 more of the times are near noise."""

    def __post_init__(self) -> None:
        StageRecipe.__post_init__(self)
        require(self, soft=SHARE, drop=SHARE, noise_only=SHARE, shift=POSITIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedRecipe(StageRecipe):
    """Stage I, first half: the student alone gives what the teacher gives with guidance. Paper: 500 updates."""

    guidance: float = 1.0
    """w of v_cfg = (1 + w)·v_c − w·v_neg. Not given; our reading."""
    negative: Literal["null", "soft"] = "null"
    """Class pushed away from: the null class (paper) or that of blurred targets."""
    shift: float = 1.0
    """Of the times that are drawn, as the teacher's."""

    def __post_init__(self) -> None:
        StageRecipe.__post_init__(self)
        require(self, guidance=FINITE, shift=POSITIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressiveRecipe(StageRecipe):
    """Stage I, second half: N → N/2 → … → 1 steps (arXiv 2202.00512). `steps` counts the updates of one round: 500."""

    start_steps: int = 64
    """Steps of the first teacher; a power of two, 2 or more. Paper: 64."""
    shift: float = 1.0
    """Of the grid of steps, as the teacher's of its times."""

    def __post_init__(self) -> None:
        StageRecipe.__post_init__(self)
        require(self, start_steps=STEPS_OF_HALVING, shift=POSITIVE)

    @property
    def rounds(self) -> int:
        """How often the number of steps is halved."""
        return self.start_steps.bit_length() - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DualStreamRecipe(StageRecipe):
    """Stage II: distribution matching and the GAN on the features of both score models, together.

    Paper: N = 3, λ 1.0 / 0.1 / 0.05, 2000 updates. Paired and temporal terms, fading and the mixed start are ours.
    """

    aux_per_student: int = 3
    """Updates of fake score and heads per update of the student (N), each on its own batch."""
    matching: float = 1.0
    """λ of the distribution matching loss; 0 leaves that stream out."""
    matching_end: float = 1.0
    """λ is faded to this share of itself over four fifths of the stage (1: never; ours)."""
    adversarial: float = 0.1
    """λ of the GAN; with `feature` 0 as well that stream is left out."""
    feature: float = 0.05
    """λ of feature matching."""
    taps: Literal["both", "real", "fake"] = "both"
    """Score models whose features the heads see. Paper: both."""
    smoothness: float = 0.0
    """Weight of approximate R1 on the heads (arXiv 2506.05301); 0 in the paper."""
    paired: float = 0.0
    """Weight of the robust latent loss against the ground truth. Ours; 0 in the paper."""
    low: float = 0.02
    """Least t of the noised samples that both streams share. Not given; our reading."""
    high: float = 0.98
    """Greatest t of them."""
    shift: float = 1.0
    """Of the times within that range, as the teacher's."""
    fake_learning_rate: float = 1e-5
    """Peak rate of the fake score, which makes `aux_per_student` updates to one of the student. Not given."""
    head_learning_rate: float = 1e-4
    """The same of the heads. Not given."""
    student_from: Literal["progressive", "guided", "teacher"] = "progressive"
    """Stage whose result the student starts from."""
    scores_from: Literal["guided", "teacher"] = "guided"
    """Stage whose result both score models start from; it must be valid at every t."""
    start_blend: float = 1.0
    """The student starts at (1 − a)·regression + a·`student_from`; 1 needs no regression."""
    late: int = 2
    """Checkpoints of the last fifth that are kept for the candidates of the preference stage."""

    def __post_init__(self) -> None:
        StageRecipe.__post_init__(self)
        require(
            self,
            aux_per_student=COUNT,
            low=PART,
            high=PART,
            shift=POSITIVE,
            start_blend=SHARE,
            late=NATURAL,
            matching=NATURAL,
            matching_end=NATURAL,
            adversarial=NATURAL,
            feature=NATURAL,
            smoothness=NATURAL,
            paired=NATURAL,
            fake_learning_rate=POSITIVE,
            head_learning_rate=POSITIVE,
        )
        if self.low >= self.high:
            raise refused(self, "low", f"it must be below high, which is {self.high:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceRecipe(StageRecipe):
    """Stage III: direct preference optimisation (Flow-DPO, arXiv 2501.13918). Paper: 1000 updates, 2000 pairs."""

    pairs: int = 2000
    """LR samples whose candidates are ranked, in each round; fewer pairs come of them where the gap is not clear."""
    candidates: int = 6
    """Outputs per LR sample that are ranked, 2 or more."""
    beta: float = 100.0
    """β of the loss, for errors that are means over elements. Not given; of flow_grpo."""
    anchor: float = 1.0
    """λ of the distance between the student's output and the winner. Ours, on in every recipe; 0 leaves it out."""
    truth_share: float = 0.25
    """Share of groups whose winner is the ground truth (arXiv 2511.01450). Of the pairs it is more: the other groups
    make one only where their gap is clear."""
    at_one: float = 0.8
    """Share of pairs at t = 1, where the student lives; the others are uniform in [low, 1]."""
    low: float = 0.6
    """Least t of those others."""
    refresh: float = 0.5
    """Share of the updates after which pairs are made anew with the student so far; 1: never."""
    noise_scale: tuple[float, float] = (0.5, 1.2)
    """Range of the factor of a candidate's noise."""
    latent_gain: tuple[float, float] = (0.85, 1.2)
    """Range of the factor of a candidate's latents."""
    mixed: float = 0.5
    """Share of candidates from other weights: the detail dial and late checkpoints of stage II."""
    ranker_updates: int = 500
    """Updates of that network, before the first pairs."""
    stop_after: int = 50
    """Updates in a row with Δ_w > 0 after which the stage ends: winners are then forgotten, not learned."""
    rank_ssimulacra2: float = 0.3
    """Weight of the ranker's z-score of SSIMULACRA2; what is not at hand is left out, and its weight shared out."""
    rank_niqe: float = 0.2
    """The same of NIQE."""
    rank_model: float = 0.2
    """The same of a network that is trained on the order of degradations (arXiv 1707.08347); 0: none is."""
    rank_logit: float = 0.1
    """The same of the mean logit of stage II's heads."""
    rank_warp: float = 0.2
    """The same of E_warp."""

    def __post_init__(self) -> None:
        StageRecipe.__post_init__(self)
        ranking = {name: NATURAL for name in self.__slots__ if name.startswith("rank_")}
        require(
            self,
            pairs=COUNT,
            candidates=SEVERAL,
            beta=POSITIVE,
            anchor=NATURAL,
            truth_share=SHARE,
            at_one=SHARE,
            low=PART,
            refresh=PART,
            noise_scale=NATURAL,
            latent_gain=POSITIVE,
            mixed=SHARE,
            ranker_updates=COUNT,
            stop_after=COUNT,
            **ranking,
        )
        for name in ("noise_scale", "latent_gain"):
            low, high = getattr(self, name)
            if low > high:
                raise refused(self, name, "the first number must not be above the second")
        if not any(getattr(self, name) for name in ranking):
            raise RecipeError(f"{', '.join(ranking)} are all 0; one above 0 is needed to rank candidates")


@dataclass(frozen=True, slots=True, kw_only=True)
class LightRecipe(StageRecipe):
    """The light pair of `base-fast`, distilled from the video autoencoder. Not part of the paper."""

    pixel: float = 1.0
    """Weight of the distance of decoded frames from the truth."""
    taught: float = 0.5
    """The same from what the autoencoder decodes of the same latents."""
    edges: float = 1.0
    """The same of differences between neighbouring pixels, at three sizes."""
    features: float = 0.1
    """The same of activations of the first layers of the autoencoder's encoder."""

    def __post_init__(self) -> None:
        StageRecipe.__post_init__(self)
        require(self, pixel=NATURAL, taught=NATURAL, edges=NATURAL, features=NATURAL)
