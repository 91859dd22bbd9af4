"""Embeddings of a text for `base`, from a small safetensors file: `prompt` (n, c) and, perhaps, `null` (m, c)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ...errors import ModelError
from ..checkpoint import read_tensors
from ..registry import read_header
from .config import TransformerConfig

PROMPT, NULL = "prompt", "null"


@dataclass(frozen=True, slots=True)
class Embedding:
    """What a text encoder gave for a text and for what guidance pushes away from."""

    text: Tensor
    """(1 n c)."""
    null: Tensor | None
    """(1 m c); None: the tokens of an empty text."""


def read_embedding(path: Path, config: TransformerConfig) -> Embedding:
    """The embeddings in a file. A lone tensor may have any name. ModelError says what does not fit the transformer."""
    if not path.is_file():
        raise ModelError(f"{path} is no file; `duovsr models embed` makes one from a text")
    read_header(path)  # says what else it is
    tensors = read_tensors(path)
    if len(tensors) == 1:
        tensors = {PROMPT: next(iter(tensors.values()))}
    if PROMPT not in tensors or not set(tensors) <= {PROMPT, NULL}:
        raise ModelError(
            f"{path} holds {len(tensors)} tensors ({', '.join(sorted(tensors)[:4]) or 'none'}); `{PROMPT}` and perhaps "
            f"`{NULL}` are needed, as `duovsr models embed` writes them"
        )
    found = {name: _fitting(path, name, tensor, config) for name, tensor in tensors.items()}
    return Embedding(found[PROMPT], found.get(NULL))


def _fitting(path: Path, name: str, tensor: Tensor, config: TransformerConfig) -> Tensor:
    """(1 n c) of (n c) or (1 n c)."""
    shape = tuple(tensor.shape[1:] if tensor.ndim == 3 and tensor.shape[0] == 1 else tensor.shape)
    fits = len(shape) == 2 and 1 <= shape[0] <= config.text_length and shape[1] == config.text_width
    if not fits or not tensor.is_floating_point() or not bool(tensor.float().isfinite().all()):
        raise ModelError(
            f"{path}: `{name}` is {tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}; finite floats of "
            f"at most {config.text_length} tokens of width {config.text_width} are needed"
        )
    return tensor.reshape(1, *shape)
