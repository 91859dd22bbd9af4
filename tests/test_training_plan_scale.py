"""Plans at the scale of `base`: deep models from shallow ones, GPUs that are not here, stages on fake tensors."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import repeat

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from wan_training import batches, recipe, stage

from duovsr_vs.model.family import PRESETS
from duovsr_vs.model.wan.config import BaseConfig
from training.__main__ import main
from training.costs import Mode, Rehearsal, Shape
from training.depth import Deep
from training.fleet import Card, as_text, spread
from training.ledger import Ledger
from training.plan import stage_plan
from training.presets import PAPER
from training.rehearse import rehearsed

pytestmark = [pytest.mark.usefixtures("trainer_alone"), pytest.mark.slow]
SHAPE = Shape(2, 9, 16)
AGREES = 0.1
"""How near plan and rehearsal are, as docs/training.md says."""


def deep(blocks: int) -> BaseConfig:
    tiny = PRESETS["base-tiny"]
    assert isinstance(tiny, BaseConfig)
    return tiny.with_values(transformer=replace(tiny.transformer, blocks=blocks))


@pytest.mark.parametrize(("blocks", "adapters"), [(5, 3)])
def test_a_deep_model_costs_what_counting_all_of_it_tells(blocks: int, adapters: int) -> None:
    found = Deep(deep(blocks), SHAPE, True, True, "both", adapters)
    whole = Rehearsal(deep(blocks), SHAPE, True, True, "both", adapters)
    cases: list[tuple[str, Mode, bool]] = [
        ("student", "train", False), ("student", "forward", False), ("real", "through", True), ("heads", "train", True),
        ("encode", "forward", False),
    ]  # fmt: skip
    for part, mode, full in cases:
        a, b = found.cost(part, mode, full), whole.cost(part, mode, full)
        assert a.flops == pytest.approx(b.flops, rel=1e-3), part
        assert 0.9 * (b.kept + b.working) <= a.kept + a.working <= 1.1 * (b.kept + b.working), part
    for part in ("student", "heads", "codec"):
        assert (found.parameters(part), found.own(part)) == (whole.parameters(part), whole.own(part))
    assert found.batch_bytes == whole.batch_bytes


@pytest.mark.parametrize(("name", "adapters"), [("teacher", 0), ("dual_stream", 3)])
def test_flops_are_those_of_a_real_update(name: str, adapters: int) -> None:
    chosen = recipe({"adapters": adapters})
    work = stage(name, chosen)
    with FlopCounterMode(display=False) as counter:
        work.update(1, batches(work))
    assert stage_plan(chosen, name).flops == pytest.approx(counter.get_total_flops(), rel=1e-3)
    own = {f"{key}*": sum(p.numel() for p in who.parameters.values()) for key, who in work.learners.items()}
    found = stage_plan(chosen, name).parameters
    assert {key: n for key, n in found.items() if key.endswith("*")} == own


@pytest.mark.parametrize(
    ("name", "adapters", "bf16"),
    [*((name, 0, bf16) for name in PAPER.stages for bf16 in (False, True)), ("dual_stream", 3, True)],
)
def test_the_plan_of_a_stage_is_what_it_takes_on_tensors_without_contents(name: str, adapters: int, bf16: bool) -> None:
    chosen = recipe({"adapters": adapters, "bf16": bf16}, **{name: {"batch": 4, "micro_batch": 2}})
    found, plan = rehearsed(chosen, name), stage_plan(chosen, name)
    assert plan.flops == pytest.approx(found.flops, rel=2e-3)
    assert plan.memory.total == pytest.approx(found.peak, rel=AGREES)
    assert plan.memory.standing == pytest.approx(found.standing, rel=AGREES)
    assert float(torch.ones(1).sum()) == 1, "nothing without contents is left behind"


@pytest.mark.parametrize("name", ["teacher", "dual_stream"])
def test_a_real_update_holds_what_the_plan_says(name: str) -> None:
    chosen = recipe({"bf16": True}, **{name: {"batch": 4, "micro_batch": 2}})
    work = stage(name, chosen)
    work.state()  # the moments are there, as after an update
    networks = [module for module in vars(work).values() if isinstance(module, torch.nn.Module)]
    known = [tensor for module in networks for tensor in (*module.parameters(), *module.buffers())]
    batch = next(batches(work))
    known += [
        *work.state().values(),
        batch.z0,
        *(getattr(batch.condition, part.name) for part in fields(batch.condition)),
    ]
    with Ledger(known) as ledger:
        work.update(1, repeat(batch))
    memory = stage_plan(chosen, name).memory
    assert memory.activations + memory.gradients == pytest.approx(ledger.peak, rel=AGREES)


def test_the_teacher_of_paper_runs_at_full_size_without_memory() -> None:
    """1.42 B weights with their moments and average; the test would need 23 GB if anything were allocated."""
    small = {name: replace(PAPER.stage(name), batch=1, micro_batch=0, patch=32, frames=5) for name in PAPER.stages}
    blocks = rehearsed(replace(PAPER, **small), "teacher")  # type: ignore[arg-type]
    assert blocks.standing > 16 * 1_418_996_800 and blocks.flops > 6 * 1_300_000_000 * 16 * 16 // 4


def test_more_gpus_take_less_time_and_the_largest_micro_batch_that_fits() -> None:
    chosen = replace(recipe(teacher={"batch": 4, "micro_batch": 1}), stages=("teacher",))
    one, two = (spread(chosen, gpus) for gpus in (1, 2))
    assert one.fits and two.fits and two.seconds == pytest.approx(one.seconds / 2, rel=0.05)
    assert [plan.micro_batch for plan in (one.stages[0], two.stages[0])] == [4, 2]
    assert two.stages[0].memory.weights == one.stages[0].memory.weights // 2
    tight = spread(chosen, 1, Card(memory=one.stages[0].memory.total))
    assert tight.stages[0].micro_batch < 4
    text = as_text(one, chosen)
    assert "base-tiny on 1 GPU of 80 GB: whole weights, not sharded; at an assumed MFU of 35%" in text
    assert "options: --teacher.micro-batch 4" in text


def test_what_fits_in_no_way_is_said() -> None:
    chosen = replace(recipe(), stages=("teacher",))
    text = as_text(spread(chosen, 1, Card(memory=1e6)), chosen)
    assert "teacher needs 0 GB and does not fit: give smaller --teacher.patch" in text and "adapters of rank 64" in text


def test_a_batch_that_the_gpus_cannot_divide_grows_and_the_options_say_so() -> None:
    chosen = replace(recipe(), stages=("teacher",))
    found = spread(chosen, 8)
    assert found.recipe.teacher.batch == 8 and "--teacher.batch 8" in as_text(found, chosen)


def test_the_command_prints_a_plan_for_each_number_of_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--model", "base-tiny", "--stages", "teacher"]
    small += ["--teacher.patch", "16", "--teacher.frames", "5", "--teacher.batch", "2"]
    assert main(["run", "--recipe", "paper", *small, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert [f"base-tiny on {n} GPU{'s' * (n > 1)} of 80 GB" in told for n in (1, 8, 64)] == [True] * 3
    assert main(["run", "--recipe", "paper", *small, "--dry-run", "--gpus", "4", "--memory", "141"]) == 0
    told = capsys.readouterr().out
    assert "base-tiny on 4 GPUs of 141 GB" in told and " 64 GPUs" not in told
    assert main(["run", "--recipe", "paper", *small, "--dry-run", "--gpus", "1", "--rehearse"]) == 0
    assert "teacher, one update without contents: " in capsys.readouterr().out
    assert main(["run", "--recipe", "paper", "--dry-run", "--gpus", "0"]) == 2
    assert "--gpus and --memory must be above 0" in capsys.readouterr().err
