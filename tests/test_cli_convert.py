"""`duovsr models convert`: Wan2.1's public files, in every layout that users have, to one model file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from wan_files import LIGHT, SMALL, Cli, Files, diffusers_folder, wan_files, wan_parts, weights

from duovsr_vs.model.checkpoint import load
from duovsr_vs.model.registry import describe
from duovsr_vs.model.wan.config import LATENT_CHANNELS
from duovsr_vs.model.wan.generator import WanGenerator
from duovsr_vs.model.wan.keys import Part
from duovsr_vs.model.wan.light import LightDecoder, LightEncoder
from duovsr_vs.model.wan.transformer import WanTransformer

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def parts() -> dict[Part, dict[str, Tensor]]:
    return wan_parts()


@pytest.fixture
def files(parts: dict[Part, dict[str, Tensor]], tmp_path: Path) -> Files:
    return wan_files(parts, tmp_path)


def converted(cli: Cli, folder: Path, *given: object) -> WanGenerator:
    """What `convert` makes of the arguments."""
    code, _, errors = cli("models", "convert", *given, "-o", folder / "base.safetensors")
    assert (code, errors) == (0, "")
    assert not list(folder.glob("*.part"))
    generator = load(folder / "base.safetensors").generator
    assert isinstance(generator, WanGenerator)
    return generator


def assert_same(generator: WanGenerator, parts: Mapping[Part, Mapping[str, Tensor]]) -> None:
    """The weights are those that went in, bit by bit; the channels for the LR are zero."""
    state = generator.state_dict()
    for part, own in parts.items():
        for name, tensor in own.items():
            found = state[f"{part}.{name}"]
            if name == "patch_embedding.weight":
                assert not found[:, LATENT_CHANNELS:].any()
                found = found[:, :LATENT_CHANNELS]
            assert found.dtype == tensor.dtype and torch.equal(found, tensor), name


# -- layouts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefixes", [("", ""), ("model.diffusion_model.", "vae."), ("", "model.")])
def test_original_and_repackaged_names_give_the_same_weights(
    parts: dict[Part, dict[str, Tensor]], tmp_path: Path, cli: Cli, prefixes: tuple[str, str]
) -> None:
    for path, prefix, own in zip(("wan.safetensors", "vae.safetensors"), prefixes, parts.values(), strict=True):
        save_file({prefix + name: tensor for name, tensor in own.items()}, tmp_path / path)
    found = converted(
        cli, tmp_path, "--transformer", tmp_path / "wan.safetensors", "--vae", tmp_path / "vae.safetensors"
    )
    assert_same(found, parts)


def test_a_checkpoint_may_hold_both_parts_and_more(
    parts: dict[Part, dict[str, Tensor]], tmp_path: Path, cli: Cli
) -> None:
    whole = {f"model.diffusion_model.{name}": tensor for name, tensor in parts["transformer"].items()}
    whole |= {f"vae.{name}": tensor for name, tensor in parts["autoencoder"].items()}
    save_file({**whole, "text_encoders.umt5.shared.weight": torch.zeros(3)}, tmp_path / "all.safetensors")
    assert_same(converted(cli, tmp_path, "--transformer", tmp_path / "all.safetensors"), parts)


@pytest.mark.parametrize("given", ["whole", "folders", "index"])
def test_a_folder_of_diffusers_with_shards_gives_the_same_weights(
    parts: dict[Part, dict[str, Tensor]], tmp_path: Path, cli: Cli, given: str
) -> None:
    folder = diffusers_folder(parts, tmp_path / "Wan2.1")
    index = folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    arguments: dict[str, list[object]] = {
        "whole": ["--transformer", folder],
        "folders": ["--transformer", folder / "transformer", "--vae", folder / "vae"],
        "index": ["--transformer", index, "--vae", folder / "vae" / "diffusion_pytorch_model.safetensors"],
    }
    assert_same(converted(cli, tmp_path, *arguments[given]), parts)


@pytest.mark.parametrize("layout", ["older", "newer"])
def test_scaled_8_bit_weights_are_multiplied_out(
    parts: dict[Part, dict[str, Tensor]], tmp_path: Path, cli: Cli, files: Files, layout: str
) -> None:
    scale, wanted, file = torch.tensor(0.25), {}, {}
    for name, tensor in parts["transformer"].items():
        if ".ffn." not in name or not name.endswith(".weight"):
            wanted[name] = file[name] = tensor
            continue
        small = (tensor.float() / scale).to(torch.float8_e4m3fn)
        stem = name.removesuffix(".weight")
        wanted[name] = (small.float() * scale).bfloat16()
        file |= {name: small}
        if layout == "older":
            file |= {f"{stem}.scale_weight": scale.clone(), f"{stem}.scale_input": torch.ones(1)}
        else:
            note = torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8)
            file |= {f"{stem}.weight_scale": scale.clone(), f"{stem}.comfy_quant": note}
    if layout == "older":
        file["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    save_file(file, tmp_path / "fp8.safetensors")
    found = converted(cli, tmp_path, "--transformer", tmp_path / "fp8.safetensors", "--vae", files[1])
    assert_same(found, {"transformer": wanted, "autoencoder": parts["autoencoder"]})


@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_weights_are_stored_in_the_type_that_is_asked_for(
    parts: dict[Part, dict[str, Tensor]], tmp_path: Path, cli: Cli, files: Files, kind: str
) -> None:
    found = converted(cli, tmp_path, "--transformer", files[0], "--vae", files[1], "--dtype", kind)
    assert {weight.dtype for weight in found.parameters()} == {getattr(torch, kind)}
    name = "blocks.1.self_attn.q.weight"
    assert torch.equal(found.transformer.state_dict()[name], parts["transformer"][name].to(getattr(torch, kind)))


# -- what is made ---------------------------------------------------------------------------------------------------


def test_the_model_says_what_it_is_and_that_it_is_not_trained(tmp_path: Path, cli: Cli, files: Files) -> None:
    code, out, _ = cli(
        "models", "convert", "--transformer", files[0], "--vae", files[1], "-o", tmp_path / "b.safetensors"
    )
    assert code == 0 and "base-128" in out and "Apache-2.0" in out and "of no use before it is trained" in out
    facts = describe(tmp_path / "b.safetensors")
    assert "LR is not looked at" in facts["provenance"]["stages"][0]
    assert facts["provenance"]["from"] == "wan.safetensors, vae.safetensors"
    code, out, _ = cli("info", tmp_path / "b.safetensors")
    assert code == 0 and "licence  Apache-2.0" in out and "stages   none yet: text-to-video" in out
    assert "\ntransformer attention_window=16, blocks=2" in out and "family=wan" in out and "{" not in out


@torch.no_grad()
def test_a_converted_model_begins_as_the_one_for_text(
    parts: dict[Part, dict[str, Tensor]], tmp_path: Path, cli: Cli, files: Files
) -> None:
    text = torch.randn(3, SMALL.text_width, generator=torch.Generator().manual_seed(1))
    save_file({"prompt": text}, tmp_path / "text.safetensors")
    given = ("--transformer", files[0], "--vae", files[1], "--embedding", tmp_path / "text.safetensors")
    found = converted(cli, tmp_path, *given, "--dtype", "float32", "--full-attention")
    plain = WanTransformer(SMALL).eval()
    plain.load_state_dict(parts["transformer"])
    z = torch.randn(1, 2, LATENT_CHANNELS, 4, 6, generator=torch.Generator().manual_seed(2))
    condition = found.condition(torch.rand(1, 7, 3, 8, 12))
    for quality, embedding in ((1, text), (0, text[:0])):
        wanted = plain(z.transpose(1, 2), torch.ones(1), plain.tokens_of(embedding[None])).transpose(1, 2)
        torch.testing.assert_close(
            found.velocity(z, torch.ones(1), condition, torch.tensor([quality])), wanted, atol=1e-5, rtol=1e-4
        )
    assert found.transformer.context.shape == (2, 512, 128)
    assert found.config.name == "base-128-text" and "transformer.context" not in dict(found.named_parameters())


def test_a_null_embedding_is_taken_for_the_null_class(tmp_path: Path, cli: Cli, files: Files) -> None:
    text, null = torch.randn(2, 5, SMALL.text_width, generator=torch.Generator().manual_seed(1)).unbind(0)
    save_file({"prompt": text, "null": null.clone()}, tmp_path / "text.safetensors")
    found = converted(
        cli, tmp_path, "--transformer", files[0], "--vae", files[1], "--embedding", tmp_path / "text.safetensors"
    )
    wanted = torch.stack([found.transformer.float().tokens_of(x[None])[0] for x in (text, null)])
    assert float((found.transformer.context - wanted).abs().max()) < 0.02 * float(wanted.abs().max())


def test_a_light_pair_makes_base_fast_with_or_without_the_autoencoder(tmp_path: Path, cli: Cli, files: Files) -> None:
    torch.manual_seed(0)
    pair = {f"light_encoder.{n}": t for n, t in weights(LightEncoder(LIGHT)).items()}
    pair |= {f"light_decoder.{n}": t for n, t in weights(LightDecoder(LIGHT)).items()}
    save_file({**pair, "transformer.head.modulation": torch.zeros(1)}, tmp_path / "light.safetensors")
    given = ("--transformer", files[0], "--light", tmp_path / "light.safetensors")
    for vae in ((), ("--vae", files[1])):
        found = converted(cli, tmp_path, *given, *vae, "--overwrite")
        assert found.config.light == LIGHT and found.config.name == "base-fast-128"
        assert (found.autoencoder is not None) == bool(vae)
        state = found.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in pair.items())


def test_channels_for_the_lr_that_are_there_already_are_kept(
    parts: dict[Part, dict[str, Tensor]], tmp_path: Path, cli: Cli, files: Files
) -> None:
    patch = torch.randn(128, 32, 1, 2, 2, generator=torch.Generator().manual_seed(0)).bfloat16()
    save_file({**parts["transformer"], "patch_embedding.weight": patch}, tmp_path / "with_lr.safetensors")
    found = converted(cli, tmp_path, "--transformer", tmp_path / "with_lr.safetensors", "--vae", files[1])
    assert torch.equal(found.transformer.patch_embedding.weight, patch)
    assert "had channels for the LR already" in describe(tmp_path / "base.safetensors")["provenance"]["stages"][0]


def test_the_same_files_give_the_same_model(tmp_path: Path, cli: Cli, files: Files) -> None:
    hashes = set()
    for name in ("a.safetensors", "b.safetensors"):
        assert cli("models", "convert", "--transformer", files[0], "--vae", files[1], "-o", tmp_path / name)[0] == 0
        hashes.add(load(tmp_path / name).hash)
    assert len(hashes) == 1


def test_models_without_a_command_lists_the_shipped_ones(cli: Cli) -> None:
    code, out, _ = cli("models")
    assert code == 0 and out.startswith("nano (default): ")
    assert json.loads(cli("models", "--json")[1])["nano"]["config"]["name"] == "nano"
    code, out, _ = cli("models", "convert", "--help")
    assert code == 0 and "--transformer" in out


def test_a_name_without_weights_says_how_to_make_them(cli: Cli) -> None:
    code, _, errors = cli("bench", "--model", "base")
    assert code == 1 and "base comes without weights" in errors and "duovsr models convert" in errors
