"""The degradation of RealBasicVSR (arXiv 2111.12704), the one that most models for real video are trained on.

Two rounds of blur, resize, noise and JPEG, a video encode after the first, and at the end, in either order, a second
encode and the resize to the LR size with a sinc filter. Strengths are drawn once per clip and wander from frame to
frame. Deviations: the resize has one scale per clip, because an encoder cannot change its size from frame to frame;
Poisson counts above 30 are drawn from the normal distribution; sides stay at 16 pixels or more.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2, pi
from typing import Any, Literal, get_args

import cv2
import numpy as np

from training.data.arrays import F32, U8, to_u8
from training.data.codec import round_trip_at_bit_rate
from training.data.kernels import Shape, blur_kernel

SHAPES: tuple[Shape, ...] = get_args(Shape)
SHAPE_SHARES = (0.405, 0.225, 0.108, 0.027, 0.108, 0.027, 0.1)
SIZES = (7, 9, 11, 13, 15, 17, 19, 21)
SMALLEST = 16
_METHODS = {"bilinear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "bicubic": cv2.INTER_CUBIC}
_NORMAL_ABOVE = 30.0


@dataclass(frozen=True, slots=True)
class Walk:
    """A strength: uniform in [low, high] at first, then moved by U(−step, step) at every frame, kept in the range."""

    low: float
    high: float
    step: float

    def path(self, rng: np.random.Generator, frames: int) -> list[float]:
        """One value per frame."""
        values = [float(rng.uniform(self.low, self.high))]
        for move in rng.uniform(-self.step, self.step, frames - 1):
            values.append(float(np.clip(values[-1] + move, self.low, self.high)))
        return values


ANGLE = Walk(-pi, pi, 0.314)
BETA_GENERALIZED = Walk(0.5, 4, 0.05)
BETA_PLATEAU = Walk(1, 2, 0.1)
JPEG = Walk(30, 95, 3)
BITS_PER_FRAME = (1e4, 1e5)
GREY_SHARE = 0.4
LAST_SINC_SHARE = 0.8
LAST_SINC = Walk(pi / 3, pi, 0.0628)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What differs between the two rounds. Sigmas of blur in pixels, of noise in units of 1/255."""

    blur_share: float
    sigma: Walk
    resize_shares: tuple[float, float, float]
    """Up, down, keep."""
    scale: tuple[float, float]
    gaussian: Walk
    poisson: Walk
    """Factor on the counting noise of an image that has as many photons as grey levels."""


FIRST = Round(
    blur_share=1.0,
    sigma=Walk(0.2, 3, 0.02),
    resize_shares=(0.2, 0.7, 0.1),
    scale=(0.15, 1.5),
    gaussian=Walk(1, 30, 0.1),
    poisson=Walk(0.05, 3, 0.005),
)
SECOND = Round(
    blur_share=0.8,
    sigma=Walk(0.2, 1.5, 0.02),
    resize_shares=(0.3, 0.4, 0.3),
    scale=(0.3, 1.2),
    gaussian=Walk(1, 25, 0.1),
    poisson=Walk(0.05, 2.5, 0.005),
)


def omega_walk(size: int) -> Walk:
    """Cut-off of a sinc kernel of the blur, radians per pixel."""
    return Walk(pi / 3 if size < 13 else pi / 5, pi, 0.0628)


def poisson_noise(x: F32, scale: float, rng: np.random.Generator) -> F32:
    """(P(x u)/u − x) · scale, u = 2^⌈log2 #values⌉, for x in [0, 1]; x and result in units of 1/255, x whole."""
    unit = 2 ** ceil(log2(len(np.unique(x))))
    rate = x * np.float32(unit / 255)
    count = rate + np.sqrt(rate) * rng.standard_normal(x.shape, np.float32)
    few = rate <= _NORMAL_ABOVE
    count[few] = rng.poisson(rate[few])
    return (count - rate) * np.float32(scale * 255 / unit)


class Chain:
    """A clip on its way: float RGB frames of 0..255, and in `done` what has been drawn for it, step by step."""

    def __init__(self, clip: U8, rng: np.random.Generator):
        self.frames: list[F32] = [frame.astype(np.float32) for frame in clip]
        self.rng = rng
        self.done: list[str] = []

    def blur(self, of: Round) -> None:
        """Any of the seven shapes, one size and shape per clip, the rest wandering."""
        if self.rng.random() >= of.blur_share:
            return
        shape = SHAPES[int(self.rng.choice(len(SHAPES), p=SHAPE_SHARES))]
        size = int(self.rng.choice(SIZES))
        beta = BETA_PLATEAU if shape.startswith("plateau") else BETA_GENERALIZED
        walks = (of.sigma, of.sigma, ANGLE, beta, omega_walk(size))
        self._convolve(shape, size, walks)

    def last_sinc(self) -> None:
        if self.rng.random() < LAST_SINC_SHARE:
            still = Walk(1, 1, 0)
            self._convolve("sinc", int(self.rng.choice(SIZES)), (still, still, still, still, LAST_SINC))

    def _convolve(self, shape: Shape, size: int, walks: tuple[Walk, ...]) -> None:
        paths = [walk.path(self.rng, len(self.frames)) for walk in walks]
        self.done.append(f"blur {shape} {size} sigma {paths[0][0]:.2f} {paths[1][0]:.2f}")
        for i, (frame, numbers) in enumerate(zip(self.frames, zip(*paths, strict=True), strict=True)):
            blurred: Any = cv2.filter2D(frame, -1, blur_kernel(shape, size, *numbers))
            self.frames[i] = blurred

    def resize(self, of: Round) -> None:
        """By one scale: above 1, below 1, or none at all; even sides."""
        way = int(self.rng.choice(3, p=of.resize_shares))
        if way == 2:
            return
        low, high = (1.0, of.scale[1]) if way == 0 else (of.scale[0], 1.0)
        scale = float(self.rng.uniform(low, high))
        h, w = self.frames[0].shape[:2]
        self.resize_to(*(max(SMALLEST, int(side * scale) // 2 * 2) for side in (h, w)))

    def resize_to(self, height: int, width: int) -> None:
        """Without antialiasing where the method has none: that is part of this degradation."""
        method = str(self.rng.choice(list(_METHODS)))
        self.done.append(f"resize {width}x{height} {method}")
        for i, frame in enumerate(self.frames):
            resized: Any = cv2.resize(frame, (width, height), interpolation=_METHODS[method])
            self.frames[i] = resized

    def noise(self, of: Round) -> None:
        """Gaussian or Poisson, the same in the three channels for some clips."""
        sort: Literal["gaussian", "poisson"] = "gaussian" if self.rng.random() < 0.5 else "poisson"
        grey = bool(self.rng.random() < GREY_SHARE)
        path = (of.gaussian if sort == "gaussian" else of.poisson).path(self.rng, len(self.frames))
        self.done.append(f"noise {sort} {path[0]:.2f}" + (" grey" if grey else ""))
        for i, (frame, strength) in enumerate(zip(self.frames, path, strict=True)):
            if sort == "gaussian":
                normal = self.rng.standard_normal((*frame.shape[:2], 1 if grey else 3), np.float32)
                self.frames[i] = frame + normal * np.float32(strength)
            else:
                whole: Any = to_u8(frame)
                whole = cv2.cvtColor(whole, cv2.COLOR_RGB2GRAY)[..., None] if grey else whole
                self.frames[i] = frame + poisson_noise(whole.astype(np.float32), strength, self.rng)

    def jpeg(self) -> None:
        """Each frame on its own."""
        path = JPEG.path(self.rng, len(self.frames))
        self.done.append(f"jpeg {path[0]:.0f}")
        for i, (frame, quality) in enumerate(zip(self.frames, path, strict=True)):
            _, data = cv2.imencode(".jpg", to_u8(frame)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, round(quality)])
            decoded: Any = cv2.imdecode(data, cv2.IMREAD_COLOR)
            self.frames[i] = decoded[..., ::-1].astype(np.float32)

    def video(self) -> None:
        """x264 for two clips of three ("libx264" and "h264" are the same encoder), MPEG-4 part 2 for the third."""
        codec: Literal["x264", "mpeg4"] = "x264" if self.rng.random() < 2 / 3 else "mpeg4"
        bits = int(self.rng.uniform(*BITS_PER_FRAME))
        self.done.append(f"video {codec} {bits}")
        coded = round_trip_at_bit_rate(np.stack([to_u8(f) for f in self.frames]), codec, bits)
        self.frames = [frame.astype(np.float32) for frame in coded]


def degrade_realbasicvsr(clip: U8, height: int, width: int, rng: np.random.Generator) -> tuple[U8, dict[str, Any]]:
    """(t, h, w, 3) RGB -> (t, height, width, 3), and the steps with the strengths of the first frame."""
    x = Chain(clip, rng)
    x.blur(FIRST)
    x.resize(FIRST)
    x.noise(FIRST)
    x.jpeg()
    x.video()
    x.blur(SECOND)
    x.resize(SECOND)
    x.noise(SECOND)
    x.jpeg()
    video_first = bool(rng.random() < 0.5)
    if video_first:
        x.video()
    x.resize_to(height, width)
    x.last_sinc()
    if not video_first:
        x.video()
    return np.stack([to_u8(frame) for frame in x.frames]), {"steps": x.done}
