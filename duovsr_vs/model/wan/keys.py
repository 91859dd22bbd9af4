"""Names of Wan2.1's weights in the files that users have: the original ones, diffusers', ComfyUI's repackaged ones.

Our modules have the original names. Families differ in names only; no tensor is reshaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from torch import Tensor

from ...errors import ModelError
from .config import LATENT_CHANNELS

Part = Literal["transformer", "autoencoder"]
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "first_stage_model.", "vae.", "model.")
"""What whole checkpoints and other programs put before the names."""
_SHARED = [  # of blocks.N: ours, diffusers'; all are found by whole words
    (r"blocks\.(\d+)\.modulation", r"blocks.\1.scale_shift_table"),
    (r"blocks\.(\d+)\.norm3", r"blocks.\1.norm2"),
    (r"ffn\.0", "ffn.net.0.proj"),
    (r"ffn\.2", "ffn.net.2"),
    (r"self_attn", "attn1"),
    (r"cross_attn", "attn2"),
    (r"(attn[12])\.([qkv])", r"\1.to_\2"),
    (r"(attn[12])\.o", r"\1.to_out.0"),
    (r"text_embedding\.0", "condition_embedder.text_embedder.linear_1"),
    (r"text_embedding\.2", "condition_embedder.text_embedder.linear_2"),
    (r"time_embedding\.0", "condition_embedder.time_embedder.linear_1"),
    (r"time_embedding\.2", "condition_embedder.time_embedder.linear_2"),
    (r"time_projection\.1", "condition_embedder.time_proj"),
    (r"head\.head", "proj_out"),
    (r"head\.modulation", "scale_shift_table"),
]
_AUTOENCODER = [
    (r"^conv1", "quant_conv"),
    (r"^conv2", "post_quant_conv"),
    (r"^((?:en|de)coder)\.conv1", r"\1.conv_in"),
    (r"^((?:en|de)coder)\.head\.0", r"\1.norm_out"),
    (r"^((?:en|de)coder)\.head\.2", r"\1.conv_out"),
    (r"middle\.0", "mid_block.resnets.0"),
    (r"middle\.1", "mid_block.attentions.0"),
    (r"middle\.2", "mid_block.resnets.1"),
    (r"downsamples", "down_blocks"),
    (r"residual\.0", "norm1"),
    (r"residual\.2", "conv1"),
    (r"residual\.3", "norm2"),
    (r"residual\.6", "conv2"),
    (r"shortcut", "conv_shortcut"),
]


def _whole(pattern: str) -> str:
    """The pattern between dots: `ffn.2` is not part of `ffn.20`."""
    return pattern if pattern.startswith("^") else rf"(?<![^.]){pattern}(?![^.])"


def is_autoencoder(name: str) -> bool:
    """Whether an original name belongs to the autoencoder."""
    return name.startswith(("encoder.", "decoder.", "conv1.", "conv2."))


def to_diffusers(name: str) -> str:
    """diffusers' name of a weight with an original name."""
    for pattern, new in _AUTOENCODER if is_autoencoder(name) else _SHARED:
        name = re.sub(_whole(pattern), new, name)
    if found := re.match(r"decoder\.upsamples\.(\d+)\.(.*)", name):
        level, place = divmod(int(found[1]), 4)
        name = f"decoder.up_blocks.{level}." + ("upsamplers.0." if place == 3 else f"resnets.{place}.") + found[2]
    return name


def from_diffusers(names: Iterable[str], ours: Iterable[str]) -> dict[str, str]:
    """diffusers' name -> original name, for those that are among the original names `ours`."""
    back = {to_diffusers(name): name for name in ours}
    return {name: back[name] for name in names if name in back}


_MARKS: dict[Part, tuple[str, ...]] = {
    "transformer": ("patch_embedding.weight",),
    "autoencoder": ("decoder.conv1.weight", "decoder.conv_in.weight"),
}
"""Names, one of which every file of a part has."""
_ANYWHERE: list[tuple[str, str]] = [
    (r"lora_|\.diff_b?$|\.dora_", "a LoRA, which changes a model and is none itself"),
    (r"vace_", "a VACE model"),
    (r"img_emb|k_img|image_embedder|add_k_proj", "an image-to-video (I2V) model"),
    (r"control_adapter|ref_conv|camera", "a model with another kind of control"),
    (r"audio", "a model that is driven by sound"),
]
_STRANGERS: list[tuple[str, str]] = [
    *_ANYWHERE,
    (r"^shared\.weight$|^token_embedding\.weight$|^encoder\.block\.", "the text encoder (umT5)"),
    (r"^visual\.|vision_model\.", "an image encoder (CLIP)"),
    (r"double_blocks\.", "a model of the kind of HunyuanVideo or FLUX"),
    (r"transformer_blocks\.", "a model of the kind of CogVideoX, LTX-Video or Stable Diffusion 3"),
    (r"input_blocks\.|down_blocks\.\d+\.attentions", "a Stable Diffusion U-Net"),
    (r"decoder\.\d+\.(weight|conv)", "a tiny autoencoder for previews (TAE)"),
]
"""What names of other models tell of them."""
_OTHERS = {3072: "Wan2.2-TI2V-5B", 5120: "a model of 14B parameters (of Wan2.1 or Wan2.2)"}
"""Width of a transformer -> which one it is."""


def _known_as(names: Iterable[str], strangers: list[tuple[str, str]]) -> str | None:
    found = list(names)
    return next((what for pattern, what in strangers if any(re.search(pattern, name) for name in found)), None)


def holds(names: Iterable[str], part: Part) -> bool:
    """Whether a file with these names has the part."""
    wanted = {prefix + mark for prefix in ("", *PREFIXES) for mark in _MARKS[part]}
    return not wanted.isdisjoint(names)


def without_prefix(tensors: Mapping[str, Tensor], part: Part) -> dict[str, Tensor]:
    """The weights of one part of a file, by names without what programs put before them."""
    for prefix in ("", *PREFIXES):
        if any(prefix + mark in tensors for mark in _MARKS[part]):
            return {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix) and not (prefix == "" and name.startswith(PREFIXES))
            }
    others = [other for other in _MARKS if other != part and holds(tensors, other)]
    what = f"Wan's {others[0]}" if others else _known_as(tensors, _STRANGERS)
    seen = f"it is {what}" if what else f"its tensors begin with {', '.join(sorted(tensors)[:3]) or 'nothing'}"
    raise ModelError(f"the file holds no Wan {part} ({seen}); Wan2.1-T2V-1.3B's is needed")


def refuse_others(tensors: Mapping[str, Tensor], part: Part) -> None:
    """ModelError that names the model, for the other members of Wan's family. tensors: without prefix."""
    if part == "autoencoder":
        if any(
            name.startswith(("decoder.upsamples.0.upsamples.", "decoder.up_blocks.0.upsampler.")) for name in tensors
        ):
            raise ModelError("this is the autoencoder of Wan2.2 (16x smaller latents); that of Wan2.1 is needed")
        return
    width, inputs = tensors["patch_embedding.weight"].shape[:2]
    name = _known_as(tensors, _ANYWHERE)
    if name is None and inputs == 36:
        name = "an image-to-video (I2V) model"
    if name is None and width in _OTHERS:
        name = _OTHERS[width]
    if name is not None:
        raise ModelError(f"this is {name}; Wan2.1-T2V-1.3B is needed")
    if inputs not in (LATENT_CHANNELS, 2 * LATENT_CHANNELS):
        raise ModelError(
            f"the transformer takes {inputs} channels; {LATENT_CHANNELS} (Wan2.1-T2V-1.3B), or "
            f"{2 * LATENT_CHANNELS} with the LR latent, are needed"
        )


def original(tensors: Mapping[str, Tensor], part: Part, ours: Iterable[str]) -> dict[str, Tensor]:
    """One part of a file of any family, under the original names. ours: the original names of that part."""
    own = without_prefix(tensors, part)
    refuse_others(own, part)
    wanted = list(ours)
    back = from_diffusers(own, wanted)
    known = {name: name for name in own if name in set(wanted)}
    # Some names mean the same in both families; where they do not, one family has all and the other few.
    chosen = known if len(known) >= len(back) else back
    if unknown := sorted(set(own) - set(chosen)):
        raise ModelError(f"the file's {part} has tensors that Wan2.1 has not: {', '.join(unknown[:4])}")
    return {chosen[name]: tensor for name, tensor in own.items()}
