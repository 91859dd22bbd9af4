"""Pictures of a run: crops at 1:1 beside each other, and profiles of one pixel column over time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

CROP = (150, 200)
"""Height and width of a crop in output pixels, where no limit of bytes asks for less."""
_SMALLEST = 40
_STRETCH = 4
"""Pixels that a profile takes for one frame, at least."""
_PROFILE_WIDTH = 96
_GAP, _LINE = 2, 13


@dataclass(frozen=True)
class Panel:
    """What one method shows of one clip."""

    label: str
    crop: np.ndarray
    """uint8 (h, w, 3) of the middle frame."""
    profile: np.ndarray
    """uint8 (h, t, 3): the crop's middle column over time."""

    @classmethod
    def cut(cls, label: str, clip: np.ndarray, centre: tuple[int, int]) -> "Panel":
        """clip: uint8 (t, H, W, 3); centre (y, x) is moved inwards where the crop would leave the frame."""
        (h, w), (height, width) = CROP, clip.shape[1:3]
        top = int(np.clip(centre[0] - h // 2, 0, max(height - h, 0)))
        left = int(np.clip(centre[1] - w // 2, 0, max(width - w, 0)))
        crop = clip[len(clip) // 2, top : top + h, left : left + w]
        column = clip[:, top : top + h, min(left + w // 2, width - 1)]
        return cls(label, crop.copy(), np.ascontiguousarray(column.swapaxes(0, 1)))


def middle(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of a picture, at most so large."""
    top, left = max(image.shape[0] - height, 0) // 2, max(image.shape[1] - width, 0) // 2
    return image[top : top + height, left : left + width]


def _text(image: np.ndarray, text: str, x: int, y: int) -> None:
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (230, 230, 230), 1, cv2.LINE_AA)


def grid(rows: dict[str, list[tuple[str, np.ndarray]]]) -> np.ndarray:
    """One row a clip, one column a method, the clip's name and the labels above each row."""
    height = sum(max(p.shape[0] for _, p in row) + _LINE + _GAP for row in rows.values())
    width = max(sum(p.shape[1] + _GAP for _, p in row) for row in rows.values())
    canvas = np.zeros((height, width, 3), np.uint8)
    top = 0
    for clip, row in rows.items():
        left = 0
        for i, (label, picture) in enumerate(row):
            h, w = picture.shape[:2]
            _text(canvas[top : top + _LINE, left : left + w], clip if i == 0 else label, 1, _LINE - 3)
            canvas[top + _LINE : top + _LINE + h, left : left + w] = picture
            left += w + _GAP
        top += max(p.shape[0] for _, p in row) + _LINE + _GAP
    return canvas


def crops(clips: Mapping[str, Sequence[Panel]], height: int) -> np.ndarray:
    """Contact sheet, uint8 RGB. clips: name -> panels; the first column is the LR and bears the clip's name."""
    width = height * CROP[1] // CROP[0]
    return grid({n: [(p.label, middle(p.crop, height, width)) for p in panels] for n, panels in clips.items()})


def profiles(clips: Mapping[str, Sequence[Panel]], height: int) -> np.ndarray:
    """Temporal profiles, uint8 RGB: down a column of pixels, to the right the frames. Flicker shows as stripes."""
    return grid({name: [(p.label, stretched(p, height)) for p in panels] for name, panels in clips.items()})


def stretched(panel: Panel, height: int) -> np.ndarray:
    """The middle of a panel's profile, each frame some pixels wide."""
    frames = panel.profile.shape[1]
    stretch = max(_STRETCH, -(-_PROFILE_WIDTH // frames))
    return middle(panel.profile, height, frames).repeat(stretch, axis=1)


def save(path: Path, clips: Mapping[str, Sequence[Panel]], draw: Callable[..., np.ndarray], limit: int | None) -> None:
    """Write a PNG of at most `limit` bytes (None: any size); what is shown of each clip shrinks until it fits."""
    height = CROP[0]
    while True:
        image = draw(clips, height)
        ok, data = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
        assert ok
        if limit is None or len(data) <= limit or height <= _SMALLEST:
            break
        height = max(int(height * max((limit / len(data)) ** 0.5, 0.5) * 0.98), _SMALLEST)
    path.write_bytes(data.tobytes())
