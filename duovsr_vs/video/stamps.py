"""Timestamps: rounding between time bases, and decoding times for packets that come without usable ones."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any


def round_half_up(value: Fraction) -> int:
    """Nearest integer, halves away from zero as libav rounds timestamps."""
    return int(value + Fraction(1, 2)) if value >= 0 else -int(-value + Fraction(1, 2))


def stamp_decoding_times(packets: Sequence[Any]) -> None:
    """Give all packets of a video, in decoding order, decoding times that increase and lie at or before their frames'.

    libx265 fills them with whatever its memory held when a video is shorter than its reordering depth.
    """
    shown = sorted(packet.pts for packet in packets)
    if not shown:
        return
    place = {pts: rank for rank, pts in enumerate(shown)}
    late = max(n - place[packet.pts] for n, packet in enumerate(packets))
    step = min((b - a for a, b in pairwise(shown)), default=1)
    for n, packet in enumerate(packets):
        packet.dts = shown[n - late] if n >= late else shown[0] - (late - n) * step
