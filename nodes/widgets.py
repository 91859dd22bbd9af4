"""The widgets that both upscaling nodes have, and the engine's options from their values."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

LARGEST_SEED = 2**32 - 1
ALIASES = [
    "duovsr",
    "duo-vsr",
    "upscale video",
    "video upscale",
    "super resolution",
    "vsr",
    "enhance",
    "SeedVR2",
    "FlashVSR",
]


def upscaling() -> list[Any]:
    """scale, strength, seed, width, height, scene_cut, tile."""
    return [
        io.Int.Input(
            "scale", default=4, min=1, max=4,
            tooltip="Output size over input size, 1 to 4. Default: 4, the model's own. Width and height win over it.",
        ),
        io.Float.Input(
            "strength", default=1.0, min=0.0, max=1.0, step=0.05,
            tooltip="0 is the plain resampler, 1 (default) all that the model adds. Lower it if detail looks made up.",
        ),
        io.Int.Input(
            "seed", default=0, min=0, max=LARGEST_SEED, control_after_generate=False,
            tooltip="Of the generator's noise: another seed, slightly other detail. Default: 0.",
        ),
        io.Int.Input(
            "width", default=0, min=0, max=16384, advanced=True,
            tooltip="Output width in pixels, from 16. Default: 0, from scale; alone it keeps the aspect.",
        ),
        io.Int.Input(
            "height", default=0, min=0, max=16384, advanced=True,
            tooltip="Output height in pixels, from 16. Default: 0, from scale; alone it keeps the aspect.",
        ),
        io.Boolean.Input(
            "scene_cut", default=True, advanced=True,
            tooltip="Keep the frames of different shots apart, so that nothing ghosts across a cut. Default: on. Turn "
            "it off for frames that do not follow each other only if you want them mixed.",
        ),
        io.Int.Input(
            "tile", default=0, min=0, max=16384, step=32, advanced=True,
            tooltip="Side of a tile in input pixels, from 32. Default: 0, chosen from model and size. Smaller tiles "
            "need less memory; with the built-in models they change no pixel.",
        ),
    ]  # fmt: skip


def budget() -> Any:
    """vram; the last input of a node, so that older workflows keep the order of their values."""
    return io.String.Input(
        "vram", default="", advanced=True,
        tooltip="Memory that the upscaling may take, such as 6GB: tiles are chosen to fit. Default: empty, no limit.",
    )  # fmt: skip
