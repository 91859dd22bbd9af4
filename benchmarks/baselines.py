"""The classical enlargements that a model must beat, in float32 and rounded to 8 bits once."""

from collections.abc import Callable

import numpy as np

from duovsr_vs.metrics.colour import Clip, Samples
from duovsr_vs.metrics.resample import Kernel, resize

BACK_PROJECTIONS = 2


def back_project(frame: Samples, lr: Samples, steps: int = BACK_PROJECTIONS) -> Samples:
    """x <- x + U(LR - D x), `steps` times: U bicubic x4, D antialiased bicubic /4, both a = -0.5.

    frame: (H, W, 3), lr: (h, w, 3), in 0..255; returns float32, not clamped.
    """
    small = lr.astype(np.float32)
    for _ in range(steps):
        frame = frame + resize(small - resize(frame, *lr.shape[:2]), *frame.shape[:2])
    return frame


def _method(kernel: Kernel, steps: int) -> Callable[[Samples, int], Samples]:
    return lambda lr, scale: back_project(resize(lr, lr.shape[0] * scale, lr.shape[1] * scale, kernel), lr, steps)


METHODS: dict[str, Callable[[Samples, int], Samples]] = {
    "bicubic": _method("bicubic", 0),
    "lanczos": _method("lanczos3", 0),
    "lanczos+2bp": _method("lanczos3", BACK_PROJECTIONS),
    "base": _method("bicubic", BACK_PROJECTIONS),
}
"""Frame (h, w, 3) in 0..255 and scale -> frame in float32. `base` is R, what the engine gives at strength 0."""

MEANING = {
    "bicubic": "bicubic, a = -0.5",
    "lanczos": "Lanczos with 3 lobes, as zimg (VapourSynth) has it",
    "lanczos+2bp": "the same and two back-projections onto the LR",
    "base": "bicubic and two back-projections: the engine at strength 0",
}


def to_uint8(frame: Samples) -> Samples:
    """0..255 in float -> uint8, rounded half to even and clamped."""
    return np.clip(np.rint(frame), 0, 255).astype(np.uint8)


def enlarge(lr: Clip, method: str, scale: int = 4) -> Clip:
    """A whole clip, uint8 (t, h, w, 3) -> uint8 (t, H, W, 3)."""
    return np.stack([to_uint8(METHODS[method](frame, scale)) for frame in lr])
