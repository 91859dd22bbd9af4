"""`duovsr models convert` refuses files of something else, and what is missing or broken, each in one sentence."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from wan_files import LIGHT, Cli, Files, diffusers_folder, refused, wan_files, wan_parts, weights

from duovsr_vs.model.checkpoint import load
from duovsr_vs.model.wan.keys import Part
from duovsr_vs.model.wan.light import LightDecoder, LightEncoder

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def parts() -> dict[Part, dict[str, Tensor]]:
    return wan_parts()


@pytest.fixture
def files(parts: dict[Part, dict[str, Tensor]], tmp_path: Path) -> Files:
    return wan_files(parts, tmp_path)


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
