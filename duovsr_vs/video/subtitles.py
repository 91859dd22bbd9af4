"""Text subtitles between containers that write them differently: SubRip, ASS, WebVTT, and the timed text of mp4."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import av

FORMS = {"matroska": "subrip", "webm": "webvtt", "mp4": "mov_text", "mov": "mov_text"}
"""Muxer -> the kind of text (libav's encoder) that it holds."""
TEXTS = {"subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text"}
EMPTY = b"\0\0"
"""What mp4 writes where no text is shown."""
_HEADER = b"""[Script Info]
ScriptType: v4.00+
PlayResX: 384
PlayResY: 288

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
"""What libav's subtitle encoders want to know where the source says nothing."""


def form_for(muxer: str, stream: Any) -> str:
    """The kind of text into which a stream can be turned for a muxer; "" where that cannot be done."""
    context = stream.codec_context
    if stream.type != "subtitle" or context is None or context.codec.canonical_name not in TEXTS:
        return ""
    form = FORMS.get(muxer, "")
    return form if form in av.codecs_available else ""


class TextConverter:
    """Turns the packets of one text stream into those of another kind: words and simple styles stay, positions do not
    where the new kind has none.
    """

    def __init__(self, stream: Any, made: Any):
        """stream: of the source.  made: a new stream of the output, made with the encoder of the new kind."""
        self._decoder, self._made = stream.codec_context, made
        with suppress(av.FFmpegError):
            self._decoder.open(strict=False)
        made.codec_context.subtitle_header = self._decoder.subtitle_header or _HEADER
        made.codec_context.time_base = made.time_base = stream.time_base

    def convert(self, packet: Any) -> Any | None:
        """The packet in its new form, with the same times; None where it shows nothing."""
        with suppress(av.FFmpegError, ValueError):
            shown = self._decoder.decode2(packet)
            if shown is None or not len(shown):
                return None
            new = self._made.codec_context.encode_subtitle(shown)
            new.pts, new.dts, new.duration, new.time_base = packet.pts, packet.dts, packet.duration, packet.time_base
            return new if new.size else None
        return None
