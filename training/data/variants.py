"""Which LR versions a pack stores of each clip: `clean,web*3,real*3` is one clean, three web and three real ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from training.data.degrade import KINDS, Kind
from training.data.sources import DataError

DEFAULT_LR = "clean,web*3,real*3"
NONE = "none"
HELD_OUT_LR: tuple[Kind, ...] = ("clean", "web", "real")
"""What held-out clips of a pack without stored LR have all the same: models are compared on LR that never changes."""

_PART = re.compile(r"\s*(\w+)\s*(?:\*\s*(\d{1,3})\s*)?")


def parse_variants(spec: str) -> tuple[Kind, ...]:
    """One kind per stored version, in the order of the text; `none` gives (). DataError: what is wrong with it."""
    if spec.strip() == NONE:
        return ()
    kinds: list[Kind] = []
    for part in spec.split(","):
        match = _PART.fullmatch(part)
        if not match or (match[2] and int(match[2]) < 1):
            raise DataError(
                f"--lr {spec!r}: '{part.strip()}' is not a kind or kind*count with a count from 1 to 999; write for "
                f"instance {DEFAULT_LR}, or {NONE}"
            )
        kind = next((k for k in KINDS if k == match[1]), None)
        if kind is None:
            near = get_close_matches(match[1], [*KINDS, NONE], 1)
            hint = f"did you mean {near[0]}? Known" if near else "known"
            raise DataError(
                f"--lr {spec!r}: there is no kind '{match[1]}'; {hint}: {', '.join(KINDS)}; or {NONE} alone"
            )
        if kind in kinds:
            raise DataError(f"--lr {spec!r}: '{kind}' comes twice; give it once, with a count")
        kinds += [kind] * int(match[2] or 1)
    return tuple(kinds)


def variants_in_words(kinds: Sequence[str]) -> str:
    """The inverse: the shortest text for these versions."""
    counts = {kind: list(kinds).count(kind) for kind in kinds}
    return ",".join(kind if n == 1 else f"{kind}*{n}" for kind, n in counts.items()) or NONE
