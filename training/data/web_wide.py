"""Video as the web has it, wider than the kind `web`: five codecs, often one encode after the other.

Resize, for half of the clips by way of a larger size; for some a slight blur and a little noise; one or two encodes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import log
from typing import Any

import numpy as np

from training.data.arrays import U8, to_u8
from training.data.codec import Codec, round_trip
from training.data.resample import Method, blur, shrink

CODECS: dict[Codec, tuple[float, float, float]] = {
    "x264": (0.4, 20, 36),
    "x265": (0.2, 22, 38),
    "vp9": (0.15, 28, 45),
    "svtav1": (0.15, 30, 50),
    "mpeg4": (0.1, 3, 12),
}
"""Share of the encodes, and the range of the CRF, or of MPEG-4's quantiser."""
GOP = (12, 250)


@dataclass(frozen=True, slots=True)
class Encode:
    codec: Codec
    quality: float
    gop: int
    preset: str
    """Of x264."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Encode:
        """GOPs are log-uniform."""
        codec = list(CODECS)[int(rng.choice(len(CODECS), p=[share for share, _, _ in CODECS.values()]))]
        _, low, high = CODECS[codec]
        gop = round(float(np.exp(rng.uniform(log(GOP[0]), log(GOP[1])))))
        return cls(codec, float(rng.uniform(low, high)), gop, "medium" if rng.random() < 0.6 else "veryfast")


@dataclass(frozen=True, slots=True)
class WideStrength:
    """What is drawn once per clip."""

    method: Method
    detour: float
    """Size of an intermediate resize, as a multiple of the LR size; 1 = none."""
    blur: float
    """Sigma in LR pixels."""
    noise: float
    """Sigma in units of 1/255."""
    encodes: tuple[Encode, ...]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> WideStrength:
        return cls(
            method="bicubic" if rng.random() < 0.85 else "box",
            detour=float(rng.uniform(1, 2)) if rng.random() < 0.5 else 1.0,
            blur=float(rng.uniform(0.2, 0.8)) if rng.random() < 0.3 else 0.0,
            noise=float(rng.uniform(0, 4)) if rng.random() < 0.5 else 0.0,
            encodes=tuple(Encode.draw(rng) for _ in range(int(rng.integers(1, 3)))),
        )


def degrade_web_wide(clip: U8, height: int, width: int, rng: np.random.Generator) -> tuple[U8, dict[str, Any]]:
    """(t, h, w, 3) RGB -> (t, height, width, 3), and the strengths."""
    s = WideStrength.draw(rng)
    if s.detour > 1:
        clip = shrink(clip, round(height * s.detour), round(width * s.detour), s.method)
    low = shrink(clip, height, width, s.method)
    if s.blur or s.noise:
        for frame in low:
            x = blur(frame.astype(np.float32), s.blur, s.blur)
            frame[:] = to_u8(x + np.float32(s.noise) * rng.standard_normal(x.shape, np.float32))
    for encode in s.encodes:
        low = round_trip(low, encode.codec, encode.quality, encode.preset, encode.gop)
    return low, asdict(s)
