"""Weights that were scaled down to 8-bit floats for ComfyUI, multiplied out again (its QUANTIZATION.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from torch import Tensor

from ...errors import ModelError

FORMATS = (torch.float8_e4m3fn, torch.float8_e5m2)
SCALES = (".scale_weight", ".weight_scale")
"""Of the older and of the newer layout: W = weight · scale."""
EXTRAS = (".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8")
HEADER = "_quantization_metadata"


def is_scaled(tensors: Mapping[str, Tensor]) -> bool:
    """Whether any weight is an 8-bit float."""
    return any(tensor.dtype in FORMATS for tensor in tensors.values())


def multiplied_out(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, dtype: torch.dtype = torch.bfloat16
) -> dict[str, Tensor]:
    """All weights in `dtype`, without what belonged to the scaling. ModelError for formats that we do not know."""
    _refuse_formats(tensors, metadata or {})
    scales = {
        name.removesuffix(ending) + ".weight": tensor
        for name, tensor in tensors.items()
        for ending in SCALES
        if name.endswith(ending)
    }
    out = {}
    for name, tensor in tensors.items():
        if name.endswith((*SCALES, *EXTRAS)):
            continue
        if tensor.dtype in FORMATS:
            scale = scales.get(name, torch.ones(()))
            tensor = (tensor.float() * _shaped(scale.float(), tensor)).to(dtype)
        out[name] = tensor
    return out


def _shaped(scale: Tensor, weight: Tensor) -> Tensor:
    """One factor for all, or one for each row."""
    if scale.numel() == 1:
        return scale.reshape(())
    if scale.numel() == weight.shape[0]:
        return scale.reshape(-1, *(1,) * (weight.ndim - 1))
    raise ModelError(
        f"a weight of shape {tuple(weight.shape)} has {scale.numel()} scales; 1 or one for each row is known"
    )


def _refuse_formats(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    try:
        told = [json.loads(bytes(t.tolist())) for name, t in tensors.items() if name.endswith(".comfy_quant")]
        layers = json.loads(metadata.get(HEADER, "{}")).get("layers", {}).values()
        found = {str(fact["format"]) for fact in [*told, *layers]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"the file's notes on its quantization cannot be read ({error}); use another file") from error
    if others := sorted(found - {"float8_e4m3fn", "float8_e5m2"}):
        raise ModelError(
            f"the weights are quantized as {', '.join(others)}; bfloat16, float16, float32 and scaled float8 are known"
        )
