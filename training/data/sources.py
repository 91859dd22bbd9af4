"""Which files there are to pack, what is known about them, and which ones are held out.

Held out are whole sources: a film with all its parts, or a photo. Never single frames or clips of a film.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duovsr_vs.errors import DuoVsrError

VIDEO = frozenset({".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".y4m"})
PHOTO = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})
MANIFEST = "manifest.json"
# The marks of a part at the end of a name: film_b, film-part2, film.003.
_PART = re.compile(r"[ _.\-]+(?:[a-z]|(?:part|pt|cd|clip|seg|scene|shot)?[ _\-]?\d{1,4})$", re.IGNORECASE)


class DataError(DuoVsrError, ValueError):
    """Training data that cannot be used: missing, too little, cut short, or of another layout."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file of the data folder. `group` names the film or the photo; a group is never split."""

    path: Path
    name: str
    """Path inside the data folder."""
    is_video: bool
    group: str
    licence: str
    author: str
    origin: str
    """Where the file comes from, as the manifest says, else its name."""


def _manifest(data_dir: Path) -> Any:
    """Content of manifest.json; {} if there is none."""
    path = data_dir / MANIFEST
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); repair it or take it away") from error


def _facts(data_dir: Path) -> dict[str, dict[str, Any]]:
    """What manifest.json, if there is one, says per file name."""
    tree = _manifest(data_dir)
    parts = [p for p in tree.values() if isinstance(p, dict)] if isinstance(tree, dict) else []
    return {name: facts for part in parts for name, facts in part.items() if isinstance(facts, dict)}


def ignored(data_dir: Path, sources: Sequence[Source]) -> str:
    """What manifest.json says to no effect, in one sentence; empty if nothing, or if there is none."""
    tree, named = _manifest(data_dir), {s.path.name: s for s in sources}
    flat = [name for name in tree if name in named] if isinstance(tree, dict) else []
    if not tree or (not flat and named.keys() & _facts(data_dir).keys()):
        return ""
    what = f"what it says of {flat[0]} and the like" if flat else "it says nothing of the files that were found, and"
    example = flat[0] if flat else sources[0].path.name
    return (
        f'{data_dir / MANIFEST}: {what} is ignored; group the files, {{"films": {{"{example}": {{"source": …, '
        '"author": …, "licence": …}}}'
    )


def _group(path: Path, is_video: bool, origin: str | None) -> str:
    """Films published side by side in one folder count as one: they tend to share people, places and cameras."""
    if not is_video:
        return f"photo:{origin or path.stem}"
    if origin:
        return f"film:{origin.split(' (')[0].rpartition('/')[0] or origin}"
    stem, before = path.stem, ""
    while stem != before:
        before, stem = stem, _PART.sub("", stem)
    return f"film:{stem or path.stem}"


def find(data_dir: Path) -> list[Source]:
    """Every video and photo below `data_dir`, sorted by name. DataError when there is none."""
    if not data_dir.is_dir():
        raise DataError(f"{data_dir} is not a folder; name a folder of videos and photos")
    facts = _facts(data_dir)
    found: list[Source] = []
    for path in sorted(p for p in data_dir.rglob("*") if p.is_file()):
        kind = path.suffix.lower()
        if kind not in VIDEO and kind not in PHOTO:
            continue
        known = facts.get(path.name, {})
        origin = known.get("source")
        is_video = kind in VIDEO
        name = path.relative_to(data_dir).as_posix()
        group = _group(path, is_video, origin)
        found.append(
            Source(
                path, name, is_video, group, str(known.get("licence", "")), str(known.get("author", "")), origin or name
            )
        )
    if not found:
        raise DataError(f"{data_dir} holds no videos and no photos; known endings: {' '.join(sorted(VIDEO | PHOTO))}")
    return found


def hold_out(sources: Sequence[Source], share: float, seed: int = 0) -> frozenset[str]:
    """The groups kept for validation: about `share` of the films' bytes and of the photos, in an order that the seed
    and the names decide. Films larger than what is left of the share are passed over; with one group nothing is held.
    """
    held: set[str] = set()
    for is_video in (True, False):
        weight: dict[str, float] = defaultdict(float)
        for s in sources:
            if s.is_video == is_video:
                weight[s.group] += s.path.stat().st_size if is_video else 1.0
        if share <= 0 or len(weight) < 2:
            continue
        left = share * sum(weight.values())
        order = sorted(weight, key=lambda g: hashlib.blake2b(f"{seed}\0{g}".encode(), digest_size=8).digest())
        chosen: list[str] = []
        for group in order:
            if weight[group] <= left:
                chosen.append(group)
                left -= weight[group]
        held.update(chosen or [min(order, key=lambda g: weight[g])])
    return frozenset(held)
