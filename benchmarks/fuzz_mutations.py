"""Malformed bytes: what was a sound file, with something wrong in it. Everything follows from a `random.Random`."""

import random
from collections.abc import Sequence

MARKS: dict[str, tuple[bytes, ...]] = {
    "mp4": (
        b"ftyp", b"moov", b"mvhd", b"tkhd", b"mdhd", b"hdlr", b"elst", b"stsd", b"stts", b"ctts", b"stss", b"stsc",
        b"stsz", b"stco", b"avcC", b"colr", b"pasp", b"mdcv", b"clli", b"chpl", b"udta", b"ilst", b"dref", b"mdat",
    ),
    "mkv": (
        b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x15\x49\xa9\x66", b"\x2a\xd7\xb1", b"\x16\x54\xae\x6b", b"\xae",
        b"\xe0", b"\xb0", b"\xba", b"\x54\xb0", b"\x54\xba", b"\x55\xb0", b"\x55\xd0", b"\x23\xe3\x83", b"\x63\xa2",
        b"\x10\x43\xa7\x70", b"\xb6", b"\x91", b"\x92", b"\x1f\x43\xb6\x75", b"\xe7", b"\xa3", b"\x1c\x53\xbb\x6b",
        b"\x19\x41\xa4\x69", b"\x46\x6e", b"\x12\x54\xc3\x67", b"\x44\x89", b"\x86", b"\x22\xb5\x9c",
    ),
    "avi": (b"RIFF", b"LIST", b"avih", b"strh", b"strf", b"idx1", b"00dc", b"01wb", b"JUNK", b"movi"),
    "flv": (b"FLV", b"onMetaData", b"duration", b"width", b"\x09\x00", b"\x08\x00"),
    "ts": (b"\x47", b"\x00\x00\x01\xe0", b"\x00\x02\xb0", b"\x00\x00\x00\x01"),
    "mpg": (b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"\x00\x00\x01\xb5", b"\x00\x00\x01\xe0", b"\x00\x00\x01\x00"),
    "y4m": (b" W", b" H", b" F", b" A", b" C", b" I", b"FRAME", b"YUV4MPEG2", b"XYSCSS", b":"),
    "png": (b"IHDR", b"IDAT", b"PLTE", b"cHRM", b"gAMA", b"iCCP", b"cICP", b"pHYs", b"eXIf", b"IEND"),
    "exr": (b"channels", b"compression", b"dataWindow", b"displayWindow", b"pixelAspectRatio", b"lineOrder", b"v/1"),
    "tif": (b"II*", b"\x00\x01\x03\x00", b"\x01\x01\x03\x00", b"\x02\x01\x03\x00", b"\x11\x01\x04\x00"),
}  # fmt: skip
"""Where the fields of a format lie: behind these bytes. Of its relatives, too."""
RELATIVES = {"mov": "mp4", "m4v": "mp4", "webm": "mkv", "mpeg": "mpg", "tiff": "tif"}
HEAD = 4096
"""Bytes at both ends of a file in which most of what a reader believes is written."""
WORDS = (
    b"0", b"-1", b"1", b"15", b"16385", b"65536", b"2147483647", b"4294967295", b"99999999999999999999", b"0:0",
    b"1:0", b"0:1", b"1000000000:1", b"", b"nan", b"mono16", b"420p99", b"\n", b"\xff\xfe",
)  # fmt: skip
"""What stands in for a number in a format of words."""


def mutated(data: bytes, suffix: str, chance: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """`data` with one to four things wrong. suffix: of its file, without the dot.  others: files to take parts of."""
    marks = MARKS.get(RELATIVES.get(suffix, suffix), ())
    for _ in range(chance.choice((1, 1, 1, 2, 2, 4))):
        kind = chance.choice(
            ("flip", "flip", "cut", "splice", "field", "field", "field", "extreme", "extreme", "cross")
        )
        if kind == "flip":
            data = _flipped(data, chance)
        elif kind == "cut":
            data = _cut(data, chance)
        elif kind == "splice":
            data = _spliced(data, chance)
        elif kind == "cross" and others:
            data = _crossed(data, chance.choice(others), chance)
        elif kind == "field" and marks:
            data = _in_field(data, chance.choice(marks), suffix, chance)
        else:
            data = _put(data, _place(data, chance), _extreme(chance))
    return data


def _place(data: bytes, chance: random.Random) -> int:
    """A position, mostly where headers are."""
    if not data:
        return 0
    near, where = min(len(data), HEAD), chance.random()
    if where < 0.75:
        at = chance.randrange(near)
        return at if where < 0.6 else len(data) - 1 - at
    return chance.randrange(len(data))


def _extreme(chance: random.Random) -> bytes:
    """A number of 1 to 8 bytes that somebody may not have thought of."""
    size = chance.choice((1, 2, 4, 4, 8))
    top = 1 << 8 * size
    value = chance.choice((0, 1, top - 1, top // 2, top // 2 - 1, top - 2, top // 256, chance.randrange(top)))
    return value.to_bytes(size, chance.choice(("big", "little")))


def _put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def _flipped(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 3, 10, 40)) if data else 0):
        changed[_place(data, chance)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(data: bytes, chance: random.Random) -> bytes:
    """Without its end, or its beginning, or nearly all of it."""
    at = _place(data, chance)
    return data[:at] if chance.random() < 0.8 else data[at:]


def _spliced(data: bytes, chance: random.Random) -> bytes:
    """A piece of it is gone, is there twice, or lies over another one."""
    at, size, to = _place(data, chance), chance.choice((1, 4, 16, 200, 3000)), _place(data, chance)
    piece = data[at : at + size]
    return chance.choice((data[:at] + data[at + size :], data[:to] + piece + data[to:], _put(data, to, piece)))


def _crossed(data: bytes, other: bytes, chance: random.Random) -> bytes:
    return data[: _place(data, chance)] + other[_place(other, chance) :]


def _in_field(data: bytes, mark: bytes, suffix: str, chance: random.Random) -> bytes:
    """Something extreme shortly behind one of the places of a mark; in formats of words, another word."""
    places = []
    at = data.find(mark)
    while at >= 0 and len(places) < 50:
        places.append(at)
        at = data.find(mark, at + 1)
    if not places:
        return data
    at = chance.choice(places) + len(mark)
    if suffix == "y4m":
        stop = at
        while stop < len(data) and data[stop] not in b" \n" and stop - at < 40:
            stop += 1
        return data[:at] + chance.choice(WORDS) + data[stop:]
    at += chance.choice((-len(mark) - 4, 0, 1, 2, 4, 8, 12, 16, chance.randrange(40)))
    return _put(data, max(0, at), _extreme(chance))
