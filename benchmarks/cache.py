"""Results that do not depend on the model, kept in a folder under the hash of all that they come from."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np


def default_folder() -> Path:
    """`duovsr/quality` in the user's cache folder."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "duovsr" / "quality"


def file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def source_hash(folder: Path) -> str:
    """Of all Python files and data of a package: what its results depend on."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".py", ".npz"):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


class Cache:
    """A folder of small files; damaged or missing ones are made again. None keeps nothing."""

    def __init__(self, folder: Path | None):
        self.folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def _path(self, key: tuple[Any, ...], suffix: str) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / (hashlib.sha256(repr(key).encode()).hexdigest()[:32] + suffix)

    def scores(self, key: tuple[Any, ...]) -> dict[str, float] | None:
        path = self._path(key, ".json")
        try:
            scores: dict[str, float] | None = None if path is None else json.loads(path.read_text())
        except (OSError, ValueError):
            return None
        return scores

    def keep_scores(self, key: tuple[Any, ...], scores: dict[str, float]) -> None:
        path = self._path(key, ".json")
        if path is not None:
            self._replace(path, json.dumps(scores).encode())

    def clip(self, key: tuple[Any, ...]) -> np.ndarray | None:
        path = self._path(key, ".npy")
        try:
            return None if path is None else np.load(path, allow_pickle=False)
        except (OSError, ValueError):
            return None

    def keep_clip(self, key: tuple[Any, ...], clip: np.ndarray) -> None:
        path = self._path(key, ".npy")
        if path is not None:
            partial = path.with_name(f"{path.stem}.{os.getpid()}.partial.npy")
            np.save(partial, clip, allow_pickle=False)
            partial.replace(path)

    @staticmethod
    def _replace(path: Path, data: bytes) -> None:
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        partial.write_bytes(data)
        partial.replace(path)
