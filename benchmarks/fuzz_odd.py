"""Videos that a muxer agrees to write and that nobody expects: tags, chapters, sizes, time bases, timestamps."""

import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from duovsr_vs.video.scheduling import usual_scheduling

MUXERS = {
    "mkv": "matroska", "mp4": "mp4", "mov": "mov", "webm": "webm", "avi": "avi", "ts": "mpegts",
    "y4m": "yuv4mpegpipe", "flv": "flv", "mpg": "mpeg",
}  # fmt: skip
CODECS = {"webm": "libvpx-vp9", "y4m": "wrapped_avframe", "mpg": "mpeg2video", "flv": "flv", "ts": "mpeg2video"}
SIZES = (
    (16, 16),
    (15, 16),
    (1, 1),
    (18, 20),
    (64, 64),
    (64, 64),
    (16, 1024),
    (4096, 16),
    (36, 22),
    (100, 30),
    (20, 16),
)
BASES = (
    Fraction(1), Fraction(1, 25), Fraction(1, 1000), Fraction(1001, 30000), Fraction(1, 90000), Fraction(1, 10**6),
    Fraction(1, 10**9), Fraction(7, 3), Fraction(1000), Fraction(1, 2**31 - 1), Fraction(2**31 - 1),
)  # fmt: skip
RATES = (
    Fraction(25), Fraction(1, 1000), Fraction(1, 10**6), Fraction(1000), Fraction(10**6), Fraction(30000, 1001),
    Fraction(1, 7),
)  # fmt: skip
SHAPES = (
    Fraction(1), Fraction(16, 15), Fraction(1, 1000), Fraction(1000), Fraction(65535, 65534), Fraction(1, 65535),
    Fraction(2**31 - 1), Fraction(0),
)  # fmt: skip
STAMPS = (0, 1, -1, 10, 1000, 2**31, 2**32 + 5, 2**40, 2**53, 2**62, -(2**31), -(2**40), 5)
TEXTS = (
    "", " ", "x" * 70_000, "a\nb", "\x1b[31mred", "\0x", "é", "\U0001f600", "\ud800"[:0], "00:00:01.5",
    "9" * 400 + ":00:00", "99999999:00:00.0", "=", ";", "a=b", "\r\n", "\u202e", "%s%n", "1" * 5000,
)  # fmt: skip
KEYS = (
    "title", "DURATION", "language", "rotate", "timecode", "alpha_mode", "encoder", "creation_time", "", "x" * 300,
    "a=b", "é", "a\nb", "handler_name", "NUMBER_OF_FRAMES", "stereo_mode", "major_brand", "comment", "name", "track",
)  # fmt: skip
TIMES = (0, 1, -1, 40, 1000, 2**31, 2**53, 2**62, -(2**40))


def make(folder: Path, chance: random.Random) -> Path:
    """Write one. Raises whatever the muxer raises when it does not take it."""
    suffix = chance.choice(("mkv", "mkv", "mkv", "mp4", "mp4", "mov", "webm", "avi", "ts", "y4m", "flv", "mpg"))
    path = folder / f"odd.{suffix}"
    width, height = chance.choice(SIZES)
    codec = CODECS.get(suffix) or chance.choice(
        ("ffv1", "mjpeg", "png") if suffix in ("mkv", "avi") else ("mjpeg", "png")
    )
    base, rate = chance.choice(BASES), chance.choice(RATES)
    pix_fmt = {"png": "rgb24", "mjpeg": "yuvj420p"}.get(
        codec, chance.choice(("yuv420p", "yuv444p")) if suffix in ("mkv", "y4m") else "yuv420p"
    )
    with av.open(path, "w", format=MUXERS[suffix]) as out:
        stream: Any = out.add_stream(codec, rate=rate, width=width, height=height, pix_fmt=pix_fmt, time_base=base)
        stream.time_base = base
        stream.codec_context.thread_count = 1
        if chance.random() < 0.4:
            stream.codec_context.sample_aspect_ratio = chance.choice(SHAPES)
        if chance.random() < 0.2:
            stream.set_display_rotation(chance.choice((0, 90, 33, -180, 1e9)))
        text = _beside(out, stream, suffix, chance)
        with usual_scheduling():
            out.start_encoding()
        _frames(out, stream, base, chance)
        if text is not None:
            _lines(out, text, chance)
    return path


def _beside(out: Any, stream: Any, suffix: str, chance: random.Random) -> Any:
    """Tags, chapters, attachments, a text stream."""
    for holder in (out, stream):
        for _ in range(chance.choice((0, 1, 3, 300)) if chance.random() < 0.6 else 0):
            holder.metadata[chance.choice(KEYS)] = chance.choice(TEXTS)
    if chance.random() < 0.5:
        count = chance.choice((1, 2, 300, 3000))
        base = chance.choice(BASES)
        out.set_chapters([_chapter(number, base, chance) for number in range(count)])
    if suffix == "mkv" and chance.random() < 0.3:
        name = chance.choice(("a.ttf", "", "../../x", "a\nb", "x" * 5000))
        out.add_attachment(name, chance.choice(("image/png", "", "font/ttf")), chance.choice((b"", b"x", b"y" * 10**5)))
    form = {"mkv": ("subrip", "ass", "webvtt"), "mp4": ("mov_text",), "mov": ("mov_text",), "webm": ("webvtt",)}.get(
        suffix
    )
    if form is None or chance.random() < 0.6:
        return None
    text = out.add_mux_stream(chance.choice(form))
    text.metadata["language"] = chance.choice(("eng", "", "x" * 50, "a\nb", "é"))
    return text


def _chapter(number: int, base: Fraction, chance: random.Random) -> dict[str, Any]:
    begin = chance.choice(TIMES) + number
    end = chance.choice((begin + 40, begin, begin - 1, 2**62))
    title = chance.choice(TEXTS) if chance.random() < 0.2 else str(number)
    return {
        "id": chance.choice((number, 0, -1)),
        "start": begin,
        "end": end,
        "time_base": base,
        "metadata": {"title": title},
    }


def _frames(out: Any, stream: Any, base: Fraction, chance: random.Random) -> None:
    """A few frames at odd times, all of which increase."""
    context = stream.codec_context
    stamp, step = chance.choice(STAMPS), chance.choice((1, 1, 40, 3600, 2**31, 2**45))
    for _ in range(chance.choice((1, 2, 5))):
        frame = av.VideoFrame(context.width, context.height, context.pix_fmt)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts, frame.time_base = stamp, base
        stamp += step if chance.random() < 0.8 else chance.choice((1, 2, 2**33))
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def _lines(out: Any, stream: Any, chance: random.Random) -> None:
    for number in range(chance.choice((1, 3))):
        packet: Any = av.Packet(
            chance.choice((b"line", b"\0\4line", b"", b"\xff\xff\xff", b"x" * 70_000, b"0,0,Default,,0,0,0,,x"))
        )
        packet.pts = packet.dts = chance.choice((40 * number, 2**40 + number))
        packet.duration, packet.time_base = chance.choice((0, 150, -5, 2**31)), Fraction(1, 1000)
        packet.stream = stream
        out.mux(packet)
