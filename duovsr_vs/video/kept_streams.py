"""The streams beside the video in a source and in its output: which is which, and whether each packet is there."""

from __future__ import annotations

from collections.abc import Iterator

from .facts import Facts, StreamFacts
from .kept_items import Item, Part, Said, Status

NEAR = 0.001
"""Seconds by which a packet may move: what mkv rounds to."""


WHOLE = Part(0, None, None, None)


def compare_streams(source: Facts, made: Facts, part: Part, said: Said, left_out: frozenset[int]) -> Iterator[Item]:
    """An item for each stream of the source, and for each of the output that the source does not have."""
    unused = list(made.streams)
    for number, one in enumerate(source.streams):
        item = f"stream {number + 1}: {one.name}"
        if one.index in left_out or said.frames_only:
            yield Item(item, _shown(one), None, "dropped", said.frames_alone or f"{said.container} cannot hold it")
            continue
        match = next((other for other in unused if _is_same(one, other)), None)
        match = match or next((other for other in unused if _may_be(one, other)), None)
        if match is None:
            timecode = one.name == "timecode" and "timecode" in made.video
            yield Item.of(item, _shown(one), None, timecode)
            continue
        unused.remove(match)
        yield Item(item, _shown(one), _shown(match), *_compared(one, match, part, said))
    for other in unused:
        if other.kind != "data" or other.name != "timecode":
            yield Item(f"stream: {other.name}", None, _shown(other), "added")


def _is_same(one: StreamFacts, other: StreamFacts) -> bool:
    if one.kind in ("attachment", "cover"):
        return (one.kind, one.digest, one.packets and one.packets.sums) == (
            other.kind, other.digest, other.packets and other.packets.sums,
        )  # fmt: skip
    return (one.kind, one.codec) == (other.kind, other.codec)


def _may_be(one: StreamFacts, other: StreamFacts) -> bool:
    """Text in another form, or the same packets under the name of another codec (MP2 is an MP3 to mp4)."""
    alike = one.packets is not None and other.packets is not None and one.packets.sums == other.packets.sums
    return one.kind == other.kind and (one.kind == "subtitle" or alike)


def _shown(one: StreamFacts) -> str:
    counted = one.packets is not None and not one.codec.startswith("pcm_")
    parts = [one.name, f"{len(one.packets.sums)} packets"] if counted and one.packets else [one.name]
    return ", ".join([*parts, *one.disposition, *([one.title] if one.title else [])])


def _compared(one: StreamFacts, other: StreamFacts, part: Part, said: Said) -> tuple[Status, str]:
    """Status and reason for two streams that are the same one."""
    if one.packets is not None and other.packets is not None:
        wanted, found = part.packets(one), WHOLE.packets(other)
        if one.kind == "subtitle" and one.codec != other.codec:
            same = len(wanted) == len(found) or part.begin is not None
            return "changed", f"as {other.codec}, the text that {said.container} holds" if same else ""
        if one.kind == "subtitle" and part.begin is not None and len(found) == len(wanted) + 1:
            del found[0]  # one that was on screen when the part begins
        if one.codec.startswith("pcm_") and (part.begin is not None or part.end is not None):
            return "kept", ""  # a part of it cannot be told from others by packets
        if len(wanted) != len(found):
            return "changed", ""
        if any(abs(a - b) > NEAR for (a, _), (b, _) in zip(wanted, found, strict=True)):
            return "changed", ""
        if any(a != b for (_, a), (_, b) in zip(wanted, found, strict=True)):
            return "changed", f"the packets' bytes are arranged as {said.container} has them"
    differ = [name for name in ("language", "title", "disposition") if getattr(one, name) != getattr(other, name)]
    return ("changed", f"{said.container} has no place for its {' and '.join(differ)}") if differ else ("kept", "")
