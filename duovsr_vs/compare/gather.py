"""One walk through several clips of the same film: pictures to show, pixel columns, measures over time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from ..metrics.colour import luma
from ..metrics.consistency import shrink_back_psnr
from ..metrics.difference import colour_drift
from ..metrics.fidelity import detail_energy, psnr, psnr_y, ssim
from ..metrics.flicker import Flicker, flicker, source_motion
from ..metrics.perceptual import MissingPluginError, ssimulacra2
from ..metrics.resample import resize
from ..metrics.temporal import Motion
from ..video.colour import TRANSFER_HDR
from ..video.probe import Scan
from .clips import Clip, Picture, Shot
from .pictures import Enlarge, at_size, column_of
from .places import Crop, Stretch

Role = Literal["source", "clip", "truth"]
AGAINST_TRUTH = {"PSNR-Y": psnr_y, "PSNR": psnr, "SSIM": ssim, "SSIMULACRA2": ssimulacra2}
"""What is measured where there is a ground truth."""
PROFILE_ROWS = 240


@dataclass(frozen=True, slots=True)
class Entry:
    """One clip of a comparison. name: for people, different for each.  notes: what its pictures do not show."""

    name: str
    path: str
    role: Role
    width: int
    height: int
    notes: tuple[str, ...] = ()
    first: int = 0
    """Frame of the source that the clip begins with."""
    scan: Scan | None = None
    matrix: int | None = None
    """Instead of the file's own."""

    def opened(self) -> Clip:
        """The clip, to be read once."""
        return Clip(self.path, scan=self.scan, matrix=self.matrix)


@dataclass
class Series:
    """Measures of one clip over time; each a list of (frame, value)."""

    shrink_back: list[tuple[int, float]] = field(default_factory=list)
    drift: list[tuple[int, float]] = field(default_factory=list)
    excess: list[tuple[int, float]] = field(default_factory=list)
    """E_warp above that of the source enlarged."""
    brightness: list[tuple[int, float]] = field(default_factory=list)
    """Mean BT.601 luma, 16 to 235."""
    flickers: list[Flicker] = field(default_factory=list)
    detail: list[float] = field(default_factory=list)
    """Energy of fine detail in the crop, over that of the source enlarged."""
    truth: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Gathered:
    """series, profiles: one for each clip.  profiles: (rows, times, 3).  seen: how many frames all clips have."""

    series: list[Series]
    profiles: list[list[Picture]]
    seen: int = 0
    missing: list[str] = field(default_factory=list)
    """Measures that could not be made here."""


@dataclass(frozen=True, slots=True)
class View:
    """What is looked at. size: (width, height) of the largest clip.  column: of the profile.  measured: plots and table
    are wanted.
    """

    stretch: Stretch
    size: tuple[int, int]
    crop: Crop
    column: int
    how: Enlarge = "bicubic"
    measured: bool = True

    @property
    def enlarged(self) -> str:
        """How small clips are enlarged, as people write it."""
        return "Lanczos" if self.how == "lanczos" else self.how

    @property
    def rows(self) -> slice:
        """The profile's rows: the middle of the crop."""
        height = min(PROFILE_ROWS, self.crop.height)
        top = self.crop.top + (self.crop.height - height) // 2
        return slice(top, top + height)


def entries(paths: list[str], truth: str | None) -> list[Entry]:
    """The clips in order: source, others, truth. Opens each once; raises VideoError and FormatError."""
    every = paths + ([truth] if truth else [])
    found = []
    for n, (path, name) in enumerate(zip(every, _names(every), strict=True)):
        found.append(entry_of(path, name, "source" if n == 0 else "truth" if truth and n == len(paths) else "clip"))
    return found


def entry_of(
    path: str, name: str, role: Role, *, first: int = 0, scan: Scan | None = None, matrix: int | None = None
) -> Entry:
    """One clip; scan: its packet table, if it is known. Opens it once; raises VideoError and FormatError."""
    with Clip(path, scan=scan, matrix=matrix) as clip:
        info = clip.info
        return Entry(name, path, role, info.width, info.height, _notes(clip), first, clip.reader.scan, matrix)


def _notes(clip: Clip) -> tuple[str, ...]:
    info = clip.info
    hdr = TRANSFER_HDR.get(info.tags.transfer)
    notes = [f"{hdr} code values, without tone mapping"] * bool(hdr)
    notes += ["pixels that are not square"] * (info.sar not in (None, 1))
    notes += ["without its rotation"] * bool(info.rotation)
    return tuple(notes)


def _names(paths: list[str]) -> list[str]:
    """File names, with as many folders as make them different; numbered where one file is given twice."""
    parts = {path: Path(path).parts for path in paths}
    names = {path: Path(path).name for path in paths}
    for depth in range(2, max(len(part) for part in parts.values()) + 1):
        held = list(names.values())
        names = {path: n if held.count(n) == 1 else "/".join(parts[path][-depth:]) for path, n in names.items()}
    return [
        names[path] if paths.count(path) == 1 else f"{names[path]} ({paths[: n + 1].count(path)})"
        for n, path in enumerate(paths)
    ]


Show = Callable[[int, float, list[Picture]], None]
"""Called for each frame to show: its number, its time in the source in seconds, and the crop of every clip."""


def gather(clips: list[Entry], view: View, show: Show, advance: Callable[[], None] = lambda: None) -> Gathered:
    """Read all clips once, in step, to the end of the shortest; pictures go out as soon as they are there."""
    found = Gathered([Series() for _ in clips], [[] for _ in clips])
    walk = _Walk(clips, view, found)
    with ExitStack() as stack:
        streams = [_shots(stack.enter_context(entry.opened()), entry, view.stretch) for entry in clips]
        for number, shots in enumerate(zip(*streams, strict=False), view.stretch.first):
            walk.step(number, shots, show)
            found.seen += 1
            advance()
    return found


def _shots(clip: Clip, entry: Entry, stretch: Stretch) -> Iterator[Shot]:
    return clip.shots(stretch.first - entry.first, stretch.stop - entry.first)


class _Walk:
    def __init__(self, clips: list[Entry], view: View, found: Gathered):
        self.clips, self.view, self.found = clips, view, found
        self._before: list[Picture] | None = None
        self._truth = next((n for n, entry in enumerate(clips) if entry.role == "truth"), None)

    def step(self, number: int, shots: tuple[Shot, ...], show: Show) -> None:
        """The next frame of every clip."""
        view, offset = self.view, number - self.view.stretch.first
        shown = number in view.stretch.shown
        column = view.measured and offset % view.stretch.profile == 0
        point = view.measured and offset % view.stretch.points == 0
        if not (shown or column or point or self._before is not None):
            return
        pictures = [shot.picture() for shot in shots]
        if column:
            for profile, picture in zip(self.found.profiles, pictures, strict=True):
                profile.append(column_of(picture, *view.size, view.column, view.rows, view.how))
        if self._before is not None:
            self._flickers(number - 1, self._before, pictures)
        if point:
            self._points(number, pictures)
        if shown:
            large = [at_size(picture, *view.size, view.how) for picture in pictures]
            show(number, float(shots[0].time), [view.crop.of(picture) for picture in large])
            self._against_truth(pictures)
        self._before = pictures if point else None

    def _points(self, number: int, pictures: list[Picture]) -> None:
        small, energy = pictures[0], self._detail(pictures[0])
        for entry, picture, series in zip(self.clips, pictures, self.found.series, strict=True):
            series.brightness.append((number, float(luma(picture.mean(axis=(0, 1)), rounded=False))))
            if entry.role == "source":
                continue
            shrunk = resize(picture, *small.shape[:2])
            series.shrink_back.append((number, shrink_back_psnr(small[None], shrunk[None])))
            series.drift.append((number, colour_drift(small, shrunk)))
            if energy > 0:
                series.detail.append(self._detail(picture) / energy)

    def _detail(self, picture: Picture) -> float:
        """Of the crop, the picture enlarged (bicubic)."""
        return detail_energy(self.view.crop.of(at_size(picture, *self.view.size))[None])

    def _flickers(self, number: int, before: list[Picture], now: list[Picture]) -> None:
        motions: dict[tuple[int, int], Motion] = {}
        for n, entry in enumerate(self.clips):
            if entry.role == "source":
                continue
            size = entry.height, entry.width
            motions.setdefault(size, source_motion(before[0], now[0], *size))
            pair = flicker(before[0], now[0], before[n], now[n], motions[size])
            if pair.known:
                self.found.series[n].flickers.append(pair)
                self.found.series[n].excess.append((number, pair.excess))

    def _against_truth(self, pictures: list[Picture]) -> None:
        if self._truth is None or not self.view.measured:
            return
        truth = pictures[self._truth]
        for entry, picture, series in zip(self.clips, pictures, self.found.series, strict=True):
            if entry.role == "truth":
                continue
            same = at_size(picture, truth.shape[1], truth.shape[0])[None]
            for name, measured in AGAINST_TRUTH.items():
                if name in self.found.missing:
                    continue
                try:
                    series.truth.setdefault(name, []).append(measured(truth[None], same))
                except MissingPluginError:
                    self.found.missing.append(name)


def profile_picture(columns: list[Picture]) -> Picture:
    """Columns (rows, 3) side by side: time runs to the right."""
    return np.stack(columns, axis=1)
