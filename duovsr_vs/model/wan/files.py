"""Weights as users have them on their disks: one safetensors file, or a folder as diffusers has it, with shards."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...errors import ModelError
from ..registry import FORMAT, read_header
from .keys import Part

INDEX = ".safetensors.index.json"
PICKLES = (".pth", ".pt", ".ckpt", ".bin", ".pkl")
_FOLDERS: dict[Part, str] = {"transformer": "transformer", "autoencoder": "vae"}
"""Where a whole model in the layout of diffusers has a part."""
_PLACES: dict[Part, str] = {
    "transformer": "diffusion_pytorch_model.safetensors of Wan-AI/Wan2.1-T2V-1.3B",
    "autoencoder": "split_files/vae/wan_2.1_vae.safetensors of Comfy-Org/Wan_2.1_ComfyUI_repackaged, or the folder vae "
    "of Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
}


def public_place(part: Part) -> str:
    """Which public file holds a part, by its project's name."""
    return _PLACES[part]


@dataclass(frozen=True, slots=True)
class Weights:
    """What was found under a name."""

    path: Path
    """As the user gave it."""
    tensors: dict[str, Tensor]
    """They stay on the disk until they are looked at."""
    notes: dict[str, str]
    """The headers' own entries."""

    @property
    def is_ours(self) -> bool:
        """Whether it is a model file of duovsr."""
        return self.notes.get("format") == FORMAT


def read(path: Path, part: Part, ours: bool = False) -> Weights:
    """All tensors of a file, of a folder, or of what an index names. ModelError says what is wrong and what to take.

    ours: a lone file may be a model of duovsr.
    """
    if not path.exists():
        raise ModelError(f"{path} does not exist; give {public_place(part)}")
    chosen = _in_folder(path, part) if path.is_dir() else path
    if chosen.name.endswith(INDEX):
        tensors, notes = _shards(chosen, part)
    else:
        tensors, notes = _one(chosen, part, ours and chosen == path)
    return Weights(path, tensors, notes)


def _in_folder(folder: Path, part: Part) -> Path:
    """The index or the one safetensors file of a part in a folder, or in its folder for that part."""
    for place in (folder / _FOLDERS[part], folder):
        indices = sorted(place.glob(f"*{INDEX}"))
        files = indices or sorted(place.glob("*.safetensors"))
        if len(files) == 1:
            return files[0]
        if files:
            names = ", ".join(file.name for file in files[:4])
            raise ModelError(f"{place} holds several files ({names}); give the one with Wan's {part}")
    if pickles := [file for file in sorted(folder.iterdir()) if file.suffix in PICKLES]:
        raise _pickle(pickles[0], part)
    raise ModelError(f"{folder} holds no safetensors file; give {public_place(part)}")


def _pickle(path: Path, part: Part) -> ModelError:
    return ModelError(
        f"{path} is a pickle, which could run any code when it is read, and is not loaded; take the same weights from "
        f"{public_place(part)}"
    )


def _one(path: Path, part: Part, ours: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and notes of one safetensors file; one of duovsr's only where `ours` allows it."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if path.suffix in PICKLES or re.match(rb"PK|\x80[\x02-\x05]", start):
        raise _pickle(path, part)
    if start.startswith(b"GGUF"):
        raise ModelError(f"{path} is a GGUF file, whose formats duovsr does not know; take {public_place(part)}")
    header = read_header(path)
    notes = header.get("__metadata__") or {}
    if isinstance(notes, dict) and notes.get("format") == FORMAT and not ours:
        raise already(path)
    _refuse_cut(path, header)
    try:
        return load_file(path), {str(name): str(note) for name, note in notes.items()}
    except (SafetensorError, OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} is damaged ({error}); fetch it again") from error


def already(path: Path, else_: str = "") -> ModelError:
    """For a model of duovsr that nothing is to be done about. else_: what else may be given."""
    return ModelError(f"{path} is a model of duovsr already; give it to --model as it is{else_}")


def _refuse_cut(path: Path, header: Mapping[str, object]) -> None:
    """ModelError where the file ends before its tensors do."""
    ends = [
        facts["data_offsets"][1]
        for name, facts in header.items()
        if name != "__metadata__" and isinstance(facts, dict) and isinstance(facts.get("data_offsets"), list)
    ]
    with path.open("rb") as file:
        begin = 8 + int.from_bytes(file.read(8), "little")
    whole, there = begin + max(ends, default=0), path.stat().st_size
    if there < whole:
        raise ModelError(f"{path} is cut short: {there:,} of {whole:,} bytes are there; fetch it again")


def _shards(index: Path, part: Part) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and notes of the files that an index names."""
    try:
        places = json.loads(index.read_text())["weight_map"]
        if not isinstance(places, dict) or not all(Path(str(name)).name == name for name in places.values()):
            raise TypeError("its weight_map gives no file names")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{index} is no index of shards ({error}); fetch it again") from error
    tensors: dict[str, Tensor] = {}
    notes: dict[str, str] = {}
    for name in sorted(set(places.values())):
        shard = index.with_name(name)
        if not shard.is_file():
            raise ModelError(f"{shard} is missing, which {index.name} names; fetch it, too")
        found, own = _one(shard, part)
        if wrong := sorted(set(found) ^ {key for key, place in places.items() if place == name}):
            raise ModelError(
                f"{shard} and {index.name} do not belong together (they differ in {', '.join(wrong[:3])}); fetch both "
                "from one version of the model"
            )
        tensors |= found
        notes |= own
    return tensors, notes
