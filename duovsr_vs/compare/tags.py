"""What a video stream says of its pictures: size, shape, colours, HDR; and whether the upscaled one says the same."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from ..video.colour import MATRIX_NAMES, TRANSFER_HDR, UNSPECIFIED
from .clips import Clip
from .findings import Finding, verdict


def compare_tags(source: Clip, other: Clip) -> list[Finding]:
    """Findings on size, sample aspect, rotation, depth, colour tags and HDR metadata."""
    return [
        _size(source, other),
        _aspect(source, other),
        _rotation(source, other),
        _depth(source, other),
        _colours(source, other),
        _hdr(source, other),
    ]


def _sides(clip: Clip) -> tuple[int, int]:
    return clip.info.width, clip.info.height


def _alike(source: Clip, other: Clip) -> bool:
    """Whether both sides grew by the same factor, but for the rounding of one pixel."""
    (w, h), (wide, high) = _sides(source), _sides(other)
    return abs(wide * h - w * high) <= max(w, h)


def _size(source: Clip, other: Clip) -> Finding:
    (w, h), (wide, high) = _sides(source), _sides(other)
    across, down = wide / w, high / h
    ratio = f"{across:.4g}" if _alike(source, other) else f"{across:.4g} across and {down:.4g} down"
    facts = {"source": [w, h], "upscaled": [wide, high], "ratio": [across, down]}
    bad = ["smaller than the source"] if wide < w or high < h else []
    text = f"{w}x{h} to {wide}x{high}, x{ratio}{': ' + bad[0] if bad else ''}"
    return Finding("size", verdict(bad), text, facts)


def _aspect(source: Clip, other: Clip) -> Finding:
    ours, theirs = (clip.info.sar or Fraction(1) for clip in (source, other))
    (w, h), (wide, high) = _sides(source), _sides(other)
    wanted = ours if _alike(source, other) else ours * w * high / (h * wide)
    bad = (
        [] if abs(theirs / wanted - 1) <= Fraction(1, min(wide, high)) else [f"{_ratio(wanted.limit_denominator(999))}"]
    )
    text = f"{_ratio(theirs)} instead of {bad[0]}: the picture is shown stretched" if bad else _ratio(theirs)
    return Finding("sample aspect", verdict(bad), text, {"source": _ratio(ours), "upscaled": _ratio(theirs)})


def _ratio(value: Fraction) -> str:
    return f"{value.numerator}:{value.denominator}"


def _rotation(source: Clip, other: Clip) -> Finding:
    ours, theirs = _turn(source.info.rotation), _turn(other.info.rotation)
    same = ours == theirs
    text = f"{theirs}" if same else f"{theirs} instead of {ours}"
    return Finding("rotation", "ok" if same else "wrong", text, {"source": ours, "upscaled": theirs})


def _turn(matrix: tuple[int, ...] | None) -> str:
    """`none`, `90 degrees`, `180 degrees, mirrored`: what a display matrix (16.16 fixed point) does."""
    if matrix is None:
        return "none"
    a, b, c, d = (matrix[i] / 65536 for i in (0, 1, 3, 4))
    mirrored = a * d - b * c < 0
    degrees = round(float(np.degrees(np.arctan2(b, a)))) % 360
    return f"{degrees} degrees{', mirrored' if mirrored else ''}" if degrees or mirrored else "none"


def _depth(source: Clip, other: Clip) -> Finding:
    ours, theirs = source.info.layout, other.info.layout
    bad = [f"{theirs.bits} bits instead of {ours.bits}"] if theirs.bits < ours.bits else []
    doubts: list[str] = []
    if ours.alpha and not theirs.alpha:  # a palette always has room for alpha, used or not
        (doubts if source.info.pix_fmt == "pal8" else bad).append("the alpha channel is missing")
    facts = {"source": ours.bits, "upscaled": theirs.bits, "alpha": [ours.alpha, theirs.alpha]}
    return Finding("bit depth", verdict(bad, doubts), "; ".join(bad + doubts) or f"{theirs.bits} bits", facts)


def _colours(source: Clip, other: Clip) -> Finding:
    """Matrix as it is used (the filter's guess where it is untagged), the other tags as they are written."""
    raw = (source.info.tags, other.info.tags)
    yuv = source.info.layout.family == other.info.layout.family == "yuv"
    tags: dict[str, tuple[Any, Any]] = {name: (getattr(raw[0], name), getattr(raw[1], name)) for name in _TAGS}
    bad, doubts = [], []
    for name, (mine, its) in tags.items():
        if mine not in (UNSPECIFIED, its):
            bad.append(f"{name} {_tag(name, its)} instead of {_tag(name, mine)}")
    if yuv and source.tags.matrix != other.tags.matrix:
        bad.append(f"matrix {_tag('matrix', other.tags.matrix)} instead of {_tag('matrix', source.tags.matrix)}")
    if yuv and raw[0].full != raw[1].full:
        doubts.append(f"{_range(raw[1].full)} instead of {_range(raw[0].full)}")
    if _subsampled(source) and _subsampled(other) and source.tags.chroma_zimg != other.tags.chroma_zimg:
        bad.append(f"chroma location {other.info.tags.chroma} instead of {source.info.tags.chroma}")
    facts = {side: _written(clip) for side, clip in (("source", source), ("upscaled", other))}
    return Finding("colour tags", verdict(bad, doubts), "; ".join(bad + doubts) or _summary(other), facts)


_TAGS = ("primaries", "transfer")


def _subsampled(clip: Clip) -> bool:
    layout = clip.info.layout
    return layout.family == "yuv" and bool(layout.sub_w or layout.sub_h)


def _written(clip: Clip) -> dict[str, Any]:
    tags = clip.info.tags
    return {
        "matrix": tags.matrix, "primaries": tags.primaries, "transfer": tags.transfer,
        "range": "full" if tags.full else "limited", "chroma_location": tags.chroma,
    }  # fmt: skip


def _tag(name: str, code: int) -> str:
    if name == "matrix":
        return MATRIX_NAMES.get(code, str(code))
    return "untagged" if code == UNSPECIFIED else TRANSFER_HDR.get(code, str(code)) if name == "transfer" else str(code)


def _range(full: bool) -> str:
    return "full range" if full else "limited range"


def _summary(clip: Clip) -> str:
    tags = clip.info.tags
    rest = [f"{name} {_tag(name, getattr(tags, name))}" for name in _TAGS]
    return ", ".join([tags.describe(), *rest])


def _hdr(source: Clip, other: Clip) -> Finding:
    ours, theirs = source.info.hdr, other.info.hdr
    said = [found.describe() if found else "none" for found in (ours, theirs)]
    bad = [f"{said[1]} instead of {said[0]}"] if ours is not None and not ours.matches(theirs) else []
    doubts = [f"{name} is missing" for name in source.info.hdr_metadata if name not in other.info.hdr_metadata]
    facts = {"source": said[0], "upscaled": said[1], "dynamic": list(source.info.hdr_metadata)}
    return Finding("HDR metadata", verdict(bad, doubts), "; ".join(bad + doubts) or said[1], facts)
