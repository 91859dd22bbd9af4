"""DUO-VSR Upscale: a batch of images, taken as consecutive frames."""

from __future__ import annotations

from typing import Any

import comfy.model_management as mm
import torch
from comfy_api.latest import io
from torch import Tensor

from ..duovsr_vs.engine.resize import resize
from ..duovsr_vs.errors import FormatError
from .model import CATEGORY, DuoModel, NodeModel
from .progress import Bar, cancellable, noted
from .widgets import ALIASES, budget, upscaling


def frame_of(image: Tensor) -> Tensor:
    """(h w c) of any float type -> (3 h w) float32 on the CPU, a copy; one channel is grey."""
    colours = image[..., :3].expand(-1, -1, 3)
    return colours.movedim(-1, 0).to("cpu", torch.float32, copy=True).contiguous()


def check(images: Tensor) -> None:
    """FormatError for what no frames can be made of."""
    if images.ndim != 4 or images.shape[0] < 1:
        raise FormatError(f"an IMAGE of shape {tuple(images.shape)} holds no frame; give one or more images")
    if images.shape[-1] not in (1, 3, 4):
        raise FormatError(
            f"the IMAGE has {images.shape[-1]} channels; grey (1), RGB (3) or RGB with alpha (4) is needed"
        )


class Upscale(io.ComfyNode):
    """IMAGE to IMAGE; alpha is kept."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DuoVSR_Upscale",
            display_name="DUO-VSR Upscale",
            category=CATEGORY,
            description="Upscales a batch of images as consecutive frames: as many come out as went in. Long videos "
            "belong into DUO-VSR Upscale Video, which does not hold them in memory.",
            search_aliases=ALIASES,
            inputs=[
                DuoModel.Input("model", tooltip="From DUO-VSR Load Model."),
                io.Image.Input("image", tooltip="Frames in their order, each side from 16 pixels; alpha is kept."),
                *upscaling(),
                budget(),
            ],
            outputs=[io.Image.Output(display_name="image")],
        )

    @classmethod
    def execute(cls, model: NodeModel, image: Tensor, **chosen: Any) -> io.NodeOutput:
        check(image)
        count, height, width, channels = image.shape
        engine = model.upscaler((width, height), chosen)
        size = engine.plan.out_height, engine.plan.out_width
        out = torch.empty(
            (count, *size, max(channels, 3)), dtype=mm.intermediate_dtype(), device=mm.intermediate_device()
        )
        bar = Bar(count)
        with noted(engine), cancellable(engine.stream(frame_of(frame) for frame in image)) as frames:
            for n, frame in enumerate(frames):
                out[n, ..., :3] = frame.clamp_(0, 1).movedim(0, -1)
                if channels == 4:
                    alpha = image[n, ..., 3].to("cpu", torch.float32)[None]
                    out[n, ..., 3] = resize(alpha, *size)[0].clamp_(0, 1)
                bar.advance(frame)
        return io.NodeOutput(out)
