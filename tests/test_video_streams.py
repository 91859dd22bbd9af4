"""The streams beside the video: covers, data, flags, names and languages, and text in the form of each container."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from video_files import MILLISECOND, convert, picture

from duovsr_vs.errors import VideoError
from duovsr_vs.video.encoding import output_kind
from duovsr_vs.video.facts import Facts, facts
from duovsr_vs.video.kept import kept
from duovsr_vs.video.reader import VideoReader
from duovsr_vs.video.streams import Span, StreamCopier, lost_tags
from duovsr_vs.video.verify import verify

WORDS = ("one", "<i>two</i>")


def film(
    path: Path, *, sound: Sequence[tuple[str, str, int]] = (), text: Sequence[str] = (), data: bool = False,
    cover: bool = False,
) -> Path:  # fmt: skip
    """A video with (codec, language, flags) for each sound, kinds of text, a data stream, a cover as attachment."""
    with av.open(path, "w") as out:
        video: Any = out.add_stream("libx264", rate=25, width=48, height=32, pix_fmt="yuv420p")
        video.metadata["title"] = "The video"
        sounds = [_sound(out, *one) for one in sound]
        texts = [out.add_mux_stream(codec) for codec in text]
        for stream in texts:
            stream.metadata["language"] = "fra"
        extra: Any = out.add_data_stream("bin_data") if data else None
        if cover:
            png: Any = av.CodecContext.create("png", "w")
            png.width, png.height, png.pix_fmt, png.time_base = 16, 16, "rgb24", Fraction(1, 25)
            image = av.VideoFrame(16, 16, "rgb24")
            out.add_attachment("front.png", "image/png", b"".join(map(bytes, png.encode(image) + png.encode(None))))
        for number in range(5):
            frame = picture(number, 48, 32)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for stream in sounds:
            _fill(out, stream)
        for stream, codec in zip(texts, text, strict=True):
            _mux(out, stream, [_form(codec, number, words) for number, words in enumerate(WORDS)])
        if extra is not None:
            _mux(out, extra, [b"first", b"second"])
    return path


def _sound(out: Any, codec: str, language: str, flags: int) -> Any:
    stream = out.add_stream(codec, rate=48000)
    stream.metadata.update(language=language, title=f"In {language}")
    stream.disposition = flags
    return stream


def _fill(out: Any, stream: Any) -> None:
    step = stream.codec_context.frame_size or 1024
    for begin in range(0, 9600, step):
        block = av.AudioFrame(format=stream.codec_context.format.name, layout="stereo", samples=step)
        block.sample_rate, block.pts, block.time_base = 48000, begin, Fraction(1, 48000)
        for plane in block.planes:
            plane.update(bytes(plane.buffer_size))
        out.mux(stream.encode(block))
    out.mux(stream.encode(None))


def _form(codec: str, number: int, words: str) -> bytes:
    if codec == "ass":
        return f"{number},0,Default,,0,0,0,,{words.replace('<i>', '{\\i1}').replace('</i>', '{\\i0}')}".encode()
    return (f"\0{chr(len(words))}" if codec == "mov_text" else "").encode() + words.encode()


def _mux(out: Any, stream: Any, payloads: Sequence[bytes]) -> None:
    for number, payload in enumerate(payloads):
        packet: Any = av.Packet(payload)
        packet.pts = packet.dts = 40 * number
        packet.duration, packet.time_base, packet.stream = 30, MILLISECOND, stream
        out.mux(packet)


def shown(path: Path) -> list[tuple[Fraction, bytes]]:
    """Time and bytes of the texts of the first subtitle stream, without empty ones."""
    with av.open(path) as container:
        packets: list[Any] = [p for p in container.demux(container.streams.subtitles[0]) if p.size]
        return [
            (p.pts * Fraction(p.time_base.numerator, p.time_base.denominator), bytes(p)) for p in packets if p.size > 2
        ]


def streams(found: Facts) -> list[tuple[str, str, str, tuple[str, ...]]]:
    return [(one.codec, one.language, one.title, one.disposition) for one in found.streams]


THREE = [
    ("aac", "jpn", int(Disposition.default | Disposition.original)),
    ("flac", "eng", int(Disposition.comment)),
    ("libopus", "deu", int(Disposition.visual_impaired)),
]


def test_all_sounds_keep_packets_languages_titles_and_flags_in_mkv(tmp_path: Path) -> None:
    source = film(tmp_path / "a.mkv", sound=THREE)
    before, after = facts(str(source)), facts(str(convert(source, tmp_path / "b.mkv")))
    assert streams(before) == streams(after)
    assert [one[3] for one in streams(after)] == [("original",), ("comment",), ("visual_impaired",)]
    for a, b in zip(before.streams, after.streams, strict=True):
        assert a.packets is not None
        assert b.packets is not None
        assert a.packets.sums == b.packets.sums
        assert a.packets.times == b.packets.times


@pytest.mark.parametrize(("ending", "held"), [("mp4", 3), ("mov", 1), ("webm", 1)])
def test_sounds_go_where_the_container_has_a_place_for_them(tmp_path: Path, ending: str, held: int) -> None:
    source = film(tmp_path / "a.mkv", sound=THREE)
    after = facts(str(convert(source, tmp_path / f"b.{ending}")))
    assert len(after.streams) == held
    assert {one.title for one in after.streams} <= {"In jpn", "In eng", "In deu"}
    with VideoReader(str(source)) as reader:
        copier = StreamCopier(reader.container, reader.stream.index, output_kind(f"b.{ending}"), Span())
        assert len(copier.left_out) == 3 - held


def test_tags_without_a_place_are_named_before_the_run() -> None:
    tags = {"title": "A film", "artist": "Somebody", "DIRECTOR": "A person", "encoder": "of the old file"}
    assert [lost_tags(tags, muxer) for muxer in ("matroska", "webm", "mp4", "mov")] == [
        [],
        [],
        ["director"],
        ["director"],
    ]
    assert lost_tags(tags, "y4m") == ["artist", "director", "title"]
    assert lost_tags({}, "mp4") == []


def test_the_name_of_a_stream_survives_mp4_twice(tmp_path: Path) -> None:
    source = film(tmp_path / "a.mkv", sound=THREE[:1])
    last = source
    for name in ("b.mp4", "c.mp4", "d.mkv", "e.mov", "f.webm"):
        last = convert(last, tmp_path / name)
        assert facts(str(last)).video["title"] == "The video"
    assert facts(str(convert(tmp_path / "c.mp4", tmp_path / "g.mkv"))).streams[0].title == "In jpn"


@pytest.mark.parametrize("language", ["deu", "nld", "zho", "fre", "jpn"])
def test_mov_keeps_languages_that_have_two_codes(tmp_path: Path, language: str) -> None:
    source = film(tmp_path / "a.mkv", sound=[("aac", language, 0)])
    before, after = (facts(str(f)).streams[0].language for f in (source, convert(source, tmp_path / "b.mov")))
    assert before == after != ""


def test_a_cover_goes_from_mkv_to_mp4_and_back(tmp_path: Path) -> None:
    source = film(tmp_path / "a.mkv", cover=True)
    digest = facts(str(source)).streams[0].digest or facts(str(source)).streams[0].packets
    there = convert(source, tmp_path / "b.mp4")
    back = convert(there, tmp_path / "c.mkv")
    again = convert(source, tmp_path / "d.mkv")
    for path in (there, back, again):
        found = facts(str(path)).streams
        assert [one.kind for one in found] == ["cover"]
        assert (found[0].digest or found[0].packets) == digest
    with av.open(again) as container:
        assert container.streams.video[1].metadata == {"filename": "front.png", "mimetype": "image/png"}


@pytest.mark.parametrize("ending", ["mp4", "mov"])
def test_data_goes_where_it_is_taken(tmp_path: Path, ending: str) -> None:
    source = film(tmp_path / "a.mp4", data=True)
    after = facts(str(convert(source, tmp_path / f"b.{ending}")))
    assert [one.kind for one in after.streams] == ["data"]
    assert after.streams[0].packets == facts(str(source)).streams[0].packets
    with VideoReader(str(source)) as reader:
        assert StreamCopier(reader.container, reader.stream.index, "matroska", Span()).names() == ([], ["data"])


@pytest.mark.parametrize(
    ("codec", "ending", "taken"), [("klv", "mov", True), ("klv", "mp4", False), ("timed_id3", "mp4", False)]
)
def test_data_of_broadcasts_is_taken_only_where_it_can_be_read_again(
    tmp_path: Path, codec: str, ending: str, taken: bool
) -> None:
    """mp4 writes a header for timed ID3 that nobody finds again, and loses a last packet that lasts no time."""
    source = tmp_path / "a.ts"
    with av.open(source, "w") as out:
        video: Any = out.add_stream("libx264", rate=25, width=48, height=32, pix_fmt="yuv420p")
        data = out.add_data_stream(codec)
        for number in range(5):
            frame = picture(number, 48, 32)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for number in range(3):
            packet: Any = av.Packet(b"\x06\x0e\x2b\x34" + bytes(20 + number))
            packet.pts = packet.dts = 40 * number
            packet.time_base, packet.stream = MILLISECOND, data
            out.mux(packet)
    after = facts(str(convert(source, tmp_path / f"b.{ending}"))).streams
    assert [one.kind for one in after] == ["data"] * taken
    if taken:
        assert after[0].packets is not None
        assert len(after[0].packets.sums) == 3


def test_chapter_tracks_of_mp4_are_no_streams_of_their_own(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    with av.open(source, "w") as out:
        out.set_chapters([{"id": 0, "start": 0, "end": 80, "time_base": MILLISECOND, "metadata": {"title": "one"}}])
        video: Any = out.add_stream("libx264", rate=25, width=48, height=32, pix_fmt="yuv420p")
        for number in range(3):
            frame = picture(number, 48, 32)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    with VideoReader(str(source)) as reader:
        assert len(reader.container.streams) == 2
        assert StreamCopier(reader.container, reader.stream.index, "matroska", Span()).names() == ([], [])
    for ending in ("mp4", "mkv", "mov"):
        after = facts(str(convert(source, tmp_path / f"b.{ending}")))
        assert (len(after.streams), [title for _, _, title in after.chapters]) == (0, ["one"])


@pytest.mark.parametrize("kind", ["subrip", "ass", "mov_text", "webvtt"])
@pytest.mark.parametrize(
    ("ending", "form", "italic"),
    [
        ("mkv", None, None),
        ("mp4", "mov_text", b"\0\x03two"),
        ("mov", "mov_text", b"\0\x03two"),
        ("webm", "webvtt", b"<i>two</i>"),
    ],
)
def test_text_takes_the_form_of_its_container(
    tmp_path: Path, kind: str, ending: str, form: str | None, italic: bytes | None
) -> None:
    source = film(tmp_path / ("a.mp4" if kind == "mov_text" else "a.mkv"), text=[kind])
    target = convert(source, tmp_path / f"b.{ending}")
    after = facts(str(target)).streams[0]
    before = facts(str(source)).streams[0]
    texts = shown(target)
    assert [time for time, _ in texts] == [0, Fraction(40, 1000)]
    assert after.language == "fra"
    if form is None and kind != "mov_text":
        assert [data for _, data in texts] == [data for _, data in shown(source)]
    elif kind == "mov_text" and form is None:
        assert after.codec == "subrip"
        assert b"two" in texts[1][1]
    elif before.codec != form:
        assert after.codec == form
        assert italic is not None
        assert texts[1][1].startswith(italic)


def recording(path: Path, video_codec: str, sound_codec: str) -> Path:
    """A video with half a second of sound, as cameras and broadcasters write it."""
    with av.open(path, "w") as out:
        video: Any = out.add_stream(video_codec, rate=25, width=64, height=48, pix_fmt="yuv420p")
        sound: Any = out.add_stream(sound_codec, rate=48000)
        for number in range(12):
            frame = picture(number, 64, 48)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        _fill(out, sound)
    return path


@pytest.mark.parametrize("ending", ["mov", "mp4", "mkv"])
def test_pcm_is_kept_however_containers_divide_it_and_name_its_channels(tmp_path: Path, ending: str) -> None:
    """MXF has one packet to a frame and does not say which channels they are; mov reads 1024 samples at a time."""
    source = recording(tmp_path / "a.mxf", "mpeg2video", "pcm_s16le")
    target = convert(source, tmp_path / f"b.{ending}")
    before, after = facts(str(source)).streams[0], facts(str(target)).streams[0]
    assert before.packets is not None
    assert after.packets is not None
    assert before.packets.sums == after.packets.sums
    with av.open(source) as a, av.open(target) as b:
        assert ending == "mkv" or b.streams.audio[0].layout.name == "stereo"
        bytes_of = [b"".join(bytes(p) for p in c.demux(c.streams.audio[0]) if p.size) for c in (a, b)]
    assert bytes_of[0] == bytes_of[1]


def test_lost_pcm_is_noticed(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.mov", "libx264", "pcm_s16le")
    with av.open(path) as container:
        size = sum(p.size for p in container.demux(container.streams.audio[0]))
        stamps = sorted(p.pts for p in av.open(path).demux(video=0) if p.size)
        base = container.streams.video[0].time_base
    verify(path, "a.mov", stamps, Fraction(base.numerator, base.denominator), [size])
    with pytest.raises(VideoError, match="should hold"):
        verify(path, "a.mov", stamps, Fraction(base.numerator, base.denominator), [size + 4])


def test_sound_that_mp4_gives_another_name_is_the_same_sound(tmp_path: Path) -> None:
    source = recording(tmp_path / "a.mpg", "mpeg2video", "mp2")
    report = kept(facts(str(source)), convert(source, tmp_path / "b.mp4"), kind="mp4")
    sound = next(one for one in report["items"] if one["item"].startswith("stream"))
    assert (sound["status"], sound["output"]) == ("kept", "audio (mp3float), 9 packets")


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_sound_of_a_transport_stream_is_arranged_anew_and_decodes(tmp_path: Path, ending: str) -> None:
    source = recording(tmp_path / "a.ts", "libx264", "aac")
    target = convert(source, tmp_path / f"b.{ending}")
    report = kept(facts(str(source)), target, kind=output_kind(str(target)))
    sound = next(one for one in report["items"] if one["item"].startswith("stream"))
    assert (sound["status"], "are arranged as" in sound["why"]) == ("changed", True)
    with av.open(source) as a, av.open(target) as b:
        decoded = [[f.to_ndarray() for f in c.decode(audio=0)] for c in (a, b)]
    assert all(np.array_equal(x, y) for x, y in zip(*decoded, strict=True))


def test_subtitles_that_are_pictures_are_left_out_of_mp4(tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    with av.open(source, "w") as out:
        video: Any = out.add_stream("libx264", rate=25, width=48, height=32, pix_fmt="yuv420p")
        pictures = out.add_mux_stream("hdmv_pgs_subtitle")
        for number in range(3):
            frame = picture(number, 48, 32)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        _mux(out, pictures, [b"\x16\0\0", b"\x80\0\0"])
    with VideoReader(str(source)) as reader:
        kept, lost = StreamCopier(reader.container, reader.stream.index, "mp4", Span()).names()
    assert (kept, lost) == ([], ["subtitle (pgssub)"])
    assert facts(str(convert(source, tmp_path / "b.mkv"))).streams[0].codec == "hdmv_pgs_subtitle"
