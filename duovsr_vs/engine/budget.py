"""Sizes of memory as people write them: `6GB`, `6000MB`, `6GiB`, `0.5GB`. Needs no torch."""

from __future__ import annotations

import math
import re

from ..errors import OptionError

UNITS = {"mb": 10**6, "gb": 10**9, "tb": 10**12, "mib": 2**20, "gib": 2**30, "tib": 2**40}
SMALLEST = 10**6


def parse_size(text: object) -> int:
    """Bytes of a size with its unit, MB, GB or TB (powers of 1000) or MiB, GiB or TiB (of 1024). OptionError."""
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})\s*([kmgt]i?b)\s*", str(text), re.IGNORECASE | re.ASCII)
    unit = UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise OptionError(f"vram={str(text)!r} is no size; give a number and its unit, such as 6GB, 6000MB or 5.5GiB")
    size = math.floor(float(match[1]) * unit)
    if size < SMALLEST:
        raise OptionError(f"vram={str(text)!r} is too small; give 1MB or more, such as 6GB")
    return size


def as_size(size: float) -> str:
    """Bytes as a size that `parse_size` reads: three digits, rounded up, so that what needs `size` bytes fits."""
    unit, name = (10**9, "GB") if size > 999 * 10**6 else (10**6, "MB")
    value = max(size / unit, 1e-3)
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    rounded = math.ceil(value / step) * step
    if name == "MB":
        rounded = max(math.ceil(rounded), 1)
    return f"{rounded:.10g}{name}"
