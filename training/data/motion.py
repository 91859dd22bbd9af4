"""Synthetic camera motion: a short clip from one photo, for want of enough real video.

A window glides over the photo with pan, zoom, roll and shake, sampled in linear light at 1.5 to 3 photo pixels per
output pixel, so that the result is sharp and the photo's JPEG blocks fall below a pixel. Sometimes a soft-edged piece
of the same photo moves across it on its own course, and sometimes the shutter stays open for part of a frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, cos, floor, log, pi, sin
from typing import Literal

import cv2
import numpy as np

from training.data.arrays import F32, U8, generator
from training.data.colour import from_linear, to_linear
from training.data.resample import blur, resize

Look = Literal["sharp", "soft"]

FRAMES = 6
SIZE = 384
SMALLEST = 192
"""Sides of the clip in pixels: at most, and at least."""
_SUPER = 2
"""Samples per output pixel and direction before the antialiased shrink."""
_MARGIN = 1.12
"""The photo is this much larger than the window at least, so that there is room to move."""


@dataclass(frozen=True, slots=True)
class Course:
    """Where the window's centre is at time t, in output pixels from the middle; its zoom and its roll."""

    velocity: tuple[float, float]
    bend: tuple[float, float]
    """Acceleration, pixels per frame and frame."""
    shake: tuple[float, float, float, float]
    """Amplitudes down and across in pixels, angular speed per frame, phase."""
    zoom: float
    """Growth of the scale per frame."""
    roll: float
    """Radians per frame."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Course:
        """A tenth of the courses stand still but for the shake; speeds are log-uniform, 0.15 to 9 pixels a frame."""
        speed = 0.0 if rng.random() < 0.1 else float(np.exp(rng.uniform(log(0.15), log(9.0))))
        angle = float(rng.uniform(0, 2 * pi))
        bend, shake = speed * float(rng.uniform(0, 0.15)), float(rng.exponential(0.4)) if rng.random() < 0.6 else 0.0
        turn = float(rng.uniform(0, 2 * pi))
        return cls(
            velocity=(speed * sin(angle), speed * cos(angle)),
            bend=(bend * sin(turn), bend * cos(turn)),
            shake=(
                shake,
                shake * float(rng.uniform(0.3, 1)),
                float(rng.uniform(0.6, 2.2)),
                float(rng.uniform(0, 2 * pi)),
            ),
            zoom=float(rng.normal(0, 0.006)) if rng.random() < 0.5 else 0.0,
            roll=float(rng.normal(0, 0.004)) if rng.random() < 0.4 else 0.0,
        )

    def at(self, t: float) -> tuple[float, float, float, float]:
        """(y, x, scale, angle) at time t, in frames from the clip's middle."""
        down, across, pace, phase = self.shake
        y = self.velocity[0] * t + 0.5 * self.bend[0] * t * t + down * sin(pace * t + phase)
        x = self.velocity[1] * t + 0.5 * self.bend[1] * t * t + across * sin(0.8 * pace * t + 2 * phase)
        return y, x, float(np.exp(self.zoom * t)), self.roll * t


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything drawn for one clip."""

    size: int
    """Side of the output in pixels, a multiple of 8."""
    step: float
    """Photo pixels per output pixel."""
    centre: tuple[float, float]
    """Of the window, as a share of the room that it has."""
    camera: Course
    piece: Course | None
    """The course of a foreground piece, beside the camera's."""
    piece_from: tuple[float, float]
    shutter: float
    """Share of a frame during which light is gathered; 0 = an instant."""
    softness: float
    """Sigma of a blur of the finished frames, in output pixels."""


def _draw(rng: np.random.Generator, height: int, width: int, look: Look) -> Plan:
    room = min(height, width) / _MARGIN
    if room < 1.2 * SMALLEST:
        raise ValueError(
            f"a photo of {width}x{height} is too small, its short side needs {ceil(1.2 * SMALLEST * _MARGIN)}"
        )
    size = min(SIZE, max(SMALLEST, floor(room / 1.5 / 8) * 8))
    most = min(3.0, room / size)
    step = float(rng.uniform(min(1.5, most), most))
    return Plan(
        size=size,
        step=step,
        centre=(float(rng.random()), float(rng.random())),
        camera=Course.draw(rng),
        piece=Course.draw(rng) if rng.random() < 0.35 else None,
        piece_from=(float(rng.random()), float(rng.random())),
        shutter=float(rng.uniform(0.2, 0.6)) if rng.random() < 0.25 else 0.0,
        softness=float(rng.uniform(0.5, 1.1)) if look == "soft" else 0.0,
    )


def _look_up(photo: F32, plan: Plan, scale: float, course: Course, centre: tuple[float, float], t: float) -> F32:
    """The window at time t, _SUPER samples a pixel. photo is linear, `scale` its pixels per sample."""
    side = plan.size * _SUPER
    y, x, grow, angle = course.at(t)
    h, w = photo.shape[:2]
    reach = side * scale / 2
    cy = reach + centre[0] * max(0.0, h - 2 * reach) + y * _SUPER * scale
    cx = reach + centre[1] * max(0.0, w - 2 * reach) + x * _SUPER * scale
    a, b = scale * grow * cos(angle), scale * grow * sin(angle)
    mid = (side - 1) / 2
    matrix = np.array([[a, -b, cx - 0.5 - a * mid + b * mid], [b, a, cy - 0.5 - b * mid - a * mid]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    out: F32 = cv2.warpAffine(photo, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REFLECT_101)  # type: ignore[assignment]
    return out


def _piece_shape(rng: np.random.Generator, side: int) -> tuple[F32, float, float]:
    """A smooth closed outline: its radius over 64 angles in samples, and its centre (y, x)."""
    angles = np.arange(64) * (2 * pi / 64)
    radius = np.ones(64)
    for k in range(2, 6):
        radius += rng.normal(0, 0.25 / k) * np.sin(k * angles + rng.uniform(0, 2 * pi))
    radius *= side * rng.uniform(0.12, 0.28)
    return radius.astype(np.float32), float(rng.uniform(0.2, 0.8) * side), float(rng.uniform(0.2, 0.8) * side)


def _piece_mask(shape: tuple[F32, float, float], side: int, move: tuple[float, float, float, float]) -> F32:
    """Coverage (side, side, 1) in [0, 1] of the piece, moved, with an edge two samples wide."""
    radius, cy, cx = shape
    y0, x0, grow, _ = move
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    y, x = y - (cy - y0 * _SUPER), x - (cx - x0 * _SUPER)
    place = (np.arctan2(y, x) / np.float32(2 * pi) * 64) % 64
    low = place.astype(np.intp) % 64
    part = place - np.floor(place)
    edge = radius[low] * (1 - part) + radius[(low + 1) % 64] * part
    cover: F32 = np.clip((edge / np.float32(grow) - np.hypot(x, y)) / 2 + 0.5, 0, 1)[..., None].astype(np.float32)
    return cover


class _Scene:
    """The photo in linear light at a scale that the window samples about one to one, and what moves over it."""

    def __init__(self, photo: U8, plan: Plan, rng: np.random.Generator):
        self.plan = plan
        light = to_linear(photo)
        self.scale = plan.step / _SUPER
        if self.scale > 1:  # shrink first, or the look-up would skip photo pixels
            h, w = round(photo.shape[0] / self.scale), round(photo.shape[1] / self.scale)
            light = resize(light, h, w)
            self.scale = 1.0
        self.light = light
        self.shape = _piece_shape(rng, plan.size * _SUPER)

    def at(self, t: float) -> F32:
        """Light of the window at time t, (size * _SUPER) squared."""
        plan = self.plan
        view = _look_up(self.light, plan, self.scale, plan.camera, plan.centre, t)
        if plan.piece is None:
            return view
        cover = _piece_mask(self.shape, plan.size * _SUPER, plan.piece.at(t))
        other = _look_up(self.light, plan, self.scale, plan.piece, plan.piece_from, t)
        return view + cover * (other - view)

    def frame(self, t: float) -> U8:
        """The finished frame: gathered over the shutter, shrunk, softened, back in sRGB."""
        plan = self.plan
        moments = [0.0] if plan.shutter == 0 else [plan.shutter * (k / 4 - 0.375) for k in range(4)]
        light = self.at(t + moments[0])
        for moment in moments[1:]:
            light += self.at(t + moment)
        light = resize(light * np.float32(1 / len(moments)), plan.size, plan.size)
        return from_linear(blur(light, plan.softness, plan.softness))


def move(photo: U8, seed: int, look: Look = "sharp", frames: int = FRAMES) -> U8:
    """A clip (frames, s, s, 3) from a photo (h, w, 3), s a multiple of 8 and 384 where the photo is large enough.

    `soft` adds the slight blur that most real video has. A function of the photo, the seed and the look.
    ValueError: the photo is too small.
    """
    rng = generator(seed, "motion", look)
    scene = _Scene(photo, _draw(rng, photo.shape[0], photo.shape[1], look), rng)
    middle = (frames - 1) / 2
    return np.stack([scene.frame(i - middle) for i in range(frames)])
