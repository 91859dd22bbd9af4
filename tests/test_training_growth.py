"""Networks that begin with what a smaller one knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from training_files import SMOKE, make_pack

from duovsr_vs.model.config import LATENT_STD, ModelConfig
from duovsr_vs.model.family import PRESETS, generator_of
from training.checkpoints import TrainingError, read_facts, write_tensors
from training.growth import can_grow, grown
from training.results import RESULT
from training.run import Run
from training.start import start_weights


def config_of(model: str) -> ModelConfig:
    """The preset, in the one latent space that growth supposes."""
    config = PRESETS[model]
    assert isinstance(config, ModelConfig)
    return config.with_values(latent_std=LATENT_STD)


def some_weights(model: str, seed: int = 3) -> dict[str, Tensor]:
    """All of them at random, so that nothing is zero that a trained network has."""
    chance = torch.Generator().manual_seed(seed)
    state = generator_of(config_of(model)).state_dict()
    return {name: 0.1 * torch.randn(t.shape, generator=chance) for name, t in state.items()}


def denoised(model: str, weights: dict[str, Tensor], t: float, quality: int) -> Tensor:
    generator = generator_of(config_of(model))
    generator.load_state_dict(weights)
    chance = torch.Generator().manual_seed(1)
    with torch.no_grad():
        condition = generator.condition(torch.rand(1, 5, 3, 32, 24, generator=chance))
        z = torch.randn(1, 3, 96, 16, 12, generator=chance)
        return generator.denoise(z, torch.tensor([t]), condition, torch.tensor([quality]))


@pytest.mark.parametrize(("t", "quality"), [(1.0, 2), (0.4, 0), (0.7, 1)])
@pytest.mark.parametrize(("small", "large"), [("tiny", "nano"), ("tiny", "small"), ("nano", "small")])
def test_a_grown_network_computes_what_the_smaller_one_does(small: str, large: str, t: float, quality: int) -> None:
    weights = some_weights(small)
    assert can_grow(weights, large)
    torch.testing.assert_close(
        denoised(large, grown(weights, large), t, quality), denoised(small, weights, t, quality), atol=1e-4, rtol=1e-4
    )


def test_all_that_is_new_learns() -> None:
    generator = generator_of(PRESETS["nano"])
    generator.load_state_dict(grown(some_weights("tiny"), "nano"))
    optimizer = torch.optim.SGD(generator.parameters(), lr=1e-4)
    before = {name: p.detach().clone() for name, p in generator.named_parameters()}
    chance = torch.Generator().manual_seed(2)
    condition = generator.condition(torch.rand(1, 4, 3, 16, 16, generator=chance))
    z = torch.randn(1, 2, 96, 8, 8, generator=chance)
    for _ in range(3):  # what leads to a zero weight moves once that has moved
        out = generator.denoise(z, torch.tensor([0.8]), condition, torch.tensor([2]))
        (out - z).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    channels = config_of("tiny").channels
    after = dict(generator.named_parameters())
    for name in ("blocks.0.first", "blocks.0.second", "blocks.3.first", "blocks.3.second", "out", "features", "latent"):
        key = f"network.{name}.weight"
        moved = (after[key] != before[key]).flatten(2).any(-1)
        for rows in (moved[:channels], moved[channels:]):
            assert rows[:, :channels].any() and rows[:, channels:].any(), name


def test_new_weights_follow_from_the_seed() -> None:
    weights = some_weights("tiny")
    first, again, other = (grown(weights, "nano", seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["network.features.weight"], other["network.features.weight"])


def test_only_smaller_networks_of_the_kind_are_grown() -> None:
    assert not can_grow(some_weights("nano"), "nano")
    assert not can_grow(some_weights("nano"), "tiny")
    assert not can_grow(some_weights("toy"), "small")  # attention of its own
    assert not can_grow(some_weights("tiny"), "toy-learned")
    assert not can_grow({"a": torch.ones(1)}, "nano")


def test_a_file_of_a_smaller_network_is_a_start_and_one_of_a_larger_is_refused(tmp_path: Path) -> None:
    save_file(some_weights("tiny"), tmp_path / "tiny.safetensors")
    assert {n: t.shape for n, t in start_weights(tmp_path / "tiny.safetensors", "nano").items()} == {
        n: t.shape for n, t in generator_of(PRESETS["nano"]).state_dict().items()
    }
    save_file(some_weights("nano"), tmp_path / "nano.safetensors")
    with pytest.raises(TrainingError, match="weights of another architecture than tiny"):
        start_weights(tmp_path / "nano.safetensors", "tiny")


@pytest.mark.usefixtures("trainer_alone")
def test_a_larger_model_begins_with_a_smaller_one_and_its_result_says_so(tmp_path: Path) -> None:
    pack = make_pack(tmp_path)
    toy, said = replace(SMOKE, model="toy", stages=("regression",)), []
    write_tensors(tmp_path / "tiny.safetensors", some_weights("tiny"), {"model": "tiny", "steps": "7"})
    start = tmp_path / "tiny.safetensors"
    for folder, steps in ((tmp_path / "first", 4), (tmp_path / "second", 8)):  # the second goes on from the first
        Run(toy, pack, folder, said.append, start=start).stage("regression")
        start = folder / "regression" / RESULT
        facts = read_facts(start)
        assert (facts["steps"], facts["grown_from"]) == (str(steps), "tiny after 7 updates")
    assert said.count("regression: begins with tiny after 7 updates, grown to toy") == 1


@pytest.mark.usefixtures("trainer_alone")
def test_a_run_that_goes_on_says_what_it_began_with_and_not_what_the_command_names_now(tmp_path: Path) -> None:
    pack, said = make_pack(tmp_path), list[str]()
    recipe = replace(SMOKE, model="toy", stages=("regression",), save_every=2, log_every=3)
    write_tensors(tmp_path / "tiny.safetensors", some_weights("tiny"), {"model": "tiny", "steps": "7"})

    def stop(text: str) -> None:
        said.append(text)
        if text.startswith("regression 3/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Run(recipe, pack, tmp_path / "run", stop, start=tmp_path / "tiny.safetensors").stage("regression")
    Run(recipe, pack, tmp_path / "run", said.append).stage("regression")
    assert read_facts(tmp_path / "run" / "regression" / RESULT)["grown_from"] == "tiny after 7 updates"
    assert sum("grown to toy" in text for text in said) == 1


@pytest.mark.parametrize("spoilt", ["network.out.weight", "network.features.weight", "network.more"])
def test_a_small_network_with_other_tensors_is_refused_in_a_sentence(tmp_path: Path, spoilt: str) -> None:
    weights = some_weights("tiny")
    tensor = weights.pop(spoilt, torch.ones(4))
    if spoilt != "network.out.weight":
        weights[spoilt] = tensor[:, 1:] if tensor.ndim == 4 else tensor
    save_file({name: t.contiguous() for name, t in weights.items()}, tmp_path / "tiny.safetensors")
    with pytest.raises(TrainingError, match="holds weights of another architecture than nano"):
        start_weights(tmp_path / "tiny.safetensors", "nano")
