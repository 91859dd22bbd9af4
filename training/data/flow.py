"""Optical flow of the HR frames: DIS, medium preset, forwards and back, and where the two agree."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from training.data.arrays import F16, F32, U8


def _grey(frame: U8) -> U8:
    grey: U8 = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]
    return grey


def dis_flow(a: U8, b: U8) -> F32:
    """Flow from grey frame a (h, w) to b, (h, w, 2) as (dx, dy) in pixels: a(p) is seen at b(p + flow(p))."""
    method: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow: F32 = method.calc(a, b, None)
    return flow


def warp(image: F32, flow: F32) -> F32:
    """image (h, w) or (h, w, c) looked up at p + flow(p), linear, edges repeated."""
    h, w = flow.shape[:2]
    x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    out: F32 = cv2.remap(image, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    return out


def agreement(forward: F32, backward: F32) -> npt.NDArray[np.bool_]:
    """Where |f + b|^2 <= 0.01 (|f|^2 + |b|^2) + 0.5, b looked up at p + f(p), and p + f(p) lies inside the frame."""
    h, w = forward.shape[:2]
    back = warp(backward, forward)
    gap = np.square(forward + back).sum(-1)
    size = np.square(forward).sum(-1) + np.square(back).sum(-1)
    x = np.arange(w, dtype=np.float32)[None] + forward[..., 0]
    y = np.arange(h, dtype=np.float32)[:, None] + forward[..., 1]
    inside = (x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)
    result: npt.NDArray[np.bool_] = (gap <= 0.01 * size + 0.5) & inside
    return result


def clip_flow(clip: U8) -> tuple[F16, npt.NDArray[np.bool_]]:
    """HR clip (t, h, w, 3) -> flow (t-1, h/2, w/2, 2) from each frame to the next, in HR pixels, and its mask.

    Stored at half size: a 2x2 block holds its mean flow, and counts as valid where all four of its pixels are.
    """
    t, h, w, _ = clip.shape
    flows = np.empty((t - 1, h // 2, w // 2, 2), np.float16)
    masks = np.empty((t - 1, h // 2, w // 2), np.bool_)
    grey = [_grey(f) for f in clip]
    for i in range(t - 1):
        forward, backward = dis_flow(grey[i], grey[i + 1]), dis_flow(grey[i + 1], grey[i])
        blocks = forward.reshape(h // 2, 2, w // 2, 2, 2)
        flows[i] = (blocks[:, 0, :, 0] + blocks[:, 0, :, 1] + blocks[:, 1, :, 0] + blocks[:, 1, :, 1]) * 0.25
        masks[i] = agreement(forward, backward).reshape(h // 2, 2, w // 2, 2).all(axis=(1, 3))
    return flows, masks
