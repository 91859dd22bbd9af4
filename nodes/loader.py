"""DUO-VSR Load Model."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..duovsr_vs.errors import ModelError
from ..duovsr_vs.model.registry import DEFAULT, describe, known
from .model import CATEGORY, DuoModel, NodeModel

FOLDER = "duovsr"
BUILT_IN = " (built in)"
PRECISIONS = ["auto", "float32", "bfloat16", "float16"]
ENDING = ".safetensors"


def register_folder() -> None:
    """`models/duovsr`, beside whatever extra_model_paths.yaml says of that name."""
    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))
    folders, endings = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (folders, {*endings, ENDING})


def names() -> list[str]:
    """What the widget offers: the built-in models, the default first, then files."""
    built_in = sorted(known(), key=lambda name: (name != DEFAULT, name))
    return [name + BUILT_IN for name in built_in] + folder_paths.get_filename_list(FOLDER)


def path_of(name: str) -> Path:
    """The file of a name of the widget. ModelError if it is there no more."""
    if name.endswith(BUILT_IN) and name.removesuffix(BUILT_IN) in known():
        return known()[name.removesuffix(BUILT_IN)]
    found = folder_paths.get_full_path(FOLDER, name)
    if found is None:
        raise ModelError(
            f"there is no model {name!r}; put its file into ComfyUI's folder models/{FOLDER}, or choose one of "
            f"{', '.join(names())}"
        )
    return Path(found)


class LoadModel(io.ComfyNode):
    """A model file to a model that ComfyUI's memory manager knows."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        register_folder()
        return io.Schema(
            node_id="DuoVSR_LoadModel",
            display_name="DUO-VSR Load Model",
            category=CATEGORY,
            description="Loads a model for DUO-VSR Upscale and DUO-VSR Upscale Video. One is built in.",
            search_aliases=[
                "duovsr",
                "duo-vsr",
                "upscale model",
                "video super resolution",
                "vsr",
                "SeedVR2",
                "FlashVSR",
            ],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=names(),
                    default=DEFAULT + BUILT_IN,
                    tooltip=f"A built-in model, or a {ENDING} file in models/{FOLDER}. Default: {DEFAULT}, which also "
                    "runs on a CPU.",
                ),
                io.Combo.Input(
                    "precision",
                    options=PRECISIONS,
                    default="auto",
                    tooltip="Numbers of the network. Default: auto, the fastest that the device computes well. float16 "
                    "needs a GPU.",
                    advanced=True,
                ),
                io.Float.Input(
                    "detail",
                    default=-1.0,
                    min=-1.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0: the faithful weights, 1: the detailed ones, between: a mixture. Default: -1, the "
                    "model's own choice. Other values need a model with two sets of weights, like the built-in ones.",
                ),
            ],
            outputs=[DuoModel.Output(display_name="model")],
        )

    @classmethod
    def fingerprint_inputs(cls, model: str, precision: str, detail: float) -> tuple[str, float, str, float]:
        """A file that was replaced is loaded again."""
        path = path_of(model)
        return str(path), path.stat().st_mtime, precision, detail

    @classmethod
    def execute(cls, model: str, precision: str, detail: float) -> io.NodeOutput:
        path = path_of(model)
        describe(path)
        return io.NodeOutput(NodeModel.of(path, precision, None if detail < 0 else detail))
