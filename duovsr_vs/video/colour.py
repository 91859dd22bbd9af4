"""Colour tags: what a file says about its samples (ITU-T H.273 numbers), and what is assumed where it says nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import av

from ..errors import FormatError, OptionError
from .pixels import PixelLayout

UNSPECIFIED = 2
"""H.273 code of an unknown matrix, transfer or primaries."""
MATRIX_NAMES = {
    0: "rgb", 1: "709", 4: "fcc", 5: "470bg", 6: "170m", 7: "240m", 8: "ycgco", 9: "2020ncl",
}  # fmt: skip
TRANSFER_HDR = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True, slots=True)
class ColourTags:
    """matrix, primaries, transfer: H.273 codes, 2 = unspecified.  full: full range.

    chroma: libav's chroma location, 0 = unspecified, 1 = left, 2 = centre.
    """

    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    full: bool = False
    chroma: int = 0

    @property
    def chroma_zimg(self) -> int:
        """Chroma location in VapourSynth's numbers (0 = left); unspecified is left, as in the filter."""
        return max(self.chroma - 1, 0)

    def describe(self) -> str:
        """For people: `matrix 709, limited range`."""
        hdr = f", {TRANSFER_HDR[self.transfer]}" if self.transfer in TRANSFER_HDR else ""
        matrix = "untagged" if self.matrix == UNSPECIFIED else f"matrix {MATRIX_NAMES.get(self.matrix, self.matrix)}"
        return f"{matrix}, {'full' if self.full else 'limited'} range{hdr}"


def tags_of(frame: av.VideoFrame, layout: PixelLayout, still: bool = False) -> ColourTags:
    """The tags of a decoded frame. still: an image file, whose gray is full range unless it says otherwise."""
    full = layout.full or frame.color_range == 2 or (frame.color_range != 1 and (layout.family == "rgb" or still))
    matrix = 0 if layout.family == "rgb" else int(frame.colorspace)
    return ColourTags(matrix, int(frame.color_primaries), int(frame.color_trc), full, int(frame.chroma_location))


def parse_matrix(text: str) -> int:
    """H.273 code from a name (709, 170m, 2020ncl, …) or a number. Raises OptionError."""
    names = {name: code for code, name in MATRIX_NAMES.items() if code != 0}
    aliases = {"601": 6, "bt709": 1, "bt601": 6, "smpte170m": 6, "bt470bg": 5, "2020": 9, "bt2020nc": 9}
    code = names.get(text, aliases.get(text))
    if code is None:
        raise OptionError(f"--matrix {text}: the known matrices are {', '.join(sorted(names))}")
    return code


def resolve_matrix(tags: ColourTags, layout: PixelLayout, height: int, override: int | None) -> tuple[ColourTags, str]:
    """Tags with a usable matrix, and a sentence for the plan when it was not the file's own ("" otherwise).

    The filter's rule where the file is untagged: 709 from 720 lines up, else 170m. Raises OptionError (--matrix for
    RGB) and FormatError (a matrix that cannot be converted).
    """
    if layout.family == "rgb":
        if override is not None:
            raise OptionError(f"--matrix {MATRIX_NAMES[override]}: the input is RGB; leave it out")
        return replace(tags, matrix=0), ""
    if override is not None:
        said = "untagged" if tags.matrix == UNSPECIFIED else MATRIX_NAMES.get(tags.matrix, str(tags.matrix))
        return replace(tags, matrix=override), f"matrix {MATRIX_NAMES[override]} as asked (the file: {said})"
    if tags.matrix in MATRIX_NAMES and tags.matrix != 0:
        return tags, ""
    guess = 1 if height >= 720 else 6
    if tags.matrix != UNSPECIFIED and layout.family == "yuv":
        raise FormatError(f"the matrix {tags.matrix} of this video cannot be converted; name the nearest with --matrix")
    note = f"the matrix is untagged; {MATRIX_NAMES[guess]} is assumed for {height} lines and written"
    return replace(tags, matrix=guess), f"{note} (--matrix overrides)" if layout.family == "yuv" else ""
