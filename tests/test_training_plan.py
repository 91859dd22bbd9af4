"""What a run is said to cost is what its updates really cost; nothing is timed here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import repeat
from typing import Any

import numpy as np
import pytest
import torch
from conftest import random_weights
from torch.utils.flop_counter import FlopCounterMode

from duovsr_vs.errors import OptionError
from duovsr_vs.model import codec
from duovsr_vs.model.config import PRESETS
from duovsr_vs.model.generator import Generator
from training.batch import Batch, prepare
from training.costs import Rehearsal, Shape, know_kernels
from training.ledger import Ledger
from training.machine import free_memory, measured_peak
from training.passes import passes
from training.plan import Plan, plan, stage_plan
from training.plan_text import as_json, as_text, describe, duration
from training.preference.pairs import Chosen
from training.presets import RECIPES
from training.recipes import Recipe
from training.stage_recipes import StageRecipe
from training.stages import CLASSES
from training.stages.autoencoder import Autoencoder
from training.stages.base import Stage
from training.stages.preference import Preference

pytestmark = pytest.mark.usefixtures("trainer_alone")

SMOKE, NANO = RECIPES["smoke"], RECIPES["nano-cpu"]
STAGES = ("regression", "teacher", "guided", "progressive", "dual_stream", "preference")
PEAK = 1e11


class GivenPairs(Preference):
    """The stage with pairs that are at hand; how they are made is not part of an update."""

    def pairs_for(self, step: int, part: int = 0) -> tuple[Batch, Chosen]:
        batch = next(batches(self, step))
        return batch, Chosen(batch.z0, batch.z0 + 0.1, torch.ones(len(batch.z0)))


def changed(recipe: Recipe, stage: str, **values: Any) -> Recipe:
    """The recipe with some fields of a stage replaced."""
    return replace(recipe, **{stage: replace(recipe.stage(stage), **values)})  # type: ignore[arg-type]


def build(stage: str, recipe: Recipe = SMOKE) -> Stage:
    classes = {**CLASSES, "autoencoder": Autoencoder, "preference": GivenPairs}
    cls: Any = classes[stage]
    handed = {name: random_weights(PRESETS[recipe.model], n) for n, name in enumerate(cls.needs_of(recipe))}
    built: Stage = cls(recipe, handed)
    return built


def batches(stage: Stage, first: int = 0) -> Iterator[Batch]:
    """Noise for pictures: what an update costs does not depend on what it sees. No target is blurred."""
    shape: StageRecipe = stage.common
    b, t, p = shape.batch, shape.frames, shape.patch
    rng = np.random.default_rng(first)
    while True:
        arrays = {
            "lr": rng.integers(0, 256, (b, t + 2, p, p, 3), np.uint8),
            "hr": rng.integers(0, 256, (b, t, 4 * p, 4 * p, 3), np.uint8),
            "flow": np.zeros((b, t - 1, 2, 4 * p, 4 * p), np.float32),
            "mask": np.ones((b, t - 1, 4 * p, 4 * p), np.uint8),
            "kind": np.zeros(b, np.int64),
            "soft": np.zeros(b, bool),
        }
        yield prepare(getattr(stage, "encoder", stage.student), arrays, 0, first, 0, 0)
        first += 1


def flops_of_an_update(stage: Stage) -> int:
    """Of the second one: the first of stage II also measures the ratio of its gradients."""
    with FlopCounterMode(display=False) as counter:
        stage.update(1, batches(stage))
    return int(counter.get_total_flops())


# -- the count is true ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_flops_are_those_of_a_real_update(stage: str) -> None:
    assert stage_plan(SMOKE, stage).flops == flops_of_an_update(build(stage))


@pytest.mark.parametrize(
    "values",
    [
        {"taps": "real", "consistency": 0.5},
        {"adversarial": 0.0, "feature": 0.0},
        {"aux_per_student": 1, "smoothness": 1.0},
    ],
    ids=lambda values: " ".join(values),
)
def test_flops_of_stage_two_follow_its_streams(values: dict[str, Any]) -> None:
    recipe = changed(SMOKE, "dual_stream", **values)
    real = flops_of_an_update(build("dual_stream", recipe))
    assert stage_plan(recipe, "dual_stream").flops == real


def test_recomputed_blocks_cost_a_forward_pass_more() -> None:
    plain = changed(replace(SMOKE, model="toy"), "regression", frames=3)
    recomputed = replace(plain, recompute=True)
    found, less = stage_plan(plain, "regression"), stage_plan(recomputed, "regression")
    assert less.flops == flops_of_an_update(build("regression", recomputed))
    assert found.flops < less.flops < 1.4 * found.flops


def test_recomputed_blocks_keep_less_where_there_are_many() -> None:
    found, less = (stage_plan(replace(NANO, recompute=chosen), "guided") for chosen in (False, True))
    assert less.memory.activations < 0.9 * found.memory.activations


@pytest.mark.parametrize("stage", ["autoencoder", "teacher"])
def test_flops_with_a_learned_codec_are_those_of_a_real_update(stage: str) -> None:
    recipe = changed(replace(SMOKE, model="toy-learned"), stage, temporal=0.1, consistency=0.5)
    found, work = stage_plan(recipe, stage), build(stage, recipe)
    assert found.flops == flops_of_an_update(work)
    trained = sum(p.numel() for p in work.learners["student"].parameters.values())
    assert found.parameters == {"codec*" if stage == "autoencoder" else "student*": trained}


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("stage", ["regression", "guided", "dual_stream"])
def test_activations_and_gradients_are_what_a_real_update_holds(stage: str, bf16: bool) -> None:
    recipe = replace(SMOKE, bf16=bf16)
    work = build(stage, recipe)
    batch = next(batches(work))
    work.state()  # the moments are there, as after an update
    networks = [module for module in vars(work).values() if isinstance(module, torch.nn.Module)]
    known = [tensor for module in networks for tensor in (*module.parameters(), *module.buffers())]
    known += [*work.state().values(), batch.z0, batch.flow, batch.mask, batch.clean]
    known += [getattr(batch.condition, field.name) for field in fields(batch.condition)]
    with Ledger(known) as ledger:
        work.update(1, repeat(batch))
    memory = stage_plan(recipe, stage).memory
    assert 0.9 < (memory.activations + memory.gradients) / ledger.peak < 1.25


@pytest.mark.parametrize("stage", STAGES)
def test_networks_and_their_weights_are_those_of_the_stage(stage: str) -> None:
    work, found = build(stage), stage_plan(SMOKE, stage)
    trained = {f"{name}*": sum(p.numel() for p in of.parameters.values()) for name, of in work.learners.items()}
    assert {name: count for name, count in found.parameters.items() if name.endswith("*")} == trained
    others = {name for name, value in vars(work).items() if isinstance(value, Generator)} - {*work.learners, "encoder"}
    assert {name for name in found.parameters if not name.endswith("*")} == others
    masters = 4 * sum(trained.values())
    assert (found.memory.weights, found.memory.optimizer) == (masters, 2 * masters)
    kept = 2 if stage == "preference" else 1  # that one remembers the average before winners got worse
    assert found.memory.average == kept * masters
    assert found.memory.gradients == 4 * max(trained.values()), "one network learns at a time"


def test_a_batch_takes_the_memory_that_it_takes() -> None:
    work = build("regression")
    batch = next(batches(work))
    condition = batch.condition
    tensors = [batch.z0, batch.flow, batch.mask, batch.clean]
    tensors += [condition.features, condition.gain, condition.missing, condition.base]
    shape = Shape(work.common.batch, work.common.frames, work.common.patch)
    assert Rehearsal(PRESETS["tiny"], shape, True, False).batch_bytes == sum(tensor.nbytes for tensor in tensors)


def test_counting_leaves_nothing_without_contents_behind() -> None:
    for known in (codec.decoding, codec.encoding, codec.cell_shrink, codec.cell_enlarge, know_kernels):
        known.cache_clear()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    Rehearsal(PRESETS["tiny"], Shape(1, 2, 18), True, False).cost("student", "train")
    assert torch.equal(torch.rand(1), expected), "the random numbers of a run must not depend on its plan"
    generator = Generator(PRESETS["tiny"])
    condition = generator.condition(torch.rand(1, 4, 3, 16, 16))
    z0 = generator.encode(torch.rand(1, 2, 3, 64, 64), condition)
    x0 = generator.denoise(z0, torch.ones(1), condition, torch.zeros(1, dtype=torch.long))
    assert float(x0.detach().abs().sum()) > 0


def test_every_pass_says_why() -> None:
    for recipe in RECIPES.values():
        for stage in recipe.stages:
            table = passes(stage, recipe)
            assert all(one.why and one.times >= 1 and one.rounds >= 1 for one in table)
            assert any(one.mode == "train" for one in table)


# -- what follows from the count --------------------------------------------------------------------------------


def test_flops_grow_with_the_batch_and_their_sum_with_the_updates() -> None:
    once = stage_plan(SMOKE, "teacher")
    twice = stage_plan(changed(SMOKE, "teacher", batch=4, steps=8), "teacher")
    assert twice.flops == pytest.approx(2 * once.flops, rel=1e-3)  # the embedding of t depends on the batch, too
    assert twice.total_flops == pytest.approx(4 * once.total_flops, rel=1e-3)
    assert (twice.samples, twice.tokens) == (2 * once.samples, 2 * once.tokens) == (4, 4 * 2 * 12 * 12)


def test_an_update_of_stage_two_takes_the_samples_of_all_its_batches() -> None:
    settings = SMOKE.dual_stream
    found = stage_plan(SMOKE, "dual_stream")
    assert found.samples == (settings.aux_per_student + 1) * settings.batch
    assert found.updates == settings.steps


def test_a_progressive_stage_goes_through_all_its_rounds() -> None:
    settings = SMOKE.progressive
    assert stage_plan(SMOKE, "progressive").updates == settings.steps * settings.rounds == build("progressive").steps


def test_more_processes_share_weights_and_batch_and_take_less_time() -> None:
    recipe = replace(SMOKE, stages=("teacher", "guided"))
    alone, shared = plan(recipe, 1, PEAK), plan(recipe, 2, PEAK)
    for one, half in zip(alone.stages, shared.stages, strict=True):
        assert half.flops == pytest.approx(one.flops, rel=0.01) and half.samples == one.samples
        assert half.memory.weights == one.memory.weights // 2 and half.memory.frozen == one.memory.frozen // 2
        assert half.memory.activations < 0.7 * one.memory.activations
    assert alone.seconds is not None and shared.seconds == pytest.approx(alone.seconds / 2, rel=0.01)


def test_a_batch_that_the_processes_cannot_divide_is_refused() -> None:
    with pytest.raises(OptionError, match="cannot be divided by 3"):
        plan(SMOKE, 3, PEAK)


def test_time_is_flops_over_the_peak_and_float32_takes_twice_as_long() -> None:
    found = plan(SMOKE, 1, PEAK)
    faster = plan(SMOKE, 1, 10 * PEAK)
    assert found.seconds == pytest.approx(10 * (faster.seconds or 0))
    half, full = (stage_plan(replace(SMOKE, bf16=bf16), "dual_stream", 1, PEAK) for bf16 in (True, False))
    assert 0 < half.flops_float32 < half.flops == full.flops == full.flops_float32
    assert half.seconds is not None and full.seconds is not None
    # the same peak is that of bfloat16 in one case and of float32 in the other
    assert half.seconds / full.seconds == pytest.approx(1 + half.flops_float32 / half.flops)


# -- the machine and the words ----------------------------------------------------------------------------------


def test_what_does_not_fit_is_said_in_a_sentence_per_stage() -> None:
    large = replace(changed(SMOKE, "dual_stream", batch=1024), stages=("regression", "dual_stream"))
    needs = {stage.stage: stage.memory.total for stage in plan(large, 1, PEAK).stages}
    assert plan(large, 1, PEAK, free=max(needs.values())).trouble() == []
    told = plan(large, 1, PEAK, free=max(needs.values()) - 1).trouble()
    assert len(told) == 1
    assert told[0].startswith(f"dual_stream needs {needs['dual_stream'] / 1e9:.1f} GB on each process")
    assert all(part in told[0] for part in ("are free", "--dual-stream.batch", "--recompute", "more processes"))
    already = plan(replace(SMOKE, recompute=True, stages=("regression", "teacher")), 1, PEAK, free=1).trouble()
    assert len(already) == 2 and not any("--recompute" in line for line in already)


def test_the_text_has_a_line_per_stage_and_the_plan_as_json() -> None:
    found = plan(SMOKE, 1, PEAK, free=1)
    lines = as_text(found).splitlines()
    assert json.loads(lines[0]) == json.loads(as_json(found))
    for stage in found.stages:
        line = next(line for line in lines if line.startswith(f"{stage.stage} "))
        assert str(stage.updates) in line.split() and str(stage.tokens) in line.split()
    assert lines[-len(found.stages) :] == found.trouble()
    assert all(len(line) <= 160 for line in lines[3 : -len(found.stages) - 1])


def test_describe_plans_for_a_machine_that_is_elsewhere() -> None:
    elsewhere = replace(SMOKE, device="cuda:7", stages=("regression",))
    assert "times are unknown; give --peak TFLOPS" in describe(elsewhere)
    assert plan(elsewhere).seconds is None
    told = as_text(plan(replace(elsewhere, stages=("teacher",)), 1, 9e14))
    assert "unknown" not in told and "1 process on cuda:7: 900 TFLOP/s at most" in told


def test_this_machine_has_a_peak_and_memory() -> None:
    peak, free = measured_peak("cpu", False, seconds=0.01), free_memory("cpu")
    assert peak is not None and 1e8 < peak < 1e15
    assert free is None or 1e6 < free < 1e15


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "unknown"), (3, "3 s"), (600, "10 min"), (3 * 3600, "3.0 h"), (4 * 86400, "4.0 d")]
)
def test_times_are_written_for_people(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_a_whole_plan_adds_up() -> None:
    found: Plan = plan(SMOKE, 1, PEAK)
    assert found.seconds == pytest.approx(sum(stage.seconds or 0 for stage in found.stages))
    assert [stage.stage for stage in found.stages] == list(SMOKE.stages)
