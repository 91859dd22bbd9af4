"""What a file promises before anything is decoded: the timestamps of its packets, how many frames it should hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.stream import Discard, Disposition

from ..errors import VideoError

_TRUNCATION_SLACK = 0.5
"""Seconds by which a container's duration may exceed its last timestamp without meaning that the file was cut off."""


@dataclass(frozen=True, slots=True)
class Scan:
    """pts: timestamps of the video packets in display order, () when some have none.  keyframes: those of key packets.

    packets: how many whole video packets can be read, corrupt: how many damaged ones.  declared: how many frames the
    container announces, 0 if it says nothing.
    """

    pts: tuple[int, ...]
    keyframes: tuple[int, ...]
    packets: int
    corrupt: int
    declared: int

    @property
    def cut_off(self) -> int:
        """Frames that the container announces and that the file does not hold."""
        return max(0, self.declared - self.packets - self.corrupt)


def exact(value: Any) -> Fraction | None:
    """libav's rational as a Fraction; None for an unset one (0/0, 0/1, n/0)."""
    if value is None or not value.numerator or not value.denominator:
        return None
    return Fraction(value.numerator, value.denominator)


def video_stream(container: Any, name: str) -> Any:
    """The stream to upscale: libav's best one that is not a cover picture. Raises VideoError."""
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not videos:
        raise VideoError(f"{name} holds no video stream; a video or an image sequence is needed")
    best = container.streams.best("video")
    chosen = best if best in videos else videos[0]
    if chosen.codec_context is None:
        raise VideoError(f"{name}: there is no decoder for its video; convert it with another program first")
    return chosen


def frame_rate(stream: Any) -> Fraction | None:
    """Average rate in frames per second; libav's guess where a stream has no average."""
    return exact(stream.average_rate) or exact(stream.guessed_rate) or exact(stream.base_rate)


def scan(path: str, **opening: Any) -> Scan:
    """Read every video packet of a file once, without decoding. opening: what av.open got for the same file."""
    pts: list[int] = []
    keys: list[int] = []
    packets = corrupt = 0
    with av.open(path, "r", **opening) as container:
        stream = video_stream(container, path)
        alone = _discard_others(container, stream) == 0
        try:
            for packet in container.demux(stream):
                if packet.size == 0 or packet.is_discard:
                    continue
                if packet.is_corrupt:
                    corrupt += 1
                    continue
                packets += 1
                if packet.pts is not None:
                    pts.append(packet.pts)
                    if packet.is_keyframe:
                        keys.append(packet.pts)
        except (av.FFmpegError, OSError):
            pass  # cut off here; the decoder will meet the same end and say so
        known = len(pts) == packets and len(set(pts)) == packets
        base = float(exact(stream.time_base) or 0)
        bounds = min(pts, default=0) * base, max(pts, default=0) * base
        declared = _declared(container, stream, bounds, alone)
    return Scan(tuple(sorted(pts)) if known else (), tuple(sorted(keys)) if known else (), packets, corrupt, declared)


def _discard_others(container: Any, stream: Any) -> int:
    """Skip every other stream while scanning; tells how many there are."""
    others = [s for s in container.streams if s.index != stream.index]
    for other in others:
        other.discard = Discard.all
    return len(others)


def _declared(container: Any, stream: Any, bounds: tuple[float, float], alone: bool) -> int:
    """Frames that the container announces: its own count, else from the stream's (or the file's) duration; 0: unknown.

    bounds: first and last timestamp in seconds.  alone: the file holds no other stream that could last longer.
    """
    if stream.frames:
        return int(stream.frames)
    rate = frame_rate(stream)
    end = _seconds(stream.metadata.get("DURATION", ""))
    if end is None and alone and container.duration and "matroska" in container.format.name:
        end = (container.duration + (container.start_time or 0)) / av.time_base
    if rate is None or end is None or end - bounds[1] < _TRUNCATION_SLACK:
        return 0
    return round((end - bounds[0]) * float(rate))


def _seconds(text: str) -> float | None:
    """Seconds of a Matroska DURATION tag, `00:00:04.382000000`."""
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else None
