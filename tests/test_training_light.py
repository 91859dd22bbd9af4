"""The stage that distils the light pair from the video autoencoder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from training_files import copy_of, same
from wan_training import arrays, recipe, weights

from duovsr_vs.errors import OptionError
from training.batch import Batch, prepare
from training.losses import gradient_loss, latent_distance
from training.plan import stage_plan
from training.recipes import Recipe
from training.stage_recipes import LightRecipe
from training.stages.base import START
from training.stages.light import Light

pytestmark = pytest.mark.usefixtures("trainer_alone")


def light_recipe(**fields: float) -> Recipe:
    settings = LightRecipe(
        **{"steps": 40, "learning_rate": 1e-2, "batch": 2, "patch": 16, "frames": 5, "warmup": 2} | fields
    )  # type: ignore[arg-type]
    return replace(recipe(), model="base-tiny-light", stages=("light",), light=settings)


def stage(**fields: float) -> Light:
    return Light(light_recipe(**fields), {START: weights(0)})


def a_batch(work: Light, seed: int = 0) -> Batch:
    return prepare(work.encoder, arrays(seed), 0, seed, 0.0, 0.0, pictures=True)


def test_the_loss_falls_and_the_autoencoder_stays_as_it_is() -> None:
    work = stage()
    before, batch = copy_of(work.teacher.state_dict()), a_batch(work)
    found = [work.update(step, iter([batch])) for step in range(25)]
    for term, share in (("latent", 0.3), ("edges", 0.7), ("features", 0.95), ("pixel", 0.97), ("taught", 0.97)):
        assert found[-1][term] < share * found[0][term], term
    assert found[-1]["psnr"] > found[0]["psnr"] + 0.3
    assert same(work.teacher.state_dict(), before)
    assert all(p.grad is None for p in work.teacher.parameters())


def test_it_hands_on_the_pair_alone_and_goes_on_bit_for_bit() -> None:
    work, later = stage(), stage()
    batch = a_batch(work)
    work.update(0, iter([batch]))
    later.load_state(copy_of(work.state()))
    for who in (work, later):
        who.update(1, iter([batch]))
    assert same(work.state(), later.state())
    assert {name.split(".")[0] for name in work.result()} == {"light_encoder", "light_decoder"}
    averaged = work.averaged()
    z = batch.z0
    assert same(
        {name: t for name, t in averaged.state_dict().items() if name.startswith("light_")}, copy_of(work.result())
    )
    assert averaged.decode(z, batch.condition).shape == (2, 5, 3, 64, 64)


def test_its_targets_are_the_autoencoders_latents_of_truth_and_enlarged_lr() -> None:
    work = stage()
    batch = a_batch(work)
    assert batch.pictures is not None and batch.pictures.shape == (2, 5, 3, 64, 64)
    again = (batch.pictures.clamp(0, 1) * 2 - 1).transpose(1, 2)
    torch.testing.assert_close(work.teacher.encode(again).transpose(1, 2), batch.z0)
    assert not torch.allclose(batch.condition.latents, batch.z0)


def test_flops_of_the_plan_are_those_of_a_real_update() -> None:
    work = stage()
    with FlopCounterMode(display=False) as counter:
        work.update(0, iter([a_batch(work)]))
    assert stage_plan(light_recipe(), "light").flops == pytest.approx(counter.get_total_flops(), rel=1e-3)


def test_without_a_pair_or_without_an_autoencoder_it_is_refused() -> None:
    with pytest.raises(OptionError, match="the stage light trains a light pair, which base-tiny has not"):
        Light(replace(light_recipe(), model="base-tiny"), {START: weights(0)})
    with pytest.raises(OptionError, match="learns from a video autoencoder; give --from a model file of base"):
        Light(light_recipe(), {})


def test_distances_are_zero_for_equals_and_gradients_ignore_levels() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 3, 2, 16, 16)
    assert latent_distance(x, x) == 0 and float(latent_distance(x, x - 0.5)) == pytest.approx(0.75)
    assert float(gradient_loss(x, x + 0.3, 3)) < 1e-5 and float(gradient_loss(x, x.flip(-1), 3)) > 0.1
