"""The whole model: training path and engine agree, and the consistency step pulls the output to the LR."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import random_weights, synthetic_clip
from torch import Tensor, nn

from duovsr_vs.engine.noise import noise_field
from duovsr_vs.engine.options import Options
from duovsr_vs.engine.upscaler import Upscaler
from duovsr_vs.model.checkpoint import DETAILED, save
from duovsr_vs.model.codec import encode_residual, luma
from duovsr_vs.model.config import PRESETS
from duovsr_vs.model.generator import Generator
from duovsr_vs.model.resample import enlarge, shrink

SEED = 5


pytestmark = pytest.mark.usefixtures("one_torch_thread")


def generator_of(preset: str) -> Generator:
    generator = Generator(PRESETS[preset])
    generator.load_state_dict(random_weights(PRESETS[preset], 0))
    return generator.eval().requires_grad_(False)


def with_kappa(generator: Generator, kappa: float) -> Generator:
    """The same with a fixed weight of the consistency step: 0 or 1 up to rounding, by a huge bias of its switch."""
    head = (generator.codec or generator.network).kappa
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias, 1e9 if kappa else -1e9)
    return generator


def training_path(generator: Generator, lr: Tensor) -> Tensor:
    """HR of (1 t+2 3 h w) through `generate` and `decode`, as losses see it."""
    condition = generator.condition(lr)
    noise = noise_field(SEED, lr.shape[-2] // 2, lr.shape[-1] // 2, generator.config.latent_channels)
    noise = noise.expand(1, lr.shape[1] - 2, *noise.shape).contiguous()
    z = generator.generate(noise, condition, torch.tensor([generator.config.best_class]))
    return enlarge(condition.base) + generator.decode(z, condition)


def frames_around(clip: list[Tensor], first: int, count: int) -> Tensor:
    """(1 count+2 3 h w): the frames and one neighbour to each side, the clip's ends repeated."""
    return torch.stack([clip[min(max(n, 0), len(clip) - 1)] for n in range(first - 1, first + count + 1)])[None]


def margin(picture: Tensor, cells: int) -> Tensor:
    """Without a border of latent positions, where the training path and the engine continue frames differently."""
    return picture[..., 8 * cells : -8 * cells, 8 * cells : -8 * cells]


@pytest.mark.parametrize(("preset", "frame"), [("tiny", 0), ("tiny", 2), ("toy", 3), ("toy", 10), ("toy-learned", 1)])
def test_training_and_engine_give_the_same_frame(tmp_path: Path, preset: str, frame: int) -> None:
    config = PRESETS[preset]
    path = tmp_path / "model.safetensors"
    save(path, config, {DETAILED: random_weights(config, 0)}, {})
    clip = synthetic_clip(24, 24, 32)
    options = Options(model=str(path), device="cpu", precision="float32", seed=SEED, scene_cut=False)
    upscaler = Upscaler(options, 32, 24)
    (found,) = upscaler.chunk_frames(clip, 0, frame, frame + 1, len(clip))
    first = frame // config.stride * config.stride - config.overlap
    whole = training_path(generator_of(preset), frames_around(clip, first, config.window))
    wanted = whole[0, frame - first]
    residual = float((wanted - enlarge(frames_around(clip, frame, 1)[0, 1])).abs().max())
    assert residual > 3e-3
    # The engine takes U·q off whole, the training path off the kept coefficients: colour differs in the dropped ones.
    difference = margin(found - wanted, 1)
    assert float(encode_residual(difference[None]).abs().max()) < 1e-5
    assert float(luma(difference).abs().max()) < 1e-5
    assert float(difference.abs().max()) < 0.2 * residual


def test_training_and_engine_agree_at_the_border_too(tmp_path: Path) -> None:
    """Less closely: the consistency step continues the residual by zero in one and its source in the other."""
    config = PRESETS["tiny"]
    path = tmp_path / "model.safetensors"
    save(path, config, {DETAILED: random_weights(config, 0)}, {})
    clip = synthetic_clip(3, 24, 32)
    options = Options(model=str(path), device="cpu", precision="float32", seed=SEED)
    found = list(Upscaler(options, 32, 24).stream(clip))[1]
    wanted = training_path(generator_of("tiny"), frames_around(clip, 1, 1))[0, 0]
    assert float((found - wanted).abs().max()) < 5e-3


@pytest.mark.parametrize("preset", ["tiny", "toy", "toy-learned"])
def test_the_consistency_step_brings_the_output_nearer_to_the_lr(preset: str) -> None:
    clip = synthetic_clip(5, 32, 40)
    lr = frames_around(clip, 1, 3)
    miss = {}
    for kappa in (0.0, 1.0):
        out = training_path(with_kappa(generator_of(preset), kappa), lr)
        miss[kappa] = float(margin(shrink(out) - lr[:, 1:-1], 1).square().mean().sqrt())
    assert miss[1.0] < 0.4 * miss[0.0]


def test_the_engine_takes_the_consistency_step_as_well(tmp_path: Path) -> None:
    miss = {}
    clip = synthetic_clip(3, 32, 40)
    for kappa in (0.0, 1.0):
        path = tmp_path / f"{kappa}.safetensors"
        weights = {name: t.clone() for name, t in with_kappa(generator_of("tiny"), kappa).state_dict().items()}
        save(path, PRESETS["tiny"], {DETAILED: weights}, {})
        out = list(Upscaler(Options(model=str(path), device="cpu", precision="float32"), 40, 32).stream(clip))[1]
        miss[kappa] = float(margin(shrink(out) - clip[1], 1).square().mean().sqrt())
    assert miss[1.0] < 0.4 * miss[0.0]


def test_decode_undoes_encode_up_to_the_dropped_coefficients() -> None:
    generator = generator_of("tiny")
    lr = frames_around(synthetic_clip(3, 16, 20), 1, 1)
    condition = generator.condition(lr)
    z = torch.randn(1, 1, 96, 8, 10, generator=torch.Generator().manual_seed(0))
    hr = enlarge(condition.base) + generator.decode(z, condition)
    torch.testing.assert_close(generator.encode(hr, condition), z, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("preset", ["tiny", "toy-learned"])
def test_velocity_and_denoise_tell_the_same(preset: str) -> None:
    generator = generator_of(preset)
    condition = generator.condition(frames_around(synthetic_clip(3, 16, 20), 1, 1))
    z_t, t, quality = torch.randn(1, 1, generator.config.latent_channels, 8, 10), torch.tensor([0.6]), torch.tensor([1])
    v, x0 = generator.velocity(z_t, t, condition, quality), generator.denoise(z_t, t, condition, quality)
    torch.testing.assert_close(z_t - 0.6 * v, x0, rtol=1e-4, atol=1e-4)


def test_time_and_quality_class_matter() -> None:
    generator = generator_of("tiny")
    condition = generator.condition(frames_around(synthetic_clip(3, 16, 20), 1, 1))
    z_t = torch.randn(1, 1, 96, 8, 10, generator=torch.Generator().manual_seed(0))
    best = generator.denoise(z_t, torch.tensor([0.9]), condition, torch.tensor([2]))
    null = generator.denoise(z_t, torch.tensor([0.9]), condition, torch.tensor([0]))
    assert float((best - null).abs().max()) > 1e-4


def test_samples_of_a_batch_do_not_see_each_other() -> None:
    generator = generator_of("toy")
    lr = torch.cat([frames_around(synthetic_clip(5, 16, 20, seed=s), 1, 3) for s in (0, 1)])
    both, one = generator.condition(lr), generator.condition(lr[1:])
    z = torch.randn(2, 3, 96, 8, 10, generator=torch.Generator().manual_seed(0))
    t, quality = torch.tensor([0.3, 0.8]), torch.tensor([1, 2])
    together = generator.denoise(z, t, both, quality)[1:]
    torch.testing.assert_close(together, generator.denoise(z[1:], t[1:], one, quality[1:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("preset", ["toy", "toy-learned"])
def test_layers_come_from_the_namespace_that_is_given(preset: str) -> None:
    made: list[str] = []

    class Namespace:
        @staticmethod
        def Linear(*args: int, **kwargs: bool) -> nn.Module:  # noqa: N802
            made.append("Linear")
            return nn.Linear(*args, **kwargs)

        @staticmethod
        def Conv2d(*args: int, **kwargs: int) -> nn.Module:  # noqa: N802
            made.append("Conv2d")
            return nn.Conv2d(*args, **kwargs)

    generator = Generator(PRESETS[preset], Namespace)
    layers = [m for m in generator.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert len(made) == len(layers) > 10
    assert not isinstance(getattr(Generator, "device", None), property)
