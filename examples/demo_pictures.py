"""Pictures of an upscaled video: crops at 1:1 beside a bicubic enlargement, and one pixel column over time.

Frames are (h w 3) uint8 RGB; the upscaled video is exactly SCALE times as wide and high as its source.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from duovsr_vs.video.colour import resolve_matrix
from duovsr_vs.video.convert import ToRGB
from duovsr_vs.video.reader import VideoReader

Picture = NDArray[np.uint8]
Map = NDArray[np.float32]
SCALE = 4
CROP = (240, 320)
"""Height and width of a crop in output pixels: two fit in a web page side by side. Lower where a file gets large."""
LOWEST = 96
"""Crops and profiles are not made lower than this, whatever the file's size."""
LONGEST = 400
"""Frames of a profile at most, around the middle of the video."""
PROFILE_WIDTH = 800
_GAP, _STRIP, _PAPER, _INK = 6, 22, 255, (30, 30, 30)


@dataclass(frozen=True)
class View:
    """What is worth a look in a video: its middle frame, and two maps (h w) over it."""

    middle: Picture
    detail: Map
    """Size of the brightness' second derivative: large in sharp edges and texture, small in what motion has blurred."""
    movement: Map
    """Mean difference between this frame and others."""

    @classmethod
    def of(cls, path: Path, frames: int, samples: int = 9) -> "View":
        """frames: of the video; samples: how many of them are compared with the middle one."""
        middle = next(rgb_frames(path, [frames // 2]))
        others = rgb_frames(path, {n * frames // samples for n in range(samples)})
        grey = _grey(middle)
        movement = np.mean([np.abs(grey - _grey(other)) for other in others], axis=0)
        detail = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
        return cls(middle, detail, cv2.GaussianBlur(movement, (0, 0), 2))

    def places(self, height: int, width: int) -> list[tuple[int, int]]:
        """(top, left) of windows of that size: the one with the most moving detail, then that with the most detail.

        They do not overlap; a frame that has room for one only gives one. A clip that stands still goes by its detail.
        """
        height, width = min(height, self.middle.shape[0]), min(width, self.middle.shape[1])
        found: list[tuple[int, int]] = []
        for score in (self.detail * (self.movement + 1e-3), self.detail):
            sums = cv2.integral(score)
            total = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
            for top, left in found:
                total[max(top - height + 1, 0) : top + height, max(left - width + 1, 0) : left + width] = -1
            top, left = (int(i) for i in np.unravel_index(total.argmax(), total.shape))
            if total[top, left] >= 0:
                found.append((top, left))
        return found


def _grey(picture: Picture) -> Map:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)


def rgb_frames(path: Path, numbers: Collection[int]) -> Iterator[Picture]:
    """Frames by ascending number, fewer where the video ends before. In duovsr's own conversion: full chroma."""
    with VideoReader(str(path), assume_progressive=True) as reader:
        info = reader.info
        tags, _ = resolve_matrix(info.tags, info.layout, info.height, None)
        to_rgb = ToRGB(info.layout, tags, info.width, info.height)
        for frame in reader.frames(min(numbers), max(numbers) + 1):
            if frame.number in numbers:
                planes = to_rgb(frame.image) * 255
                yield planes.round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


def count_frames(path: Path) -> int:
    """Packets of the first video stream, which in a file that duovsr wrote are its frames."""
    with av.open(path) as container:
        return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))


def enlarge(picture: Picture) -> Picture:
    """SCALE times as large, bicubic: what a player does."""
    return cv2.resize(picture, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)


def labelled(picture: Picture, text: str) -> Picture:
    """The picture under a strip of paper with a line of text."""
    strip = np.full((_STRIP, picture.shape[1], 3), _PAPER, np.uint8)
    cv2.putText(strip, text, (2, _STRIP - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1, cv2.LINE_AA)
    return np.concatenate([strip, picture])


def joined(pictures: Sequence[Picture], axis: int) -> Picture:
    """Pictures of equal height (axis 1) or width (axis 0) with paper between them."""
    shape = list(pictures[0].shape)
    shape[axis] = _GAP
    gap = np.full(shape, _PAPER, np.uint8)
    return np.concatenate([part for picture in pictures for part in (gap, picture)][1:], axis=axis)


def before_after(view: View, large: Picture, height: int = CROP[0]) -> Picture:
    """Two places of the middle frame, one below the other: left bicubic, right the result, both at 1:1.

    large: the same frame of the upscaled video.  height: of a crop in output pixels. A small frame is shown whole.
    """
    tall, wide = min(height // SCALE, view.middle.shape[0]), min(CROP[1] // SCALE, view.middle.shape[1])
    columns = []
    for name, picture in (("bicubic", enlarge(view.middle)), ("duovsr", large)):
        crops = [
            picture[top * SCALE : (top + tall) * SCALE, left * SCALE : (left + wide) * SCALE]
            for top, left in view.places(tall, wide)
        ]
        columns.append(labelled(joined(crops, 0), f"{name} x{SCALE}"))
    return joined(columns, 1)


def span_of_profile(frames: int) -> tuple[int, int]:
    """[first, stop) frames that a profile shows."""
    first = max((frames - LONGEST) // 2, 0)
    return first, min(first + LONGEST, frames)


def columns_over_time(path: Path, span: tuple[int, int], x: int, enlarged: bool) -> Picture:
    """(h t 3): pixel column x of the frames of a span, in output pixels; enlarged: the video is the small one."""
    frames = rgb_frames(path, range(*span))
    return np.stack([_enlarged_column(frame, x) if enlarged else frame[:, x] for frame in frames], axis=1)


def _enlarged_column(picture: Picture, x: int) -> Picture:
    """Column x of `enlarge(picture)`, from the few columns that it depends on."""
    first = max(x // SCALE - 3, 0)
    return enlarge(picture[:, first : x // SCALE + 4])[:, x - first * SCALE]


def temporal_profile(view: View, small: Path, large: Path, frames: int, height: int = CROP[0]) -> Picture:
    """One pixel column over time, above bicubic, below the result: down the picture, to the right the frames.

    The column is that where most moves. What stands still is a level line, what moves a slanted one, what flickers a
    row of stripes.
    """
    tall, wide = min(height // SCALE, view.middle.shape[0]), min(CROP[1] // SCALE, view.middle.shape[1])
    top, left = view.places(tall, wide)[0]
    moving = (view.detail * view.movement)[top : top + tall, left : left + wide].sum(axis=0)
    x = (left + int(moving.argmax())) * SCALE + SCALE // 2
    span, rows = span_of_profile(frames), []
    for path, name in ((small, "bicubic"), (large, "duovsr")):
        strip = columns_over_time(path, span, x, path is small)[top * SCALE : (top + tall) * SCALE]
        strip = strip.repeat(max(PROFILE_WIDTH // strip.shape[1], 1), axis=1)
        rows.append(labelled(strip, f"{name} x{SCALE}: pixel column {x}, frames {span[0]} to {span[1] - 1}"))
    return joined(rows, 0)


def save_png(path: Path, draw: Callable[[int], Picture], limit: int) -> None:
    """Write draw(height) as a PNG of at most `limit` bytes; the height shrinks until it fits, or is LOWEST."""
    height = CROP[0]
    while True:
        ok, data = cv2.imencode(".png", draw(height)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
        assert ok
        if len(data) <= limit or height <= LOWEST:
            break
        height = max(int(height * min(limit / len(data), 0.95)), LOWEST)
    path.write_bytes(data.tobytes())
