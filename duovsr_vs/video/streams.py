"""The other streams: which of them the output container can hold, and their packets, copied as they are."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Discard, Disposition

from .probe import exact
from .subtitles import EMPTY, TextConverter, form_for

_STALE_TAGS = (
    "duration",
    "bps",
    "number_of_frames",
    "number_of_bytes",
    "encoder",
    "_statistics",
    "vendor_id",
    "alpha_mode",
)
"""Tags that describe the old file's bytes and would be wrong in the new one."""


MOV_LANGUAGES = {
    "deu": "ger", "nld": "dut", "ell": "gre", "isl": "ice", "zho": "chi", "sqi": "alb", "eus": "baq", "mya": "bur",
    "kat": "geo", "hye": "arm", "mkd": "mac", "msa": "may", "fas": "per", "bod": "tib", "cym": "wel", "fre": "fra",
    "cze": "ces", "slo": "slk", "rum": "ron",
}  # fmt: skip
"""ISO 639-2 has two codes for these languages, and QuickTime files (in libav) know the second one only."""
LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""What so many channels are, where a file does not say it."""
TRIAL, TRIAL_STEP = bytes(range(1, 251)) * 168, 6720
"""What is written as a trial, and whole samples of any PCM with up to eight channels."""
type Cover = tuple[str, str, bytes]
"""File name, MIME type, bytes."""


@dataclass(frozen=True, slots=True)
class Span:
    """A cut in seconds of the input's clock: packets in [begin, end) belong to it, and `begin` becomes 0.

    None leaves that side open (and, for begin, the clock as it is).
    """

    begin: Fraction | None = None
    end: Fraction | None = None


def kept_tags(metadata: dict[str, str]) -> dict[str, str]:
    """Metadata without what only described the old file."""
    container = ("major_brand", "minor_version", "compatible_brands")
    return {k: v for k, v in metadata.items() if not k.lower().startswith(_STALE_TAGS) and k not in container}


def stream_tags(metadata: dict[str, str], muxer: str) -> dict[str, str]:
    """A stream's metadata for a muxer: what libav reads as `name` from mp4 it writes from `title`."""
    tags = kept_tags(metadata)
    named = tags.pop("name", None)
    if named and "title" not in tags:
        tags["title"] = named
    if muxer in ("matroska", "webm") and tags.get("handler_name", "").endswith("Handler"):
        del tags["handler_name"]  # libav's filling of a field that Matroska does not have
    if muxer == "mov" and tags.get("language") in MOV_LANGUAGES:
        tags["language"] = MOV_LANGUAGES[tags["language"]]
    return tags


def lost_tags(metadata: dict[str, str], muxer: str) -> list[str]:
    """Names of the tags of a file that a muxer has no place for, in lower case; tried in memory."""
    wanted = {key.lower() for key in kept_tags(metadata)}
    if not wanted or muxer in ("y4m", "image"):
        return sorted(wanted)
    file = io.BytesIO()
    try:
        with av.open(file, "w", format=muxer) as trial:
            video: Any = trial.add_stream("libvpx-vp9" if muxer == "webm" else "mpeg4", rate=25, width=16, height=16)
            trial.metadata.update(kept_tags(metadata))
            trial.mux(video.encode(av.VideoFrame(16, 16, "yuv420p")) + video.encode(None))
        file.seek(0)
        with av.open(file, "r") as container:
            return sorted(wanted - {key.lower() for key in container.metadata})
    except (av.FFmpegError, ValueError, OSError):
        return []  # it refuses them altogether; the writer meets the same and says so


class StreamCopier:
    """Decides what can be copied into a muxer, adds those streams to an output and writes their packets."""

    def __init__(self, source: Any, video_index: int, muxer: str, span: Span):
        """source: the open input.  muxer: libav's name of the output format."""
        self.span = span
        self.written: Counter[int] = Counter()
        self.kept: list[Any] = []
        self.lost: list[Any] = []
        self._muxer = muxer
        self._outputs: dict[int, Any] = {}
        self._last: dict[int, int] = {}
        self._covers: dict[int, Cover] = {}
        self._forms: dict[int, str] = {}
        self._converters: dict[int, TextConverter] = {}
        for stream in source.streams:
            if stream.index != video_index and not is_remade(muxer, stream):
                (self.kept if self._takes(source, stream) else self.lost).append(stream)

    def _takes(self, source: Any, stream: Any) -> bool:
        """Whether a stream can be kept; makes a note of those that the container wants in another form."""
        cover = cover_of(source, stream) if self._muxer == "matroska" and is_cover(stream) else None
        if cover is not None:
            self._covers[stream.index] = cover
        elif not _holds(self._muxer, stream):
            form = form_for(self._muxer, stream)
            if not form:
                return False
            self._forms[stream.index] = form
        return True

    def names(self) -> tuple[list[str], list[str]]:
        """What is kept and what the container cannot hold: `audio (aac, eng)`, `subtitle (srt, fra) as mov_text`."""
        forms = {index: f" as {form}" for index, form in self._forms.items()}
        kept = [name_of(stream) + forms.get(stream.index, "") for stream in self.kept]
        return kept, [name_of(stream) for stream in self.lost]

    @property
    def left_out(self) -> frozenset[int]:
        """Indexes in the input of the streams that the container cannot hold."""
        return frozenset(stream.index for stream in self.lost)

    def add_to(self, output: Any) -> None:
        """Create the kept streams in an output container."""
        for stream in self.kept:
            if stream.index in self._covers:
                output.add_attachment(*self._covers[stream.index])  # that is how Matroska holds pictures
                continue
            form = self._forms.get(stream.index)
            made = output.add_stream(form) if form else _add(output, stream)
            if form:
                self._converters[stream.index] = TextConverter(stream, made)
            made.metadata.update(stream_tags(stream.metadata, self._muxer))
            made.disposition = stream.disposition
            self._outputs[stream.index] = made

    def write(self, output: Any, packets: Iterable[Any]) -> None:
        """Mux those of the packets that belong to a kept stream and to the span."""
        for packet in packets:
            made = self._outputs.get(packet.stream.index)
            if made is None or packet.size == 0 or not self._cut(packet):
                continue
            index, source = packet.stream.index, packet.stream
            new = self._converters[index].convert(packet) if index in self._converters else packet
            if new is None:
                continue
            self.written[index] += amount(source, new)
            if source.type == "data" and not new.duration:
                new.duration = 1  # a last packet that lasts no time lies outside of an mp4
            new.stream = made
            output.mux_one(new)

    def expected(self) -> list[int]:
        """`amount` written of sounds and subtitles, in the order in which they were added."""
        return [self.written[stream.index] for stream in self.kept if is_vital(stream)]

    @property
    def pictures(self) -> int:
        """How many covers and attachments are kept."""
        return sum(stream.type == "attachment" or is_cover(stream) for stream in self.kept)

    def _cut(self, packet: Any) -> bool:
        """Whether the packet is inside the span; shifts its timestamps so that the span begins at 0."""
        base = exact(packet.stream.time_base)
        if is_cover(packet.stream):
            packet.pts = packet.dts = 0
            return True
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None or base is None:
            return False
        if packet.dts is None:
            packet.dts = stamp
        begin, end = self.span.begin, self.span.end
        if end is not None and stamp * base >= end:
            return False
        if begin is not None:
            if stamp * base < begin and not self._lasts_until(packet, stamp, base, begin):
                return False
            shift = round(begin / base)
            packet.pts = (stamp if packet.pts is None else packet.pts) - shift
            packet.dts -= shift
        return self._increases(packet)

    @staticmethod
    def _lasts_until(packet: Any, stamp: int, base: Fraction, begin: Fraction) -> bool:
        """A subtitle that is on screen when the span begins stays, for the rest of its time."""
        if packet.stream.type != "subtitle" or not packet.duration or (stamp + packet.duration) * base <= begin:
            return False
        late = round(begin / base) - stamp
        packet.pts, packet.dts, packet.duration = stamp + late, packet.dts + late, packet.duration - late
        return True

    def _increases(self, packet: Any) -> bool:
        """Skip a packet whose decoding time does not increase; muxers refuse such files."""
        last = self._last.get(packet.stream.index)
        if last is not None and packet.dts < last:
            return False
        self._last[packet.stream.index] = packet.dts
        return True


def amount(stream: Any, packet: Any) -> int:
    """What a packet counts for when a copy is compared: containers divide PCM into packets as they like, so its bytes
    do; texts that show nothing, which mp4 adds by itself, do not.
    """
    if stream.codec_context is not None and stream.codec_context.name.startswith("pcm_"):
        return int(packet.size)
    return int(stream.type != "subtitle" or bytes(packet) != EMPTY)


def is_vital(stream: Any) -> bool:
    """Whether a file without all of a stream is no copy: sound and subtitles. Data is compared in the report only."""
    return stream.type in ("audio", "subtitle")


def chapters_in(source: Any, span: Span) -> list[Any]:
    """The input's chapters, cut to the span and moved with it."""
    begin = span.begin or Fraction(0)
    chapters = []
    for chapter in source.chapters():
        base = exact(chapter["time_base"]) or Fraction(1, 1000)
        low = max(chapter["start"] * base, begin)
        high = chapter["end"] * base if span.end is None else min(chapter["end"] * base, span.end)
        if high > low:
            moved = {"start": round((low - begin) / base), "end": round((high - begin) / base)}
            chapters.append({**chapter, **moved})
    return chapters


def _add(output: Any, stream: Any) -> Any:
    made = output.add_stream_from_template(stream, opaque=True)
    if stream.type == "audio" and re.fullmatch(r"\d+ channels", stream.layout.name):  # mp4 wants to know which they are
        made.codec_context.layout = LAYOUTS.get(stream.layout.nb_channels, stream.layout.name)
    return made


def is_remade(muxer: str, stream: Any) -> bool:
    """Whether a muxer makes a stream anew from what is kept elsewhere: chapters in mp4, and timecodes from a tag."""
    chapters = stream.type == "data" and stream.discard == Discard.all
    return chapters or (stream.type == "data" and "timecode" in stream.metadata and muxer in ("mp4", "mov"))


def _holds(muxer: str, stream: Any) -> bool:
    """Whether a muxer takes a stream: tried in memory, since libav's table of codecs is not complete.

    Data and PCM pass the header and may be refused or lost later, so packets of them are written and read, too.
    """
    attachment = stream.type == "attachment" and muxer == "webm"
    if muxer in ("y4m", "image") or attachment or (is_cover(stream) and muxer != "mp4"):
        return False
    tried = [TRIAL[:-n] for n in (TRIAL_STEP, 2 * TRIAL_STEP, 3 * TRIAL_STEP)]
    packets = tried if stream.type == "data" or amount(stream, av.Packet(TRIAL)) > 1 else []
    file = io.BytesIO()
    try:
        with av.open(file, "w", format=muxer) as trial:
            made = _add(trial, stream)
            trial.start_encoding()
            for number, content in enumerate(packets):
                packet: Any = av.Packet(content)
                packet.pts = packet.dts = number * 1000
                packet.duration = 1000
                packet.stream, packet.time_base = made, Fraction(1, 1000)
                trial.mux_one(packet)
        read = _read(file) if packets else []
    except (av.FFmpegError, ValueError, OSError, TypeError):
        return False
    return b"".join(read) == b"".join(packets) and (stream.type != "data" or len(read) == len(packets))


def _read(file: io.BytesIO) -> list[bytes]:
    file.seek(0)
    with av.open(file, "r") as container:
        return [bytes(packet) for packet in container.demux() if packet.size]


def is_cover(stream: Any) -> bool:
    """Whether a stream is a picture that goes with the file, not a video."""
    return stream.type == "video" and bool(stream.disposition & Disposition.attached_pic)


def cover_of(source: Any, stream: Any) -> Cover | None:
    """File name, MIME type and bytes of a cover picture; None where the input cannot be read twice."""
    if not Path(source.name).is_file():
        return None
    codec = stream.codec_context.name if stream.codec_context else ""
    ending = {"mjpeg": "jpg"}.get(codec, codec)
    with suppress(av.FFmpegError, OSError), av.open(source.name, "r") as again:
        data = next((bytes(p) for p in again.demux(again.streams[stream.index]) if p.size), b"")
        name = stream.metadata.get("filename") or f"cover.{ending}"
        return name, stream.metadata.get("mimetype") or f"image/{'jpeg' if ending == 'jpg' else ending}", data
    return None


def name_of(stream: Any) -> str:
    """`audio (aac, eng)`."""
    if stream.type == "data":
        return "timecode" if "timecode" in stream.metadata else "data"
    codec = (
        stream.codec_context.name if stream.codec_context else getattr(stream, "name", "")
    )  # only attachments have it
    language = stream.metadata.get("language", "")
    inside = ", ".join(part for part in (codec, language if language != "und" else "") if part)
    kind = "cover picture" if is_cover(stream) else stream.type
    return f"{kind} ({inside})" if inside else str(kind)
