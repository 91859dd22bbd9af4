"""The page of a comparison: one HTML file that fetches nothing, put together from what was gathered."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields
from html import escape
from pathlib import Path

import numpy as np

from ..metrics.flicker import mean_of
from .clips import Picture
from .findings import counted, every_nth
from .gather import AGAINST_TRUTH, Entry, Gathered, Series, View, profile_picture
from .pictures import data_uri, encoded
from .plots import Line, Scale, plot, swatch

_HERE = Path(__file__).parent
_PROFILE_WIDTH = 16
"""Pixels on the screen that a moment of a profile gets at most."""
_PROFILE_LEAST = 300
"""Of a whole profile, where there is so much room; its label stands above it."""
_PLOTS = (
    (
        "Shrink-back",
        "dB",
        "shrink_back",
        "agreement with the source when shrunk to its size; higher is better",
        Scale(4),
    ),
    ("Flicker", "E_warp above the source's", "excess", "0: as steady as the source enlarged", Scale(0.2, 0)),
    ("Colour", "CIEDE2000", "drift", "distance from the source's colours; 1 is just visible", Scale(1, 0)),
    ("Brightness", "mean luma", "brightness", "16 is black, 235 white; the lines should lie together", Scale(12)),
)
"""Title, unit, field of `Series`, what it says, and what its axis shows at least."""


@dataclass
class Shown:
    """Frames as they come from `gather`, already as bytes. Frame numbers, seconds, and an image for each clip."""

    lossless: bool = False
    frames: list[tuple[int, float, list[bytes]]] = field(default_factory=list)

    def add(self, number: int, time: float, crops: list[Picture]) -> None:
        """The `show` of `gather`."""
        self.frames.append((number, time, [encoded(crop, self.lossless) for crop in crops]))

    @property
    def size(self) -> int:
        """Bytes of all images in the page."""
        return sum(4 * len(image) // 3 for _, _, images in self.frames for image in images)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the film that was walked through. name: for people, "" where there is only one.  shown: how many of the
    page's frames are of this part.
    """

    name: str
    view: View
    found: Gathered
    shown: int


def build_page(
    clips: list[Entry], parts: list[Part], shown: Shown, notes: list[str], title: str = "", lead: str = ""
) -> str:
    """The whole page. parts: all of them show crops of one size.  notes: further sentences for its last section.
    title: instead of the names of the clips.  lead: a sentence below it.
    """
    merged = _merged([part.found for part in parts])
    sections = [_table(clips, merged), _profiles(clips, parts)]
    sections += [_plots(clips, part.view, part.found) for part in parts if len(parts) == 1]
    fields = {
        "title": escape(title or " / ".join(entry.name for entry in clips)),
        "heading": _breakable(title) if title else " / ".join(_breakable(entry.name) for entry in clips),
        "lead": f"<p>{escape(lead)}</p>" if lead else "",
        "subtitle": escape(_subtitle(clips, parts, shown)),
        "style": _read("page.css"),
        "script": _read("page.js"),
        "sections": "\n".join(filter(None, sections)),
        "notes": "".join(f"<li>{escape(note)}</li>" for note in [*_how(clips, parts[0].view, merged), *notes]),
        "data": _data(clips, parts, shown),
    }  # fmt: skip
    return re.sub(r"\{\{(\w+)\}\}", lambda match: fields[match[1]], _read("page.html"))


def _merged(parts: list[Gathered]) -> Gathered:
    """What was found in several parts as if it were one."""
    series = [Series() for _ in parts[0].series]
    for part in parts:
        for whole, one in zip(series, part.series, strict=True):
            for each in fields(Series):
                if each.name != "truth":
                    getattr(whole, each.name).extend(getattr(one, each.name))
            for name, values in one.truth.items():
                whole.truth.setdefault(name, []).extend(values)
    missing = list(dict.fromkeys(name for part in parts for name in part.missing))
    return Gathered(series, [], sum(part.seen for part in parts), missing)


def _read(name: str) -> str:
    return (_HERE / name).read_text("utf-8")


def _data(clips: list[Entry], parts: list[Part], shown: Shown) -> str:
    view, owners = parts[0].view, [n for n, part in enumerate(parts) for _ in range(part.shown)]
    facts = {
        "width": view.crop.width,
        "height": view.crop.height,
        "clips": [{"label": _label(entry, view)} for entry in clips],
        "parts": [part.name for part in parts],
        "frames": [
            {"number": number, "time": round(time, 6), "part": part, "images": [data_uri(image) for image in images]}
            for part, (number, time, images) in zip(owners, shown.frames, strict=True)
        ],
    }
    return json.dumps(facts, allow_nan=False).replace("<", "\\u003c")


def _label(entry: Entry, view: View) -> str:
    """`dog.mp4, enlarged x4, bicubic`."""
    role = " (truth)" if entry.role == "truth" else ""
    if (entry.width, entry.height) == view.size:
        return f"{entry.name}{role}"
    factor = view.size[0] / entry.width
    return f"{entry.name}{role}, enlarged ×{factor:.3g}, {view.enlarged}"


def _subtitle(clips: list[Entry], parts: list[Part], shown: Shown) -> str:
    view, crop = parts[0].view, parts[0].view.crop
    sizes = ", ".join(dict.fromkeys(f"{entry.width}x{entry.height}" for entry in clips))
    cut = str(crop) if len(parts) == 1 else f"{crop.width}x{crop.height}"
    part = f"part {cut} of {view.size[0]}x{view.size[1]}"
    firsts = [(one.view.stretch.first, max(one.found.seen - 1, 0)) for one in parts]
    spans = ", ".join(f"{first} to {first + more}" for first, more in firsts)
    return (
        f"{sizes}; {counted(len(shown.frames), 'frame')} of {spans}, "
        f"{'whole pictures' if (crop.width, crop.height) == view.size else part}, "
        f"{'PNG' if shown.lossless else 'JPEG'}, {shown.size / 1e6:.1f} MB of pictures"
    )


def _how(clips: list[Entry], view: View, found: Gathered) -> list[str]:
    """Sentences on what the page shows."""
    notes = [f"{clips[0].name} is taken as the source; the others are measured against it."]
    small = [entry.name for entry in clips if (entry.width, entry.height) != view.size]
    if small:
        notes.append(f"Enlarged to {view.size[0]}x{view.size[1]} ({view.enlarged}) to be shown: {', '.join(small)}.")
    notes += [f"{entry.name} is shown as it is stored: {', '.join(entry.notes)}." for entry in clips if entry.notes]
    if not view.measured:
        return notes
    notes += _measured(view.stretch.points)
    if any(series.truth for series in found.series):
        notes.append("PSNR, SSIM and SSIMULACRA2 are against the truth, whole pictures of the frames shown.")
    notes += [f"{name} could not be measured: it needs pip install vapoursynth-vszip." for name in found.missing]
    return notes


def _measured(every: int) -> list[str]:
    return [
        f"Measured in {every_nth(every)} of the part, whole pictures where nothing else is said.",
        "Shrink-back: PSNR against the source after shrinking to its size.",
        "Colour: CIEDE2000 in places of 8x8 source pixels, code values taken as sRGB.",
        "Flicker: warping error along the source's motion, above that of the source enlarged.",
        "Unsteady: the share of what a clip adds to the source that does not move with the picture; real detail has 0 "
        "to 0.5, new noise in every frame 0.7 and more.",
        "Fine detail: energy of what is finer than four pixels, in the part shown, over that of the source enlarged.",
    ]


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _breakable(name: str) -> str:
    """A file name as HTML that may be broken where a reader would."""
    return re.sub(r"([-_/])", r"\1<wbr>", escape(name, quote=False))


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "&ndash;"


def _columns(found: Gathered) -> list[tuple[str, str]]:
    head = [
        ("Shrink-back", "dB"),
        ("Colour", "CIEDE2000"),
        ("Flicker", "E_warp excess"),
        ("Unsteady", "share of additions"),
    ]
    head.append(("Fine detail", "of the source's"))
    against = [name for name in AGAINST_TRUTH if any(name in series.truth for series in found.series)]
    return head + [(name, "against the truth") for name in against]


def _row(entry: Entry, series: Series, against: list[str]) -> list[str]:
    flicker = mean_of(series.flickers)
    known = bool(series.flickers)
    cells = [
        _number(_mean([v for _, v in series.shrink_back]), 2),
        _number(_mean([v for _, v in series.drift]), 2),
        _number(flicker.excess, 3) if known else "&ndash;",
        _number(flicker.unsteady, 2) if known else "&ndash;",
        "1.00" if entry.role == "source" else _number(_mean(series.detail), 2),
    ]
    return cells + [_number(_mean(series.truth.get(name, [])), 3 if name == "SSIM" else 2) for name in against]


def _table(clips: list[Entry], found: Gathered) -> str:
    if not any(series.brightness for series in found.series):
        return ""
    columns = _columns(found)
    against = [name for name, _ in columns if name in AGAINST_TRUTH]
    head = "".join(
        f'<th scope="col">{escape(name)}<span class="unit">{escape(unit)}</span></th>' for name, unit in columns
    )
    rows = []
    for n, (entry, series) in enumerate(zip(clips, found.series, strict=True)):
        cells = "".join(f"<td>{cell}</td>" for cell in [f"{entry.width}x{entry.height}", *_row(entry, series, against)])
        role = "" if entry.role == "clip" else f" ({entry.role})"
        rows.append(
            f'<tr><th scope="row"><span>{swatch(n)}<span>{_breakable(entry.name)}{role}</span></span></th>{cells}</tr>'
        )
    return (
        '<section><h2>Measures</h2><div class="wide" tabindex="0" role="region" aria-label="Measures">'
        f'<table><thead><tr><th scope="col">Clip</th><th scope="col">Size</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _profile(n: int, entry: Entry, columns: list[Picture], view: View) -> str:
    name, width = escape(_label(entry, view)), max(_PROFILE_WIDTH * len(columns), _PROFILE_LEAST)
    image = data_uri(encoded(profile_picture(columns), lossless=True))
    times = f'data-first="{view.stretch.first}" data-step="{view.stretch.profile}" data-count="{len(columns)}"'
    return (
        f'<figure style="--w:{width}px"><figcaption>{swatch(n)}{name}</figcaption>'
        f'<div class="strip" style="max-width:{width}px" {times}>'
        f'<img src="{image}" alt="Temporal profile of {name}" height="{len(columns[0])}"><i></i></div></figure>'
    )


def _profiles(clips: list[Entry], parts: list[Part]) -> str:
    body = "".join(_profiles_of(clips, part) for part in parts)
    return f"<section><h2>Over time</h2>{body}</section>" if body else ""


def _profiles_of(clips: list[Entry], part: Part) -> str:
    view, profiles = part.view, part.found.profiles
    if not all(profiles) or len(profiles[0]) < 2:
        return ""
    figures = [
        _profile(n, entry, columns, view) for n, (entry, columns) in enumerate(zip(clips, profiles, strict=True))
    ]
    first, step = view.stretch.first, view.stretch.profile
    return (
        f'{f"<h3>{escape(part.name.capitalize())}</h3>" if part.name else ""}<p class="soft">'
        f"A column of pixels ({view.column} from the left, rows {view.rows.start} to {view.rows.stop - 1}), time from "
        f"left to right, {every_nth(step)} from {first} on. Flicker shows as vertical stripes.</p>"
        f'<div class="profiles">{"".join(figures)}</div>'
    )


def _plots(clips: list[Entry], view: View, found: Gathered) -> str:
    figures = []
    last = view.stretch.first + found.seen - 1
    for title, unit, name, meaning, scale in _PLOTS:
        lines = [Line(e.name, n, getattr(s, name)) for n, (e, s) in enumerate(zip(clips, found.series, strict=True))]
        drawn = plot(title, unit, lines, (view.stretch.first, last), scale)
        if drawn:
            caption = f'<b>{title}</b> <span class="soft">{escape(unit)}: {escape(meaning)}</span>'
            figures.append(f"<figure><figcaption>{caption}</figcaption>{drawn}</figure>")
    if not figures:
        return ""
    legend = "".join(f"<span>{swatch(n)}{escape(entry.name)}</span>" for n, entry in enumerate(clips))
    body = f'<div class="legend">{legend}</div><div class="plots">{"".join(figures)}</div>'
    return f"<section><h2>Plots</h2>{body}</section>"
