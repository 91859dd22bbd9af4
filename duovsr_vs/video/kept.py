"""What an output kept of its source, item by item: for `--report`, for the check before an output gets its name, and
for the tables of the documentation.

Both files are opened and read again; nothing is taken from what the writer believes to have written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import VideoError
from .colour import ColourTags
from .encoding import Encoding
from .facts import Facts, facts
from .kept_items import Item, Part, Said
from .kept_streams import compare_streams

NAMES = {"matroska": "mkv", "image": "an image sequence"}
"""Kinds of output whose name for people is another."""
COLOURS = {
    "primaries": "primaries",
    "transfer": "transfer",
    "matrix": "matrix",
    "full": "full range",
    "chroma": "chroma location",
}
type Chapter = tuple[Fraction, Fraction, str]


def kept(
    source: Facts,
    output: str | Path,
    *,
    kind: str = "",
    encoding: Encoding | None = None,
    start: int = 0,
    stop: int | None = None,
    written: int | None = None,
    left_out: Collection[int] = (),
) -> dict[str, Any]:
    """Compare a finished output (a file, or a folder of images) with its source.

    kind: muxer of the output, "y4m" or "image".  encoding: as chosen; its notes explain changes.  start, stop: frames
    of the source that the output holds.  written: frames that could be decoded and were written.  left_out: indexes of
    streams that the container cannot hold. Returns {"source", "output", "items"}, each item a dictionary with item,
    source, output, status (kept, changed, dropped, added) and why; all of it can be written as JSON.
    """
    made = facts(str(output))
    part = Part.of(source, start, stop)
    said = Said(NAMES.get(kind, kind) or made.container.split(",")[0], made.frames_only, encoding)
    items = [*_frames(source, made, part, written, said), *_shape(source, made)]
    items += [*_colours(source.tags, made.tags, said), *_samples(source, made, said), *_hdr(source, made, said)]
    items += [*_tags(source, made, part, said)]
    items += compare_streams(source, made, part, said, frozenset(left_out))
    return {"source": source.name, "output": str(output), "items": [asdict(item) for item in items]}


def surprises(report: dict[str, Any]) -> list[str]:
    """A sentence for each change of a report that nothing explains."""
    return [
        f"{one['item']}: {one['status']} ({one['source']} in the source, {one['output']} in the output)"
        for one in report["items"]
        if one["status"] in ("changed", "dropped") and not one["why"]
    ]


def check(report: dict[str, Any], name: str) -> None:
    """Raise VideoError if frames or timestamps are not those of the source. name: what people call the output."""
    vital = [text for text in surprises(report) if text.startswith(("frames:", "timestamps:"))]
    if vital:
        raise VideoError(f"{name} does not hold what its source holds: {vital[0]}; nothing was kept there")


def _frames(source: Facts, made: Facts, part: Part, written: int | None, said: Said) -> list[Item]:
    wanted = part.frames if part.frames is not None else written
    damaged = f"{(wanted or 0) - (written or 0)} frames of the source cannot be decoded"
    count = Item.of("frames", wanted, made.frames, wanted == made.frames, damaged if written == made.frames else "")
    items = [count, _times(source, made, part, said)]
    if source.rate is not None and (made.times is not None or not said.frames_only):
        alike = made.rate is not None and abs(made.rate / source.rate - 1) < Fraction(1, 1000)
        why = "an average, which each container makes in its own way; the timestamps count"
        items.append(Item.of("frame rate", str(source.rate), str(made.rate), alike, why))
    return items


def _times(source: Facts, made: Facts, part: Part, said: Said) -> Item:
    wanted, found = part.times(source), made.times
    before, after = (None if times is None else _extent(times) for times in (wanted, found))
    if wanted is None:
        why = "a pipe is read only once" if source.frames is None else "the source's are missing or repeat"
        return Item("timestamps", before, after, "changed", why)
    if found is None or len(found) != len(wanted):
        return Item.of("timestamps", before, after, False, said.frames_alone or "as far as there are frames")
    off = max((abs(a - b) for a, b in zip(wanted, found, strict=True)), default=Fraction(0))
    why = said.frames_alone
    if said.milliseconds and off <= Fraction(1, 2000):
        why = f"whole milliseconds, which is what {said.container} stores: {float(off) * 1000:.2f} ms off at most"
    return Item.of("timestamps", before, after, off == 0, why)


def _extent(times: tuple[Fraction, ...]) -> str:
    return f"{len(times)} from {float(times[0]):.6f} to {float(times[-1]):.6f} s" if times else "none"


def _shape(source: Facts, made: Facts) -> list[Item]:
    items = [Item.of("size", list(source.size), list(made.size), source.size == made.size, "upscaled")]
    if source.sar is not None and source.sar != 1:
        pairs = ((source.sar, source.size), (made.sar, made.size))
        before, after = ((sar or Fraction(1)) * Fraction(*size) for sar, size in pairs)
        near = max(Fraction(1, side) for side in (*source.size, *made.size))
        items.append(Item.of("sample aspect", str(source.sar), str(made.sar), abs(after / before - 1) <= near))
    if source.rotation is not None:
        before_turn, after_turn = _turn(source.rotation), _turn(made.rotation)
        items.append(Item.of("rotation", before_turn, after_turn, before_turn == after_turn))
    return items


def _turn(matrix: tuple[int, ...] | None) -> list[float] | None:
    """The four numbers of a display matrix that turn and mirror."""
    return None if matrix is None else [round(matrix[i] / 65536, 3) + 0.0 for i in (0, 1, 3, 4)]


def _colours(before: ColourTags, after: ColourTags, said: Said) -> list[Item]:
    """H.273 numbers; what neither file says is no item."""
    chosen = said.encoding.tags if said.encoding else before
    items = []
    if before.chroma != after.chroma:  # left is what is meant where nothing is said
        before, after = (replace(tags, chroma=tags.chroma or 1) for tags in (before, after))
    for field, name in COLOURS.items():
        a, b, wanted = (getattr(tags, field) for tags in (before, after, chosen))
        if a != b or a != getattr(ColourTags(), field):
            items.append(
                Item(name, a, b, "kept" if a == b else "changed", "" if a == b else said.of_colour(field, b == wanted))
            )
    return items


def _samples(source: Facts, made: Facts, said: Said) -> list[Item]:
    before, after = source.layout, made.layout
    kind, made_kind = (one.family if one.family != "yuv" else one.opaque.planar_name[3:6] for one in (before, after))
    items = [
        Item.of("bits per sample", before.bits, after.bits, after.bits >= before.bits, said.note("bits", "becomes")),
        Item.of("sampling", kind, made_kind, kind == made_kind, said.note("becomes", "4:4:4") or said.frames_alone),
    ]
    if before.alpha:
        items.append(Item.of("alpha", True, after.alpha, after.alpha, said.note("alpha")))
    return items


def _hdr(source: Facts, made: Facts, said: Said) -> list[Item]:
    items = []
    if source.hdr is not None:
        shown = made.hdr.describe() if made.hdr else None
        why = said.note("HDR metadata")
        items.append(Item.of("HDR metadata", source.hdr.describe(), shown, source.hdr.matches(made.hdr), why))
    for name in source.dynamic:
        why = "it describes the scenes of the source one by one and is not written again"
        items.append(Item.of(name, True, name in made.dynamic, name in made.dynamic, why))
    if source.captions:
        why = "they lie in the source's frames, and the encoder writes none"
        items.append(Item.of("closed captions", True, made.captions, made.captions, why))
    return items


def _tags(source: Facts, made: Facts, part: Part, said: Said) -> list[Item]:
    """Metadata of the file and of the video stream, and chapters."""
    items = []
    own = {key: value for key, value in source.video.items() if part.begin is None or key != "timecode"}
    pairs = (("metadata", source.metadata, made.metadata), ("tags of the video", own, made.video))
    for name, before, after in pairs:
        held = {key: after[key] for key in before if key in after}
        lost = sorted(key for key in before if key not in after or not _same(before[key], after[key]))
        if before:
            items.append(Item.of(name, before, held, not lost, said.of_tags(lost)))
    chapters = part.chapters(source)
    if chapters:
        before_, after_ = ([f"{float(a):.3f}-{float(b):.3f} {t}" for a, b, t in c] for c in (chapters, made.chapters))
        items.append(Item.of("chapters", before_, after_ or None, _near(chapters, made.chapters), said.frames_alone))
    return items


def _near(before: Sequence[Chapter], after: Sequence[Chapter]) -> bool:
    """The same chapters, to one millisecond."""
    return len(before) == len(after) and all(
        max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= Fraction(1, 1000) and a[2] == b[2]
        for a, b in zip(before, after, strict=True)
    )


def _same(before: str, after: str) -> bool:
    """Equal, or the same point in time to the second."""
    return before == after or (len(before) > 19 and before[10:11] == "T" and before[:19] == after[:19])
