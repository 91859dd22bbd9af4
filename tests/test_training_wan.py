"""All stages of recipe `paper` with a model of the `base` family at reduced width, for real."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from training_files import copy_of, same
from wan_training import FRAMES, PATCH, arrays, batches, recipe, run, stage, weights

from duovsr_vs.model.config import NULL_CLASS
from training.batch import Batch, noise_for, prepare
from training.models import base_latent
from training.preference.pairs import Chosen
from training.presets import PAPER
from training.ranges import RecipeError
from training.stages.base import START, Stage
from training.stages.preference import Preference
from training.validate import upscale

pytestmark = pytest.mark.usefixtures("trainer_alone")
STAGES = ("teacher", "guided", "progressive", "dual_stream", "preference")


class GivenPairs(Preference):
    """The stage with pairs that are at hand."""

    def pairs_for(self, step: int, part: int = 0) -> tuple[Batch, Chosen]:
        batch = next(batches(self, step))
        other = batch.z0 + 0.1 * noise_for(batch, 1, "pair")
        return batch, Chosen(batch.z0, other, torch.ones(len(batch.z0)))


def built(name: str, **general: Any) -> Stage:
    chosen = recipe(general)
    if name == "preference":
        return GivenPairs(chosen, {"dual_stream": weights(1), START: weights(0)})
    return stage(name, chosen)


@pytest.mark.parametrize("name", STAGES)
def test_an_update_changes_the_weights_and_what_was_saved_goes_on_bit_for_bit(name: str) -> None:
    work, later = built(name), built(name)
    before = copy_of(work.student.state_dict())
    (figures,) = run(work, 0, 1)
    assert all(math.isfinite(value) for value in figures.values()) and figures["gradient"] > 0
    still = {key for key, tensor in work.student.state_dict().items() if torch.equal(tensor, before[key])}
    assert still == {key for key in before if not key.startswith("transformer.") or "text_embedding" in key}
    later.load_state(copy_of(work.state()))
    assert run(work, 1, 2) == run(later, 1, 2) and same(work.state(), later.state())
    assert {tensor.dtype for tensor in work.state().values()} == {torch.float32}


@pytest.mark.parametrize("name", ["teacher", "dual_stream"])
def test_the_parts_of_a_batch_give_the_gradient_of_the_whole(name: str) -> None:
    small = {"micro_batch": 1, "clip": 1e9}
    whole, parts = (stage(name, recipe(**{name: fields})) for fields in ({"clip": 1e9}, small))
    assert (whole.parts, parts.parts) == (1, 2)
    a, b = run(whole, 0, 1)[0], run(parts, 0, 1)[0]
    assert a.keys() == b.keys()
    for key in a.keys() - {"ratio", "dmd"}:  # of the first part alone; normalised by sample
        assert b[key] == pytest.approx(a[key], rel=1e-3, abs=1e-5), key
    for key, learner in whole.learners.items():
        for parameter, moments in learner.optimizer.state.items():
            name_of = next(n for n, p in learner.parameters.items() if p is parameter)
            other = parts.learners[key]
            found = other.optimizer.state[other.parameters[name_of]]["exp_avg"]
            scale = float(moments["exp_avg"].abs().max())
            torch.testing.assert_close(found, moments["exp_avg"], rtol=1e-2, atol=1e-3 * scale + 1e-9)


def test_every_latent_has_noise_of_its_own_that_belongs_to_its_slot() -> None:
    batch = next(batches(built("teacher")))
    noise = noise_for(batch, 0, "a")
    assert noise.shape == batch.z0.shape == (2, 2, 16, PATCH // 2, PATCH // 2)
    assert len({frame.sum().item() for frame in noise.flatten(0, 1)}) == 4
    second = replace(batch, z0=batch.z0[1:], slots=range(1, 2))
    assert torch.equal(noise_for(second, 0, "a"), noise[1:])


def test_labels_choose_between_the_learned_tokens_and_those_for_no_text() -> None:
    work = built("guided")
    batch = next(batches(work))
    assert batch.quality.tolist() == [1, 1]
    dropped = prepare(work.encoder, arrays(0), 0, 0, 0.0, 1.0)
    assert dropped.quality.tolist() == [NULL_CLASS] * 2
    assert run(work, 0, 1)[0]["guidance"] > 0  # v_c is not v_null


@pytest.mark.parametrize("adapters", [0, 3])
@pytest.mark.parametrize("name", ["teacher", "guided", "dual_stream"])
def test_a_text_is_what_is_looked_at_and_never_what_is_learned(name: str, adapters: int) -> None:
    work = stage(name, recipe({"model": "base-tiny-text", "adapters": adapters}))
    text = {key: value for key, value in work.student.state_dict().items() if key.endswith("context")}
    before = copy_of(work.student.state_dict())
    figures = run(work, 0, 2)[-1]
    assert len(text) == 1 and all(torch.equal(value, before[key]) for key, value in text.items())
    assert not any("context" in key for key in work.state()) and figures["gradient"] > 0
    changed = [key for key, value in work.student.state_dict().items() if not torch.equal(value, before[key])]
    assert any("cross_attn" in key for key in changed), "how the text is looked at is learned"
    assert figures.get("guidance", 1) > 0, "the null class has tokens of its own"


def test_candidates_are_about_the_latents_of_the_enlarged_lr() -> None:
    batch = next(batches(built("teacher")))
    centre = base_latent(built("teacher").student, batch.condition, batch.z0)
    assert centre is batch.condition.latents and centre.shape == batch.z0.shape


@pytest.mark.parametrize("frames", [1, 3, 6])
def test_clips_of_any_length_are_shown_whole(frames: int) -> None:
    generator = built("teacher").averaged()
    lr = arrays(0, 1, PATCH, FRAMES)["lr"][0][:frames]
    assert upscale(generator, lr).shape == (frames, 4 * PATCH, 4 * PATCH, 3)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"teacher": {"temporal": 0.1}}, r"teacher.temporal is 0.1; latents of base-tiny are too dear to decode"),
        ({"dual_stream": {"consistency": 0.5}}, "dual_stream.consistency is 0.5; latents of base-tiny"),
        ({"guided": {"frames": 4}}, r"guided.frames is 4; base-tiny takes 4n \+ 1 frames"),
        ({"teacher": {"soft": 0.2}}, "teacher.soft is 0.2; base-tiny has no quality class for soft targets"),
        ({"guided": {"negative": "soft"}}, "guided.negative is 'soft'; base-tiny has no quality class for soft"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_what_the_family_has_not_is_refused_in_a_sentence(fields: dict[str, dict[str, Any]], told: str) -> None:
    with pytest.raises(RecipeError, match=told) as refused:
        recipe(**fields)
    assert "\n" not in str(refused.value)


def test_the_paper_recipe_has_the_papers_numbers_and_base() -> None:
    assert PAPER.model == "base" and PAPER.dual_stream.aux_per_student == 3
    assert (PAPER.guided.steps, PAPER.progressive.start_steps, PAPER.dual_stream.steps) == (500, 64, 2000)
    assert (PAPER.preference.steps, PAPER.preference.pairs) == (1000, 2000)
