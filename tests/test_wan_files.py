"""Wan2.1's weights as users have them: three families of names, two layouts of 8-bit floats, and foreign models."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from duovsr_vs.errors import ModelError
from duovsr_vs.model.wan.autoencoder import WanAutoencoder
from duovsr_vs.model.wan.config import AutoencoderConfig, TransformerConfig
from duovsr_vs.model.wan.fp8 import is_scaled, multiplied_out
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
            diffusers.WanTransformer3DModel(num_layers=12, num_attention_heads=2, attention_head_dim=24)
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
