"""A small pack without any data of the user's: the example video, and drawn pictures that the camera glides over.

Enough to see that everything works; what is trained on it is good for nothing.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np

from training.data.arrays import U8, generator
from training.data.pack import pack
from training.data.shards import INDEX
from training.data.sources import DataError

EXAMPLE = Path(__file__).parents[2] / "examples" / "dog.mp4"
PICTURES = 6
SIDE = 480
"""Of a drawn picture, in pixels."""
LR = "clean,web,real"


def picture(seed: int, side: int = SIDE) -> U8:
    """Noise of several sizes under lines and discs, (side, side, 3)."""
    rng = generator(seed, "synthetic")
    total = np.zeros((side, side, 3), np.float32)
    for cell in (3, 8, 24, 90):
        small = rng.uniform(0, 255, (side // cell + 2, side // cell + 2, 3)).astype(np.float32)
        total += cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC) * np.float32(0.25)
    image = np.clip(total, 0, 255).astype(np.uint8)
    for _ in range(24):
        colour = [int(c) for c in rng.integers(0, 256, 3)]
        (x, y), (u, v) = ([int(c) for c in rng.integers(0, side, 2)] for _ in range(2))
        cv2.line(image, (x, y), (u, v), colour, int(rng.integers(1, 5)), cv2.LINE_AA)
        cv2.circle(image, (x, y), int(rng.integers(4, 40)), colour, int(rng.integers(1, 3)), cv2.LINE_AA)
    return image


def make_pack(folder: Path, seed: int = 0) -> Path:
    """Pack the example and drawn pictures into `folder`; one that is there is left alone. DataError: no example."""
    if (folder / INDEX).is_file():
        return folder
    if not EXAMPLE.is_file():
        raise DataError(f"{EXAMPLE} is missing; give --data a folder that `python -m training pack` wrote")
    sources = folder.with_name(folder.name + "-sources")
    sources.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copy(EXAMPLE, sources)
        for n in range(PICTURES):
            cv2.imwrite(str(sources / f"drawn{chr(97 + n)}.png"), picture(seed + n))
        pack(sources, folder, jobs=1, val_share=0.35, seed=seed, lr=LR, say=lambda _: None)
    finally:
        shutil.rmtree(sources, ignore_errors=True)
    return folder
