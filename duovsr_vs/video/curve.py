"""Light and code values: the curves between what a floating-point image holds and what the model works on.

The model has learned from SDR video, so it works on non-linear code values, nominally in [0, 1], and never on light:

* PQ and HLG video goes through in its own code values, exactly as SDR video does. Both curves are made so that equal
  steps look about equal, which is what the model knows from SDR; nothing has to be inverted, so `strength` 0 is the
  plain resampler of the signal, and 10000 nits are 1.0: highlights neither clip nor ring as they would in linear light.
* EXR images hold linear light, 1.0 = reference white, without an upper end. They are worked on in `working_from_light`:
  sRGB's curve up to white, continued above it by a logarithm of the same slope. It is one-to-one on all numbers, so
  `light_from_working` gives the light back (to 2e-6 of its value in float32).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
LINEAR, SRGB, PQ, HLG = 8, 13, 16, 18
"""H.273 codes of transfer curves."""
LARGEST_HALF = 65504.0
"""What infinite light is taken for."""
_SLOPE = 1.055 / 2.4
"""Of sRGB's curve at white."""
_TOE = 0.0031308
PQ_WHITE, HLG_WHITE = 203.0, 0.75
"""Reference white: nits of PQ, signal of HLG (ITU-R BT.2408)."""


def working_from_light(light: Array) -> Array:
    """Linear light, any sign and size, 1.0 = white -> working values, [0, 1] for [0, 1]. NaN is taken for black."""
    light = np.nan_to_num(light.astype(np.float32), nan=0.0, posinf=LARGEST_HALF, neginf=-LARGEST_HALF)
    size = np.abs(light)
    inside = 1.055 * np.clip(size, _TOE, 1.0) ** np.float32(1 / 2.4) - 0.055
    above = _SLOPE * np.log(np.maximum(size, 1.0))
    return np.copysign(np.where(size <= _TOE, 12.92 * size, inside + above), light).astype(np.float32)


def light_from_working(working: Array) -> Array:
    """The inverse of `working_from_light`."""
    size = np.abs(working)
    inside = ((np.minimum(size, 1.0) + 0.055) / 1.055) ** np.float32(2.4)
    above = np.exp(np.maximum(size - 1.0, 0.0) / _SLOPE)
    return np.copysign(np.where(size <= 12.92 * _TOE, size / 12.92, inside * above), working).astype(np.float32)


def light_from_signal(signal: Array, transfer: int) -> Array:
    """Code values of a video with that transfer (H.273) -> linear light, 1.0 = reference white.

    PQ and HLG by ITU-R BT.2100 (HLG: light of the scene); whatever else is not linear is taken for sRGB.
    """
    if transfer == PQ:
        return light_from_pq(signal) / np.float32(PQ_WHITE)
    if transfer == HLG:
        return _light_from_hlg(signal) / _light_from_hlg(np.array(HLG_WHITE, np.float32))
    return light_from_working(signal)


def light_from_pq(signal: Array) -> Array:
    """SMPTE ST 2084: code values -> nits; below 0 is 0, 1.0 is 10000."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = np.maximum(signal, 0).astype(np.float64) ** (1 / m2)
    return (10000 * (np.maximum(root - c1, 0) / (c2 - c3 * np.minimum(root, 1.0))) ** (1 / m1)).astype(np.float32)


def _light_from_hlg(signal: Array) -> Array:
    """ITU-R BT.2100: HLG code values -> light of the scene, 1.0 at the signal's peak."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    low = np.maximum(signal, 0) ** 2 / 3
    return np.where(signal <= 0.5, low, (np.exp((np.maximum(signal, 0.5) - c) / a) + b) / 12).astype(np.float32)
