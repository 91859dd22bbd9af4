"""The `base` family behind the trainer's and the engine's interface: condition, latents, denoising."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch
from conftest import synthetic_clip
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from duovsr_vs.errors import FormatError, ModelError
from duovsr_vs.model.config import CELL
from duovsr_vs.model.family import PRESETS, AnyConfig, config_of, generator_of
from duovsr_vs.model.resample import back_project, enlarge, shrink
from duovsr_vs.model.wan.condition import latent_frames
from duovsr_vs.model.wan.config import LATENT_CHANNELS, BaseConfig
from duovsr_vs.model.wan.generator import WanGenerator

pytestmark = pytest.mark.usefixtures("one_torch_thread")
H, W = 12, 20
"""LR size: 6x10 latents, 3x5 tokens."""


def generator_with(seed: int = 0, preset: str = "base-tiny", **changes: Any) -> WanGenerator:
    """A generator whose every path matters: the LR latent and the gates are not zero."""
    config = PRESETS[preset]
    assert isinstance(config, BaseConfig)
    torch.manual_seed(seed)
    generator = WanGenerator(config.with_values(**changes))
    with torch.no_grad():
        generator.transformer.patch_embedding.weight[:, LATENT_CHANNELS:].normal_(std=0.1)
        generator.transformer.context.normal_()
    return generator.eval()


@pytest.fixture(scope="module")
def generator() -> WanGenerator:
    return generator_with()


def lr_frames(frames: int = 5, height: int = H, width: int = W, seed: int = 0) -> Tensor:
    """(1 t+2 3 h w)."""
    return torch.stack(synthetic_clip(frames + 2, height, width, seed))[None]


def noise(frames: int = 2, height: int = H, width: int = W, batch: int = 1, seed: int = 3) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, LATENT_CHANNELS, height // CELL, width // CELL, generator=source)


def best(generator: WanGenerator, batch: int = 1) -> Tensor:
    return torch.full((batch,), generator.config.best_class)


# -- condition ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["base-tiny", "base-tiny-light"])
@pytest.mark.parametrize("frames, height, width", [(1, 12, 20), (5, 14, 18), (9, 8, 6)])
@torch.no_grad()
def test_a_condition_has_a_latent_for_four_frames(preset: str, frames: int, height: int, width: int) -> None:
    generator = generator_with(preset=preset)
    condition = generator.condition(lr_frames(frames, height, width))
    assert condition.latents.shape == (1, latent_frames(frames), LATENT_CHANNELS, height // 2, width // 2)
    assert condition.missing.shape == (1, frames, 12, height // 2, width // 2)
    assert condition.base.shape == condition.lr.shape == (1, frames, 3, height, width)
    assert condition.frames == frames
    assert all(getattr(condition, field.name).dtype == torch.float32 for field in dataclasses.fields(condition))


@torch.no_grad()
def test_the_condition_is_the_latent_of_the_base_and_what_it_misses(generator: WanGenerator) -> None:
    lr = lr_frames()
    condition = generator.condition(lr)
    base, missing = back_project(lr[:, 1:-1], generator.config.back_projections)
    torch.testing.assert_close(condition.base, base)
    torch.testing.assert_close(condition.latents, generator.encode(enlarge(base), condition))
    gap = (lr[:, 1:-1] - shrink(enlarge(base)))[..., 4:-4, 4:-4]
    torch.testing.assert_close(missing[..., 4:-4, 4:-4], gap, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_neighbours_of_a_window_are_not_looked_at(generator: WanGenerator) -> None:
    lr = lr_frames()
    other = lr.clone()
    other[:, [0, -1]] = 0.9
    one, two = generator.condition(lr), generator.condition(other)
    assert torch.equal(one.latents, two.latents) and torch.equal(one.base, two.base)


@pytest.mark.parametrize("frames, height, width", [(4, 12, 20), (5, 11, 20), (5, 12, 21)])
def test_other_lengths_and_odd_sides_are_refused(generator: WanGenerator, frames: int, height: int, width: int) -> None:
    with pytest.raises(FormatError, match=rf"{frames} LR frames of {width}x{height}: 4n \+ 1 frames with even sides"):
        generator.condition(lr_frames(frames, height, width))


@torch.no_grad()
def test_samples_and_rectangles_are_taken_out_of_a_condition(generator: WanGenerator) -> None:
    lr = torch.cat([lr_frames(seed=seed) for seed in (0, 1)])
    both, second = generator.condition(lr), generator.condition(lr[1:])
    for field in dataclasses.fields(both):
        torch.testing.assert_close(getattr(both[1:], field.name), getattr(second, field.name))
    part = both.crop(1, 4, 2, 9)
    assert part.latents.shape[-2:] == part.missing.shape[-2:] == (3, 7)
    assert torch.equal(part.lr, both.lr[..., 2:8, 4:18]) and torch.equal(part.base, both.base[..., 2:8, 4:18])


# -- latents --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_decode_gives_the_decoded_frames_less_the_base(generator: WanGenerator) -> None:
    condition = generator.condition(lr_frames())
    z = noise()
    assert generator.autoencoder is not None
    frames = generator.autoencoder.decode(z.transpose(1, 2)).transpose(1, 2) * 0.5 + 0.5
    torch.testing.assert_close(generator.decode(z, condition), frames - enlarge(condition.base))


@torch.no_grad()
def test_encode_gives_the_autoencoders_latent_of_frames_held_in_range(generator: WanGenerator) -> None:
    hr = torch.rand(1, 5, 3, 16, 24, generator=torch.Generator().manual_seed(4)) * 1.2 - 0.1
    assert generator.autoencoder is not None
    wanted = generator.autoencoder.encode((hr.clamp(0, 1) * 2 - 1).transpose(1, 2)).transpose(1, 2)
    condition = generator.condition(lr_frames(5, 4, 6))
    torch.testing.assert_close(generator.encode(hr, condition), wanted)


@pytest.mark.parametrize("preset", ["base-tiny", "base-tiny-light"])
@torch.no_grad()
def test_parts_of_the_residual_come_in_the_order_of_the_frames(preset: str) -> None:
    generator = generator_with(preset=preset)
    condition = generator.condition(lr_frames(9))
    parts = list(generator.decoded(noise(3), condition))
    assert [part.shape[1] for part in parts] == [1, 4, 4]
    assert parts[0].shape == (1, 1, 3, 4 * H, 4 * W)
    torch.testing.assert_close(torch.cat(parts, 1), generator.decode(noise(3), condition))
    pairs = torch.cat(list(generator.decoded(noise(3), condition, at_once=2)), 1)
    torch.testing.assert_close(pairs, torch.cat(parts, 1), atol=1e-4, rtol=1e-4)


def test_what_encoder_and_decoder_were_fitted_to_comes_back_through_a_latent() -> None:
    """The better, the longer the pair has learned: range and order of the frames are the same on both ways."""
    generator = generator_with(1)
    assert generator.autoencoder is not None
    hr = enlarge(torch.stack(synthetic_clip(5, 2, 4))[None])
    optimizer = torch.optim.Adam(generator.autoencoder.parameters(), 1e-2)
    with torch.no_grad():
        condition = generator.condition(lr_frames(5, 2, 4))
    errors = []
    for _ in range(8):
        found = generator.decode(generator.encode(hr, condition), condition) + enlarge(condition.base)
        error = (found - hr).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert min(errors) < errors[0] / 2, errors


def test_a_model_with_the_light_pair_alone_says_how_to_get_an_encoder() -> None:
    generator = generator_with(preset="base-tiny-light")
    condition = generator.condition(lr_frames())
    with pytest.raises(ModelError, match=r"holds a light pair and no autoencoder.*--vae beside --light"):
        generator.encode(torch.zeros(1, 5, 3, 4 * H, 4 * W), condition)


def test_a_frozen_codec_gets_no_gradient_and_the_transformer_does() -> None:
    light = PRESETS["base-tiny-light"]
    assert isinstance(light, BaseConfig)
    generator = generator_with(light=light.light)
    generator.freeze_codec()
    trained = {name.split(".")[0] for name, weight in generator.named_parameters() if weight.requires_grad}
    assert trained == {"transformer"} and generator.network is generator.transformer
    assert generator.codec is generator.autoencoder
    assert torch.equal(generator.energy, torch.ones(LATENT_CHANNELS, 1, 1))


# -- denoising ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.02, 0.6, 1.0])
@torch.no_grad()
def test_denoise_is_the_transformers_velocity_taken_off(generator: WanGenerator, t: float) -> None:
    condition = generator.condition(lr_frames(5, 12, 24))
    z = noise(2, 12, 24)
    time, quality = torch.tensor([t]), best(generator)
    v = generator.transformer(
        z.transpose(1, 2), time, generator.transformer.learned_context(1), condition.latents.transpose(1, 2)
    )
    found = generator.denoise(z, time, condition, quality)
    torch.testing.assert_close(found, z - t * v.transpose(1, 2))
    torch.testing.assert_close(generator.velocity(z, time, condition, quality), v.transpose(1, 2))
    if t == 1.0:
        assert torch.equal(generator.generate(z, condition, quality), found)


@pytest.mark.parametrize("height, width", [(10, 20), (12, 18), (6, 2)])
@torch.no_grad()
def test_sides_that_are_no_whole_tokens_are_continued_by_their_border(
    generator: WanGenerator, height: int, width: int
) -> None:
    condition = generator.condition(lr_frames(5, height, width))
    z = noise(2, height, width)
    found = generator.generate(z, condition, best(generator))
    assert found.shape == z.shape
    wide = torch.nn.functional.pad(z[0], (0, z.shape[-1] % 2, 0, z.shape[-2] % 2), mode="replicate")[None]
    beside = torch.nn.functional.pad(condition.latents[0], (0, z.shape[-1] % 2, 0, z.shape[-2] % 2), mode="replicate")[
        None
    ]
    whole = generator.denoise(wide, torch.ones(1), dataclasses.replace(condition, latents=beside), best(generator))
    torch.testing.assert_close(found, whole[..., : z.shape[-2], : z.shape[-1]])


@torch.no_grad()
def test_the_null_class_has_tokens_of_its_own_and_all_others_share_theirs(generator: WanGenerator) -> None:
    context = generator.context(torch.tensor([0, 1, 5]))
    learned, null = generator.transformer.context
    assert torch.equal(context[0], null) and torch.equal(context[1], learned) and torch.equal(context[2], learned)
    condition = generator.condition(lr_frames())
    asked = [generator.generate(noise(), condition, torch.tensor([quality])) for quality in (0, 1)]
    assert float((asked[0] - asked[1]).abs().max()) > 1e-4


@torch.no_grad()
def test_the_lr_changes_the_result_only_once_its_channels_are_not_zero(generator: WanGenerator) -> None:
    config = PRESETS["base-tiny"]
    assert isinstance(config, BaseConfig)
    torch.manual_seed(0)
    fresh = WanGenerator(config).eval()
    conditions = [generator.condition(lr_frames(seed=seed)) for seed in (0, 1)]
    for model, equal in ((fresh, True), (generator, False)):
        one, two = (model.generate(noise(), condition, best(model)) for condition in conditions)
        assert torch.equal(one, two) == equal


@torch.no_grad()
def test_samples_of_a_batch_do_not_see_each_other(generator: WanGenerator) -> None:
    lr = torch.cat([lr_frames(seed=seed) for seed in (0, 1)])
    condition, z = generator.condition(lr), noise(batch=2)
    t, quality = torch.tensor([0.3, 0.9]), torch.tensor([1, 0])
    together = generator.denoise(z, t, condition, quality)[1:]
    torch.testing.assert_close(
        together, generator.denoise(z[1:], t[1:], condition[1:], quality[1:]), atol=1e-5, rtol=1e-4
    )


def test_taps_are_maps_of_the_transformers_width_and_carry_a_gradient(generator: WanGenerator) -> None:
    with torch.no_grad():
        condition = generator.condition(lr_frames())
    z = noise().requires_grad_()
    taps: list[Tensor] = []
    generator.denoise(z, torch.tensor([0.5]), condition, best(generator), taps)
    assert [tap.shape for tap in taps] == [(2, 48, 3, 5)] * 2
    taps[-1].square().mean().backward()
    assert z.grad is not None and float(z.grad.abs().max()) > 0


def test_taps_stand_where_their_tokens_stand(generator: WanGenerator) -> None:
    """What enters at one place and frame shows most in the first block's map at that place and frame."""
    moved = noise()
    moved[:, 1, :, 2:4, 8:10] += 5  # the token in row 1 and column 4 of the second of two frames
    maps: list[Tensor] = []
    with torch.no_grad():
        condition = generator.condition(lr_frames())
        for z in (noise(), moved):
            taps: list[Tensor] = []
            generator.denoise(z, torch.tensor([0.5]), condition, best(generator), taps)
            maps.append(taps[0])
    change = (maps[1] - maps[0]).square().sum(1)
    assert int(change.flatten().argmax()) == 15 + 5 + 4


def test_recomputing_changes_no_gradient() -> None:
    gradients = []
    for recompute in (False, True):
        generator = generator_with()
        generator.network.recompute = recompute
        with torch.no_grad():
            condition = generator.condition(lr_frames())
        generator.generate(noise(), condition, best(generator)).square().mean().backward()
        gradients.append({name: p.grad for name, p in generator.network.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 50
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name])


@torch.no_grad()
def test_autocast_leaves_the_time_as_it_is(generator: WanGenerator) -> None:
    t = torch.tensor([0.37])
    exact = generator.transformer.time_of(t)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(generator.transformer.time_of(t), exact)


@torch.no_grad()
def test_bfloat16_weights_give_float32_results_nearby(generator: WanGenerator) -> None:
    small = generator_with().bfloat16()
    condition = generator.condition(lr_frames())
    found = small.generate(noise(), condition, best(small))
    exact = generator.generate(noise(), condition, best(generator))
    assert found.dtype == small.decode(found, condition).dtype == torch.float32
    assert float((found - exact).abs().mean()) < 0.03 * float(exact.abs().mean())


def test_a_run_without_contents_or_gradient_leaves_nothing_behind_for_the_next() -> None:
    """What is remembered between calls must serve inference, training and rehearsals alike, in any order."""
    shape = (5, 16, 28)
    with FakeTensorMode(allow_non_fake_inputs=True):
        fake = generator_with()
        assert fake.generate(noise(2, *shape[1:]), fake.condition(lr_frames(*shape)), best(fake)).shape[1] == 2
    generator = generator_with()
    with torch.inference_mode():
        seen = generator.generate(noise(2, *shape[1:]), generator.condition(lr_frames(*shape)), best(generator))
    with torch.no_grad():
        condition = generator.condition(lr_frames(*shape))
    found = generator.generate(noise(2, *shape[1:]), condition, best(generator))
    found.square().mean().backward()
    assert torch.equal(found.detach(), seen)


# -- configurations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_configurations_of_both_families_survive_json(config: AnyConfig) -> None:
    assert config_of(config.to_json()) == config


def test_presets_have_windows_whose_latents_align() -> None:
    for config in PRESETS.values():
        if isinstance(config, BaseConfig):
            assert config.stride % 4 == 0 and config.window % 4 == 1 and config.chunk % config.stride == 0
            assert config.receptive_field % config.tile_step == 0 and config.tile_step % 4 == 0


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"window": 20}, "window=20, which is out of range"),
        ({"overlap": 6}, "overlap=6, which is out of range"),
        ({"overlap": 9}, "overlap=9, which is out of range"),
        ({"kappa": 1.5}, "kappa=1.5, which is out of range"),
        ({"autoencoder": None}, "neither an autoencoder nor a light pair"),
        ({"autoencoder": {"width": 1}}, "the autoencoder's configuration has width=1"),
        ({"light": {"decoder_widths": [8, 8]}}, r"the light pair's configuration has decoder_widths=\(8, 8\)"),
        ({"light": {"decoder_widths": [8, 8, 2]}}, r"decoder_widths=\(8, 8, 2\), which is out of range"),
        ({"transformer": {"heads": 5}}, "the transformer's configuration has heads=5|width=1536"),
        ({"transformer": {"context_tokens": 4}}, "0 channels for the LR latent"),
        ({"transformer": 3}, "transformer=3, which is out of range"),
        ({"transformer": {"depth": 3}}, r"unknown fields \['depth'\]; a newer duovsr may know them"),
        ({"window": "many"}, "incomplete or of wrong types"),
        ({"family": "newest"}, "of the family 'newest'; a newer duovsr may know it"),
    ],
)
def test_a_faulty_configuration_is_named(changes: dict[str, Any], words: str) -> None:
    text = json.dumps({**json.loads(PRESETS["base-tiny"].to_json()), **changes})
    with pytest.raises(ModelError, match=words):
        config_of(text)


def test_the_full_models_have_their_numbers_of_weights() -> None:
    with torch.device("meta"):
        generators = {name: generator_of(PRESETS[name]) for name in ("base", "base-fast")}
    counts = {name: sum(p.numel() for p in g.parameters()) for name, g in generators.items()}
    extra = 1536 * 16 * 4 + 2 * 64 * 1536
    assert counts["base"] == 1_418_996_800 + 126_892_531 + extra
    assert 0 < counts["base-fast"] - 1_418_996_800 - extra < 20_000_000
