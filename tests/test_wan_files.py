"""Wan2.1's weights as users have them: three families of names, two layouts of 8-bit floats, and foreign models.

And the model files of `base`: they keep their types, and their bytes stay on the disk.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from duovsr_vs.errors import ModelError
from duovsr_vs.model.checkpoint import DETAILED, FAITHFUL, Golden, load, model_hash, read_golden, save
from duovsr_vs.model.family import PRESETS
from duovsr_vs.model.wan.autoencoder import WanAutoencoder
from duovsr_vs.model.wan.config import AutoencoderConfig, BaseConfig, TransformerConfig
from duovsr_vs.model.wan.fp8 import is_scaled, multiplied_out
from duovsr_vs.model.wan.generator import WanGenerator
from duovsr_vs.model.wan.keys import Part, from_diffusers, original, to_diffusers
from duovsr_vs.model.wan.transformer import WanTransformer

TRANSFORMER = TransformerConfig(width=48, heads=2, blocks=12, inner=16, text_width=20, text_length=12)
"""More than ten blocks, so that `blocks.1` and `blocks.11` could be mixed up."""


def weights_of(part: Part) -> dict[str, Tensor]:
    torch.manual_seed(0)
    model = WanTransformer(TRANSFORMER) if part == "transformer" else WanAutoencoder(AutoencoderConfig(width=8))
    return dict(model.state_dict())


PARTS: list[Part] = ["transformer", "autoencoder"]


@pytest.mark.parametrize("part", PARTS)
def test_names_go_to_diffusers_and_back(part: Part) -> None:
    ours = weights_of(part)
    theirs = [to_diffusers(name) for name in ours]
    assert len(set(theirs)) == len(ours)
    back = from_diffusers(theirs, ours)
    assert [back[name] for name in theirs] == list(ours)


@pytest.mark.parametrize("part", PARTS)
def test_names_are_those_of_diffusers_classes(part: Part) -> None:
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        model = (
            diffusers.WanTransformer3DModel(num_layers=12, num_attention_heads=2, attention_head_dim=24, ffn_dim=16)
            if part == "transformer"
            else diffusers.AutoencoderKLWan(base_dim=8)
        )
    assert {to_diffusers(name) for name in weights_of(part)} == set(model.state_dict())


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("family", ["original", "diffusers"])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "vae.", "model."])
def test_every_family_gives_the_same_weights(part: Part, family: str, prefix: str) -> None:
    ours = weights_of(part)
    name = {"original": str, "diffusers": to_diffusers}[family]
    file = {prefix + name(key): tensor for key, tensor in ours.items()}
    found = original(file, part, ours)
    assert found.keys() == ours.keys()
    assert all(torch.equal(found[key], ours[key]) for key in ours)


def test_both_parts_may_lie_in_one_checkpoint() -> None:
    parts = {part: weights_of(part) for part in PARTS}
    prefixes = {"transformer": "model.diffusion_model.", "autoencoder": "vae."}
    file = {prefixes[part] + key: tensor for part, own in parts.items() for key, tensor in own.items()}
    for part, own in parts.items():
        assert original(file, part, own).keys() == own.keys()


@pytest.mark.parametrize(
    "shape, extra, words",
    [
        ((5120, 16), None, "14B"),
        ((5120, 36), None, "image-to-video"),
        ((1536, 16), "blocks.0.cross_attn.k_img.weight", "image-to-video"),
        ((3072, 48), None, "Wan2.2-TI2V-5B"),
        ((1536, 20), None, "takes 20 channels"),
    ],
)
def test_other_members_of_the_family_are_named(shape: tuple[int, int], extra: str | None, words: str) -> None:
    file = {"patch_embedding.weight": torch.empty(*shape, 1, 2, 2, device="meta")}
    if extra:
        file[extra] = torch.zeros(1)
    with pytest.raises(ModelError, match=words):
        original(file, "transformer", [])


def test_the_autoencoder_of_the_next_generation_is_named() -> None:
    file = {"decoder.conv1.weight": torch.zeros(1), "decoder.upsamples.0.upsamples.0.residual.0.gamma": torch.zeros(1)}
    with pytest.raises(ModelError, match=r"of Wan2.2"):
        original(file, "autoencoder", [])


@pytest.mark.parametrize("part", PARTS)
def test_a_file_of_something_else_and_unknown_tensors_are_refused(part: Part) -> None:
    with pytest.raises(ModelError, match=f"holds no Wan {part} .its tensors begin with unet"):
        original({"unet.weight": torch.zeros(1)}, part, [])
    ours = weights_of(part)
    with pytest.raises(ModelError, match=r"has not: blocks\.0\.adapter"):
        original({**ours, "blocks.0.adapter": torch.zeros(1)}, part, ours)


@pytest.mark.parametrize("layout", ["older", "newer", "header", "rows", "plain"])
@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_scaled_weights_are_multiplied_out(layout: str, kind: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = torch.randn(6, 4)
    scale = torch.linspace(0.5, 2, 6) if layout == "rows" else torch.tensor(1.0 if layout == "plain" else 0.37)
    small = (weight / (scale[:, None] if layout == "rows" else scale)).to(kind)
    file: dict[str, Tensor] = {"a.weight": small, "a.bias": torch.ones(6)}
    metadata = {}
    if layout == "older":
        file |= {"a.scale_weight": scale, "a.scale_input": torch.ones(1), "scaled_fp8": torch.zeros(2, dtype=kind)}
    elif layout != "plain":
        note = {"format": str(kind).removeprefix("torch.")}
        file |= {"a.weight_scale": scale, "a.input_scale": torch.ones(1)}
        if layout == "header":
            metadata["_quantization_metadata"] = json.dumps({"layers": {"a": note}})
        else:
            file["a.comfy_quant"] = torch.tensor(list(json.dumps(note).encode()), dtype=torch.uint8)
    assert is_scaled(file)
    found = multiplied_out(file, metadata)
    assert found.keys() == {"a.weight", "a.bias"} and found["a.weight"].dtype == torch.bfloat16
    assert float((found["a.weight"].float() - weight).abs().max()) < 0.3


def test_other_formats_are_refused_by_name() -> None:
    note = torch.tensor(list(b'{"format": "nvfp4"}'), dtype=torch.uint8)
    with pytest.raises(ModelError, match="quantized as nvfp4"):
        multiplied_out({"a.weight": torch.zeros(2, 2, dtype=torch.uint8), "a.comfy_quant": note})
    with pytest.raises(ModelError, match="cannot be read"):
        multiplied_out({"a.comfy_quant": torch.tensor(list(b"nonsense"), dtype=torch.uint8)})


# -- model files of `base` ------------------------------------------------------------------------------------------


def base_config(preset: str = "base-tiny") -> BaseConfig:
    config = PRESETS[preset]
    assert isinstance(config, BaseConfig)
    return config


def base_weights(seed: int = 0, dtype: torch.dtype = torch.bfloat16, preset: str = "base-tiny") -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {name: tensor.to(dtype) for name, tensor in WanGenerator(base_config(preset)).state_dict().items()}


@pytest.mark.parametrize("preset", ["base-tiny", "base-tiny-light"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_base_is_loaded_as_it_was_saved_and_in_the_types_of_its_file(
    tmp_path: Path, preset: str, dtype: torch.dtype
) -> None:
    path, weights = tmp_path / "base.safetensors", base_weights(0, dtype, preset)
    saved = save(path, base_config(preset), {DETAILED: weights}, {"licence": "Apache-2.0"})
    model = load(path)
    assert (model.hash, model.config, model.provenance) == (saved, base_config(preset), {"licence": "Apache-2.0"})
    assert isinstance(model.generator, WanGenerator) and not model.generator.training
    state = model.generator.state_dict()
    assert state.keys() == weights.keys() and not any(p.requires_grad for p in model.generator.parameters())
    assert all(state[name].dtype == dtype and torch.equal(state[name], weights[name]) for name in weights)
    assert model.generator.deviation.device.type == "cpu" and bool((model.generator.deviation == 1).all())


@torch.no_grad()
def test_a_loaded_model_gives_what_the_saved_one_gave(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = WanGenerator(base_config()).eval()
    save(tmp_path / "base.safetensors", base_config(), {DETAILED: generator.state_dict()}, {})
    other = copy.deepcopy(load(tmp_path / "base.safetensors").generator)  # products of float32 round by the address
    assert isinstance(other, WanGenerator)
    lr, noise = torch.rand(1, 7, 3, 8, 8), torch.randn(1, 2, 16, 4, 4)
    results = []
    for model in (generator, other):
        condition = model.condition(lr)
        results.append(model.decode(model.generate(noise, condition, torch.tensor([1])), condition))
    assert torch.equal(*results)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel where memory comes from")
def test_weights_of_base_stay_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    save(path, base_config(), {DETAILED: base_weights()}, {})
    model = load(path)
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
    areas = [[int(end, 16) for end in line[0].split("-")] for line in lines]
    for name, weight in model.generator.named_parameters():
        assert any(low <= weight.data_ptr() < high for low, high in areas), name


def test_weights_of_several_types_become_one_that_holds_them_all(tmp_path: Path) -> None:
    weights = base_weights()
    weights["transformer.head.modulation"] = weights["transformer.head.modulation"].float() + 1e-4
    save(tmp_path / "base.safetensors", base_config(), {DETAILED: weights}, {})
    generator = load(tmp_path / "base.safetensors").generator
    assert isinstance(generator, WanGenerator) and generator.autoencoder is not None
    assert {p.dtype for p in generator.transformer.parameters()} == {torch.float32}
    assert {p.dtype for p in generator.autoencoder.parameters()} == {torch.bfloat16}
    name = "transformer.head.modulation"
    assert torch.equal(generator.state_dict()[name], weights[name])
    assert torch.equal(generator.autoencoder.std.flatten(), torch.tensor(AutoencoderConfig().latent_std))


def test_the_dial_of_base_mixes_weights_and_keeps_their_type(tmp_path: Path) -> None:
    a, b, path = base_weights(0), base_weights(1), tmp_path / "base.safetensors"
    save(path, base_config().with_values(default_detail=0.25), {FAITHFUL: a, DETAILED: b}, {})
    for detail, position in ((0.0, 0.0), (1.0, 1.0), (None, 0.25)):
        model = load(path, detail)
        assert model.detail == position
        for name, tensor in model.generator.state_dict().items():
            mixed = torch.lerp(a[name].float(), b[name].float(), position).bfloat16()
            assert tensor.dtype == torch.bfloat16 and torch.equal(tensor, mixed), name


def test_a_golden_frame_of_base_is_read_back(tmp_path: Path) -> None:
    golden = Golden(torch.full((3, 3, 8, 8), 7, dtype=torch.uint8), torch.rand(3, 32, 32).half(), 0.01)
    save(tmp_path / "base.safetensors", base_config(), {DETAILED: base_weights()}, {}, golden)
    found = read_golden(tmp_path / "base.safetensors")
    assert found is not None and torch.equal(found.output, golden.output) and found.tolerance == 0.01


def test_two_sets_of_the_same_tensors_can_be_saved(tmp_path: Path) -> None:
    weights = base_weights()
    save(tmp_path / "base.safetensors", base_config(), {FAITHFUL: weights, DETAILED: weights}, {})
    assert load(tmp_path / "base.safetensors", 0.5).detail == 0.5


@pytest.mark.skipif(os.name != "posix", reason="rights of files")
def test_a_model_file_has_the_rights_that_the_users_other_files_have(tmp_path: Path) -> None:
    save(tmp_path / "base.safetensors", base_config(), {DETAILED: base_weights()}, {})
    (tmp_path / "other").touch()
    assert (tmp_path / "base.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"window": 21.0}, "its configuration has window=21.0"),
    ({"transformer": {**json.loads(PRESETS["base-tiny"].to_json())["transformer"], "blocks": 10**6}}, "blocks=1000000"),
    ({"transformer": {**json.loads(PRESETS["base-tiny"].to_json())["transformer"], "blocks": 9000}}, "fewer tensors"),
    ({"autoencoder": {"factors": [1, 2, 4, 4.5]}}, r"factors=\(1, 2, 4, 4.5\)"),
    ({"autoencoder": {"latent_std": [float("inf")] * 16}}, "latent_std="),
    ({"autoencoder": {"width": 16}}, r"is \(16, 16, 1, 1, 1\)|is \(8,|is \(32"),
    ({"autoencoder": {}}, "does not fit its own configuration"),
]


@pytest.mark.parametrize("fault, words", FAULTS)
def test_a_file_that_does_not_fit_its_configuration_is_refused(
    tmp_path: Path, fault: dict[str, Any], words: str
) -> None:
    config = json.dumps({**json.loads(base_config().to_json()), **fault})
    tensors = {f"{DETAILED}.{name}": tensor for name, tensor in base_weights().items()}
    path = tmp_path / "base.safetensors"
    save_file(tensors, path, {"format": "duovsr", "config": config})
    with pytest.raises(ModelError, match=words):
        load(path)


def test_weights_of_whole_numbers_are_refused(tmp_path: Path) -> None:
    weights = base_weights() | {"transformer.head.head.bias": torch.zeros(64, dtype=torch.int8)}
    save(tmp_path / "base.safetensors", base_config(), {DETAILED: weights}, {})
    with pytest.raises(ModelError, match=r"head\.head\.bias is int8, float32, float16, bfloat16, float64 are known"):
        load(tmp_path / "base.safetensors")


def test_the_hash_of_a_tensor_does_not_depend_on_where_it_lies(tmp_path: Path) -> None:
    weights = {f"{DETAILED}.{name}": tensor for name, tensor in base_weights().items()}
    name = f"{DETAILED}.transformer.patch_embedding.weight"
    other = {**weights, name: weights[name].to(memory_format=torch.channels_last_3d)}
    assert model_hash(weights, "{}") == model_hash(other, "{}")
