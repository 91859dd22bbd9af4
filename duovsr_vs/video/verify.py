"""Reading an output again before it gets its name: every frame, every timestamp, every copied packet must be there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av

from ..errors import VideoError
from .probe import exact, video_stream
from .streams import amount, is_cover, is_vital


def verify(
    path: Path, name: str, stamps: Sequence[int], time_base: Fraction, packets: Sequence[int], pictures: int = 0
) -> None:
    """Compare a finished file with what was given to its writer.

    stamps: timestamps of the frames in time_base units.  packets: `amount` of each copied sound and subtitle, in
    order.  pictures: number of covers and attachments. Raises VideoError that says what is missing.
    """
    found: list[Fraction] = []
    counts: Counter[int] = Counter()
    try:
        with av.open(path, "r") as container:
            video = video_stream(container, name)
            base = exact(video.time_base) or Fraction(1)
            beside = [s for s in container.streams if s.index != video.index]
            others = [s.index for s in beside if is_vital(s)]
            held = sum(s.type == "attachment" or is_cover(s) for s in beside)
            for packet in container.demux():
                if packet.size and packet.stream.index == video.index and packet.pts is not None:
                    found.append(packet.pts * base)
                elif packet.size:
                    counts[packet.stream.index] += amount(packet.stream, packet)
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{name}: what was written cannot be read again ({error}); the disk may be full") from None
    wanted = [stamp * time_base for stamp in stamps]
    if len(found) != len(wanted):
        raise VideoError(f"{name}: {len(wanted)} frames were written, {len(found)} are in the file; nothing was kept")
    if sorted(found) != wanted:
        at = next(i for i, (a, b) in enumerate(zip(sorted(found), wanted, strict=True)) if a != b)
        raise VideoError(
            f"{name}: frame {at} lies at {float(sorted(found)[at]):.6f} s instead of {float(wanted[at]):.6f} s"
        )
    there = [counts[index] for index in others]
    if there != list(packets):
        raise VideoError(f"{name}: the other streams should hold {list(packets)} packets and hold {there}")
    if held < pictures:
        raise VideoError(f"{name}: {pictures} covers and attachments were written, {held} are in the file")
