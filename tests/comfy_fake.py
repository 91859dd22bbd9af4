"""A small ComfyUI of our own: just the names that the nodes use, with the behaviour that was seen in the real one.

Nothing here is copied; tests/test_nodes_comfyui.py runs the same nodes in a real checkout.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import torch

ROOT = Path(__file__).resolve().parent.parent
PACK = "a folder of any name"


class Interrupted(BaseException):
    """What ComfyUI raises when Cancel was pressed; no Exception."""


@dataclass
class Host:
    """What a test sees of the fake, and can change."""

    models: Path
    temp: Path
    version: str = "0.33.0"
    interrupted: threading.Event = field(default_factory=threading.Event)
    progress: list[tuple[int, int, Any]] = field(default_factory=list)
    loads: list[tuple[list[Any], float, bool]] = field(default_factory=list)
    previews: list[Any] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)

    def send_progress_text(self, text: str, node_id: str) -> None:
        """A text on a node."""
        self.told.append((node_id, text))


class Thing:
    """An input or output: keeps what it was given."""

    def __init__(self, id: str = "", **facts: Any):
        self.id, self.facts = id, facts


class Kind:
    """A type of the interface, with its Input and Output."""

    def __init__(self, name: str):
        self.io_type = name
        self.Input = type(f"{name}Input", (Thing,), {"io_type": name})
        self.Output = type(f"{name}Output", (Thing,), {"io_type": name})


class Schema:
    def __init__(self, **facts: Any):
        self.__dict__.update(facts)


class Node:
    hidden = SimpleNamespace(unique_id="7")


class NodeOutput:
    def __init__(self, *results: Any, ui: Any = None):
        self.result, self.ui = results, ui


@dataclass
class VideoComponents:
    images: torch.Tensor
    frame_rate: Fraction
    audio: Any = None


class VideoFromComponents:
    """A video in memory; its stream source would be an encoded copy, so nobody may ask for it."""

    def __init__(self, components: VideoComponents):
        self._components = components

    def get_components(self) -> VideoComponents:
        return self._components

    def get_bit_depth(self) -> int:
        return 8


class VideoFromFile:
    """A video in a file, perhaps trimmed; the source is the whole file all the same."""

    def __init__(self, file: Any, *, start_time: float = 0, duration: float = 0):
        self._file, self._start, self._duration = file, start_time, duration

    def get_stream_source(self) -> Any:
        return self._file

    def get_active_trim_window(self) -> tuple[float, float]:
        return float(self._start), float(self._duration)

    def as_trimmed(self, start_time: float = 0, duration: float = 0, strict_duration: bool = True) -> VideoFromFile:
        return VideoFromFile(self._file, start_time=self._start + start_time, duration=duration)

    def frames(self) -> list[av.VideoFrame]:
        with av.open(self._file) as container:
            return list(container.decode(video=0))


class Patcher:
    def __init__(self, model: Any, load_device: torch.device, offload_device: torch.device):
        self.model, self.load_device, self.offload_device = model, load_device, offload_device


def _bar(host: Host) -> type:
    class ProgressBar:
        def __init__(self, total: int):
            self.total = total

        def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
            host.progress.append((value, total or self.total, preview))
            if host.interrupted.is_set():
                raise Interrupted

    return ProgressBar


def _interface(host: Host) -> ModuleType:
    latest = ModuleType("comfy_api.latest")
    kinds = {name: Kind(name.upper()) for name in ("Image", "Video", "Int", "Float", "Boolean", "Combo", "String")}
    names: dict[str, Any] = {
        **kinds, "ComfyNode": Node, "Schema": Schema, "NodeOutput": NodeOutput, "Custom": Kind,
        "MultiType": Kind("MULTI"), "Hidden": SimpleNamespace(unique_id="unique_id"),
    }  # fmt: skip

    def shown(image: torch.Tensor, cls: Any = None) -> Any:
        host.previews.append(image)
        return SimpleNamespace(as_dict=lambda: {"images": [len(host.previews)], "animated": (False,)})

    def said(text: str) -> Any:
        return SimpleNamespace(as_dict=lambda: {"text": (text,)})

    content: dict[str, Any] = {
        "io": SimpleNamespace(**names),
        "ui": SimpleNamespace(PreviewImage=shown, PreviewText=said),
        "ComfyExtension": object,
        "InputImpl": SimpleNamespace(VideoFromFile=VideoFromFile, VideoFromComponents=VideoFromComponents),
        "Types": SimpleNamespace(VideoComponents=VideoComponents),
    }
    latest.__dict__.update(content)
    return latest


def _modules(host: Host) -> dict[str, ModuleType]:
    folders: dict[str, tuple[list[str], set[str]]] = {}

    def add(name: str, folder: str) -> None:
        known = folders.setdefault(name, ([], set()))[0]
        known += [] if folder in known else [folder]

    def listed(name: str) -> list[str]:
        paths, endings = folders[name]
        return [f.name for p in paths for f in sorted(Path(p).glob("*")) if not endings or f.suffix in endings]

    def full(name: str, file: str) -> str | None:
        found = (Path(folder) / file for folder in folders[name][0])
        return next((str(path) for path in found if path.is_file()), None)

    def look() -> None:
        if host.interrupted.is_set():
            raise Interrupted

    def load(patchers: list[Any], memory_required: float = 0, force_full_load: bool = False) -> None:
        host.loads.append((patchers, memory_required, force_full_load))

    cpu = torch.device("cpu")
    contents: dict[str, dict[str, Any]] = {
        "comfyui_version": {"__version__": host.version},
        "folder_paths": {
            "models_dir": str(host.models), "folder_names_and_paths": folders, "add_model_folder_path": add,
            "get_filename_list": listed, "get_full_path": full, "get_temp_directory": lambda: str(host.temp),
        },
        "comfy": {},
        "comfy.model_management": {
            "get_torch_device": lambda: cpu, "unet_offload_device": lambda: cpu, "load_models_gpu": load,
            "intermediate_dtype": lambda: torch.float32, "intermediate_device": lambda: cpu,
            "throw_exception_if_processing_interrupted": look,
        },
        "comfy.model_patcher": {"CoreModelPatcher": Patcher},
        "comfy.utils": {"ProgressBar": _bar(host)},
        "comfy_api": {}, "server": {"PromptServer": SimpleNamespace(instance=host)},
    }  # fmt: skip
    modules = {"comfy_api.latest": _interface(host)}
    for name, content in contents.items():
        modules[name] = ModuleType(name)
        modules[name].__dict__.update(content)
    for name in ("model_management", "utils", "model_patcher"):
        setattr(modules["comfy"], name, modules[f"comfy.{name}"])
    return modules


@contextmanager
def running(host: Host) -> Iterator[dict[str, Any]]:
    """The pack's nodes by id, loaded as ComfyUI loads them: by path, under a name that is no identifier."""
    before = dict(sys.modules)
    path = list(sys.path)
    sys.modules.update(_modules(host))
    try:
        where = ROOT / "__init__.py"
        spec = importlib.util.spec_from_file_location(PACK, where, submodule_search_locations=[str(ROOT)])
        assert spec is not None and spec.loader is not None
        pack = importlib.util.module_from_spec(spec)
        sys.modules[PACK] = pack
        spec.loader.exec_module(pack)
        extension = asyncio.run(pack.comfy_entrypoint())
        nodes = asyncio.run(extension.get_node_list())
        yield {node.define_schema().node_id: node for node in nodes}
        assert sys.path == path, "the pack changed sys.path"
    finally:
        for name in set(sys.modules) - set(before):
            if name.partition(".")[0] in (PACK, "comfy", "comfy_api", "folder_paths", "comfyui_version"):
                del sys.modules[name]
        for name in ("comfy", "comfy_api", "folder_paths", "comfyui_version"):
            if name in before:
                sys.modules[name] = before[name]
