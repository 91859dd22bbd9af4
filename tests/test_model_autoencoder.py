"""The learned codec: what it starts as, that its numbers are the same everywhere, and that its files hold all of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import random_weights, synthetic_clip
from torch import Tensor, nn

from duovsr_vs.errors import ModelError
from duovsr_vs.model.autoencoder import LearnedCodec, strongest
from duovsr_vs.model.checkpoint import DETAILED, load, save
from duovsr_vs.model.config import COEFFICIENTS, LATENT_PER_PIXEL, PRESETS, ModelConfig
from duovsr_vs.model.features import Condition
from duovsr_vs.model.generator import Generator

LEARNED = PRESETS["toy-learned"]

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def generator_of(config: ModelConfig = LEARNED) -> Generator:
    """Random weights, none of them zero."""
    generator = Generator(config)
    generator.load_state_dict(random_weights(config, 0))
    return generator.eval().requires_grad_(False)


def codec_of(generator: Generator) -> LearnedCodec:
    assert generator.codec is not None
    return generator.codec


def pair(generator: Generator, frames: int = 2) -> tuple[Tensor, Condition]:
    """HR frames (1 t 3 96 128) and the condition of their LR frames."""
    hr = torch.stack(synthetic_clip(frames + 2, 96, 128))[None]
    hr = hr + 0.1 * torch.randn(hr.shape, generator=torch.Generator().manual_seed(0))
    lr = hr.unflatten(-1, (-1, 4)).mean(-1).unflatten(-2, (-1, 4)).mean(-2)
    return hr[:, 1:-1], generator.condition(lr)


def fixed_twin(config: ModelConfig = LEARNED) -> Generator:
    """A model whose latents are the normalised coefficients of the same data."""
    return Generator(config.with_values(codec="fixed", latent_channels=COEFFICIENTS))


def switched_off(codec: LearnedCodec) -> None:
    """κ = 0 up to rounding: the decoder's own coefficients, but for their low frequencies."""
    nn.init.zeros_(codec.kappa.weight)
    nn.init.constant_(codec.kappa.bias, -1e9)


# -- what it starts as ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 7, 32, 96])
def test_the_strongest_coefficients_are_kept_and_of_equals_the_lowest_frequencies(channels: int) -> None:
    config = PRESETS["nano"].with_values(codec="learned", latent_channels=channels)
    kept = strongest(config)
    deviation = [config.latent_std[n % LATENT_PER_PIXEL] for n in range(COEFFICIENTS)]
    left = set(range(COEFFICIENTS)) - set(kept)
    assert len(set(kept)) == channels
    assert min(deviation[n] for n in kept) >= max((deviation[n] for n in left), default=0)
    plain = config.with_values(latent_std=(1.0,) * LATENT_PER_PIXEL)
    assert [n % LATENT_PER_PIXEL for n in strongest(plain)] == [n // 4 for n in range(channels)]


def test_an_untrained_codec_keeps_the_strongest_coefficients_and_drops_the_others() -> None:
    generator = Generator(LEARNED).requires_grad_(False)
    hr, condition = pair(generator)
    y = fixed_twin().encode(hr, condition)
    z = generator.encode(hr, condition)
    back, _ = codec_of(generator).decode(z.flatten(0, 1), condition.features.flatten(0, 1))
    kept = strongest(LEARNED)
    dropped = [n for n in range(COEFFICIENTS) if n not in kept]
    assert z.shape == (1, 2, LEARNED.latent_channels, 12, 16)
    torch.testing.assert_close(z, y[:, :, kept])
    torch.testing.assert_close(back[:, kept], y[0][:, kept])
    assert not back[:, dropped].any()


def test_a_codec_that_keeps_all_coefficients_loses_nothing() -> None:
    generator = Generator(LEARNED.with_values(latent_channels=COEFFICIENTS)).requires_grad_(False)
    hr, condition = pair(generator)
    switched_off(codec_of(generator))
    y = fixed_twin().encode(hr, condition)
    back, _ = codec_of(generator).decode(
        generator.encode(hr, condition).flatten(0, 1), condition.features.flatten(0, 1)
    )
    torch.testing.assert_close(back, y[0])


# -- its numbers ------------------------------------------------------------------------------------------------------


def test_statistics_scale_latents_and_change_no_picture() -> None:
    generator = generator_of()
    normalisation = codec_of(generator).normalisation
    hr, condition = pair(generator)
    mean, deviation = normalisation.mean.clone(), normalisation.deviation.clone()
    z, picture = generator.encode(hr, condition), generator.decode(generator.encode(hr, condition), condition)
    normalisation.mean.zero_()
    normalisation.deviation.fill_(1)
    raw = generator.encode(hr, condition)
    torch.testing.assert_close(z, (raw - mean) / deviation)
    torch.testing.assert_close(generator.decode(raw, condition), picture, atol=1e-5, rtol=1e-4)
    assert float((raw - z).abs().max()) > 0.1


def test_both_directions_see_the_lr_frames() -> None:
    generator = generator_of()
    hr, condition = pair(generator)
    z = generator.encode(hr, condition)
    codec, y = codec_of(generator), fixed_twin().encode(hr, condition).flatten(0, 1)
    features = condition.features.flatten(0, 1)
    other = features.flip(-1)
    assert float((codec.encode(y, features) - codec.encode(y, other)).abs().max()) > 1e-3
    assert float((codec.decode(z[0], features)[0] - codec.decode(z[0], other)[0]).abs().max()) > 1e-3


def test_denoising_knows_nothing_of_the_codec_and_latents_are_not_touched_by_consistency() -> None:
    generator = generator_of()
    _, condition = pair(generator)
    noise = torch.randn(1, 2, LEARNED.latent_channels, 12, 16, generator=torch.Generator().manual_seed(0))
    quality = torch.tensor([LEARNED.best_class])
    before = generator.generate(noise, condition, quality)
    for parameter in codec_of(generator).parameters():
        nn.init.normal_(parameter)
    assert torch.equal(generator.generate(noise, condition, quality), before)


def test_differences_of_coefficients_are_differences_of_pictures() -> None:
    generator = generator_of()
    hr, condition = pair(generator)
    z = generator.encode(hr, condition)
    a, b = (generator.coefficients(x, condition) for x in (z, 0.5 * z))
    wanted = generator.decode(z, condition) - generator.decode(0.5 * z, condition)
    torch.testing.assert_close(generator.pixels(a - b, condition), wanted, atol=1e-5, rtol=1e-4)
    assert float(wanted.abs().max()) > 1e-2


@pytest.mark.parametrize("preset", ["tiny", "nano", "toy-learned"])
def test_energy_has_mean_square_one_for_each_latent_channel(preset: str) -> None:
    energy = Generator(PRESETS[preset]).energy
    assert energy.shape == (PRESETS[preset].latent_channels, 1, 1)
    assert float(energy.square().mean()) == pytest.approx(1)
    assert preset == "nano" or bool((energy == 1).all())


def test_a_frozen_codec_leaves_the_flow_network_to_train() -> None:
    for preset in ("tiny", "toy-learned"):
        generator = Generator(PRESETS[preset])
        generator.freeze_codec()
        trained = {name for name, p in generator.named_parameters() if p.requires_grad}
        assert trained == {f"network.{name}" for name, _ in generator.network.named_parameters()}


@pytest.mark.parametrize("blocks", [1, 5])
def test_a_pixel_that_is_no_number_spoils_nothing_beyond_the_receptive_field(blocks: int) -> None:
    config = LEARNED.with_values(codec_blocks=blocks)
    generator = generator_of(config)
    lr = torch.stack(synthetic_clip(3, 16, 160))[None]
    lr[0, 1, :, 8, 80] = torch.nan
    condition = generator.condition(lr)
    z = generator.generate(torch.zeros(1, 1, config.latent_channels, 8, 80), condition, torch.tensor([0]))
    spoilt = generator.decode(z, condition).isnan().any(3).flatten(0, 2).any(0).nonzero()
    reach = max(80 - int(spoilt.min()) // 4, int(spoilt.max()) // 4 - 80)
    assert config.receptive_field - 16 < reach <= config.receptive_field


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_saved_model_gives_the_same_picture(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    generator = generator_of().to(memory_format=torch.channels_last)
    codec_of(generator).normalisation.mean.fill_(0.3)
    codec_of(generator).normalisation.deviation.fill_(0.8)
    save(path, LEARNED, {DETAILED: generator.state_dict()}, {})
    hr, condition = pair(generator)
    loaded = load(path)
    assert loaded.config == LEARNED
    assert torch.equal(loaded.generator.encode(hr, condition), generator.encode(hr, condition))
    z = torch.randn(1, 2, LEARNED.latent_channels, 12, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.generator.decode(z, condition), generator.decode(z, condition))


def test_a_fixed_codec_says_nothing_of_itself_in_a_file() -> None:
    """Files of models with the fixed codec, and their hashes, are what they were before there was a learned one."""
    words = {"codec", "latent_channels", "codec_channels", "codec_blocks"}
    assert not words & json.loads(PRESETS["nano"].to_json()).keys()
    assert words <= json.loads(LEARNED.to_json()).keys()
    assert ModelConfig.from_json(LEARNED.to_json()) == LEARNED


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"codec": "fixed"}, "latent_channels=16"),
        ({"latent_channels": 0}, "latent_channels=0"),
        ({"latent_channels": 97}, "latent_channels=97"),
        ({"codec": "vae"}, "codec='vae'"),
        ({"codec_channels": 4}, "codec_channels=4"),
        ({"codec_blocks": 0}, "codec_blocks=0"),
    ],
)
def test_sizes_that_fit_no_codec_are_named(values: dict[str, object], field: str) -> None:
    with pytest.raises(ModelError, match=rf"^the model's configuration has {field}, which is out of range$"):
        ModelConfig.from_json(json.dumps({**json.loads(LEARNED.to_json()), **values}))
