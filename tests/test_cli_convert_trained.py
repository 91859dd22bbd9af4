"""`duovsr models convert` with a model that was trained here: a light pair, or another autoencoder, is put into it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from base_files import base_weights
from conftest import synthetic_clip
from safetensors.torch import save_file
from torch import Tensor

from duovsr_vs.engine.options import Options
from duovsr_vs.engine.upscaler import Upscaler
from duovsr_vs.model.checkpoint import DETAILED, FAITHFUL, load, save
from duovsr_vs.model.registry import describe
from duovsr_vs.model.wan.config import PRESETS, AutoencoderConfig, BaseConfig, LightConfig
from duovsr_vs.model.wan.generator import WanGenerator

pytestmark = pytest.mark.usefixtures("one_torch_thread")
Cli = Callable[..., tuple[int, str, str]]
LIGHT = LightConfig(encoder_width=8, encoder_blocks=1, decoder_widths=(12, 8, 4), decoder_blocks=(1, 0, 2))
TINY, WITH_TEXT = PRESETS["base-tiny"], PRESETS["base-tiny-text"]
SETTINGS = TINY.with_values(window=9, overlap=1, chunk=4, kappa=0.75, back_projections=1)
"""Settings that no preset has."""
FULL = TINY.with_values(transformer=replace(TINY.transformer, attention_window=0))
BOTH = TINY.with_values(name="base-fast-48", light=LIGHT)
SOURCE = {"source": "films", "author": "me", "licence": "CC0"}
TRAINED = {"recipe": "paper", "revision": "abc", "stages": [{"stage": "dual_stream", "updates": 7}], "data": [SOURCE]}
"""What `python -m training export` writes."""


def trained(folder: Path, config: BaseConfig = TINY, name: str = "mine") -> Path:
    """A model file as `export` writes it, in bfloat16."""
    path = folder / f"{name}.safetensors"
    save(path, config, {DETAILED: base_weights(config)}, TRAINED, dtype=torch.bfloat16)
    return path


def pair(folder: Path) -> Path:
    """A light pair as its stage hands it on."""
    weights = base_weights(BOTH.with_values(autoencoder=None), seed=1)
    own = {name: tensor for name, tensor in weights.items() if name.startswith("light_")}
    path = folder / "result.safetensors"
    save_file(own, path, {"recipe": "{}", "data": "0123456789abcdef", "model": "base-fast", "steps": "20000"})
    return path


def autoencoder(folder: Path, width: int = 12) -> tuple[Path, dict[str, Tensor]]:
    """Another one, by Wan's names, and its weights by ours."""
    config = TINY.with_values(autoencoder=AutoencoderConfig(width=width))
    weights = {n: t for n, t in base_weights(config, seed=2).items() if n.startswith("autoencoder.")}
    path = folder / "vae.safetensors"
    save_file({name.removeprefix("autoencoder."): tensor for name, tensor in weights.items()}, path)
    return path, weights


def converted(cli: Cli, output: Path, *given: object) -> WanGenerator:
    """What `convert` makes of the arguments."""
    code, _, errors = cli("models", "convert", *given, "-o", output)
    assert (code, errors) == (0, "")
    generator = load(output).generator
    assert isinstance(generator, WanGenerator)
    return generator


def refused(cli: Cli, folder: Path, *given: object) -> str:
    """The one sentence of a refusal, which leaves nothing behind."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    code, out, errors = cli("models", "convert", *given, "-o", folder / "base-fast.safetensors")
    assert code in (1, 2) and out == "" and errors.count("\n") == 1 and errors.startswith("duovsr: ")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    return errors


def state_of(path: Path) -> dict[str, Tensor]:
    return load(path).generator.state_dict()


def same(found: dict[str, Tensor], wanted: dict[str, Tensor], prefix: str) -> bool:
    """Whether all tensors of a part, and no others, are there, bit by bit and of the same type."""
    one, other = ({n: t for n, t in state.items() if n.startswith(prefix)} for state in (found, wanted))
    kept = all(one[name].dtype == t.dtype and torch.equal(one[name], t) for name, t in other.items() if name in one)
    return one.keys() == other.keys() and len(one) > 1 and kept


# -- what is made ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [TINY, WITH_TEXT, FULL, SETTINGS], ids=["windows", "text", "full", "settings"])
def test_a_light_pair_comes_beside_a_transformer_that_stays_as_it_was_trained(
    tmp_path: Path, cli: Cli, config: BaseConfig
) -> None:
    mine, light = trained(tmp_path, config), pair(tmp_path)
    found = converted(cli, tmp_path / "fast.safetensors", "--transformer", mine, "--light", light)
    wanted, state = state_of(mine), found.state_dict()
    assert same(state, wanted, "transformer.") and same(state, wanted, "autoencoder.")
    assert torch.equal(state["transformer.context"], wanted["transformer.context"])
    assert same(state, state_of_pair(light), "light_")
    name = "base-fast-48-text" if config.transformer.text else "base-fast-48"
    assert found.config == config.with_values(name=name, light=LIGHT)


def state_of_pair(path: Path) -> dict[str, Tensor]:
    weights = base_weights(BOTH.with_values(autoencoder=None), seed=1)
    return {name: tensor for name, tensor in weights.items() if name.startswith("light_")}


def test_the_engine_runs_it_as_if_pair_and_transformer_had_been_saved_together(tmp_path: Path, cli: Cli) -> None:
    mine, light = trained(tmp_path, SETTINGS), pair(tmp_path)
    converted(cli, tmp_path / "fast.safetensors", "--transformer", mine, "--light", light)
    both = {**{n: t for n, t in state_of(mine).items() if n.startswith("transformer.")}, **state_of_pair(light)}
    save(tmp_path / "together.safetensors", SETTINGS.with_values(light=LIGHT, autoencoder=None), {DETAILED: both}, {})
    clip = synthetic_clip(SETTINGS.window + 2, 16, 20)
    found, wanted, slow = (
        list(Upscaler(Options(model=str(path), device="cpu", precision="float32"), 20, 16).stream(clip))
        for path in (tmp_path / "fast.safetensors", tmp_path / "together.safetensors", mine)
    )
    assert len(found) == len(clip) and all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert not torch.equal(found[1], slow[1]), "the light pair is not what decodes"


def test_the_file_says_where_both_come_from(tmp_path: Path, cli: Cli) -> None:
    mine, light = trained(tmp_path), pair(tmp_path)
    output = tmp_path / "fast.safetensors"
    code, out, _ = cli("models", "convert", "--transformer", mine, "--light", light, "-o", output)
    told = describe(output)["provenance"]
    assert code == 0 and {name: told[name] for name in TRAINED} == TRAINED
    assert told["from"] == "mine.safetensors, result.safetensors"
    assert told["light"] == "result.safetensors: light for base-fast (20000 updates), data 0123456789abcdef"
    for shown in (out, cli("info", output)[1]):
        assert "stages   dual_stream (7 updates)" in shown and f"light    {told['light']}" in shown
    assert "no use before it is trained" not in out and f"--model {output}" in out


def test_what_a_converted_file_said_of_itself_stays(tmp_path: Path, cli: Cli) -> None:
    """A pair put into a file that `convert` made, and the pair of that file put into another."""
    mine, light, output = tmp_path / "mine.safetensors", pair(tmp_path), tmp_path / "fast.safetensors"
    told = {"stages": ["none yet"], "licence": "Apache-2.0", "from": "wan.safetensors, vae.safetensors"}
    save(mine, TINY, {DETAILED: base_weights(TINY)}, told)
    code, out, _ = cli("models", "convert", "--transformer", mine, "--light", light, "-o", output)
    found = describe(output)["provenance"]
    assert code == 0 and "no use before it is trained" in out and found["licence"] == "Apache-2.0"
    assert found["from"] == "mine.safetensors (from wan.safetensors, vae.safetensors), result.safetensors"
    other = tmp_path / "other.safetensors"
    converted(cli, other, "--transformer", trained(tmp_path, FULL, "third"), "--light", output)
    assert describe(other)["provenance"]["light"] == found["light"]


def test_an_autoencoder_that_is_given_takes_the_place_of_the_files_own(tmp_path: Path, cli: Cli) -> None:
    mine, light = trained(tmp_path), pair(tmp_path)
    vae, weights = autoencoder(tmp_path)
    found = converted(cli, tmp_path / "fast.safetensors", "--transformer", mine, "--light", light, "--vae", vae)
    assert same(found.state_dict(), weights, "autoencoder.") and found.config.light == LIGHT
    assert found.config.autoencoder == AutoencoderConfig(width=12)
    alone = tmp_path / "alone.safetensors"
    save(alone, BOTH.with_values(autoencoder=None), {DETAILED: base_weights(BOTH.with_values(autoencoder=None))}, {})
    found = converted(cli, tmp_path / "whole.safetensors", "--transformer", alone, "--vae", vae)
    assert same(found.state_dict(), weights, "autoencoder.") and same(found.state_dict(), state_of(alone), "light_")


def test_a_new_light_pair_takes_the_place_of_the_files_own(tmp_path: Path, cli: Cli) -> None:
    mine, light = trained(tmp_path, PRESETS["base-tiny-light"]), pair(tmp_path)
    found = converted(cli, tmp_path / "fast.safetensors", "--transformer", mine, "--light", light)
    assert found.config.light == LIGHT and same(found.state_dict(), state_of_pair(light), "light_")
    assert found.autoencoder is None and same(found.state_dict(), state_of(mine), "transformer.")


def test_all_weights_get_the_type_that_is_asked_for(tmp_path: Path, cli: Cli) -> None:
    mine, light = trained(tmp_path), pair(tmp_path)
    given = ("--transformer", mine, "--light", light, "--dtype", "float16")
    found = converted(cli, tmp_path / "fast.safetensors", *given)
    assert {weight.dtype for weight in found.parameters()} == {torch.float16}


# -- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config, words", [(TINY, "4 learned tokens"), (WITH_TEXT, "the tokens of a text")])
def test_an_embedding_for_tokens_that_came_along_is_refused(
    tmp_path: Path, cli: Cli, config: BaseConfig, words: str
) -> None:
    save_file({"prompt": torch.zeros(3, 20)}, tmp_path / "text.safetensors")
    given = ("--light", pair(tmp_path), "--embedding", tmp_path / "text.safetensors")
    errors = refused(cli, tmp_path, "--transformer", trained(tmp_path, config), *given)
    assert words in errors and "mine.safetensors" in errors and "leave --embedding out" in errors


def test_full_attention_is_refused_where_windows_were_trained_and_only_there(tmp_path: Path, cli: Cli) -> None:
    given = ("--light", pair(tmp_path), "--full-attention")
    errors = refused(cli, tmp_path, "--transformer", trained(tmp_path), *given)
    assert "attention in windows of 4 tokens" in errors and "leave --full-attention out" in errors
    full = trained(tmp_path, FULL, "full")
    found = converted(cli, tmp_path / "fast.safetensors", "--transformer", full, *given)
    assert found.config.transformer.attention_window == 0


def test_a_model_that_nothing_is_put_into_is_refused(tmp_path: Path, cli: Cli) -> None:
    errors = refused(cli, tmp_path, "--transformer", trained(tmp_path))
    assert "is a model of duovsr already; give it to --model as it is, or --light" in errors


@pytest.mark.parametrize("option", ["--transformer", "--vae"])
def test_the_other_family_and_models_in_the_autoencoders_place_keep_their_sentence(
    tmp_path: Path, cli: Cli, option: str
) -> None:
    nano = Path(__file__).parents[1] / "duovsr_vs" / "weights" / "nano.safetensors"
    given = {"--transformer": trained(tmp_path), option: nano, "--light": pair(tmp_path)}
    errors = refused(cli, tmp_path, *(word for each in given.items() for word in each))
    assert errors.endswith("nano.safetensors is a model of duovsr already; give it to --model as it is\n")


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_model_that_was_cut_short_is_refused(tmp_path: Path, cli: Cli, share: float) -> None:
    mine, light = trained(tmp_path), pair(tmp_path)
    data = mine.read_bytes()
    left = int(len(data) * share)
    mine.write_bytes(data[:left])
    words = f"is cut short: {left:,} of {len(data):,} bytes are there" if share > 0.1 else "is damaged"
    assert words in refused(cli, tmp_path, "--transformer", mine, "--light", light)


def test_a_pickle_with_a_models_name_is_refused(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "mine.safetensors").write_bytes(pickle.dumps({"conv1.weight": [1.0]}))
    errors = refused(cli, tmp_path, "--transformer", tmp_path / "mine.safetensors", "--light", pair(tmp_path))
    assert "is a pickle, which could run any code" in errors


def test_changed_contents_and_two_sets_of_weights_are_refused(tmp_path: Path, cli: Cli) -> None:
    mine, light = trained(tmp_path), pair(tmp_path)
    data = bytearray(mine.read_bytes())
    data[-1] ^= 1
    mine.write_bytes(data)
    assert "do not match its hash" in refused(cli, tmp_path, "--transformer", mine, "--light", light)
    weights = base_weights(TINY)
    save(mine, TINY, {FAITHFUL: weights, DETAILED: {n: t + 1 for n, t in weights.items()}}, TRAINED)
    errors = refused(cli, tmp_path, "--transformer", mine, "--light", light)
    assert "holds 2 sets of weights; one is needed" in errors


def test_weights_that_do_not_fit_the_files_own_configuration_are_refused(tmp_path: Path, cli: Cli) -> None:
    mine, light, weights = tmp_path / "mine.safetensors", pair(tmp_path), base_weights(TINY)
    del weights["transformer.blocks.1.ffn.2.bias"]
    save(mine, TINY, {DETAILED: weights}, TRAINED)
    errors = refused(cli, tmp_path, "--transformer", mine, "--light", light)
    assert "mine.safetensors does not fit its own configuration" in errors and "ffn.2.bias is missing" in errors
