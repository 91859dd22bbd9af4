"""Image sequences: numbered names such as in/%05d.png, as input for libav and as output of single files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..errors import VideoError

ASSUMED_RATE = 25
"""Frames per second of a sequence of images, which has none of its own (libav's default)."""
_PATTERN = re.compile(r"%0?(\d*)d")


def is_pattern(name: str) -> bool:
    """Whether a name stands for a sequence: it holds one %d or %05d in its last part."""
    return len(_PATTERN.findall(Path(name).name)) == 1


def numbers_of(pattern: str) -> list[int]:
    """Numbers of the existing files of a pattern, ascending."""
    path = Path(pattern)
    match = _PATTERN.search(path.name)
    if match is None or not path.parent.is_dir():
        return []
    head, tail = path.name[: match.start()], path.name[match.end() :]
    expression = re.compile(re.escape(head) + r"(\d+)" + re.escape(tail))
    found = (expression.fullmatch(entry.name) for entry in path.parent.iterdir())
    return sorted(int(m[1]) for m in found if m and path.name % int(m[1]) == m[0])


def opening_of(pattern: str) -> dict[str, Any]:
    """Arguments of av.open for an input sequence. Raises VideoError when it is empty or has a hole."""
    numbers = numbers_of(pattern)
    if not numbers:
        raise VideoError(f"{pattern}: there is no image of that name; the pattern is a path such as in/%05d.png")
    missing = numbers[0] + next((i for i, n in enumerate(numbers) if n != numbers[0] + i), len(numbers))
    if missing <= numbers[-1]:
        raise VideoError(f"{pattern}: number {missing} is missing between {numbers[0]} and {numbers[-1]}")
    return {"format": "image2", "options": {"start_number": str(numbers[0]), "framerate": str(ASSUMED_RATE)}}
