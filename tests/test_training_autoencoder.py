"""The stage of learned codecs: pictures survive the way there and back better, and the flow network is left alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from conftest import synthetic_clip
from torch import Tensor
from training_files import SMOKE, arrays, batches, copy_of, count_gradients, make_pack, same

from duovsr_vs.engine import selftest
from duovsr_vs.engine.options import Options
from duovsr_vs.engine.upscaler import Upscaler
from duovsr_vs.errors import OptionError
from duovsr_vs.model.config import PRESETS
from duovsr_vs.model.generator import Generator
from training.batch import Batch
from training.export import export
from training.losses import pixel_loss, unit_loss
from training.recipes import Recipe
from training.results import Results
from training.run import Run
from training.stage_recipes import AutoencoderRecipe
from training.stages.autoencoder import Autoencoder
from training.stages.base import START, Weights
from training.stages.regression import Regression
from training.watch import LOG

MODEL = "toy-learned"
HELD_OUT = 500

pytestmark = pytest.mark.usefixtures("trainer_alone")


def recipe(steps: int = 3, **values: float) -> Recipe:
    """The smoke recipe in float32 for the model with a learned codec."""
    settings = AutoencoderRecipe(steps=steps, learning_rate=1e-2, warmup=5, batch=2, patch=16, statistics=2)
    return replace(SMOKE, model=MODEL, bf16=False, autoencoder=replace(settings, **values))  # type: ignore[arg-type]


def source(work: Autoencoder, first: int = 0) -> Iterator[Batch]:
    """Batches first, first + 1, … as the loop makes them for this stage."""
    return batches(work.encoder, first, work.soft)


def updates(work: Autoencoder, first: int, last: int) -> list[dict[str, float]]:
    """Figures of the updates first … last − 1."""
    given = source(work, first)
    return [work.update(step, given) for step in range(first, last)]


@pytest.fixture(scope="module")
def trained() -> tuple[Autoencoder, list[dict[str, float]]]:
    """A stage of 60 updates, and what it logged."""
    work = Autoencoder(recipe(60, temporal=0.15, consistency=0.5), {})
    return work, updates(work, 0, 60)


@torch.no_grad()
def lost(generator: Generator) -> float:
    """Mean square of what held-out pictures lose on the way there and back."""
    total = 0.0
    fixed = Generator(PRESETS["toy-learned"].with_values(codec="fixed", latent_channels=96))
    for batch in islice(batches(fixed, HELD_OUT), 3):
        z = codec_latents(generator, batch)
        error = generator.decode(z, batch.condition) - generator.pixels(batch.z0, batch.condition)
        total += float(error.square().mean())
    return total


@torch.no_grad()
def codec_latents(generator: Generator, batch: Batch) -> Tensor:
    """Latents of the normalised coefficients of a batch that `Autoencoder.encoder` made."""
    assert generator.codec is not None
    features = batch.condition.features.flatten(0, 1)
    return generator.codec.encode(batch.z0.flatten(0, 1), features).unflatten(0, batch.z0.shape[:2])


def test_pictures_survive_better_after_sixty_updates(trained: tuple[Autoencoder, list[dict[str, float]]]) -> None:
    work, _ = trained
    before = lost(Autoencoder(recipe(), {}).student)
    assert lost(work.averaged()) < 0.9 * before


@torch.no_grad()
def test_the_ceiling_that_is_logged_is_what_encoding_and_decoding_reach() -> None:
    work = Autoencoder(recipe(), {})
    batch = next(source(work))
    z = codec_latents(work.student, batch)
    error = work.student.decode(z, batch.condition) - work.student.pixels(batch.z0, batch.condition)
    wanted = -10 * torch.log10(error.square().mean((1, 2, 3, 4)))
    with torch.enable_grad():
        (figures,) = updates(work, 0, 1)
    assert figures["ceiling"] == pytest.approx(float(wanted.mean()), abs=1e-3)


def test_latents_have_mean_zero_and_deviation_one_on_the_batches_after_the_last_update() -> None:
    work = Autoencoder(recipe(4), {})
    updates(work, 0, 3)
    assert not work.codec.normalisation.mean.any() and bool((work.codec.normalisation.deviation == 1).all())
    given = source(work, 3)
    work.update(3, given)
    averaged = work.averaged()
    z = torch.cat([codec_latents(averaged, batch) for batch in islice(source(work, 4), 2)])
    torch.testing.assert_close(z.mean((0, 1, 3, 4)), torch.zeros(z.shape[2]), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std((0, 1, 3, 4), correction=0), torch.ones(z.shape[2]), atol=1e-3, rtol=0)


def test_a_channel_that_never_moves_is_not_blown_up() -> None:
    weights = Autoencoder(recipe(), {}).result()
    torch.nn.init.zeros_(weights["codec.encoder.keep.weight"])
    work = Autoencoder(recipe(1, learning_rate=1e-12), {START: weights})
    updates(work, 0, 1)
    assert float(codec_latents(work.averaged(), next(source(work))).abs().max()) < 1e-3


def test_the_flow_network_gets_no_gradient_and_stays_as_it_is() -> None:
    work = Autoencoder(recipe(temporal=0.15, consistency=0.5), {})
    before = copy_of(work.student.network.state_dict())
    arrived = count_gradients({"network": work.student.network, "encoder": work.encoder, "codec": work.codec})
    updates(work, 0, 2)
    assert dict(arrived) == {"codec": 2}
    assert same(work.student.network.state_dict(), before)
    assert all(name.startswith("codec.") for name in work.learners["student"].parameters)


def test_the_codec_learns_softened_targets_too() -> None:
    chosen = recipe()
    assert Autoencoder(chosen, {}).soft == chosen.teacher.soft > 0


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_resuming_changes_nothing(stop: int) -> None:
    """Also after the last update, which measures the statistics."""
    straight, first, second = (Autoencoder(recipe(4), {}) for _ in range(3))
    updates(straight, 0, 4)
    updates(first, 0, stop)
    second.load_state(copy_of(first.state()))
    updates(second, stop, 4)
    assert same(straight.result(), second.result())


def test_weights_to_begin_with_are_taken_without_their_statistics(
    trained: tuple[Autoencoder, list[dict[str, float]]],
) -> None:
    work, _ = trained
    again = Autoencoder(recipe(), {START: work.result()})
    assert again.codec.normalisation.deviation.tolist() != work.codec.normalisation.deviation.tolist()
    assert lost(again.student) == pytest.approx(lost(work.averaged()), rel=1e-3)


# -- what later stages do with it -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def handed_on(trained: tuple[Autoencoder, list[dict[str, float]]]) -> tuple[Weights, Weights]:
    """Results of the codec's stage, and of three updates of the regression that follows it."""
    codec = trained[0].result()
    chosen = replace(recipe(), regression=replace(SMOKE.regression, steps=3, temporal=0.15, consistency=0.5))
    work = Regression(chosen, {"autoencoder": codec})
    given = batches(work.student)
    for step in range(3):
        work.update(step, given)
    return codec, work.result()


def test_a_later_stage_trains_the_flow_network_and_hands_the_codec_on_as_it_is(
    handed_on: tuple[Weights, Weights],
) -> None:
    before, after = handed_on
    assert before.keys() == after.keys()
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"network"}
    assert "codec.normalisation.deviation" in after


def test_a_run_trains_the_codec_first_and_its_export_upscales(tmp_path: Path) -> None:
    small = {"steps": 2, "batch": 2, "patch": 24}
    stages = {name: replace(SMOKE.stage(name), **small) for name in ("autoencoder", "regression")}
    chosen = replace(recipe(), stages=("autoencoder", "regression"), **stages)  # type: ignore[arg-type]
    run_folder, data = tmp_path / "run", make_pack(tmp_path)
    Run(chosen, data, run_folder, say=lambda _: None).all_stages()
    results = Results(run_folder, chosen)
    codec, model = results.weights("autoencoder"), results.weights("regression")
    assert all(torch.equal(codec[name], model[name]) for name in codec if name.startswith("codec."))
    lines = [json.loads(line) for line in (run_folder / "autoencoder" / LOG).read_text().splitlines()]
    assert [line["step"] for line in lines if "ceiling" in line] == [1, 2]
    (scores,) = (line["evaluation"] for line in lines if "evaluation" in line)
    assert scores["+clean/psnr_y"] > 1, "what is measured is the truth there and back, not the untrained flow"
    export(results, data, tmp_path / "model.safetensors", 0.5)
    options = Options(model=str(tmp_path / "model.safetensors"), device="cpu", precision="float32", detail=0.25)
    frame = list(Upscaler(options, 32, 24).stream(synthetic_clip(3, 24, 32)))[1]
    assert frame.shape == (3, 96, 128) and bool(torch.isfinite(frame).all())
    assert "gives its golden frame" in selftest.run(tmp_path / "model.safetensors")


@pytest.mark.parametrize("model", ["tiny", "nano"])
def test_a_fixed_codec_has_nothing_to_train(model: str) -> None:
    chosen = replace(recipe(), model=model)
    with pytest.raises(OptionError, match=rf"^the stage autoencoder has nothing to train: the preset {model} has a"):
        Autoencoder(chosen, {})


# -- its losses -------------------------------------------------------------------------------------------------------


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_the_unit_term_is_zero_for_mean_zero_and_variance_one_alone() -> None:
    z = normal(2, 2, 3, 20, 20)
    z = (z - z.mean((1, 3, 4), keepdim=True)) / z.std((1, 3, 4), keepdim=True, correction=0)
    assert float(unit_loss(z)) == pytest.approx(0, abs=1e-6)
    assert float(unit_loss(3 * z + 2)) == pytest.approx(0.5 * (4 + 9 - 1 - float(torch.tensor(9.0).log())), rel=1e-4)
    for changed in (0.5 * z, 2 * z, z + 0.5):
        assert float(unit_loss(changed)) > 0.05


def test_the_unit_term_pulls_latents_to_variance_one() -> None:
    found = [updates(Autoencoder(recipe(20, unit=unit), {}), 0, 19)[-1]["unit"] for unit in (0.0, 3.0)]
    assert found[1] < 0.7 * found[0]


def test_losses_are_means_over_samples() -> None:
    z = normal(4, 2, 3, 8, 8)
    for loss in (unit_loss, pixel_loss):
        halves = (loss(z[:2]) + loss(z[2:])) / 2
        torch.testing.assert_close(halves, loss(z))


def test_the_pixel_term_is_a_scaled_mean_distance() -> None:
    error = normal(1, 2, 3, 8, 8)
    assert float(pixel_loss(-error)) == pytest.approx(20 * float(error.abs().mean()))
    assert float(pixel_loss(error, scale=1.0)) == pytest.approx(float(error.abs().mean()))


def test_samples_are_what_the_loop_gives() -> None:
    """The stage's own encoder makes normalised coefficients of them: 96 channels, whatever the codec's number."""
    batch = next(source(Autoencoder(recipe(), {})))
    assert batch.z0.shape[2] == 96 and batch.condition.features.shape[:2] == arrays(0)["hr"].shape[:2]
