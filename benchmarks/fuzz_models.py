"""Malformed model files, and malformed folders of long jobs."""

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz_mutations import mutated

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 17, 10**6, 2**31, 2**63, 2**64, -(2**63), 10**30, 0.5, -0.5, 1e308, float("nan"),
    float("inf"), "", "x", "0", "1", "tiny", "\ud800", "\0", "x" * 10_000, "../../x", "/x", [], [1], [-1], [0] * 24,
    [None], [[]], [1e308] * 24, [float("nan")] * 24, {}, {"a": 1}, {"": {}}, "F32", "F64", "BF16", "I8", "U64", "BOOL",
    "F8_E4M3", "C64", "F128",
)  # fmt: skip
"""What a field of JSON may hold although it should not."""
TEXTS = (
    b"", b"{", b"}", b"[]", b"null", b"{}", b"3", b'"x"', b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b"\0" * 100,
    b"nan", b"1" * 5000, b'{"__metadata__":[]}', b'{"__metadata__":3}', b'{"__metadata__":{"format":"duovsr"}}',
    b'{"__metadata__":{"format":3}}', b'{"__metadata__":{"format":"duovsr","config":"{}"}}',
    b'{"x":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}',
    b'{"__metadata__":{"format":"duovsr","config":"' + b"[" * 100_000 + b'"}}',
)  # fmt: skip
"""Whole headers and whole records."""
LENGTHS = (0, 1, 2, 7, 8, 100, 2**16, 2**24, 2**24 + 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1)


def changed(value: Any, chance: random.Random) -> Any:
    """A JSON value with one thing in it replaced, removed, added or doubled, at any depth."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(sorted(value))
        how = chance.random()
        if how < 0.12:
            return {k: v for k, v in value.items() if k != key}
        if how < 0.2:
            return value | {chance.choice(("x", "", "__metadata__", key + "x")): chance.choice(VALUES)}
        if how < 0.25:
            return {(chance.choice(("x", "")) if k == key else k): v for k, v in value.items()}
        return value | {key: changed(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        new = chance.choice(([], [value[at]] * 2, [changed(value[at], chance)], [changed(value[at], chance)]))
        return value[:at] + new + value[at + 1 :]
    if isinstance(value, str) and value.startswith("{") and chance.random() < 0.8:  # JSON within JSON
        return json.dumps(changed(json.loads(value), chance))
    if isinstance(value, int) and not isinstance(value, bool) and chance.random() < 0.5:
        return chance.choice((value + 1, value - 1, -value, value * 2, value * 10**6))
    return chance.choice(VALUES)


def model(data: bytes, chance: random.Random) -> bytes:
    """A damaged safetensors file."""
    size = struct.unpack("<Q", data[:8])[0]
    head, body = data[8 : 8 + size], data[8 + size :]
    kind = chance.choices(("bytes", "length", "text", "header", "body"), (3, 1, 1, 8, 1))[0]
    if kind == "bytes":
        return mutated(data, "safetensors", chance)
    if kind == "length":
        return struct.pack("<Q", chance.choice((*LENGTHS, size - 1, size + 1))) + data[8:]
    if kind == "text":
        text = chance.choice(TEXTS)
        return struct.pack("<Q", len(text)) + text + chance.choice((b"", body))
    if kind == "body":
        return data[: 8 + size] + chance.choice((b"", body[:-1], body + b"\0", bytes(len(body)), b"\xff" * len(body)))
    header = json.loads(head)
    for _ in range(chance.choice((1, 1, 2, 3))):
        header = _in_header(header, chance)
    text = json.dumps(header).encode(errors="surrogatepass")
    return struct.pack("<Q", len(text)) + text + body


def _in_header(header: Any, chance: random.Random) -> Any:
    """Metadata half of the time: the configuration, the provenance; without the hash, so that what follows is met."""
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__"), dict) or chance.random() < 0.4:
        return changed(header, chance)
    metadata = dict(header["__metadata__"])
    if chance.random() < 0.7:
        metadata.pop("hash", None)
    key = chance.choice(("config", "config", "config", "provenance", "golden_tolerance", "hash", "format", "version"))
    if key in metadata:
        metadata[key] = changed(metadata[key], chance)
        if chance.random() < 0.9 and not isinstance(metadata[key], str):
            metadata[key] = json.dumps(metadata[key])
    return header | {"__metadata__": metadata}


def job(folder: Path, chance: random.Random) -> None:
    """Damage the folder of a long job."""
    files = sorted(folder.iterdir())
    for _ in range(chance.choice((1, 1, 2, 3))):
        if not files:
            return
        how: Callable[[Path, random.Random], None] = chance.choices((_json, _bytes, _whole), (6, 3, 2))[0]
        how(chance.choice(files), chance)
        files = sorted(folder.iterdir())


def _json(file: Path, chance: random.Random) -> None:
    """Something else in one field of one of its JSON files."""
    files = sorted(f for f in file.parent.glob("*.json") if f.is_file())
    if not files:
        return
    chosen = chance.choice(files)
    try:
        value = json.loads(chosen.read_text(errors="replace"))
    except (ValueError, RecursionError):
        return
    text = json.dumps(changed(value, chance)).encode(errors="surrogatepass")
    chosen.write_bytes(chance.choice(TEXTS) if chance.random() < 0.1 else text)


def _bytes(file: Path, chance: random.Random) -> None:
    if file.is_file() and not file.is_symlink():
        file.write_bytes(mutated(file.read_bytes(), file.suffix[1:], chance))


def _whole(file: Path, chance: random.Random) -> None:
    """A file is gone, is a folder or another one, or there is one that does not belong there."""
    kind = chance.choice(("gone", "folder", "another", "strange", "link"))
    if kind in ("gone", "folder", "link"):
        if file.is_dir():
            return
        file.unlink()
        if kind == "folder":
            file.mkdir()
        elif kind == "link":
            file.symlink_to("nowhere")
    elif kind == "another":
        others = [f for f in sorted(file.parent.iterdir()) if f.is_file()]
        if others and file.is_file():
            file.write_bytes(chance.choice(others).read_bytes())
    else:
        name = chance.choice(("final.json", "unsteady.json", "000002.json", "000002.mkv", "x.part", "000009.json", "é"))
        text = chance.choice((*TEXTS, b'{"moving": true}', b'{"bytes": 1, "modified": 2}'))
        (file.parent / name).write_bytes(text) if not (file.parent / name).is_dir() else None
