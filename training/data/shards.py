"""Tar shards of .npy and .json members, and the parquet index that says at which byte each array starts.

The layout is WebDataset's (clip.member.npy side by side), but nothing is streamed: arrays lie uncompressed, so that a
crop is read from a memory map at (shard, offset) without unpacking the clip.
"""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass, fields
from itertools import islice
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from training.data.quality import label_soft
from training.data.sources import PHOTO, VIDEO, DataError

INDEX = "index.parquet"
LAYOUT = "2"
_ADDED_IN_2: dict[str, Any] = {"bits_per_pixel": nan, "soft": False}
_BLOCK = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipRow:
    """One clip of the index. Offsets count bytes from the start of the shard to the first element of the array."""

    clip: str
    shard: str
    split: str
    """train or val."""
    source: str
    group: str
    origin: str
    author: str
    licence: str
    is_video: bool
    look: str
    """video, or the look of a photo's motion: sharp, soft."""
    first_frame: int
    frames: int
    height: int
    width: int
    fps: float
    sharpness: float
    """Share of fine detail: mean |luma - its 3x3 mean| over the same of the luma pooled by 2."""
    bits_per_pixel: float
    """Compressed bits of the source per pixel: of the video stream per frame, of a photo's whole file. nan: unknown."""
    soft: bool
    """The clip's own frames lack detail or are visibly compressed, compared with the other clips of its look."""
    hr_offset: int
    flow_offset: int
    mask_offset: int
    lr_offsets: list[int]
    lr_kinds: list[str]


_TYPES: dict[str, pa.DataType] = {
    "str": pa.string(),
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "list[int]": pa.list_(pa.int64()),
    "list[str]": pa.list_(pa.string()),
}
SCHEMA = pa.schema([(f.name, _TYPES[str(f.type)]) for f in fields(ClipRow)])


class ShardWriter:
    """Writes one shard under a temporary name; `close` gives it its own."""

    def __init__(self, path: Path):
        self.path = path
        self._partial = path.with_suffix(".tar.partial")
        self._tar = tarfile.open(self._partial, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    @property
    def size(self) -> int:
        return int(self._tar.offset)

    def _add(self, name: str, data: bytes) -> int:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        start = int(self._tar.offset) + _BLOCK
        self._tar.addfile(info, io.BytesIO(data))
        return start

    def add_array(self, name: str, array: npt.NDArray[Any]) -> int:
        """Append as .npy; returns the offset of its first element."""
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
        return self._add(f"{name}.npy", head.getvalue() + array.tobytes()) + head.tell()

    def add_json(self, name: str, facts: dict[str, Any]) -> None:
        self._add(f"{name}.json", json.dumps(facts, sort_keys=True, ensure_ascii=False).encode())

    def close(self) -> int:
        """Returns the size of the finished shard in bytes."""
        self._tar.close()
        self._partial.replace(self.path)
        return self.path.stat().st_size


def write_index(folder: Path, rows: list[ClipRow], sizes: dict[str, int], facts: dict[str, Any]) -> None:
    """Write index.parquet; `sizes` (bytes of each shard) and `facts` go into its metadata. Last step of a pack."""
    table = pa.Table.from_pylist([{f.name: getattr(r, f.name) for f in fields(ClipRow)} for r in rows], schema=SCHEMA)
    meta = {"duovsr.layout": LAYOUT, "duovsr.shards": json.dumps(sizes), "duovsr.facts": json.dumps(facts)}
    partial = folder / (INDEX + ".partial")
    pq.write_table(table.replace_schema_metadata(meta), partial)
    partial.replace(folder / INDEX)


def read_index(folder: Path) -> tuple[list[ClipRow], dict[str, int], dict[str, Any]]:
    """Rows, shard sizes in bytes, facts. DataError: no index, a damaged one, or one of another layout.

    Layout 1 is read too: its clips are labelled soft by their sharpness alone, their bits per pixel are not known.
    """
    path = folder / INDEX
    if not path.is_file():
        raise DataError(_no_pack(folder))
    try:
        table = pq.read_table(path)
        meta = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged ({error}); pack the data again") from error
    layout = meta.get("duovsr.layout")
    if layout not in ("1", LAYOUT):
        raise DataError(f"{path} has layout {layout}, {LAYOUT} is needed; pack the data again")
    if layout == "1":
        rows = label_soft([ClipRow(**row, **_ADDED_IN_2) for row in table.to_pylist()])
    else:
        rows = [ClipRow(**row) for row in table.to_pylist()]
    return rows, json.loads(meta["duovsr.shards"]), json.loads(meta["duovsr.facts"])


def _no_pack(folder: Path) -> str:
    """What to do about a folder that is no pack: one of films and photos, which is to be packed, or something else."""
    entries = list(islice(folder.iterdir(), 1000)) if folder.is_dir() else []
    if any(path.suffix.lower() in VIDEO | PHOTO for path in entries):
        return (
            f"{folder} holds films or photos and is no pack yet; make one with: python -m training pack "
            f"--data {folder} --out PACK, and give --data PACK"
        )
    return f"{folder} holds no {INDEX}; make it with: python -m training pack --data DIR --out {folder}"


def open_shard(path: Path, size: int) -> np.memmap[Any, np.dtype[np.uint8]]:
    """Memory map of a whole shard of `size` bytes. DataError names a shard that is missing or cut short."""
    if not path.is_file():
        raise DataError(f"{path} is missing; pack the data again")
    found = path.stat().st_size
    if found != size:
        raise DataError(f"{path} is cut short or damaged: {found} bytes of {size}; pack the data again")
    return np.memmap(path, np.uint8, "r")


def array_at(shard: np.memmap[Any, np.dtype[np.uint8]], offset: int, shape: tuple[int, ...], dtype: Any) -> Any:
    """A read-only view of the array that starts at `offset`; nothing is copied."""
    return np.ndarray(shape, dtype, buffer=shard, offset=offset)
