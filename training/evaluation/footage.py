"""The first frames of a clip, wherever they lie: a folder of pictures, a video file, a pack."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from training.data.arrays import U8
from training.data.codec import read_frames
from training.data.sources import PHOTO, VIDEO, DataError


class Footage(Protocol):
    """A clip that can be read."""

    @property
    def total(self) -> int | None:
        """Frames in all; None where only decoding would tell."""

    def read(self, count: int) -> U8:
        """The first `count` frames or all there are, (t, h, w, 3) RGB, t >= 1. A DuoVsrError names what is wrong."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """A folder of numbered pictures, in the order of their numbers."""

    paths: tuple[Path, ...]

    @property
    def total(self) -> int | None:
        return len(self.paths)

    def read(self, count: int) -> U8:
        return _stacked((path, _picture(path)) for path in self.paths[:count])


@dataclass(frozen=True, slots=True)
class Video:
    """A video file."""

    path: Path

    @property
    def total(self) -> int | None:
        return None

    def read(self, count: int) -> U8:
        try:
            return _stacked((self.path, frame) for frame in islice(read_frames(self.path), count))
        except IndexError as error:  # PyAV's word for a file that holds no picture stream, only sound
            raise DataError(f"{self.path} holds no video; take it away") from error


@dataclass(frozen=True, slots=True)
class Stored:
    """Frames of a pack."""

    frames: U8

    @property
    def total(self) -> int | None:
        return len(self.frames)

    def read(self, count: int) -> U8:
        return np.ascontiguousarray(self.frames[:count])


def _picture(path: Path) -> U8:
    image: Any = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path} cannot be read as a picture; fetch it again")
    frame: U8 = image[..., ::-1]
    return frame


def _stacked(frames: Iterable[tuple[Path, U8]]) -> U8:
    """One array; DataError where a frame differs in size, or there is none."""
    clip: list[U8] = []
    for path, frame in frames:
        if clip and frame.shape != clip[0].shape:
            (h, w), (height, width) = frame.shape[:2], clip[0].shape[:2]
            raise DataError(
                f"{path}: frame {len(clip)} is {w}x{h} and the first {width}x{height}; a clip needs frames of one size"
            )
        clip.append(frame)
    if not clip:
        raise DataError("there is not one frame in it")
    return np.stack(clip)


def by_number(name: str) -> list[tuple[int, str]]:
    """Key that sorts frame_2 before frame_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name.lower())]


def below(folder: Path) -> dict[Path, Footage]:
    """Every clip under a folder, by its path inside it without the ending; what is hidden is passed over.

    A clip is a folder that itself holds pictures, or a video file. DataError where two share a name.
    """
    found: dict[Path, Footage] = {}
    for name, footage in sorted(_walk(folder), key=lambda item: by_number(item[0].as_posix())):
        if name in found:
            raise DataError(f"{folder / name}: two clips have this name; take one of them away")
        found[name] = footage
    return found


def _walk(folder: Path) -> Iterator[tuple[Path, Footage]]:
    for root, folders, files in folder.walk(follow_symlinks=True):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        shown = [root / name for name in files if not name.startswith(".")]
        pictures = sorted((p for p in shown if p.suffix.lower() in PHOTO), key=lambda p: by_number(p.name))
        if pictures:
            yield root.relative_to(folder), Pictures(tuple(pictures))
        for path in shown:
            if path.suffix.lower() in VIDEO:
                yield path.relative_to(folder).with_suffix(""), Video(path)
