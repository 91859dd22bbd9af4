"""How large a whole job will be, from parts of it: by packets, since some moments of a film are harder than others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import av

from ..video.opening import open_input
from ..video.sequence import is_pattern, opening_of
from .moments import Moment

KEY_DISTANCE = 250
"""Frames from one key frame to the next, as x264 and x265 place them where nothing cuts."""


@dataclass
class Packets:
    """Bytes of a file. video: each picture in the order of display, with whether it is a key frame.  others: of each
    further stream, by its index.
    """

    video: list[tuple[int, bool]] = field(default_factory=list)
    others: dict[int, int] = field(default_factory=dict)


def packets_of(path: str, stream: int | None = None) -> Packets:
    """Read through a file, or images, without decoding. stream: index of the video, None: the first one. Raises
    VideoError where it cannot be opened; what cannot be read ends it.
    """
    found, stamped = Packets(), []
    with open_input(path, opening_of(path) if is_pattern(path) else {}, None) as container:
        video = container.streams.video[0].index if stream is None else stream
        for packet in _demuxed(container):
            if packet.stream.index == video:
                stamped.append((packet.pts or 0, packet.size, bool(packet.is_keyframe)))
            else:
                found.others[packet.stream.index] = found.others.get(packet.stream.index, 0) + packet.size
    found.video = [(size, key) for _, size, key in sorted(stamped, key=lambda one: one[0])]
    return found


def _demuxed(container: Any) -> Iterator[Any]:
    try:
        yield from (packet for packet in container.demux() if packet.size)
    except (av.FFmpegError, OSError):
        return


@dataclass(frozen=True, slots=True)
class Made:
    """A rendered moment. packets: of its file."""

    moment: Moment
    packets: Packets


def video_bytes(source: Packets, parts: Sequence[Made], span: tuple[int, int], key_distance: int) -> float:
    """Bytes of the video for frames [start, stop) of the source, from those of some moments.

    Pictures between key frames are taken to grow with the source's own: where it needed many bytes, so will the
    output. Key frames stand alone, one in `key_distance` frames; a moment begins with one, whatever lies there.
    """
    made = [one for part in parts for one in part.packets.video]
    keys, rest = [size for size, key in made if key], [size for size, key in made if not key]
    covered = [n for part in parts for n in range(part.moment.first, part.moment.stop)]
    if not rest:  # every picture stands alone
        return sum(keys) * _growth(source, covered, span, keys_too=True)
    count = (span[1] - span[0]) / key_distance
    return sum(keys) / max(len(keys), 1) * max(count, 1) + sum(rest) * _growth(source, covered, span, keys_too=False)


def _growth(source: Packets, covered: Sequence[int], span: tuple[int, int], *, keys_too: bool) -> float:
    """What the source has in the whole span over what it has in some of its frames; by count where it does not say."""

    every = keys_too or all(key for _, key in source.video)

    def weight(numbers: Sequence[int]) -> int:
        known = [source.video[n] for n in numbers if n < len(source.video)]
        return sum(size for size, key in known if every or not key)

    whole, part = weight(range(*span)), weight(covered)
    return whole / part if whole and part else (span[1] - span[0]) / max(len(covered), 1)
