"""The array types that the data code speaks of, and the one random stream that it draws from."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
F16 = npt.NDArray[np.float16]
F32 = npt.NDArray[np.float32]


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A random stream that is a function of `seed` and `names` only, so that no draw depends on an earlier one."""
    text = "\0".join([str(int(seed)), *map(str, names)])
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def to_u8(x: F32) -> U8:
    """Round to the nearest of 0..255, halves up."""
    result: U8 = np.clip(np.floor(x + np.float32(0.5)), 0, 255).astype(np.uint8)
    return result
