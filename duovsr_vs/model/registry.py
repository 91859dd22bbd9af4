"""Which models there are, and what a model file says of itself, without torch."""

from __future__ import annotations

import difflib
import json
import struct
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .wan.config import PRESETS as UNSHIPPED

DEFAULT = "nano"
WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
FORMAT = "duovsr"
LARGEST_HEADER = 16 * 1024 * 1024


def known() -> dict[str, Path]:
    """Shipped models: name -> file."""
    return {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"))}


def resolve(name: str | Path | None) -> Path:
    """File of a shipped model's name, or of a path; None is the default model. ModelError if there is none."""
    shipped = known()
    if name is None:
        name = DEFAULT
    if str(name) in shipped:
        return shipped[str(name)]
    try:
        path = Path(name).expanduser()
        found = path.is_file()
    except (OSError, RuntimeError) as error:  # too long; ~ of a user who does not exist
        raise ModelError(f"the model file {str(name)[:200]} cannot be read: {error}"[:400]) from None
    if found:
        return path
    if path.suffix or len(path.parts) > 1:
        raise ModelError(
            f"the model file {path} does not exist; give a path to a .safetensors file or one of {list(shipped)}"
        )
    if str(name) in UNSHIPPED:
        raise ModelError(
            f"the model {name} comes without weights; make its file from those of Wan-AI/Wan2.1-T2V-1.3B by "
            "`duovsr models convert`, train it, and give the path of the file"
        )
    nearest = sorted(shipped, key=lambda other: -difflib.SequenceMatcher(None, str(name), other).ratio())
    raise ModelError(f"there is no model named {str(name)!r}; known are {', '.join(nearest)}, or give a path to a file")


def read_header(path: Path) -> dict[str, Any]:
    """Header of a safetensors file: {"__metadata__": {…}, tensor: {"dtype", "shape", "data_offsets"}}.

    ModelError names what the file is instead, if it is a pickle, cut short, or not a safetensors file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
            size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            text = file.read(size) if 2 <= size <= LARGEST_HEADER else b""
    except OSError as error:
        raise ModelError(f"the model file {path} cannot be read: {error.strerror}") from error
    if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise ModelError(f"{path} is a pickle, whatever its name says; duovsr loads safetensors files only")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not a safetensors file, or is damaged; fetch or export it again") from error
    if not isinstance(header, dict) or len(text) != size:
        raise ModelError(f"{path} is not a safetensors file, or is damaged; fetch or export it again")
    return header


def describe(path: Path) -> dict[str, Any]:
    """What a model file says of itself: config, provenance (stages, data, licence), tensors and bytes."""
    header = read_header(path)
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        foreign = [key for key in header if key != "__metadata__"][:4]
        raise ModelError(
            f"{path} is a safetensors file of something else "
            f"(its tensors begin with {', '.join(foreign) or 'nothing'}); "
            "a duovsr model is needed, as `python -m training export` or, from Wan2.1's files, `duovsr models convert` "
            "writes it"
        )
    try:
        config, provenance = json.loads(metadata["config"]), json.loads(metadata.get("provenance", "{}"))
        if not isinstance(config, dict) or not isinstance(provenance, dict):
            raise TypeError("its configuration or its provenance is no object")
        return {
            "path": str(path),
            "config": config,
            "provenance": provenance,
            "hash": metadata.get("hash"),
            "golden_tolerance": float(metadata.get("golden_tolerance", "0")),
            "tensors": sum(key != "__metadata__" for key in header),
            "bytes": path.stat().st_size,
        }
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"the header of {path} is damaged ({error}); fetch or export the model again") from error


def stages_of(provenance: dict[str, Any]) -> str:
    """The stages of training that a model went through, in words: `regression (10000 updates), teacher (…)`."""
    given = provenance.get("stages")
    stages = given if isinstance(given, list) and given else ["not recorded"]
    return ", ".join(
        f"{stage.get('stage')} ({stage.get('updates')} updates)" if isinstance(stage, dict) else str(stage)
        for stage in stages
    )


def in_bytes(count: int) -> str:
    """A file's size for people: `4.12 MB`, `3.09 GB`."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"
