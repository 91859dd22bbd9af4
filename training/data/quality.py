"""Which clips are soft as targets: less detail than most of their sort, or visibly compressed before they came here.

Guidance learns from the label: a soft target trains the lower quality class, never the best one (training/batch.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # shards.py labels the packs of an older layout when it reads them
    from training.data.shards import ClipRow

SOFT_SHARE = 20.0
"""Per cent of the training clips of a look that count as soft by their sharpness."""
VIDEO_BITS = 0.05
"""Bits per pixel and frame below which a video is taken to be visibly compressed.

x264 at its medium preset spends on films of 768x432 (six measured, 48 frames each) 0.12-0.22 at CRF 18, 0.07-0.12 at
CRF 23, 0.04-0.07 at CRF 27, 0.03-0.05 at CRF 30, where blocking shows, and 0.02-0.04 at CRF 34. Of the 15 films that
`nano` is trained on the smallest has 0.098, the median 0.14, the largest 0.79: none is below. A scene where nothing
moves can need less; the mistake costs that clip the best class, no more.
"""
PHOTO_BITS = 0.5
"""The same of photos, by the size of the file: JPEG spends 0.4-1.6 at quality 75, 0.3-1.1 at 50, 0.2-0.8 at 30.

Of the 111 photos that `nano` is trained on the smallest has 0.66, the median 2.1, the largest 4.7: none is below.
"""
_LOSSLESS = frozenset({".png", ".tif", ".tiff", ".bmp"})


def least_sharpness(rows: Sequence[ClipRow]) -> dict[str, float]:
    """Per look, the 20th percentile over its training clips; a look without training clips is not in it.

    In the pack that `nano` is trained on: 0.50 of video (from 0.47 to 0.70), 0.61 of sharp (0.43 to 1.13) and 0.39 of
    soft motion of photos (0.34 to 0.70).
    """
    known: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.split == "train":
            known[row.look].append(row.sharpness)
    return {look: float(np.percentile(values, SOFT_SHARE)) for look, values in known.items()}


def is_compressed(row: ClipRow) -> bool:
    """Visibly compressed, by its bits per pixel; False where they are not known (nan), or the file is lossless."""
    if PurePath(row.source).suffix.lower() in _LOSSLESS:
        return False
    return row.bits_per_pixel < (VIDEO_BITS if row.is_video else PHOTO_BITS)


def label_soft(rows: Sequence[ClipRow]) -> list[ClipRow]:
    """The rows of a whole pack, `soft` decided: a clip is measured against the training clips of its own look."""
    least = least_sharpness(rows)
    return [replace(r, soft=is_compressed(r) or r.sharpness < least.get(r.look, -np.inf)) for r in rows]
