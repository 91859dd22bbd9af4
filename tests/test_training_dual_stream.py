"""Stage II: who gets which gradient, what the heads see, and in which order things happen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from training_files import (
    batches,
    copy_of,
    count_gradients,
    listen,
    one_batch,
    recipe,
    run,
    same,
    stage,
    times_of,
    weights,
)

from duovsr_vs.model import flow
from duovsr_vs.model.generator import Generator
from training.batch import Batch, noise_for
from training.discriminator import Discriminator, default_taps
from training.stages.dual_stream import DualStream, held

pytestmark = pytest.mark.usefixtures("trainer_alone")


def dual_stream(bf16: bool = False, **fields: Any) -> DualStream:
    """The stage with other weights behind each of its networks, a student between two of them."""
    work = stage("dual_stream", recipe(bf16=bf16, dual_stream={"start_blend": 0.5, **fields}))
    assert isinstance(work, DualStream)
    return work


def networks(work: DualStream) -> dict[str, torch.nn.Module]:
    return {"student": work.student, "real": work.real, "fake": work.fake, "heads": work.heads}


def has_gradients(network: torch.nn.Module) -> bool:
    return any(p.grad is not None for p in network.parameters())


def test_scores_start_from_the_guided_model_and_the_student_from_the_one_step_model() -> None:
    work = dual_stream(start_blend=0.25)
    regression, guided, progressive = (weights(n) for n in (1, 2, 3))  # as `stage` hands them out
    assert same(work.real.state_dict(), guided) and same(work.fake.state_dict(), guided)
    mixed = {name: 0.75 * regression[name] + 0.25 * progressive[name] for name in regression}
    for name, tensor in work.student.state_dict().items():
        torch.testing.assert_close(tensor, mixed[name])
    whole = stage("dual_stream", recipe(dual_stream={"start_blend": 1.0}))
    assert same(whole.student.state_dict(), weights(2))  # nothing of a regression is asked for


def test_the_real_score_never_changes_and_scores_stay_in_evaluation_mode() -> None:
    work = dual_stream(fake_learning_rate=1e-2)
    before = copy_of(work.real.state_dict())
    run(work, 0, 3)
    assert same(work.real.state_dict(), before) and not same(work.fake.state_dict(), before)
    assert not work.real.training and not work.fake.training
    assert all(not p.requires_grad for p in work.real.parameters())
    assert all(p.requires_grad for network in (work.fake, work.heads) for p in network.parameters())


# -- gradients --------------------------------------------------------------------------------------------------


def test_an_auxiliary_update_reaches_the_fake_score_once_and_the_heads_once_and_nothing_else() -> None:
    work = dual_stream()
    arrivals = count_gradients(networks(work))
    before = {name: copy_of(network.state_dict()) for name, network in networks(work).items()}
    work.auxiliary(0, one_batch())
    assert arrivals == {"fake": 1, "heads": 1}  # a second one at the fake score would be the heads' loss leaking
    after = {name: network.state_dict() for name, network in networks(work).items()}
    assert [name for name in before if same(before[name], after[name])] == ["student", "real"]
    assert not any(map(has_gradients, networks(work).values()))


def test_a_student_update_reaches_the_student_alone() -> None:
    work = dual_stream()
    arrivals = count_gradients(networks(work))
    before = {name: copy_of(network.state_dict()) for name, network in networks(work).items()}
    work.update_student(0, one_batch())
    assert arrivals == {"student": 1}
    after = {name: network.state_dict() for name, network in networks(work).items()}
    assert [name for name in before if same(before[name], after[name])] == ["real", "fake", "heads"]
    assert not any(map(has_gradients, networks(work).values()))


@pytest.mark.parametrize("term", ["matching", "adversarial", "feature", "paired"])
def test_each_term_alone_moves_the_student(term: str) -> None:
    alone = {name: float(name == term) for name in ("matching", "adversarial", "feature", "paired", "temporal")}
    work = dual_stream(**alone)
    with torch.no_grad():
        work.fake.network.out.weight.mul_(1.1)  # while both scores are equal there is nothing to match
    assert work.update_student(0, one_batch())["gradient"] > 1e-6


@pytest.mark.parametrize("term", ["gan", "features"])
def test_the_gradient_of_the_feature_losses_goes_through_both_scores(term: str) -> None:
    """Against a finite difference: a score model without a graph gives the same loss and another gradient."""
    work, batch = dual_stream(), one_batch()
    with held(work.fake, work.heads):
        x = batch.z0.clone().add_(0.3).requires_grad_()
        (gradient,) = torch.autograd.grad(work.streams(0, x, batch)[term], x)
        direction = gradient / gradient.norm()
        with torch.no_grad():
            ahead, behind = (float(work.streams(0, x + h * direction, batch)[term]) for h in (0.05, -0.05))
    assert float(gradient.norm()) == pytest.approx((ahead - behind) / 0.1, rel=0.02)


def test_every_tap_of_the_student_update_carries_a_graph() -> None:
    work, batch = dual_stream(), one_batch()
    x = batch.z0.clone().requires_grad_()
    for score in (work.real, work.fake):
        _, taps = work.look(score, x, torch.tensor([0.3, 0.6]), batch)
        assert len(taps) == len(work.heads.taps) and all(tap.grad_fn is not None for tap in taps)


# -- what is seen -----------------------------------------------------------------------------------------------


def seen_by(generator: Generator) -> list[Tensor]:
    """From now on collects the (scaled) noised latents that a network is given."""
    found: list[Tensor] = []
    listen(generator.network.latent, lambda given: found.append(given[0].detach().float()))
    return found


def test_the_heads_see_noised_latents_only_and_the_same_of_both_scores() -> None:
    work = dual_stream(low=0.3, high=0.6)
    times = {name: times_of(score) for name, score in (("real", work.real), ("fake", work.fake))}
    inputs = {name: seen_by(score) for name, score in (("real", work.real), ("fake", work.fake))}
    for n in range(4):
        work.auxiliary(n, one_batch(n))
        own, *shared = times["fake"][-3:]  # the fake score's own training comes first, with a time of its own
        assert not torch.equal(own, shared[0])
        assert torch.equal(torch.stack(shared), torch.stack(times["real"][-2:]))
        assert torch.equal(shared[0], shared[1])  # ground truth and generated alike
        assert all(torch.equal(a, b) for a, b in zip(inputs["fake"][-2:], inputs["real"][-2:], strict=True))
    work.update_student(0, one_batch())
    assert torch.equal(torch.stack(times["fake"][-2:]), torch.stack(times["real"][-2:]))
    assert all(float(t.min()) >= 0.3 and float(t.max()) <= 0.6 for t in times["real"])
    assert len({float(t[0]) for t in times["real"]}) == 5


def noise_in(seen: Tensor, clean: Tensor, t: Tensor) -> Tensor:
    """ε of a network's input c_in·((1 − t)·clean + t·ε)."""
    z = seen.reshape(clean.shape) / flow.expand(flow.input_scale(t), clean)
    return (z - flow.expand(1 - t, z) * clean) / flow.expand(t, z)


def test_ground_truth_and_generated_get_the_same_noise_and_the_fake_score_trains_with_its_own() -> None:
    work, batch = dual_stream(low=0.02, high=1.0), one_batch()
    with torch.no_grad():
        x = work.generated(batch, "aux", 0)
    times, inputs = times_of(work.fake), seen_by(work.fake)
    work.auxiliary(0, batch)
    own, real, fake = (noise_in(*given) for given in zip(inputs, (x, batch.z0, x), times, strict=True))
    torch.testing.assert_close(real, fake, atol=1e-3, rtol=1e-3)
    assert all(0.9 < float(noise.std()) < 1.1 and noise.mean().abs() < 0.1 for noise in (own, real, fake))
    assert not torch.equal(times[0], times[1]) and not torch.allclose(own, real, atol=0.1)


@pytest.mark.parametrize("bf16", [False, True])
def test_feature_matching_of_a_perfect_student_is_zero(bf16: bool) -> None:
    work, batch = dual_stream(bf16), one_batch()
    assert work.streams(0, batch.z0.clone(), batch)["features"] == 0
    assert work.streams(0, batch.z0 + 0.1, batch)["features"] > 0


def test_distribution_matching_moves_the_student_from_the_fake_estimate_to_the_real_one() -> None:
    work, batch = dual_stream(), one_batch()
    with torch.no_grad():
        work.fake.network.out.weight.mul_(1.2)
    x = (batch.z0 + 0.1).requires_grad_()
    (gradient,) = torch.autograd.grad(work.streams(0, x, batch)["dmd"], x)
    t = work.times(batch, work.settings.low, work.settings.high, "student", 0)
    z = flow.interpolate(x.detach(), noise_for(batch, work.seed, "shared", 0), t)
    x_real, x_fake = (work.look(score, z, t, batch)[0].detach() for score in (work.real, work.fake))
    wanted = (x_fake - x_real) * work.energy**2
    cosine = torch.nn.functional.cosine_similarity(gradient.flatten(1), wanted.flatten(1))
    assert float(cosine.min()) > 0.999


def test_distribution_matching_is_zero_while_the_scores_agree_and_uses_float32() -> None:
    work, batch = dual_stream(bf16=True), one_batch()
    found: list[torch.dtype] = []
    for score in (work.real, work.fake):
        score.network.out.register_forward_hook(lambda m, i, out: found.append(out.dtype))
    assert work.streams(0, batch.z0 + 0.1, batch)["dmd"] == 0
    assert found[:2] == [torch.float32] * 2
    with torch.no_grad():
        work.fake.network.out.weight.mul_(1.001)
    assert work.streams(0, batch.z0 + 0.1, batch)["dmd"] > 0


# -- the cycle --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
def test_auxiliary_updates_come_first_each_on_a_batch_of_its_own(count: int) -> None:
    work = dual_stream(aux_per_student=count)
    taken: list[Batch] = []

    def counted() -> Iterator[Batch]:
        for batch in batches(work.student):
            taken.append(batch)
            yield batch

    arrivals: list[str] = []
    for name, network in networks(work).items():
        parameter = next(network.parameters())
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda _, name=name: arrivals.append(name))
    given: list[Tensor] = []
    listen(work.student.network, lambda arguments: given.append(arguments[0].detach().clone()))
    source = counted()
    work.update(0, source)
    assert arrivals == ["fake", "heads"] * count + ["student"]
    assert len(taken) == count + 1 == work.batches_per_step
    for features, batch in zip(given, taken, strict=True):
        assert torch.equal(features, batch.condition.features.flatten(0, 1))
    steps = {name: {int(s["step"]) for s in who.optimizer.state.values()} for name, who in work.learners.items()}
    assert steps == {"student": {1}, "fake": {count}, "heads": {count}}


def test_no_update_repeats_the_times_and_noise_of_another() -> None:
    work, batch = dual_stream(), one_batch()
    times, inputs = times_of(work.fake), seen_by(work.fake)
    for step in (1, 2):  # at step 0 the streams' gradients are compared, with the student's draws
        work.update(step, iter([batch] * work.batches_per_step))
    assert len({float(t[0]) for t in times}) == 2 * (2 * work.settings.aux_per_student + 1)
    assert len({float(z.sum()) for z in inputs}) == len(inputs)


def test_the_fake_score_learns_what_the_student_makes_now() -> None:
    work, other, batch = dual_stream(), dual_stream(), one_batch()
    with torch.no_grad():
        other.student.network.out.weight.mul_(2)
    for who in (work, other):
        with torch.no_grad():
            x = who.generated(batch, "aux", 0)
        assert who.auxiliary(0, batch)["fake"] == dual_stream().fake_loss(0, x, batch)[1]["fake"]
    assert not same(work.fake.state_dict(), other.fake.state_dict())


def test_the_fake_score_learns_to_denoise_what_it_is_given_instead_of_the_ground_truth() -> None:
    work, batch = dual_stream(fake_learning_rate=3e-3, steps=1000, warmup=1), one_batch()
    x, t = batch.z0.flip(-1), torch.full((2,), 0.5)
    z = flow.interpolate(x, noise_for(batch, 0, "test"), t)

    @torch.no_grad()
    def error(target: Tensor) -> float:
        return float((work.fake.denoise(z, t, batch.condition, batch.quality) - target).square().mean())

    before = error(x)
    for n in range(40):
        work.descend("fake", n, [work.fake_loss(n, x, batch)])
    assert error(x) < 0.9 * before < before < error(batch.z0)


def test_the_heads_learn_to_tell_real_from_generated() -> None:
    work, batch = dual_stream(head_learning_rate=1e-3, steps=1000, warmup=1, low=0.02, high=0.3), one_batch()
    with torch.no_grad():
        work.student.network.out.weight.mul_(3)
    for n in range(40):
        figures = work.auxiliary(n, batch)
    assert figures["d_real"] > 0.3 > -0.3 > figures["d_fake"] and figures["heads"] < 1.4


@pytest.mark.parametrize(("logit", "share"), [(2.0, 0.5), (0.9, 0.0), (-0.9, 0.0), (-2.0, 0.5)])
def test_the_share_of_logits_without_a_gradient_is_told(logit: float, share: float) -> None:
    """Beyond ±1 on the right side: all logits above 1 are half right, those of the truth."""
    work = dual_stream()
    with torch.no_grad():
        for head in work.heads.heads:
            last = head.layers[-1]  # type: ignore[union-attr, index]
            last.weight.zero_()
            last.bias.fill_(logit)
    figures = work.auxiliary(0, one_batch())
    assert [figures[name] for name in ("d_real", "d_fake")] == pytest.approx([logit, logit])
    assert figures["saturated"] == share


def test_every_network_tells_its_gradient_and_auxiliary_updates_the_mean_of_their_figures() -> None:
    work, other = (dual_stream(aux_per_student=3) for _ in range(2))
    figures, source = work.update(1, batches(work.student)), batches(other.student)
    made = [other.auxiliary(3 + k, next(source)) for k in range(3)]
    for name in ("fake", "heads", "saturated", "gradient_fake", "gradient_heads"):
        assert figures[name] == pytest.approx(sum(f[name] for f in made) / 3)
    assert "gradient" not in made[0]
    assert len({figures[name] for name in ("gradient", "gradient_fake", "gradient_heads")}) == 3


def test_the_ratio_of_the_two_streams_gradients_is_told() -> None:
    work, batch = dual_stream(adversarial=0.2, matching=0.5), one_batch()
    work.auxiliary(0, batch)  # or both scores are equal
    with held(work.fake, work.heads):
        x = work.generated(batch, work.name, 0)
        terms = work.streams(0, x, batch)
        gan, dmd = (torch.autograd.grad(terms[name], x, retain_graph=True)[0].norm() for name in ("gan", "dmd"))
    assert work.update_student(0, batch)["ratio"] == pytest.approx(0.2 * float(gan) / (0.5 * float(dmd)), rel=1e-3)


def test_the_weight_of_distribution_matching_fades_over_four_fifths() -> None:
    work = dual_stream(steps=100, matching=2.0, matching_end=0.25)
    assert [work.matching(n) for n in (0, 40, 80, 99)] == pytest.approx([2.0, 1.25, 0.5, 0.5])
    assert dual_stream(steps=100).matching(99) == 1.0


def test_heads_sit_at_the_quarters_of_the_depth_and_each_gives_a_patch_of_logits() -> None:
    assert [default_taps(n) for n in (1, 2, 4, 5, 12)] == [(0,), (0, 1), (0, 1, 2, 3), (0, 1, 3, 4), (2, 5, 8, 11)]
    heads = Discriminator(8, (0, 2))
    activations = [torch.randn(3, 8, 6, 10, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    chosen = heads.choose(activations)
    assert [a is b for a, b in zip(chosen, (activations[0], activations[2]), strict=True)] == [True, True]
    logits = heads(chosen, chosen, 3)
    assert logits.shape == (2 * 3 * 3 * 5,)
    for side in range(2):  # both score models count
        other = [[*chosen], [*chosen]]
        other[side] = [tap + 1 + tap.square() for tap in chosen]
        assert not torch.allclose(heads(*other, 3), logits)


@pytest.mark.parametrize("taps", ["real", "fake"])
def test_heads_may_look_at_one_score_model_only(taps: str) -> None:
    work, batch = dual_stream(taps=taps), one_batch()
    with torch.no_grad():
        work.fake.network.out.weight.mul_(1.1)  # beyond the last tap: nothing that heads may see
        before = work.streams(0, batch.z0 + 0.1, batch)
        other = work.real if taps == "fake" else work.fake
        other.network.blocks[-1].second.weight.mul_(2)
        same_again = work.streams(0, batch.z0 + 0.1, batch)
        (work.fake if taps == "fake" else work.real).network.blocks[-1].second.weight.mul_(2)
        after = work.streams(0, batch.z0 + 0.1, batch)
    for name in ("gan", "features"):
        assert before[name] == same_again[name] != after[name]


def test_heads_see_neighbouring_frames() -> None:
    heads = Discriminator(8, (0,))
    still = torch.randn(1, 8, 6, 6, generator=torch.Generator().manual_seed(0)).repeat(3, 1, 1, 1)
    moved = still.clone()
    moved[2] = moved[2].flip(-1)
    first = [heads([clip], [clip], 3).reshape(3, 9)[1] for clip in (still, moved)]
    assert not torch.allclose(*first)


@pytest.mark.parametrize(
    ("left_out", "fields"), [("dmd", {"matching": 0.0}), ("gan", {"adversarial": 0.0, "feature": 0.0})]
)
def test_a_stream_of_weight_zero_is_left_out(left_out: str, fields: dict[str, float]) -> None:
    work = dual_stream(**fields)
    run(work, 0, 1)
    figures = work.update(1, batches(work.student, 4))
    assert left_out not in figures and figures["gradient"] > 0 and ("heads" in figures) == (left_out != "gan")
    assert bool(work.extras()) == (left_out != "gan"), "heads that have not learned are not asked afterwards"


def test_approximate_r1_makes_the_heads_smoother() -> None:
    rough, smooth = (
        dual_stream(head_learning_rate=1e-3, warmup=1, steps=1000),
        dual_stream(head_learning_rate=1e-3, warmup=1, steps=1000, smoothness=100.0),
    )
    found = []
    for work in (rough, smooth):
        for n in range(30):
            work.auxiliary(n, one_batch())
        with torch.no_grad():
            x = one_batch().z0 + 0.1
            seen = [work.look(score, x, torch.full((2,), 0.3), one_batch())[1] for score in (work.real, work.fake)]
            logits = work.heads(*seen, 2)
            found.append(float(work.roughness(0, seen, logits, one_batch())))
    assert found[1] < found[0]


def test_a_student_may_start_from_and_be_scored_by_the_teacher_alone() -> None:
    chosen = recipe(dual_stream={"student_from": "teacher", "scores_from": "teacher"})
    work = stage("dual_stream", chosen)
    assert DualStream.needs_of(chosen) == ("teacher",)
    assert isinstance(work, DualStream) and same(work.student.state_dict(), work.real.state_dict())
    assert DualStream.needs_of(recipe(dual_stream={"start_blend": 0.5})) == ("regression", "guided", "progressive")


def test_late_checkpoints_lie_in_the_last_fifth() -> None:
    work = dual_stream(steps=100, late=3)
    assert [n for n in range(1, 101) if work.keeps(n)] == [85, 90, 95]
