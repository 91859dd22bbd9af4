"""`duovsr models convert`: Wan2.1's public files, in every layout that users have, to one model file; and refusals."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from duovsr_vs.model.checkpoint import load
from duovsr_vs.model.registry import describe
from duovsr_vs.model.wan.autoencoder import WanAutoencoder
from duovsr_vs.model.wan.config import LATENT_CHANNELS, AutoencoderConfig, LightConfig, TransformerConfig
from duovsr_vs.model.wan.generator import WanGenerator
from duovsr_vs.model.wan.keys import Part, to_diffusers
from duovsr_vs.model.wan.light import LightDecoder, LightEncoder
from duovsr_vs.model.wan.transformer import WanTransformer

pytestmark = pytest.mark.usefixtures("one_torch_thread")
Cli = Callable[..., tuple[int, str, str]]
SMALL = TransformerConfig(width=128, heads=1, blocks=2, inner=32, text_width=24, frequencies=16)
"""As Wan2.1-T2V-1.3B, heads of 128 channels, but little of all else."""
LIGHT = LightConfig(encoder_width=8, encoder_blocks=1, decoder_widths=(12, 8, 4), decoder_blocks=(1, 0, 2))


def weights(module: nn.Module, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {name: tensor.to(dtype) for name, tensor in module.state_dict().items()}


@pytest.fixture(scope="module")
def parts() -> dict[Part, dict[str, Tensor]]:
    """Weights of a small transformer and a small autoencoder, by original names."""
    torch.manual_seed(0)
    return {
        "transformer": weights(WanTransformer(SMALL), torch.bfloat16),
        "autoencoder": weights(WanAutoencoder(AutoencoderConfig(width=8))),
    }


Files = tuple[Path, Path]


@pytest.fixture
def files(parts: dict[Part, dict[str, Tensor]], tmp_path: Path) -> Files:
    """Both in files of their own, by original names."""
    out = tmp_path / "wan.safetensors", tmp_path / "vae.safetensors"
    for path, own in zip(out, parts.values(), strict=True):
        save_file(own, path)
    return out


def converted(cli: Cli, folder: Path, *given: object) -> WanGenerator:
    """What `convert` makes of the arguments."""
    code, _, errors = cli("models", "convert", *given, "-o", folder / "base.safetensors")
    assert (code, errors) == (0, "")
    assert not list(folder.glob("*.part"))
    generator = load(folder / "base.safetensors").generator
    assert isinstance(generator, WanGenerator)
    return generator


def refused(cli: Cli, folder: Path, *given: object) -> str:
    """The one sentence of a refusal, which leaves nothing behind."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    code, out, errors = cli("models", "convert", *given, "-o", folder / "base.safetensors")
    assert code in (1, 2) and out == "" and errors.count("\n") == 1 and errors.startswith("duovsr: ")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    return errors


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


def diffusers_folder(parts: Mapping[Part, Mapping[str, Tensor]], folder: Path) -> Path:
    """A whole model in the layout of diffusers, the transformer in two shards."""
    (folder / "transformer").mkdir(parents=True)
    (folder / "vae").mkdir()
    names = sorted(parts["transformer"])
    shards = {
        "diffusion_pytorch_model-00001-of-00002.safetensors": names[::2],
        "diffusion_pytorch_model-00002-of-00002.safetensors": names[1::2],
    }
    index = {}
    for file, own in shards.items():
        index |= {to_diffusers(name): file for name in own}
        save_file({to_diffusers(name): parts["transformer"][name] for name in own}, folder / "transformer" / file)
    text = json.dumps({"metadata": {"total_size": 0}, "weight_map": index})
    (folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text(text)
    vae = {to_diffusers(name): tensor for name, tensor in parts["autoencoder"].items()}
    save_file(vae, folder / "vae" / "diffusion_pytorch_model.safetensors")
    return folder


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


# -- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape, extra, words",
    [
        ((5120, 16), "", "a model of 14B parameters"),
        ((5120, 36), "", "image-to-video"),
        ((1536, 16), "blocks.0.cross_attn.k_img.weight", "image-to-video"),
        ((1536, 16), "vace_blocks.0.after_proj.weight", "a VACE model"),
        ((3072, 48), "", "Wan2.2-TI2V-5B"),
        ((1536, 48), "", "takes 48 channels"),
    ],
)
def test_other_members_of_the_family_are_refused_by_name(
    tmp_path: Path, cli: Cli, shape: tuple[int, int], extra: str, words: str
) -> None:
    file = {"patch_embedding.weight": torch.zeros(*shape, 1, 2, 2, dtype=torch.bfloat16)}
    if extra:
        file[extra] = torch.zeros(1)
    save_file(file, tmp_path / "other.safetensors")
    errors = refused(cli, tmp_path, "--transformer", tmp_path / "other.safetensors")
    assert "other.safetensors" in errors and words in errors


@pytest.mark.parametrize(
    "names, words",
    [
        (["double_blocks.0.img_attn.qkv.weight"], "HunyuanVideo or FLUX"),
        (["shared.weight", "encoder.block.0.layer.0.layer_norm.weight"], "the text encoder (umT5)"),
        (["blocks.0.self_attn.q.lora_A.weight"], "a LoRA"),
        (["decoder.conv1.weight"], "Wan's autoencoder"),
        (["anything"], "its tensors begin with anything"),
    ],
)
def test_files_of_something_else_are_refused_by_name(tmp_path: Path, cli: Cli, names: list[str], words: str) -> None:
    save_file({name: torch.zeros(1) for name in names}, tmp_path / "other.safetensors")
    errors = refused(cli, tmp_path, "--transformer", tmp_path / "other.safetensors")
    assert "holds no Wan transformer" in errors and words in errors


@pytest.mark.parametrize(
    "name", ["decoder.upsamples.0.upsamples.0.residual.0.gamma", "decoder.up_blocks.0.upsampler.w"]
)
def test_the_autoencoder_of_the_next_generation_is_refused_by_name(
    tmp_path: Path, cli: Cli, files: Files, name: str
) -> None:
    save_file({"decoder.conv1.weight": torch.zeros(1), name: torch.zeros(1)}, tmp_path / "vae22.safetensors")
    errors = refused(cli, tmp_path, "--transformer", files[0], "--vae", tmp_path / "vae22.safetensors")
    assert "vae22.safetensors: this is the autoencoder of Wan2.2" in errors


@pytest.mark.parametrize(
    "suffix, data", [(".pth", b"of a time long gone"), (".safetensors", pickle.dumps({"conv1.weight": [1.0]}))]
)
def test_a_pickle_is_refused_with_the_file_to_take_instead(
    tmp_path: Path, cli: Cli, files: Files, suffix: str, data: bytes
) -> None:
    path = tmp_path / f"Wan2.1_VAE{suffix}"
    path.write_bytes(data)
    errors = refused(cli, tmp_path, "--transformer", files[0], "--vae", path)
    assert "is a pickle" in errors and "wan_2.1_vae.safetensors of Comfy-Org/Wan_2.1_ComfyUI_repackaged" in errors


def test_a_missing_autoencoder_is_named_with_its_source_and_the_command(tmp_path: Path, cli: Cli, files: Files) -> None:
    errors = refused(cli, tmp_path, "--transformer", files[0])
    assert "the autoencoder is missing" in errors and "wan_2.1_vae.safetensors of Comfy-Org" in errors
    assert f"duovsr models convert --transformer {files[0]} --vae FILE -o OUTPUT" in errors


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, cli: Cli, files: Files, share: float) -> None:
    data = files[0].read_bytes()
    left = int(len(data) * share)
    files[0].write_bytes(data[:left])
    errors = refused(cli, tmp_path, "--transformer", files[0], "--vae", files[1])
    words = f"is cut short: {left:,} of {len(data):,} bytes are there" if share > 0.1 else "is damaged"
    assert words in errors


def test_missing_blocks_and_mixed_versions_are_refused(
    parts: dict[Part, dict[str, Tensor]], tmp_path: Path, cli: Cli, files: Files
) -> None:
    own = parts["transformer"]
    gone = {name: tensor for name, tensor in own.items() if name != "blocks.1.ffn.2.bias"}
    other = {**own, "blocks.0.self_attn.q.weight": torch.zeros(64, 128)}
    for number, (file, words) in enumerate(
        [(gone, "blocks.1.ffn.2.bias is missing"), (other, r"blocks.0.self_attn.q.weight is (64, 128)")]
    ):
        path = tmp_path / f"{number}.safetensors"
        save_file(file, path)
        assert words in refused(cli, tmp_path, "--transformer", path, "--vae", files[1])
    wide = {"patch_embedding.weight": torch.zeros(1536, 16, 1, 2, 2), "blocks.0.ffn.0.weight": torch.zeros(8960, 1)}
    wide |= {"text_embedding.0.weight": torch.zeros(1, 4096), "time_embedding.0.weight": torch.zeros(1, 256)}
    save_file(wide, tmp_path / "part.safetensors")
    errors = refused(cli, tmp_path, "--transformer", tmp_path / "part.safetensors", "--vae", files[1])
    assert "holds 1 of Wan2.1-T2V-1.3B's 30 blocks" in errors


def test_missing_and_foreign_shards_are_refused(parts: dict[Part, dict[str, Tensor]], tmp_path: Path, cli: Cli) -> None:
    folder = diffusers_folder(parts, tmp_path / "Wan2.1")
    shard = folder / "transformer" / "diffusion_pytorch_model-00002-of-00002.safetensors"
    data = shard.read_bytes()
    shard.unlink()
    assert "00002-of-00002.safetensors is missing, which" in refused(cli, tmp_path, "--transformer", folder)
    shard.write_bytes(data)
    save_file({"proj_out.bias": torch.zeros(64)}, shard)
    assert "do not belong together" in refused(cli, tmp_path, "--transformer", folder)


def test_embeddings_that_do_not_fit_are_refused(tmp_path: Path, cli: Cli, files: Files) -> None:
    path = tmp_path / "text.safetensors"
    given = ("--transformer", files[0], "--vae", files[1], "--embedding", path)
    assert "text.safetensors is no file; `duovsr models embed`" in refused(cli, tmp_path, *given)
    for tensors, words in [
        ({"prompt": torch.zeros(3, 7)}, "`prompt` is (3, 7) float32"),
        ({"prompt": torch.zeros(513, 24)}, "at most 512 tokens of width 24"),
        ({"a": torch.zeros(3, 24), "b": torch.zeros(3, 24)}, "`prompt` and perhaps `null` are needed"),
    ]:
        save_file(tensors, path)
        assert words in refused(cli, tmp_path, *given)


def test_a_file_without_a_light_pair_is_refused(tmp_path: Path, cli: Cli, files: Files) -> None:
    given = ("--transformer", files[0], "--light")
    errors = refused(cli, tmp_path, *given, files[1])
    assert "holds no light pair" in errors and "training run --recipe light` makes one" in errors
    assert "is no file" in refused(cli, tmp_path, *given, tmp_path / "gone.safetensors")
    pair = {f"light_encoder.{n}": t for n, t in weights(LightEncoder(LIGHT)).items()}
    pair |= {f"light_decoder.{n}": t for n, t in weights(LightDecoder(LIGHT)).items() if n != "out.bias"}
    save_file(pair, tmp_path / "light.safetensors")
    assert "pair is not whole: out.bias is missing" in refused(cli, tmp_path, *given, tmp_path / "light.safetensors")


def test_outputs_are_checked_first_and_never_replaced_unasked(tmp_path: Path, cli: Cli, files: Files) -> None:
    given = ("models", "convert", "--transformer", files[0], "--vae", files[1])
    kept = tmp_path / "kept.safetensors"
    kept.write_bytes(b"mine")
    for output, words in [
        (kept, "exists; give --overwrite"),
        (files[0], "is one of the files to read"),
        (tmp_path / "model.bin", "the name of a .safetensors file"),
        (tmp_path / "no" / "x.safetensors", "in a folder that exists"),
    ]:
        code, _, errors = cli(*given, "-o", output)
        assert code == 2 and words in errors
    assert kept.read_bytes() == b"mine"
    assert cli(*given, "-o", kept, "--overwrite")[0] == 0 and load(kept).config.name == "base-128"
    assert "--dtype int8: known are auto" in refused(cli, tmp_path, *given[2:], "--dtype", "int8")


def test_what_breaks_off_while_writing_leaves_the_old_file(
    tmp_path: Path, cli: Cli, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        Path(str(_[1])).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(_[1]))

    monkeypatch.setattr("duovsr_vs.model.checkpoint.save_file", full)
    (tmp_path / "base.safetensors").write_bytes(b"old")
    given = ("--transformer", files[0], "--vae", files[1], "--overwrite")
    assert "No space left on device" in refused(cli, tmp_path, *given)
    assert (tmp_path / "base.safetensors").read_bytes() == b"old"


def test_models_without_a_command_lists_the_shipped_ones(cli: Cli) -> None:
    code, out, _ = cli("models")
    assert code == 0 and out.startswith("nano (default): ")
    assert json.loads(cli("models", "--json")[1])["nano"]["config"]["name"] == "nano"
    code, out, _ = cli("models", "convert", "--help")
    assert code == 0 and "--transformer" in out


def test_a_name_without_weights_says_how_to_make_them(cli: Cli) -> None:
    code, _, errors = cli("bench", "--model", "base")
    assert code == 1 and "base comes without weights" in errors and "duovsr models convert" in errors
