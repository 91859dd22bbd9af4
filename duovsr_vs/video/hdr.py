"""HDR10 metadata: the display a film was graded on (SMPTE ST 2086) and how bright it gets (CTA-861.3).

Read from the first frame or from the container; written twice, because players look in different places: into the
bitstream by the encoder's own parameters (H.264, HEVC, AV1), and into the container. libav writes the latter from what
a stream's parameters hold, which PyAV cannot set; it can copy the parameters of another stream, though, so they are
copied from a stream of a Matroska file of 500 bytes that is made here and says nothing else.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.bitstream import BitStreamFilterContext

from .ebml import SEGMENT, TRACK, TRACKS, VIDEO, element, real, whole

DYNAMIC = {
    "DYNAMIC_HDR_PLUS": "HDR10+", "DOVI_METADATA": "Dolby Vision", "DOVI_RPU_BUFFER": "Dolby Vision",
    "DYNAMIC_HDR_VIVID": "HDR Vivid", "AMBIENT_VIEWING_ENVIRONMENT": "ambient light",
}  # fmt: skip
"""libav's names of side data that describes single scenes or the viewer's room, and what people call it."""
MATROSKA_CODECS = {
    "libx264": "V_MPEG4/ISO/AVC", "libx265": "V_MPEGH/ISO/HEVC", "libsvtav1": "V_AV1", "libvpx-vp9": "V_VP9",
    "ffv1": "V_FFV1", "prores_ks": "V_PRORES",
}  # fmt: skip
"""Encoders whose streams can carry HDR metadata here -> Matroska's name of their codec."""
_PARAMETERS = {
    "libx264": ("x264-params", "mastering-display", "cll"),
    "libx265": ("x265-params", "master-display", "max-cll"),
    "libsvtav1": ("svtav1-params", "mastering-display", "content-light"),
}
"""Encoder -> its option for parameters of its own, and their names."""
_COLOUR_UNIT, _LIGHT_UNIT = 50000, 10000
"""Steps per 1 of a chromaticity and per nit, in which codecs and mp4 store them."""


@dataclass(frozen=True, slots=True)
class HdrMetadata:
    """primaries: (x, y) of red, green, blue and white, () if unknown.  luminance: least and most of the mastering
    display in nits, () if unknown.  light: MaxCLL and MaxFALL of the content in nits, () if unknown.
    """

    primaries: tuple[tuple[Fraction, Fraction], ...] = ()
    luminance: tuple[Fraction, ...] = ()
    light: tuple[int, ...] = ()

    def describe(self) -> str:
        """`mastered at 0.0050-1000 nits, MaxCLL 1000, MaxFALL 400`."""
        parts = []
        if self.luminance:
            parts.append(f"mastered at {float(self.luminance[0]):.4g}-{float(self.luminance[1]):g} nits")
        if self.light:
            parts.append(f"MaxCLL {self.light[0]}, MaxFALL {self.light[1]}")
        return ", ".join(parts) or "mastering primaries"

    def matches(self, other: HdrMetadata | None) -> bool:
        """Whether the same is said, to one storage unit of any codec (AV1 stores 1/65536)."""
        if other is None or self.light != other.light:
            return False
        mine, theirs = ([v for pair in one.primaries for v in pair] for one in (self, other))
        pairs = [*zip(mine, theirs, strict=False), *zip(self.luminance, other.luminance, strict=False)]
        complete = len(mine) == len(theirs) and len(self.luminance) == len(other.luminance)
        return complete and all(abs(a - b) <= max(abs(a) / 1000, Fraction(1, 5000)) for a, b in pairs)


def hdr_of(frame: av.VideoFrame | None, context: Any) -> HdrMetadata | None:
    """What a decoded frame says, else what its container says (`coded_side_data` of a stream's context)."""
    held = {kind.name: bytes(data) for kind, data in frame.side_data.items()} if frame is not None else {}
    held |= {name.upper(): data for name, data in context.coded_side_data.items() if name.upper() not in held}
    mastering, light = held.get("MASTERING_DISPLAY_METADATA", b""), held.get("CONTENT_LIGHT_LEVEL", b"")
    primaries, luminance = _mastering(mastering)
    found = HdrMetadata(primaries, luminance, struct.unpack("2I", light[:8]) if len(light) >= 8 and any(light) else ())
    return found if found != HdrMetadata() else None


def _mastering(data: bytes) -> tuple[tuple[tuple[Fraction, Fraction], ...], tuple[Fraction, ...]]:
    """libav's AVMasteringDisplayMetadata: ten rationals (red, green, blue, white, least, most) and two flags."""
    if len(data) < 88:
        return (), ()
    *terms, has_primaries, has_luminance = struct.unpack("22i", data[:88])
    if not all(terms[1::2]):
        return (), ()
    values = [Fraction(a, b) for a, b in zip(terms[::2], terms[1::2], strict=True)]
    points = tuple((values[i], values[i + 1]) for i in range(0, 8, 2))
    return points if has_primaries else (), (values[8], values[9]) if has_luminance else ()


def encoder_options(codec: str, hdr: HdrMetadata) -> tuple[str, str]:
    """The name of an encoder's option and what to add to it, so that its bitstream says the same; ("", "") for none."""
    if codec not in _PARAMETERS:
        return "", ""
    option, mastering, light = _PARAMETERS[codec]
    parts = []
    if hdr.primaries and hdr.luminance:
        units = (0, 0) if codec == "libsvtav1" else (_COLOUR_UNIT, _LIGHT_UNIT)
        parts.append(f"{mastering}={_display(hdr, *units)}")
    if hdr.light:
        parts.append(f"{light}={hdr.light[0]},{hdr.light[1]}")
    return (option, ":".join(parts)) if parts else ("", "")


def _display(hdr: HdrMetadata, colour_unit: int, light_unit: int) -> str:
    """`G(x,y)B(x,y)R(x,y)WP(x,y)L(most,least)`, in whole units, or in decimals where a unit is 0."""

    def said(value: Fraction, unit: int) -> str:
        return str(round(value * unit)) if unit else f"{float(value):.6f}"

    red, green, blue, white = hdr.primaries
    points = [("G", green), ("B", blue), ("R", red), ("WP", white)]
    text = "".join(f"{name}({said(x, colour_unit)},{said(y, colour_unit)})" for name, (x, y) in points)
    return f"{text}L({said(hdr.luminance[1], light_unit)},{said(hdr.luminance[0], light_unit)})"


def attach(stream: Any, codec: str, hdr: HdrMetadata) -> None:
    """Let an output stream's container say it. To be called before anything else is set: it resets the parameters."""
    with av.open(io.BytesIO(_carrier(MATROSKA_CODECS[codec], hdr))) as carrier:
        BitStreamFilterContext("null", carrier.streams.video[0], stream)


def _carrier(codec: str, hdr: HdrMetadata) -> bytes:
    """A Matroska file (RFC 9559) with one video track, no frame, and the metadata."""
    colour = [element(n, whole(v)) for n, v in zip(("55BC", "55BD"), hdr.light, strict=False)]
    names = [f"55D{digit}" for digit in "12345678"]
    values = [v for pair in hdr.primaries for v in pair]
    mastering = [element(n, real(v)) for n, v in zip(names, values, strict=False)]
    mastering += [element(n, real(v)) for n, v in zip(("55DA", "55D9"), hdr.luminance, strict=False)]
    colour += [element("55D0", *mastering)] if mastering else []
    video = element(VIDEO, element("B0", whole(64)), element("BA", whole(64)), element("55B0", *colour))
    track = [element(name, whole(1)) for name in ("D7", "73C5", "83")] + [element("86", codec.encode()), video]
    head = element("1A45DFA3", element("4282", b"matroska"), element("4287", whole(4)), element("4285", whole(2)))
    return head + element(
        SEGMENT,
        element("1549A966", element("2AD7B1", whole(1_000_000))),
        element(TRACKS, element(TRACK, *track)),
        element("1F43B675", element("E7", whole(0))),
    )
