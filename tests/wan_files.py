"""Small files as Wan2.1 is published, for `duovsr models convert`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from duovsr_vs.model.wan.autoencoder import WanAutoencoder
from duovsr_vs.model.wan.config import AutoencoderConfig, LightConfig, TransformerConfig
from duovsr_vs.model.wan.keys import Part, to_diffusers
from duovsr_vs.model.wan.transformer import WanTransformer

Cli = Callable[..., tuple[int, str, str]]
SMALL = TransformerConfig(width=128, heads=1, blocks=2, inner=32, text_width=24, frequencies=16)
"""As Wan2.1-T2V-1.3B, heads of 128 channels, but little of all else."""
LIGHT = LightConfig(encoder_width=8, encoder_blocks=1, decoder_widths=(12, 8, 4), decoder_blocks=(1, 0, 2))


def weights(module: nn.Module, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {name: tensor.to(dtype) for name, tensor in module.state_dict().items()}


def wan_parts() -> dict[Part, dict[str, Tensor]]:
    """Weights of a small transformer and a small autoencoder, by original names."""
    torch.manual_seed(0)
    return {
        "transformer": weights(WanTransformer(SMALL), torch.bfloat16),
        "autoencoder": weights(WanAutoencoder(AutoencoderConfig(width=8))),
    }


Files = tuple[Path, Path]


def wan_files(parts: dict[Part, dict[str, Tensor]], folder: Path) -> Files:
    """Both in files of their own, by original names."""
    out = folder / "wan.safetensors", folder / "vae.safetensors"
    for path, own in zip(out, parts.values(), strict=True):
        save_file(own, path)
    return out


def refused(cli: Cli, folder: Path, *given: object) -> str:
    """The one sentence of a refusal, which leaves nothing behind."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    code, out, errors = cli("models", "convert", *given, "-o", folder / "base.safetensors")
    assert code in (1, 2) and out == "" and errors.count("\n") == 1 and errors.startswith("duovsr: ")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    return errors


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
