"""Writing and pipelining, without an engine: frames doubled in size by repetition go from a file to a file."""

from __future__ import annotations

import itertools
import threading
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray
from video_files import convert, decoded, double, make_video, picture, planes, times

from duovsr_vs.errors import DuoVsrError, OptionError, VideoError
from duovsr_vs.video.convert import ToRGB
from duovsr_vs.video.ebml import CRC, TRACKS, elements, write_display_size
from duovsr_vs.video.pipeline import Channel, Stopped, Work
from duovsr_vs.video.reader import VideoReader
from duovsr_vs.video.stamps import stamp_decoding_times
from duovsr_vs.video.streams import Span, StreamCopier
from duovsr_vs.video.verify import verify
from duovsr_vs.video.writer import ContainerWriter

JUMPS = [0, 40, 90, 91, 150, 400, 1000, 1001, 1500, 1555, 1600, 2000]


@pytest.mark.parametrize("ending", ["mkv", "mp4", "mov"])
@pytest.mark.parametrize("pts", [None, JUMPS, [n + 777 for n in JUMPS]])
def test_count_and_timestamps_survive(tmp_path: Path, ending: str, pts: list[int] | None) -> None:
    source = make_video(
        tmp_path / "a.mkv", 12, pts=pts, time_base=Fraction(1, 1000) if pts else None, options={"bf": "2"}
    )
    target = convert(source, tmp_path / f"b.{ending}")
    assert times(target) == times(source)
    assert len(decoded(target)) == 12


@pytest.mark.parametrize("ending", ["mp4", "mov"])
def test_ntsc_timestamps_stay_exact_in_mp4_and_mov(tmp_path: Path, ending: str) -> None:
    rate = Fraction(30000, 1001)
    source = make_video(tmp_path / "a.mp4", 12, rate=rate)
    target = convert(source, tmp_path / f"b.{ending}")
    assert times(target) == times(source) == [n / rate for n in range(12)]
    with av.open(target) as container:
        average = container.streams.video[0].average_rate
        assert (average.numerator, average.denominator) == (30000, 1001)


def test_matroska_rounds_timestamps_to_the_nearest_millisecond(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    target = convert(make_video(tmp_path / "a.mp4", 12, rate=rate), tmp_path / "b.mkv")
    assert all(abs(got - n / rate) <= Fraction(1, 2000) for n, got in enumerate(times(target)))


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p12le", "gray", "gbrp10le"])
def test_pixels_of_a_lossless_run_are_those_of_the_source(tmp_path: Path, pix_fmt: str) -> None:
    source = make_video(tmp_path / "a.mkv", 3, pix_fmt=pix_fmt, codec="ffv1")
    target = convert(source, tmp_path / "b.mkv", codec="ffv1")
    before, after = decoded(source), decoded(target)
    assert after[0].format.name == pix_fmt
    for a, b in zip(before, after, strict=True):
        luma_a, luma_b = planes(a)[0], planes(b)[0]
        assert np.abs(luma_a.astype(int) - luma_b[::2, ::2].astype(int)).max() <= 1  # out-of-gamut chroma aside


def test_ten_bit_output_uses_all_its_levels(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 3, size=(160, 96), pix_fmt="yuv420p10le", codec="ffv1")
    luma = planes(decoded(convert(source, tmp_path / "b.mkv", codec="ffv1"))[0])[0]
    assert np.count_nonzero(luma % 4) > luma.size // 2


def test_8_bit_rgb_stays_rgb_in_ffv1_bit_by_bit(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 3, pix_fmt="bgr0", codec="ffv1")
    target = convert(source, tmp_path / "b.mkv", codec="ffv1")
    for a, b in zip(decoded(source), decoded(target), strict=True):
        assert np.array_equal(a.to_ndarray(format="rgb24"), b.to_ndarray(format="rgb24")[::2, ::2])


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
@pytest.mark.parametrize("codes", [(1, 1, 1, 1, 1), (9, 9, 16, 1, 3), (5, 5, 6, 2, 2)])
def test_colour_tags_and_sample_aspect_are_kept(tmp_path: Path, ending: str, codes: tuple[int, ...]) -> None:
    def tag(stream: Any) -> None:
        c = stream.codec_context
        c.colorspace, c.color_primaries, c.color_trc, c.color_range, c.chroma_sample_location = codes
        c.sample_aspect_ratio = Fraction(16, 15)

    source = make_video(tmp_path / "a.mkv", 3, prepare=tag)
    with VideoReader(str(source)) as a, VideoReader(str(convert(source, tmp_path / f"b.{ending}"))) as b:
        assert a.info.tags == b.info.tags
        assert (b.info.tags.matrix, b.info.tags.primaries, b.info.tags.transfer) == codes[:3]
        assert a.info.sar == b.info.sar == Fraction(16, 15)


@pytest.mark.parametrize("sar", [Fraction(16, 15), Fraction(4, 3), Fraction(40, 33)])
@pytest.mark.parametrize(
    ("ending", "codec"),
    [("mkv", "ffv1"), ("mkv", "libvpx-vp9"), ("webm", "libvpx-vp9"), ("webm", "libsvtav1"), ("mp4", "libvpx-vp9")],
)
def test_sample_aspect_is_kept_with_codecs_that_do_not_hold_it(
    tmp_path: Path, ending: str, codec: str, sar: Fraction
) -> None:
    def tag(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = sar

    source = make_video(tmp_path / "a.mp4", 3, prepare=tag, sound=ending == "mkv", chapters=True)
    target = convert(source, tmp_path / f"b.{ending}", codec=codec)
    with VideoReader(str(target)) as reader:
        assert reader.info.sar is not None
        assert abs(96 * reader.info.sar - 96 * sar) <= Fraction(1, 2)  # Matroska stores whole pixels of width
        assert len(list(reader.frames())) == 3
        assert len(reader.container.chapters()) == 2


def test_the_checksum_of_a_changed_track_is_right_and_the_file_has_the_same_length(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", 3, codec="ffv1", sound=True)
    before = path.read_bytes()
    assert write_display_size(path, 48, 32, Fraction(4, 3))
    after = path.read_bytes()
    assert len(after) == len(before)
    head = after.index(bytes.fromhex(TRACKS), after.index(bytes.fromhex(TRACKS)) + 1)  # the index names it, too
    name, _, begin, end = next(elements(after, head, len(after)))
    (crc, _, at, rest), *_ = elements(after, begin, end)
    assert (name, crc) == (TRACKS, CRC)
    assert zlib.crc32(after[rest:end]) == int.from_bytes(after[at:rest], "little")
    assert after[end:] == before[end:]


def test_a_file_without_room_or_without_tracks_is_left_alone(tmp_path: Path) -> None:
    for content in (b"", b"not a file of that kind", bytes.fromhex("1a45dfa380") * 3, b"\xff" * 64, b"\0" * 64):
        path = tmp_path / "a.mkv"
        path.write_bytes(content)
        assert not write_display_size(path, 48, 32, Fraction(4, 3))
        assert path.read_bytes() == content


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
@pytest.mark.parametrize("ending", ["mp4", "mov"])
def test_hevc_of_few_frames_has_decoding_times(tmp_path: Path, frames: int, ending: str) -> None:
    """libx265 hands over memory as decoding times when a video is shorter than its reordering depth."""
    pts = [0, 40, 90, 91, 150][:frames]
    source = make_video(tmp_path / "a.mkv", frames, pts=pts, time_base=Fraction(1, 1000))
    for preset in ("ultrafast", "medium"):
        target = convert(source, tmp_path / f"b.{ending}", codec="libx265", options={"preset": preset})
        with av.open(target) as container:
            stamps = [(p.dts, p.pts) for p in container.demux(video=0) if p.size]
        assert all(-1000 * 16 < dts <= shown for dts, shown in stamps)
        assert all(a[0] < b[0] for a, b in itertools.pairwise(stamps))
        assert len(decoded(target)) == frames


def test_decoding_times_fit_any_order_of_display() -> None:
    class Stamped:
        def __init__(self, pts: int):
            self.pts, self.dts = pts, 10**12

    for order in ([0], [0, 10], [0, 40, 20, 10, 30], [0, 30, 10, 20], [5, 7, 6, 100, 8]):
        packets = [Stamped(pts) for pts in order]
        stamp_decoding_times(packets)
        assert all(packet.dts <= packet.pts for packet in packets)
        assert all(a.dts < b.dts for a, b in itertools.pairwise(packets))
    stamp_decoding_times([])


@pytest.mark.parametrize("ending", ["mkv", "mp4", "mov"])
def test_rotation_is_kept(tmp_path: Path, ending: str) -> None:
    source = make_video(tmp_path / "a.mp4", 3, prepare=lambda stream: stream.set_display_rotation(90))
    target = convert(source, tmp_path / f"b.{ending}")
    assert decoded(target)[0].rotation == decoded(source)[0].rotation == 90


def test_sound_subtitles_chapters_attachments_and_titles_come_along(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 12, sound=True, subtitles=True, chapters=True, attachment=True)
    target = convert(source, tmp_path / "b.mkv")
    with av.open(source) as a, av.open(target) as b:
        assert [s.type for s in b.streams] == ["video", "audio", "subtitle", "attachment"]
        assert b.streams.audio[0].metadata["language"] == "eng"
        assert b.streams.subtitles[0].metadata["language"] == "fra"
        assert b.metadata["title"] == "A film"
        assert [(c["start"], c["end"], c["metadata"]) for c in a.chapters()] == [
            (c["start"], c["end"], c["metadata"]) for c in b.chapters()
        ]
    for kind in ("audio", "subtitles"):
        assert payload(source, kind) == payload(target, kind)
        assert times(source, kind) == times(target, kind)


def payload(path: Path, kind: str) -> list[bytes]:
    with av.open(path) as container:
        return [bytes(p) for p in container.demux(getattr(container.streams, kind)[0]) if p.size]


def test_what_a_container_cannot_hold_is_named_and_left_out(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 4, sound=True, subtitles=True, attachment=True)
    with VideoReader(str(source)) as reader:
        kept, lost = StreamCopier(reader.container, reader.stream.index, "mp4", Span()).names()
    assert kept == ["audio (aac, eng)", "subtitle (srt, fra) as mov_text"]
    assert lost == ["attachment (font.ttf)"]
    with av.open(convert(source, tmp_path / "b.mp4")) as container:
        assert [s.type for s in container.streams] == ["video", "audio", "subtitle"]


def test_a_cover_picture_and_a_timecode_come_along_where_the_container_has_them(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mov", 4, sound=True, prepare=lambda s: s.metadata.update(timecode="01:00:00:00"))
    for name in ("b.mp4", "b.mov"):
        with av.open(convert(source, tmp_path / name)) as container:
            assert [s.type for s in container.streams] == ["video", "audio", "data"]
            assert container.streams.video[0].metadata["timecode"] == "01:00:00:00"
    covered = with_cover(source, tmp_path / "c.mp4")
    with av.open(convert(covered, tmp_path / "d.mp4")) as container:
        cover = container.streams.video[1]
        assert cover.disposition & Disposition.attached_pic
        assert (cover.codec_context.name, cover.codec_context.width) == ("png", 32)
    with VideoReader(str(covered)) as reader:
        assert StreamCopier(reader.container, reader.stream.index, "mov", Span()).names()[1] == ["cover picture (png)"]


def with_cover(path: Path, target: Path) -> Path:
    """The video and the sound of a file, and a PNG cover."""
    with av.open(path) as source, av.open(target, "w") as out:
        streams = {s.index: out.add_stream_from_template(s, opaque=True) for s in source.streams if s.type != "data"}
        cover: Any = out.add_stream("png", rate=1, width=32, height=32, pix_fmt="rgb24")
        cover.disposition = Disposition.attached_pic
        for packet in source.demux(*[s for s in source.streams if s.type != "data"]):
            if packet.size:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
        image = picture(0, 32, 32, "rgb24").reformat(format="rgb24", threads=1)
        image.pts = 0
        out.mux(cover.encode(image) + cover.encode(None))
    return target


def test_a_cut_moves_frames_sound_subtitles_and_chapters_to_zero(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 50, sound=True, subtitles=True, chapters=True)
    work = Work(first=9, last=26, start=10, stop=25, until=Fraction(1), shift=400)

    def part(frames: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        return itertools.islice(double(frames), 1, 16)

    target = convert(source, tmp_path / "b.mkv", part, work, Span(Fraction(2, 5), Fraction(1)))
    assert times(target) == [Fraction(n, 25) for n in range(15)]
    sound = times(target, "audio")
    assert sound[0] < Fraction(1, 10)
    assert Fraction(1, 2) < sound[-1] < Fraction(3, 5)
    # one subtitle lasts from 0.32 to 0.47 s: its rest opens the part
    assert times(target, "subtitles")[:2] == [0, Fraction(8, 100)]
    with av.open(target) as container:
        assert [(c["start"] // 10**6, c["end"] // 10**6) for c in container.chapters()] == [(0, 80)]


def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 30, size=(96, 64), sound=True)
    first, second = (convert(source, tmp_path / f"{n}.mp4").read_bytes() for n in (1, 2))
    assert first == second


def test_images_get_the_frames_numbers_and_sixteen_bits_where_needed(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 3, pix_fmt="yuv420p10le", codec="ffv1")
    folder = tmp_path / "images"
    folder.mkdir()
    convert(source, folder / "f%03d.png")
    assert [p.name for p in sorted(folder.iterdir())] == ["f000.png", "f001.png", "f002.png"]
    image = decoded(folder / "f001.png")[0]
    assert (image.format.name, image.width, image.height) == ("rgb48be", 96, 64)
    assert len(np.unique(image.to_ndarray(format="rgb48le"))) > 300


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "yuv444p12le", "gray", "gray10le"])
def test_y4m_holds_the_same_samples_rate_and_range(tmp_path: Path, pix_fmt: str) -> None:
    source = make_video(tmp_path / "a.mkv", 4, pix_fmt=pix_fmt, codec="ffv1", rate=Fraction(24000, 1001))
    a = decoded(convert(source, tmp_path / "b.mkv", codec="ffv1"))
    with VideoReader(str(convert(source, tmp_path / "b.y4m"))) as reader:
        b = [frame.image for frame in reader.frames()]
        assert reader.info.rate == Fraction(24000, 1001)
        assert reader.info.pix_fmt == pix_fmt
    assert all(
        np.array_equal(p, q) for x, y in zip(a, b, strict=True) for p, q in zip(planes(x), planes(y), strict=True)
    )


def test_a_codec_that_the_container_cannot_hold_is_refused(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 2)
    with pytest.raises(OptionError, match="cannot hold libx264"):
        convert(source, tmp_path / "b.webm", codec="libx264")
    with pytest.raises(OptionError, match="preset=quickly: libx264 knows ultrafast"):
        convert(source, tmp_path / "b.mkv", options={"preset": "quickly"})


def test_verification_notices_a_lost_frame_a_moved_frame_and_a_lost_packet(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", 5, sound=True)
    sound = len(payload(path, "audio"))
    stamps, base = [0, 40, 80, 120, 160], Fraction(1, 1000)
    verify(path, "a.mkv", stamps, base, [sound])
    with pytest.raises(VideoError, match="6 frames were written, 5 are in the file"):
        verify(path, "a.mkv", [*stamps, 200], base, [sound])
    with pytest.raises(VideoError, match=r"frame 2 lies at 0\.08"):
        verify(path, "a.mkv", [0, 40, 81, 120, 160], base, [sound])
    with pytest.raises(VideoError, match="packets"):
        verify(path, "a.mkv", stamps, base, [sound + 1])
    with pytest.raises(VideoError, match="1 covers and attachments were written, 0 are in the file"):
        verify(path, "a.mkv", stamps, base, [sound], 1)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError):
        verify(path, "a.mkv", stamps, base, [sound])


def test_a_writer_that_loses_a_frame_is_found_out_before_its_file_gets_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, calls = ContainerWriter._mux, itertools.count()
    monkeypatch.setattr(ContainerWriter, "_mux", lambda self, frame: next(calls) == 3 or honest(self, frame))
    with pytest.raises(VideoError, match="12 frames were written, 11 are in the file"):
        convert(make_video(tmp_path / "a.mkv", 12), tmp_path / "b.mkv")


@pytest.mark.parametrize("stage", ["process", "write"])
def test_an_error_in_any_stage_ends_the_run_with_that_error(
    tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(tmp_path / "a.mkv", 30)

    def failing(*_: Any) -> Any:
        raise DuoVsrError(f"{stage} failed")

    def process(frames: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        for n, frame in enumerate(double(frames)):
            if n == 7:
                failing()
            yield frame

    if stage == "write":
        monkeypatch.setattr(ContainerWriter, "write", failing)
    before = threading.active_count()
    with pytest.raises(DuoVsrError, match=f"{stage} failed"):
        convert(source, tmp_path / "b.mkv", process if stage == "process" else double)
    assert threading.active_count() == before


def test_frames_wait_in_short_queues_only(tmp_path: Path) -> None:
    source, ahead = make_video(tmp_path / "a.mkv", 60), []

    def slow(frames: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        for n, frame in enumerate(double(frames)):
            if n == 5:
                threading.Event().wait(0.3)  # time for a reader without limit to run away
                ahead.append(reads[0] - n)
            yield frame

    reads, original = [0], ToRGB.__call__

    def counting(self: ToRGB, frame: av.VideoFrame) -> NDArray[np.float32]:
        reads[0] += 1
        return original(self, frame)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ToRGB, "__call__", counting)
        convert(source, tmp_path / "b.mkv", slow)
    assert ahead[0] <= 7


def test_a_channel_keeps_order_blocks_when_full_and_stops_both_sides() -> None:
    channel: Channel[int] = Channel(2)
    got: list[int] = []
    taker = threading.Thread(target=lambda: got.extend(channel))
    taker.start()
    for n in range(50):
        channel.put(n)
    channel.close()
    taker.join(5)
    assert got == list(range(50))
    full: Channel[int] = Channel(1)
    full.put(0)
    threading.Timer(0.05, full.stop).start()
    with pytest.raises(Stopped):
        full.put(1)
    with pytest.raises(Stopped):
        next(iter(full))
