"""ComfyUI nodes: thin adapters over the engine. Imported by ComfyUI only, through the pack's entry point."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .compare import Compare
from .image import Upscale
from .loader import LoadModel
from .video import UpscaleVideo


class DuoVSRExtension(ComfyExtension):
    """What ComfyUI asks for the nodes of this pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [LoadModel, Upscale, UpscaleVideo, Compare]
