"""Matroska's building blocks (EBML, RFC 8794): elements made and found, and how a finished file's picture is shown.

libav's Matroska writer takes the shape from a place that PyAV cannot reach, so that it is lost unless the codec's own
bitstream holds it (H.264, HEVC, ProRes). It leaves room in the track's header, where it is put here.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

SEGMENT, TRACKS, TRACK, VIDEO, VOID, CRC = "18538067", "1654ae6b", "ae", "e0", "ec", "bf"
_DISPLAY = ("54b0", "54ba", "54b2")
"""Width and height as displayed, and their unit (pixels where it is absent)."""
_HEAD = 1 << 20
"""Bytes from the start of a file within which its tracks are looked for."""


def element(name: str, *content: bytes, size_bytes: int = 8) -> bytes:
    """An element: its name in hexadecimal digits, a size of so many bytes, the content."""
    body = b"".join(content)
    return bytes.fromhex(name) + (len(body) | 1 << 7 * size_bytes).to_bytes(size_bytes, "big") + body


def whole(value: int, size: int = 4) -> bytes:
    """An unsigned number as content."""
    return value.to_bytes(size, "big")


def real(value: float | Fraction) -> bytes:
    """A number with decimals as content."""
    return struct.pack(">d", float(value))


def elements(data: bytes, start: int, stop: int) -> Iterator[tuple[str, int, int, int]]:
    """Name, position, begin and end of the content of each element in data[start:stop], as far as it makes sense."""
    at = start
    while at + 2 <= stop:
        name_bytes = _length(data[at])
        if name_bytes > 4 or at + name_bytes >= stop:
            return
        size_at = at + name_bytes
        size_bytes = _length(data[size_at])
        if size_bytes > 8 or size_at + size_bytes > len(data):
            return
        size = int.from_bytes(data[size_at : size_at + size_bytes], "big") & ((1 << 7 * size_bytes) - 1)
        begin = size_at + size_bytes
        yield data[at:size_at].hex(), at, begin, begin + size
        at = begin + size


def _length(first: int) -> int:
    """How many bytes a number takes that begins with this one."""
    return 9 - first.bit_length()


def display_size(width: int, height: int, sar: Fraction) -> tuple[int, int]:
    """Displayed size in whole pixels: the height as it is, the width to the nearest."""
    return max(1, round(width * sar)), height


def write_display_size(path: Path, width: int, height: int, sar: Fraction) -> bool:
    """Let a finished Matroska or WebM file's first video track say how its picture is shown; no byte moves elsewhere.

    Returns whether there was room for it. Raises OSError.
    """
    with path.open("r+b") as file:
        data = file.read(_HEAD)
        tracks = _find(data, 0, len(data), SEGMENT, TRACKS)
        if tracks is None or tracks[2] > len(data):
            return False
        _, begin, end = tracks
        entries = [e for e in elements(data, begin, end) if e[0] == TRACK and _find(data, e[2], e[3], VIDEO)]
        changed = (
            _with_display(data[entries[0][1] : entries[0][3]], *display_size(width, height, sar)) if entries else b""
        )
        if not changed:
            return False
        content = data[begin : entries[0][1]] + changed + data[entries[0][3] : end]
        file.seek(begin)
        file.write(_with_checksum(content))
    return True


def _find(data: bytes, start: int, stop: int, *names: str) -> tuple[int, int, int] | None:
    """Position, begin and end of an element inside others."""
    for name, at, begin, end in elements(data, start, stop):
        if name == names[0]:
            return (at, begin, end) if len(names) == 1 else _find(data, begin, min(end, stop), *names[1:])
    return None


def _with_display(track: bytes, wide: int, high: int) -> bytes:
    """A track's element of the same length with the size in it; b"" where there is no room."""
    _, _, begin, end = next(elements(track, 0, len(track)))
    parts = []
    for name, at, inside, stop in elements(track, begin, end):
        if name == VIDEO:
            kept = [track[a:d] for n, a, _, d in elements(track, inside, stop) if n not in _DISPLAY]
            size = [
                element(n, whole(v, 2 + (v >> 16 > 0)), size_bytes=1)
                for n, v in zip(_DISPLAY, (wide, high), strict=False)
            ]
            length = sum(map(len, kept)) + sum(map(len, size))
            parts.append(element(VIDEO, *kept, *size, size_bytes=1 if length < 127 else 2))
        elif name != VOID:
            parts.append(track[at:stop])
    body = b"".join(parts)
    for size_bytes in range(8, 1, -1):
        spare = len(track) - 1 - size_bytes - len(body)
        if spare == 0:
            return element(TRACK, body, size_bytes=size_bytes)
        if 2 <= spare < 128:
            return element(TRACK, body, element(VOID, bytes(spare - 2), size_bytes=1), size_bytes=size_bytes)
    return b""


def _with_checksum(content: bytes) -> bytes:
    """The content of an element; where it begins with a CRC-32 of the rest, with the right one."""
    first = next(elements(content, 0, len(content)), None)
    if first is None or first[0] != CRC:
        return content
    rest = content[first[3] :]
    return content[: first[2]] + zlib.crc32(rest).to_bytes(4, "little") + rest
