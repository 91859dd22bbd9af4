"""The ways to make the low-resolution clip. Whole clips, real codecs, equal bytes twice.

clean         antialiased resize, mostly bicubic
web           clean, then one encode as a site would make it, mostly x264 around CRF 30
real          blur, resize, noise, x264; then once more down to the LR size; every strength drawn once per clip
realbasicvsr  the published chain that most models for real video are trained on (realbasicvsr.py)
web_wide      five codecs, one or two encodes, wide ranges (web_wide.py)

The first three follow the kinds that models are evaluated on; the last two are for models that meet any video.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import numpy as np

from training.data.arrays import F32, U8, generator, to_u8
from training.data.codec import Codec, round_trip
from training.data.realbasicvsr import degrade_realbasicvsr
from training.data.resample import Method, blur, resize, shrink
from training.data.web_wide import degrade_web_wide

Kind = Literal["clean", "web", "real", "realbasicvsr", "web_wide"]
KINDS: tuple[Kind, ...] = ("clean", "web", "real", "realbasicvsr", "web_wide")
"""In an order that stays: samples name their kind by its number. New kinds come last."""
SCALE = 4
Made = tuple[U8, dict[str, Any]]
"""The LR clip, and what was drawn for it."""

_METHODS: tuple[Method, ...] = ("bicubic", "bilinear", "box")
_PRESETS = ("medium", "veryfast")


@dataclass(frozen=True, slots=True)
class CleanStrength:
    """How one clip is shrunk."""

    method: Method = "bicubic"

    @classmethod
    def draw(cls, rng: np.random.Generator) -> CleanStrength:
        return cls("bicubic" if rng.random() < 0.85 else "box")


@dataclass(frozen=True, slots=True)
class WebStrength:
    """How one clip is shrunk and encoded. quality is a CRF, or MPEG-4's quantiser."""

    method: Method
    detour: float
    """Size of an intermediate resize, as a multiple of the LR size; 1 = none."""
    codec: Codec
    quality: float
    preset: str

    @classmethod
    def draw(cls, rng: np.random.Generator) -> WebStrength:
        clean = CleanStrength.draw(rng)
        detour = float(rng.uniform(1, 2)) if rng.random() < 0.25 else 1.0
        codec = cast(Codec, str(rng.choice(["x264", "x265", "vp9", "mpeg4"], p=[0.82, 0.08, 0.05, 0.05])))
        centre, spread, low, high = {
            "x264": (30, 2.0, 24, 34),
            "x265": (30, 2.0, 24, 34),
            "vp9": (37, 4.0, 28, 46),
            "mpeg4": (6, 2.0, 3, 11),
        }[codec]
        quality = float(np.clip(rng.normal(centre, spread), low, high))
        return cls(clean.method, detour, codec, quality, str(rng.choice(_PRESETS, p=[0.7, 0.3])))


@dataclass(frozen=True, slots=True)
class RealStrength:
    """Two passes of blur, resize, noise and x264. Sigmas in pixels of the image at hand, noise in units of 1/255."""

    blur1: tuple[float, float]
    size1: float
    """First resize, as a share of the HR size."""
    method1: Method
    noise1: float
    grey: bool
    """The same noise in the three channels."""
    shot: float
    """Variance per unit of intensity."""
    crf1: float
    blur2: tuple[float, float]
    method2: Method
    noise2: float
    crf2: float
    preset: str

    @classmethod
    def draw(cls, rng: np.random.Generator) -> RealStrength:
        def u(low: float, high: float) -> float:
            return float(rng.uniform(low, high))

        def method() -> Method:
            return _METHODS[int(rng.integers(3))]

        return cls(
            blur1=(u(0.3, 2.3), u(0.3, 2.3)),
            size1=u(0.4, 0.8),
            method1=method(),
            noise1=u(0.3, 5.5),
            grey=bool(rng.integers(2)),
            shot=u(0.0, 0.4),
            crf1=u(20, 28),
            blur2=(u(0.1, 0.8), u(0.1, 0.8)),
            method2=method(),
            noise2=u(0.0, 2.2),
            crf2=u(24, 32),
            preset=str(rng.choice(_PRESETS, p=[0.5, 0.5])),
        )


def _clean(clip: U8, height: int, width: int, rng: np.random.Generator) -> Made:
    s = CleanStrength.draw(rng)
    return shrink(clip, height, width, s.method), asdict(s)


def _web(clip: U8, height: int, width: int, rng: np.random.Generator) -> Made:
    s = WebStrength.draw(rng)
    if s.detour > 1:
        clip = shrink(clip, round(height * s.detour), round(width * s.detour), s.method)
    return round_trip(shrink(clip, height, width, s.method), s.codec, s.quality, s.preset), asdict(s)


def _noisy(x: F32, rng: np.random.Generator, read: float, shot: float, grey: bool) -> U8:
    normal = rng.standard_normal((*x.shape[:2], 1 if grey else 3), np.float32)
    deviation = np.sqrt(np.float32(read * read) + np.float32(shot) * np.clip(x, 0, 255))
    return to_u8(x + normal * deviation)


def _real(clip: U8, height: int, width: int, rng: np.random.Generator) -> Made:
    s = RealStrength.draw(rng)
    mid_h, mid_w = round(clip.shape[1] * s.size1), round(clip.shape[2] * s.size1)
    mid = np.empty((len(clip), mid_h, mid_w, 3), np.uint8)
    for i, frame in enumerate(clip):
        x = resize(blur(frame.astype(np.float32), *s.blur1), mid_h, mid_w, s.method1)
        mid[i] = _noisy(x, rng, s.noise1, s.shot, s.grey)
    mid = round_trip(mid, "x264", s.crf1, s.preset)
    low = np.empty((len(clip), height, width, 3), np.uint8)
    for i, frame in enumerate(mid):
        x = resize(blur(frame.astype(np.float32), *s.blur2), height, width, s.method2)
        low[i] = _noisy(x, rng, s.noise2, 0.0, False)
    return round_trip(low, "x264", s.crf2, s.preset), asdict(s)


_MAKERS: dict[Kind, Callable[[U8, int, int, np.random.Generator], Made]] = {
    "clean": _clean,
    "web": _web,
    "real": _real,
    "realbasicvsr": degrade_realbasicvsr,
    "web_wide": degrade_web_wide,
}


def degrade(clip: U8, kind: Kind, seed: int) -> Made:
    """(t, h, w, 3) RGB, sides multiples of 4 -> the LR clip (t, h/4, w/4, 3) and the strengths drawn for it.

    The result is a function of the pixels, the kind, the seed and the codec builds inside PyAV.
    """
    t, h, w, _ = clip.shape
    if h % SCALE or w % SCALE or not t:
        raise ValueError(
            f"{t} frames of {w}x{h}: at least one frame with sides that are multiples of {SCALE} is needed"
        )
    return _MAKERS[kind](clip, h // SCALE, w // SCALE, generator(seed, "degrade", kind))
