"""The silent traps of training such a model (docs/method.md numbers them), and the test that sees each.

  1 sign of DMD                         test_training_losses.py: brings a student to the real distribution; other sign
  2 x̂.grad · numel = g                  test_training_losses.py: gradient is the normalised difference
  3 x̂_F − x̂_R = t·(v_R − v_F)           here; test_training_losses.py: difference of clean estimates
  4 normaliser per sample               test_training_losses.py: one number per sample
  5 normaliser from R, no gradient      test_training_losses.py: from the real score; neither score gets a gradient
  6 R never changes; R, F = guided      here; test_training_dual_stream.py: scores start from the guided model
  7 heads' update leaves F alone        test_training_dual_stream.py: auxiliary update reaches …
  8 student's update reaches S alone    test_training_dual_stream.py: student update reaches the student alone
  9 gradients go through R and F        test_training_dual_stream.py: through both scores; every tap carries a graph
 10 D sees noised latents, ε shared     test_training_dual_stream.py: heads see noised latents only; perfect student
 11 hinge at zero logits                test_training_losses.py: logits of zero; student gains where the heads lose
 12 saturated logits are told           test_training_losses.py: beyond one; test_training_dual_stream.py: share is told
 13 N auxiliary updates, own batches    test_training_dual_stream.py: auxiliary updates come first; makes now
 14 v* and the teacher's grid point     test_training_stages.py: length-weighted mean; points of the shifted grid
 15 guidance of equal velocities        test_training_losses.py: coefficients sum to one; test_training_stages.py
 16 x̂0(z_t, v) = z0                     test_training_losses.py: true velocity gives the clean latent
 17 networks get the shifted float t    here, for every stage; test_training_stages.py
 18 x̂_F − x̂_R in float32                here; test_training_dual_stream.py: uses float32
 19 float32 masters, no float16         here; test_training_learner.py: masters; test_training_stages.py: every weight
 20 DPO starts at ln 2 with a gradient  test_training_toys_preference.py; test_training_preference.py
 21 a swapped pair flips the gradient   here, as 22 and 23; test_training_preference.py
 22 mean, log σ, mean
 23 β belongs to means over elements
 24 the average is evaluated, not used  here; test_training_stages.py: handed on but never trained with
 25 each network has its own clip       here; test_training_learner.py: clipped by its own norm
 26 scaling and upsampling once         here, twice; test_model_generator.py: training and engine give the same frame
 27 a name for every noise              here, over all stages; test_training_stages.py: noise is equal for frames …
 28 the ratio of gradients is logged    test_training_dual_stream.py: ratio is told; test_training_loop.py: in the log

Each was seen to fail with its fault planted.
"""

from __future__ import annotations

import hashlib
import json
from itertools import combinations
from pathlib import Path

import pytest
import torch
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor
from training_files import arrays, copy_of, listen, make_pack, one_batch, recipe, run, stage, times_of

from duovsr_vs.model import flow
from duovsr_vs.model.codec import luma
from duovsr_vs.model.generator import Generator
from duovsr_vs.model.resample import back_project, enlarge
from training.batch import Batch
from training.losses import distribution_matching_loss, preference_loss
from training.run import Run
from training.stages.base import build
from training.stages.dual_stream import DualStream

pytestmark = pytest.mark.usefixtures("trainer_alone")

SEES_TIMES = ("teacher", "guided", "progressive", "dual_stream")
"""Stages that noise something."""


def dual_stream(bf16: bool = False, **fields: object) -> DualStream:
    work = stage("dual_stream", recipe(bf16=bf16, dual_stream={"aux_per_student": 1, **fields}))
    assert isinstance(work, DualStream)
    return work


def digest(network: torch.nn.Module) -> str:
    """Of all weights."""
    mix = hashlib.sha256()
    for tensor in network.state_dict().values():
        mix.update(tensor.contiguous().numpy().tobytes())
    return mix.hexdigest()


def test_3_velocities_move_a_sample_as_clean_estimates_do_from_fake_to_real() -> None:
    """∂L/∂x̂ with both scores given as velocities: along v_R − v_F, per sample."""
    source = torch.Generator().manual_seed(0)
    x, v_real, v_fake, noise = (torch.randn(3, 2, 4, 5, 6, generator=source) for _ in range(4))
    t = torch.tensor([0.1, 0.5, 0.9])
    z = flow.interpolate(x, noise, t)
    x.requires_grad_()
    distribution_matching_loss(x, *(flow.x0_from_velocity(z, v, t) for v in (v_real, v_fake))).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    cosine = torch.cosine_similarity(x.grad.flatten(1), (v_real - v_fake).flatten(1))
    assert float(cosine.min()) > 0.9999


def test_6_the_real_score_has_the_same_hash_after_ten_updates_of_everything_else() -> None:
    work = dual_stream(fake_learning_rate=1e-2, learning_rate=1e-2, steps=10)
    before = {name: digest(getattr(work, name)) for name in ("real", "fake", "student", "heads")}
    run(work, 0, 10)
    changed = [name for name in before if digest(getattr(work, name)) != before[name]]
    assert changed == ["fake", "student", "heads"]
    assert not work.real.training and not work.fake.training


@pytest.mark.parametrize("name", SEES_TIMES)
def test_17_networks_are_given_float32_times_in_0_to_1_shifted_and_never_an_index(name: str) -> None:
    fields: dict[str, object] = {"steps": 3, "start_steps": 8} if name == "progressive" else {}
    found = []
    for shift in (1.0, 4.0):
        work = stage(name, recipe(**{name: {**fields, "shift": shift}}))
        networks = [work.student, *(getattr(work, key) for key in ("teacher", "real", "fake") if hasattr(work, key))]
        times = [times_of(network) for network in networks]
        run(work, 0, 3)
        given = [t for of_network in times for t in of_network]
        assert {t.dtype for t in given} == {torch.float32}
        found.append(torch.cat(given))
    plain, shifted = found
    assert plain.min() > 0 and plain.max() <= 1
    assert ((plain > 0.05) & (plain < 0.95)).any()  # not an index
    assert (shifted >= plain - 1e-6).all() and (shifted > plain + 0.05).any() and shifted.max() <= 1


def test_18_a_difference_of_a_thousandth_keeps_its_direction_under_bfloat16() -> None:
    """Of scores that differ by 0.1 %: in bfloat16 the cosine to the exact gradient would be about one half."""
    gradients, batch = [], one_batch()
    for bf16 in (False, True):
        work = dual_stream(bf16)
        with torch.no_grad():
            work.fake.network.out.weight.mul_(1.001)
        x = (batch.z0 + 0.1).requires_grad_()
        gradients.append(torch.autograd.grad(work.streams(0, x, batch)["dmd"], x)[0].flatten(1))
    assert gradients[0].any() and float(torch.cosine_similarity(*gradients).min()) > 0.99


@pytest.mark.parametrize("name", ["regression", *SEES_TIMES])
def test_19_reduced_precision_is_bfloat16_never_float16_and_learners_hold_float32(name: str) -> None:
    work, seen = stage(name, recipe(bf16=True)), set()
    with work.autocast():
        seen.add((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
    assert seen == {torch.bfloat16}
    for learner in work.learners.values():
        held = [*learner.parameters.values(), *learner.average.values()]
        assert {tensor.dtype for tensor in held} == {torch.float32}


# -- preferences ------------------------------------------------------------------------------------------------


def pulls(winner: list[float], loser: list[float], beta: float = 4.0) -> tuple[Tensor, Tensor, float]:
    """Gradients at Δ_w and Δ_l of each pair, and the loss."""
    w, s = torch.tensor(winner, requires_grad=True), torch.tensor(loser, requires_grad=True)
    loss = preference_loss(w, s, beta)
    loss.backward()  # type: ignore[no-untyped-call]
    assert w.grad is not None and s.grad is not None
    return w.grad, s.grad, float(loss.detach())


def test_21_a_swapped_pair_flips_the_gradient() -> None:
    there, back = pulls([0.0, 0.0], [0.0, 0.0]), pulls([0.0, 0.0], [0.0, 0.0])
    assert (there[0] > 0).all() and torch.equal(there[0], -there[1])  # the winner's error goes down
    assert torch.equal(there[0], -back[1])


def test_22_each_pair_has_its_own_sigmoid_before_the_mean() -> None:
    """A pair that is right already no longer pulls; one mean inside the sigmoid would let it hush the other."""
    winner, _, loss = pulls([-9.0, 0.5], [9.0, 0.0])
    alone, _, of_alone = pulls([0.5], [0.0])
    assert winner[0] < 1e-12 and float(winner[1]) == pytest.approx(float(alone[0]) / 2)
    assert loss == pytest.approx(of_alone / 2, abs=1e-6)


def test_23_beta_counts_errors_as_means_over_elements() -> None:
    """−½·β·(Δ_w − Δ_l) inside σ: at Δ = 0 the gradient at one pair's Δ_w is β/4."""
    winner, _, _ = pulls([0.0], [0.0], beta=100.0)
    assert float(winner[0]) == pytest.approx(25)


# -- who is trained ---------------------------------------------------------------------------------------------


def test_24_what_is_evaluated_is_the_average_and_the_weights_in_training_stay_their_own() -> None:
    work = stage("regression", recipe(regression={"learning_rate": 1e-2, "warmup": 0, "ema": 0.9}))
    run(work, 0, 3)
    before = copy_of(work.student.state_dict())
    averaged = work.averaged()
    for name, parameter in averaged.named_parameters():
        assert torch.equal(parameter, work.learners["student"].average[name])
        assert not torch.equal(parameter, before[name])
        parameter.data.zero_()
    assert all(torch.equal(before[name], tensor) for name, tensor in work.student.state_dict().items())


def test_24_the_measures_in_the_log_are_those_of_the_average(tmp_path: Path) -> None:
    chosen = recipe(regression={"steps": 3, "learning_rate": 1e-2, "warmup": 0, "ema": 0.9, "patch": 24})
    packed, out = make_pack(tmp_path), tmp_path / "run"
    trained = Run(chosen, packed, out, lambda _: None)
    trained.stage("regression")
    logged = [json.loads(line) for line in (out / "regression" / "log.jsonl").read_text().splitlines()]
    (scores,) = [line["evaluation"] for line in logged if "evaluation" in line]
    averaged = build(chosen, load_file(out / "regression" / "result.safetensors"), train=False)
    assert scores == pytest.approx(trained.validation.measure(averaged), rel=1e-6)


def test_25_each_network_of_stage_two_is_clipped_alone() -> None:
    """Three learners whose weights do not overlap and cover their network; one loud loss does not scale another's."""
    work = dual_stream(clip=0.5)
    owned = {name: {id(p) for p in who.parameters.values()} for name, who in work.learners.items()}
    for name, network in (("student", work.student), ("fake", work.fake), ("heads", work.heads)):
        assert owned[name] == {id(p) for p in network.parameters()}
    assert all(not a & b for a, b in combinations(owned.values(), 2))
    assert {who.clip for who in work.learners.values()} == {0.5}


# -- training and run time --------------------------------------------------------------------------------------


def test_26_latents_of_training_are_those_of_the_picture_that_they_give() -> None:
    """Encoding, decoding, the base and its enlargement undo each other: one scale and one resampler."""
    batch, generator = one_batch(), stage("regression").student
    picture = enlarge(batch.condition.base) + generator.decode(batch.z0, batch.condition)
    torch.testing.assert_close(generator.encode(picture, batch.condition), batch.z0, atol=1e-3, rtol=0)
    assert batch.z0.std() > 0.1


def test_26_latents_of_a_batch_decode_to_its_ground_truth_with_no_other_factor() -> None:
    """All of the luma is kept, so the base that the engine enlarges and what is decoded give the truth's exactly."""
    batch, generator = one_batch(), stage("regression").student
    hr, lr = (rearrange(torch.from_numpy(arrays(0)[name]), "b t h w c -> b t c h w") / 255 for name in ("hr", "lr"))
    base = enlarge(back_project(lr[:, 1:-1].flatten(0, 1), generator.config.back_projections)[0]).reshape(hr.shape)
    decoded = generator.decode(batch.z0, batch.condition)
    torch.testing.assert_close(luma(decoded), luma(hr - base), atol=1e-4, rtol=0)
    assert luma(decoded).std() > 5e-3


def seen_by(generator: Generator) -> list[Tensor]:
    """From now on collects the scaled noised latents that a network is given."""
    found: list[Tensor] = []
    listen(generator.network.latent, lambda given: found.append(given[0].detach().float()))
    return found


def noise_in(given: Tensor, clean: Tensor, t: Tensor) -> Tensor:
    """ε of a network's input c_in·((1 − t)·clean + t·ε)."""
    z = given.reshape(clean.shape) / flow.expand(flow.input_scale(t), clean)
    return (z - flow.expand(1 - t, z) * clean) / flow.expand(t, z)


def noises_of_dual_stream(step: int, batch: Batch) -> list[Tensor]:
    """Of the student's two outputs, the fake score's own training, the heads and the student's losses."""
    work = dual_stream()
    with torch.no_grad():
        made = [work.generated(batch, *names) for names in (("aux", step), (work.name, step))]
    times, given = times_of(work.fake), seen_by(work.fake)
    starts = seen_by(work.student)
    work.update(step, iter([batch] * work.batches_per_step))
    clean = (made[0], batch.z0, batch.z0)
    seen = [noise_in(given[n], x, times[n]) for n, x in zip((0, 1, 4), clean, strict=True)]
    return [start.reshape(batch.z0.shape) for start in starts] + seen


def test_27_no_two_stages_steps_or_streams_draw_the_same_noise() -> None:
    """Only what is meant to be shared is: both scores and both sides of the heads see one ε."""
    batch, drawn = one_batch(), []
    for name in ("regression", "teacher", "guided", "progressive"):
        for step in (0, 1):
            work = stage(name)
            times, given = times_of(work.student), seen_by(work.student)
            work.update(step, iter([batch]))
            drawn.append(noise_in(given[0], batch.z0, times[0]))
    for step in (0, 1):
        drawn += noises_of_dual_stream(step, batch)
    flat = [noise[:, 0].flatten() for noise in drawn]
    assert len(flat) == 18 and all(0.9 < float(noise.std()) < 1.1 for noise in flat)
    correlation = torch.corrcoef(torch.stack(flat)).fill_diagonal_(0)
    assert float(correlation.abs().max()) < 0.1
