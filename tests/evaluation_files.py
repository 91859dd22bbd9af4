"""Sets of clips as they unpack, tiny: pictures that glide, their LR, as folders of pictures or as video files."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from data_clips import film, save_photo, save_video

from training.data.arrays import U8
from training.data.pack import pack

SIZE = (96, 192)
"""Height and width of the ground truth: two blocks of NIQE."""


@cache
def truth(seed: int = 0, frames: int = 2) -> U8:
    return film(frames, *SIZE, seed=seed)


def shrunk(clip: U8) -> U8:
    """Mean of each 4x4 block."""
    t, h, w, _ = clip.shape
    return clip.reshape(t, h // 4, 4, w // 4, 4, 3).mean((2, 4)).round().astype("uint8")


def pictures(folder: Path, clip: U8, digits: int = 4) -> None:
    """0001.png, 0002.png, …"""
    folder.mkdir(parents=True, exist_ok=True)
    for n, frame in enumerate(clip, 1):
        save_photo(folder / f"{n:0{digits}d}.png", frame)


def video(path: Path, clip: U8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_video(path, clip)


def pairs(root: Path, count: int = 2, low: str = "BIx4", frames: int = 2) -> Path:
    """GT/clip0/0001.png … beside the LR's folder, as UDM10 and SPMCS are repacked."""
    for n in range(count):
        pictures(root / "GT" / f"clip{n}", truth(n, frames))
        pictures(root / low / f"clip{n}", shrunk(truth(n, frames)))
    return root


def packed(folder: Path) -> Path:
    """A pack of three films, one of them held out."""
    for n, name in enumerate(("park", "river", "tower")):
        video(folder / f"{name}.mp4", truth(n, 3))
    pack(folder, folder / "pack", jobs=1, val_share=0.4, say=lambda _: None)
    return folder / "pack"


def read(path: Path) -> dict:  # type: ignore[type-arg]
    return json.loads(path.read_text())
