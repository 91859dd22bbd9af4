"""Small video files with all that a container can hold, and a set of them in which every pair of traits occurs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import combinations, product
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from duovsr_vs.video.ebml import write_display_size
from duovsr_vs.video.hdr import HdrMetadata, attach
from duovsr_vs.video.pixels import component_arrays, layout_of
from duovsr_vs.video.scheduling import usual_scheduling

FRAMES = 10
MILLISECOND = Fraction(1, 1000)
TRAITS: dict[str, tuple[str, ...]] = {
    "source": ("mkv", "mp4", "mov", "webm"),
    "target": ("mkv", "mp4", "mov", "webm"),
    "timing": ("25 fps", "29.97 fps", "variable", "late start"),
    "size": ("even", "odd"),
    "shape": ("square", "16:15", "turned"),
    "colour": ("709", "full range", "PQ", "HLG"),
    "bits": ("8", "10"),
    "audio": ("0", "1", "3"),
    "subtitles": ("0", "1", "2"),
    "chapters": ("no", "yes"),
    "extras": ("no", "yes"),
}
"""Trait -> its values. extras: metadata, a font and a cover picture, where the source's container has them."""
MUXERS = {"mkv": "matroska", "mp4": "mp4", "mov": "mov", "webm": "webm"}
SOUND = {
    "mkv": ("aac", "flac", "libopus"),
    "mp4": ("aac", "aac", "flac"),
    "mov": ("aac", "pcm_s16le", "aac"),
    "webm": ("libopus",) * 3,
}
TEXT = {
    "mkv": ("subrip", "ass"),
    "mp4": ("mov_text", "mov_text"),
    "mov": ("mov_text", "mov_text"),
    "webm": ("webvtt", "webvtt"),
}
FILM = HdrMetadata(
    tuple(
        (Fraction(x), Fraction(y))
        for x, y in (("0.708", "0.292"), ("0.17", "0.797"), ("0.131", "0.046"), ("0.3127", "0.329"))
    ),
    (Fraction("0.005"), Fraction(1000)),
    (1000, 400),
)
COLOURS = {"709": (1, 1, 1, 1), "full range": (6, 6, 6, 2), "PQ": (9, 9, 16, 1), "HLG": (9, 9, 18, 1)}
"""Matrix, primaries, transfer, range."""


@dataclass(frozen=True, slots=True)
class Case:
    """One source and where it goes; the values of TRAITS."""

    source: str
    target: str
    timing: str
    size: str
    shape: str
    colour: str
    bits: str
    audio: str
    subtitles: str
    chapters: str
    extras: str

    @property
    def makes_sense(self) -> bool:
        """HDR has 10 bits; VP9 here has 8, and AV1 has even sides only; WebM cannot turn a picture."""
        if (self.colour in ("PQ", "HLG")) != (self.bits == "10"):
            return False
        return self.source != "webm" or ((self.bits == "8" or self.size == "even") and self.shape != "turned")

    @property
    def name(self) -> str:
        """`mkv to mp4: variable, odd, ...`."""
        values = asdict(self)
        return f"{self.source} to {self.target}: " + ", ".join(
            f"{v} {k}" if v.isdigit() else f"{k} {v}" if v in ("no", "yes") else v
            for k, v in values.items()
            if k not in ("source", "target")
        )


BEYOND_PAIRS = (Case("mp4", "mkv", "29.97 fps", "even", "square", "709", "8", "1", "1", "yes", "no"),)
"""mkv holds whole milliseconds, which shows only where the source is more exact."""


def covering(seed: int = 0, tries: int = 300) -> list[Case]:
    """Few cases in which every two values of different traits that can meet do meet; the same for the same seed.

    BEYOND_PAIRS come last.
    """
    chance = random.Random(seed)
    valid = [values for values in product(*TRAITS.values()) if Case(*values).makes_sense]
    open_pairs = {pair for values in valid for pair in _pairs(values)}
    chosen: list[Case] = []
    while open_pairs:
        best = max(chance.sample(valid, tries), key=lambda values: len(open_pairs.intersection(_pairs(values))))
        if open_pairs.isdisjoint(_pairs(best)):
            best = next(values for values in valid if not open_pairs.isdisjoint(_pairs(values)))
        chosen.append(Case(*best))
        open_pairs.difference_update(_pairs(best))
    return [*chosen, *BEYOND_PAIRS]


def _pairs(values: tuple[str, ...]) -> Iterator[tuple[tuple[int, str], tuple[int, str]]]:
    return combinations(enumerate(values), 2)


def make_source(case: Case, folder: Path) -> Path:
    """Write the source of a case."""
    path = folder / f"source.{case.source}"
    base, stamps = _timing(case.timing)
    with av.open(path, "w", format=MUXERS[case.source]) as out:
        stream = _video(out, case, base)
        sounds = [_sound(out, codec, n) for n, codec in enumerate(SOUND[case.source][: int(case.audio)])]
        texts = [_text(out, codec, n) for n, codec in enumerate(TEXT[case.source][: int(case.subtitles)])]
        _extras(out, case)
        with usual_scheduling():
            out.start_encoding()
        for number, stamp in enumerate(stamps):
            frame = _picture(number, stream.codec_context)
            frame.pts, frame.time_base = stamp, base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        for sound in sounds:
            out.mux(_tone(sound))
        for text, codec in zip(texts, TEXT[case.source], strict=False):
            out.mux(list(_lines(text, codec)))
    if case.source == "webm" and case.shape == "16:15":
        write_display_size(path, *_size(case), Fraction(16, 15))  # libav's WebM writer cannot be told by PyAV
    return path


def _timing(timing: str) -> tuple[Fraction, list[int]]:
    """Time base and timestamps."""
    if timing == "29.97 fps":
        return Fraction(1001, 30000), list(range(FRAMES))
    jumps = [0, 40, 90, 91, 150, 400, 1000, 1001, 1500, 1555]
    late = 2000 if timing == "late start" else 0
    regular = range(late, late + 40 * FRAMES, 40)
    return MILLISECOND, jumps if timing == "variable" else list(regular)


def _video(out: Any, case: Case, base: Fraction) -> Any:
    codec = {"8": "libvpx-vp9", "10": "libsvtav1"}[case.bits] if case.source == "webm" else "libx264"
    size = _size(case)
    pix_fmt = ("yuv444p" if case.size == "odd" else "yuv420p") + ("10le" if case.bits == "10" else "")
    stream = out.add_stream(codec, rate=Fraction(30000, 1001) if base.denominator == 30000 else 25, time_base=base)
    context = stream.codec_context
    if case.colour == "PQ":
        rate = context.framerate
        attach(stream, codec, FILM)
        context.framerate = rate
    context.width, context.height, context.pix_fmt, context.thread_count = *size, pix_fmt, 1
    context.colorspace, context.color_primaries, context.color_trc, context.color_range = COLOURS[case.colour]
    context.chroma_sample_location = 1 if case.size == "even" else 0
    if case.shape == "16:15":
        context.sample_aspect_ratio = Fraction(16, 15)
    if case.shape == "turned":
        stream.set_display_rotation(90)
    stream.time_base = base
    stream.metadata["language"] = "jpn"
    return stream


def _size(case: Case) -> tuple[int, int]:
    return (37, 21) if case.size == "odd" else (64, 64)


def _picture(number: int, context: Any) -> av.VideoFrame:
    frame = av.VideoFrame(context.width, context.height, context.pix_fmt)
    layout = layout_of(context.pix_fmt)
    for component, view in enumerate(component_arrays(frame, layout)):
        rows, columns = np.indices(view.shape)
        wave = np.sin((rows * (1 + component) + 2 * columns + 5 * number) * 6.0 / sum(view.shape))
        view[:] = np.round((0.5 + 0.38 * wave) * ((1 << layout.bits) - 1)).astype(view.dtype)
    frame.colorspace, frame.color_primaries = context.colorspace, context.color_primaries
    frame.color_trc, frame.color_range = context.color_trc, context.color_range
    return frame


def _sound(out: Any, codec: str, number: int) -> Any:
    stream = out.add_stream(codec, rate=48000)
    stream.metadata.update(language=("eng", "fra", "deu")[number], title=("Film", "Commentary", "Description")[number])
    stream.disposition = (Disposition.default, Disposition.comment, Disposition.visual_impaired)[number]
    return stream


def _tone(stream: Any) -> list[Any]:
    context, packets = stream.codec_context, []
    step = context.frame_size or 1024
    for begin in range(0, 24000, step):
        block = av.AudioFrame(format=context.format.name, layout="stereo", samples=step)
        block.sample_rate, block.pts, block.time_base = 48000, begin, Fraction(1, 48000)
        for plane in block.planes:
            plane.update(bytes((begin // step + i) % 7 for i in range(plane.buffer_size)))
        packets += stream.encode(block)
    return packets + stream.encode(None)


def _text(out: Any, codec: str, number: int) -> Any:
    stream = out.add_mux_stream(codec)
    stream.metadata["language"] = ("eng", "fra")[number]
    if number:
        stream.disposition = Disposition.forced
    return stream


def _lines(stream: Any, codec: str) -> Iterator[Any]:
    for number in range(2):
        words = f"line {number}"
        forms = {"mov_text": f"\0{chr(len(words))}{words}", "ass": f"{number},0,Default,,0,0,0,,{words}"}
        packet: Any = av.Packet(forms.get(codec, words).encode())
        packet.pts = packet.dts = 160 * number
        packet.duration, packet.time_base, packet.stream = 150, MILLISECOND, stream
        yield packet


def _extras(out: Any, case: Case) -> None:
    if case.chapters == "yes":
        marks = [(0, 200, "one"), (200, 400, "two")]
        out.set_chapters(
            [
                {"id": n, "start": a, "end": b, "time_base": MILLISECOND, "metadata": {"title": t}}
                for n, (a, b, t) in enumerate(marks)
            ]
        )
    if case.extras == "yes":
        out.metadata.update(title="A film", artist="Somebody", comment="About it")
        if case.source == "mkv":
            out.add_attachment("font.ttf", "application/x-truetype-font", b"not a font" * 40)
            out.add_attachment("cover.png", "image/png", _png())


def _png() -> bytes:
    context: Any = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 16, 16, "rgb24", Fraction(1, 25)
    return b"".join(bytes(p) for p in [*context.encode(av.VideoFrame(16, 16, "rgb24")), *context.encode(None)])
