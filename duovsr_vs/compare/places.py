"""Where to look: which frames of a clip, and which part of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from .clips import Clip, Plane

LONGEST = 600
"""Frames of the part that is looked at, where nothing else is asked for: the middle of a longer clip."""
PROFILE, POINTS = 600, 48
"""Most frames of a temporal profile, and most points of a plot; of longer parts every n-th frame is taken."""
LOOKED_AT = 5
"""Frames by which the place of a crop is chosen."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of a frame in pixels."""

    left: int
    top: int
    width: int
    height: int

    def of(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """That part of a picture (h, w, 3)."""
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]

    def __str__(self) -> str:
        return f"{self.width}x{self.height}+{self.left}+{self.top}"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames [first, stop) are read. shown: their pictures, too.  profile, points: every n-th frame counts there."""

    first: int
    stop: int
    shown: tuple[int, ...]
    profile: int
    points: int

    @classmethod
    def of(cls, first: int, stop: int, shown: Iterable[int]) -> Stretch:
        """Steps are chosen so that profile and plots stay small."""
        count = stop - first
        return cls(first, stop, tuple(sorted(set(shown))), -(-count // PROFILE), -(-count // POINTS))


def middle(total: int, longest: int = LONGEST) -> tuple[int, int]:
    """[first, stop) of the middle of a clip."""
    count = min(total, longest)
    first = (total - count) // 2
    return first, first + count


def evenly(first: int, stop: int, count: int) -> list[int]:
    """`count` frames, or as many as there are, from the first to the last."""
    if count == 1:
        return [(first + stop - 1) // 2]
    return sorted({round(n) for n in np.linspace(first, stop - 1, min(count, stop - first))})


def parse_crop(text: str, size: tuple[int, int]) -> Crop:
    """`640x360+100+50`, or `640x360` for the middle, inside frames of that (width, height). Raises OptionError."""
    match = re.fullmatch(r"(\d+)x(\d+)(?:\+(\d+)\+(\d+))?", text)
    if match is None or not int(match[1]) or not int(match[2]):
        raise OptionError(f"--crop {text}: WIDTHxHEIGHT or WIDTHxHEIGHT+LEFT+TOP is needed, such as 640x360+100+50")
    width, height = int(match[1]), int(match[2])
    left = (size[0] - width) // 2 if match[3] is None else int(match[3])
    top = (size[1] - height) // 2 if match[4] is None else int(match[4])
    if left < 0 or top < 0 or left + width > size[0] or top + height > size[1]:
        raise OptionError(f"--crop {text} does not lie inside frames of {size[0]}x{size[1]}; make it smaller")
    return Crop(left, top, width, height)


@dataclass(frozen=True, slots=True)
class Interest:
    """How much there is to see at each place of a clip: (h, w), detail times movement."""

    worth: Plane

    @classmethod
    def of(cls, clip: Clip, numbers: Sequence[int]) -> Interest:
        """From a few of those frames of a clip that nobody has read yet."""
        step = max(1, -(-len(numbers) // LOOKED_AT))
        wanted = set(numbers[::step])
        shots = clip.shots(min(wanted), max(wanted) + 1)
        planes = np.stack([shot.brightness() for shot in shots if shot.frame.number in wanted])
        detail = np.mean([np.abs(cv2.Laplacian(plane, cv2.CV_32F)) for plane in planes], axis=0)
        movement = cv2.GaussianBlur(np.abs(planes - planes.mean(axis=0)).mean(axis=0), (0, 0), 2)
        return cls(np.asarray(detail * (movement + 1e-3), np.float32))

    def crop(self, size: tuple[int, int], most: tuple[int, int]) -> Crop:
        """The most worthwhile part of at most that (width, height) of frames of `size`."""
        width, height = min(size[0], most[0]), min(size[1], most[1])
        h, w = self.worth.shape
        wide, high = max(1, w * width // size[0]), max(1, h * height // size[1])
        sums = cv2.integral(self.worth)
        total = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
        top, left = (int(i) for i in np.unravel_index(total.argmax(), total.shape))
        return Crop(
            min(round(left * size[0] / w), size[0] - width), min(round(top * size[1] / h), size[1] - height),
            width, height,
        )  # fmt: skip

    def column(self, size: tuple[int, int], crop: Crop) -> int:
        """The column of frames of `size`, inside the crop, with the most to see."""
        h, w = self.worth.shape
        rows = slice(crop.top * h // size[1], max((crop.top + crop.height) * h // size[1], 1))
        first, last = crop.left * w // size[0], max((crop.left + crop.width) * w // size[0], 1)
        edge = (last - first) // 10
        columns = self.worth[rows, first + edge : max(last - edge, first + edge + 1)].sum(axis=0)
        best = (first + edge + int(columns.argmax()) + 0.5) * size[0] / w
        return min(max(int(best), crop.left), crop.left + crop.width - 1)
