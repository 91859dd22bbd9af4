"""Pictures for pages and strips: enlarged to one size, cut, labelled, and as bytes that a page can hold."""

from __future__ import annotations

import base64
from typing import Any, Literal

import cv2
import numpy as np

from .clips import Picture

type Enlarge = Literal["bicubic", "lanczos", "nearest"]
QUALITY = 90
_SMOOTH = {"bicubic": cv2.INTER_CUBIC, "lanczos": cv2.INTER_LANCZOS4}
_INTERPOLATION = {**_SMOOTH, "nearest": cv2.INTER_NEAREST_EXACT}
_SAMPLING = {**_SMOOTH, "nearest": cv2.INTER_NEAREST}
_BAND, _PAPER, _INK = 22, 255, (30, 30, 30)


def at_size(picture: Picture, width: int, height: int, how: Enlarge = "bicubic") -> Picture:
    """The picture at that size; itself if it has it. Pixel centres at (i + 0.5)."""
    if picture.shape[:2] == (height, width):
        return picture
    shrinking = picture.shape[0] > height or picture.shape[1] > width
    made: Any = cv2.resize(picture, (width, height), None, 0, 0, cv2.INTER_AREA if shrinking else _INTERPOLATION[how])
    return np.asarray(made, np.uint8)


def column_of(picture: Picture, width: int, height: int, column: int, rows: slice, how: Enlarge = "bicubic") -> Picture:
    """One pixel column (rows, 3) of the picture enlarged to width x height, without enlarging the rest."""
    if picture.shape[:2] == (height, width):
        return np.ascontiguousarray(picture[rows, column])
    x = (column + 0.5) * picture.shape[1] / width - 0.5
    y = (np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5) * picture.shape[0] / height - 0.5
    across = np.full((len(y), 1), x, np.float32)
    found: Any = cv2.remap(picture, across, y[:, None], _SAMPLING[how], borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found[:, 0], np.uint8)


def encoded(picture: Picture, lossless: bool = False) -> bytes:
    """PNG, or JPEG with chroma at full size."""
    full = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    quality = [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, full]
    _, data = cv2.imencode(".png" if lossless else ".jpg", picture[..., ::-1], [] if lossless else quality)
    return data.tobytes()


def data_uri(data: bytes) -> str:
    """Bytes of a PNG or a JPEG as an address that holds them."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def labelled(picture: Picture, text: str) -> Picture:
    """The picture under a band with a line of text, in the letters that OpenCV has; cut where it is too long."""
    band = np.full((_BAND, picture.shape[1], 3), _PAPER, np.uint8)
    said = text.encode("ascii", "replace").decode()
    cv2.putText(band, said, (4, _BAND - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1, cv2.LINE_AA)
    return np.concatenate([band, picture])


def joined(pictures: list[Picture], axis: int, gap: int = 6) -> Picture:
    """Pictures of equal height (axis 1) or width (axis 0) with paper between them."""
    shape = list(pictures[0].shape)
    shape[axis] = gap
    paper = np.full(shape, _PAPER, np.uint8)
    return np.concatenate([part for picture in pictures for part in (paper, picture)][1:], axis=axis)
