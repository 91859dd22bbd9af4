"""Pictures of the results page: for each clip its crops at 1:1 and its temporal profiles, in all kinds of LR."""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from sheet import CROP, Panel, grid, middle, stretched

COLUMNS = 4
"""Panels in a line: as many as a page shows without shrinking them."""
QUALITIES = (95, 92, 88)
"""Of JPEG with full chroma, tried one after the other where a PNG is too large."""
_SMALLEST = 60


def save_all(folder: Path, clips: Mapping[str, Mapping[str, Sequence[Panel]]], limit: int) -> None:
    """Write crops and profiles of each clip.

    clips: name -> kind -> panels, the first of which is the LR.  limit: bytes of a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, kinds in clips.items():
        save(folder / f"{name}-crops", partial(crops, kinds), limit)
        save(folder / f"{name}-profiles", partial(profiles, kinds), limit)


def files(folder: Path, clip: str) -> list[Path]:
    """What `save_all` wrote of a clip, in the order of the page."""
    return [path for what in ("crops", "profiles") for path in sorted(folder.glob(f"{glob.escape(clip)}-{what}.*"))]


def crops(kinds: Mapping[str, Sequence[Panel]], height: int) -> np.ndarray:
    """uint8 RGB: the panels of each kind in lines of four."""
    width = height * CROP[1] // CROP[0]
    rows: dict[str, list[tuple[str, np.ndarray]]] = {}
    for kind, panels in kinds.items():
        cut = [(panel.label, middle(panel.crop, height, width)) for panel in panels]
        for start in range(0, len(cut), COLUMNS):
            line = cut[start : start + COLUMNS]
            rows[f"{kind}: {line[0][0]}"] = line
    return grid(rows)


def profiles(kinds: Mapping[str, Sequence[Panel]], height: int) -> np.ndarray:
    """uint8 RGB: one line for each kind; a column of pixels downwards, the frames to the right."""
    rows = {}
    for kind, panels in kinds.items():
        rows[f"{kind}: {panels[0].label}"] = [(panel.label, stretched(panel, height)) for panel in panels]
    return grid(rows)


def save(path: Path, draw: Callable[[int], np.ndarray], limit: int) -> Path:
    """Write path.png, or path.jpg where that would be too large; what is shown shrinks where even that does not fit.

    draw: from the height of a crop.  Returns the file.
    """
    height = CROP[0]
    while True:
        image = draw(height)[..., ::-1]
        suffix, data = _encoded(image, limit)
        if len(data) <= limit or height <= _SMALLEST:
            break
        height = max(int(height * max((limit / len(data)) ** 0.5, 0.5) * 0.98), _SMALLEST)
    for other in (".png", ".jpg"):
        path.with_suffix(other).unlink(missing_ok=True)
    file = path.with_suffix(suffix)
    file.write_bytes(data)
    return file


def _encoded(image: np.ndarray, limit: int) -> tuple[str, bytes]:
    """The best form that fits, else the smallest."""
    full = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    forms = [(".png", [cv2.IMWRITE_PNG_COMPRESSION, 9])]
    forms += [(".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality, *full]) for quality in QUALITIES]
    data = b""
    for suffix, settings in forms:
        ok, encoded = cv2.imencode(suffix, image, settings)
        assert ok
        data = encoded.tobytes()
        if len(data) <= limit:
            break
    return suffix, data
