"""Agreement with the low-resolution input: shrunk back, and in its mean colour."""

import numpy as np

from ..errors import FormatError
from .colour import Samples, check_clip
from .resample import resize


def _check(lr: Samples, clip: Samples) -> None:
    check_clip(lr, "LR clip")
    check_clip(clip)
    if len(lr) != len(clip):
        raise FormatError(f"clip of {len(clip)} frames found, the LR clip's {len(lr)} are needed")


def shrink_back_psnr(lr: Samples, clip: Samples) -> float:
    """PSNR in dB between the LR and the clip shrunk to its size; RGB, peak 255, mean over frames.

    The shrinking is antialiased bicubic with a = -0.5 in float32, not rounded.  lr: (t, h, w, 3), clip: (t, H, W, 3),
    RGB in 0..255, 8-bit or float (float shows the engine, 8 bits what is left in a file).
    """
    _check(lr, clip)
    height, width = lr.shape[1:3]
    mse = [np.mean((resize(b, height, width) - a.astype(np.float64)) ** 2) for a, b in zip(lr, clip, strict=True)]
    return float(np.mean(10.0 * np.log10(255.0**2 / np.maximum(mse, 1e-12))))


def colour_shift(lr: Samples, clip: Samples) -> float:
    """Mean colour shift against the LR in levels of 1/255: mean over frames of max over R, G, B of |mean − mean of LR|.

    The means are over all pixels of one frame, so what cancels inside a frame does not count.
    lr: (t, h, w, 3), clip: (t, H, W, 3), RGB in 0..255.
    """
    _check(lr, clip)
    shift = clip.mean(axis=(1, 2), dtype=np.float64) - lr.mean(axis=(1, 2), dtype=np.float64)
    return float(np.abs(shift).max(axis=1).mean())
