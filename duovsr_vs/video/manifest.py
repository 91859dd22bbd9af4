"""What a long job is, written down when it begins, so that it is only ever continued as the same job."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import VideoError
from .output import write_error
from .probe import Scan
from .sequence import is_pattern, numbers_of

EDGE = 4 * 1024 * 1024
"""Bytes at the beginning and at the end of an input that its fingerprint covers."""
LONGEST = 100
"""Characters of a value that fit into a sentence."""
Facts = dict[str, Any]
"""What JSON can hold, by name."""


def fingerprint(source: str, scan: Scan) -> Facts:
    """What tells an input from any other without reading all of it: size, packet table, first and last 4 MiB.

    Of numbered images: the names and sizes of all, the first and the last file. Raises VideoError.
    """
    files = [Path(source)]
    if is_pattern(source) and not files[0].exists():
        files = [Path(source % number) for number in numbers_of(source)]
    try:
        sizes = [file.stat().st_size for file in files]
        ends = hashlib.sha256(_read(files[0], 0) + _read(files[-1], max(0, sizes[-1] - EDGE))).hexdigest()
    except OSError as error:
        raise VideoError(f"{source} cannot be read: {error.strerror}") from None
    table = [scan.pts, scan.keyframes, scan.packets, scan.corrupt, scan.declared]
    if len(files) > 1:
        table.append([(file.name, size) for file, size in zip(files, sizes, strict=True)])
    return {"bytes": sum(sizes), "frames": scan.packets, "packets": _digest(table), "ends": ends}


def differences(before: Any, now: Mapping[str, Any]) -> list[str]:
    """What is not equal, value by value: `crf was 16 and is 18`. Names are those of the innermost dictionary."""
    if not isinstance(before, Mapping):
        return ["its description is damaged"]
    found = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new)
        elif old != new:
            found.append(f"{name.replace('_', ' ')} was {_said(old)} and is {_said(new)}")
    return found


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file that is whole or not there. Raises VideoError when the disk does not take it.

    What is there and is no file (/dev/stdout, a pipe) is written to as it is: a rename would replace it.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(json.dumps(value, sort_keys=True) + "\n", encoding="utf-8")
            return
    except OSError as error:
        raise write_error(error, str(path)) from None
    part = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            json.dump(value, file, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise write_error(error, str(path.parent)) from None


def read_json(path: Path) -> Facts | None:
    """A JSON object from a file; None where there is no such file or it holds none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def plain(value: Any) -> Any:
    """The value as JSON would give it back: tuples are lists, fractions are text."""
    return json.loads(json.dumps(value, default=str))


def file_digest(path: Path) -> str:
    """SHA-256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _read(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(EDGE)


def _said(value: Any) -> str:
    text = "not there" if value is None else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
