"""Reading: numbers, timestamps, seeking, damage, refusals."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from video_files import decoded, make_video, picture, planes

from duovsr_vs.errors import FormatError, VideoError
from duovsr_vs.video.reader import Frame, VideoReader

JUMPS = [0, 40, 90, 91, 150, 400, 1000, 1001, 1500, 1555, 1600, 2000]


def read(path: Path | str, *interval: int | None, **options: Any) -> list[Frame]:
    with VideoReader(str(path), **options) as reader:
        return list(reader.frames(*interval))


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mkv", "libx264"),
        ("a.mp4", "libx264"),
        ("a.avi", "mpeg4"),
        ("a.ts", "libx264"),
        ("a.webm", "libvpx-vp9"),
        ("a.mov", "prores_ks"),
    ],
)
def test_every_container_gives_every_frame_in_order(tmp_path: Path, name: str, codec: str) -> None:
    pix_fmt = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
    frames = read(make_video(tmp_path / name, 12, codec=codec, pix_fmt=pix_fmt))
    assert [frame.number for frame in frames] == list(range(12))
    assert all(a.pts < b.pts for a, b in pairwise(frames))


def test_a_raw_stream_without_timestamps_gets_them_from_its_rate(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.h264", 6, muxer="h264")
    with VideoReader(str(path)) as reader:
        stamps = [frame.pts * reader.info.time_base for frame in reader.frames()]
    assert stamps == [Fraction(n, 25) for n in range(6)]


def test_variable_timestamps_are_read_exactly(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", 12, pts=JUMPS, time_base=Fraction(1, 1000))
    with VideoReader(str(path)) as reader:
        assert reader.info.time_base == Fraction(1, 1000)
        assert [frame.pts for frame in reader.frames()] == JUMPS


@pytest.mark.parametrize("start", [1, 17, 30, 44, 59])
def test_seeking_gives_the_frames_of_a_read_from_the_beginning(tmp_path: Path, start: int) -> None:
    path = make_video(tmp_path / "a.mp4", 60, options={"g": "7", "bf": "2"}, sound=True)
    whole, part = read(path), read(path, start, start + 5)
    assert [frame.number for frame in part] == list(range(start, min(start + 5, 60)))
    for frame in part:
        assert frame.pts == whole[frame.number].pts
        same = zip(planes(frame.image), planes(whole[frame.number].image), strict=True)
        assert all(np.array_equal(a, b) for a, b in same)


@pytest.mark.parametrize("start", [33, 58, 95])
def test_a_jump_that_a_decoder_answers_with_a_hole_is_not_trusted(tmp_path: Path, start: int) -> None:
    """MPEG-2 with open groups: after a seek the frames before the first whole picture are left out."""
    path = make_video(tmp_path / "a.mpg", 100, codec="mpeg2video", options={"g": "10", "bf": "2"})
    whole, part = read(path), read(path, start, start + 3)
    assert [(frame.number, frame.pts) for frame in part] == [(f.number, f.pts) for f in whole[start : start + 3]]
    for frame in part:
        same = zip(planes(frame.image), planes(whole[frame.number].image), strict=True)
        assert all(np.array_equal(a, b) for a, b in same)


def test_a_transport_stream_is_not_decoded_from_its_beginning_for_a_part(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.ts", 120, options={"g": "5"})
    whole = read(path)
    with VideoReader(str(path)) as reader:
        assert [(f.number, f.pts) for f in reader.frames(100, 102)] == [(f.number, f.pts) for f in whole[100:102]]
        assert reader._decoded < 60


def test_a_known_packet_table_is_not_made_again(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 20)
    with VideoReader(str(path)) as first, VideoReader(str(path), scan=first.scan) as second:
        assert second.scan is first.scan
        assert [frame.number for frame in second.frames(17)] == [17, 18, 19]


def test_seeking_does_not_decode_the_whole_file(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 120, options={"g": "5"})
    with VideoReader(str(path)) as reader:
        assert [frame.number for frame in reader.frames(100, 102)] == [100, 101]
        assert reader._decoded < 20


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_file_that_is_cut_off_gives_what_decodes_and_counts_the_rest(tmp_path: Path, ending: str) -> None:
    # One keyframe only and plenty of bytes a frame, so that the cut lies in the middle of the clip.
    whole = tmp_path / f"whole.{ending}"
    make_video(whole, 50, size=(96, 64), options={"crf": "1"}, muxer="mp4" if ending == "mp4" else "matroska")
    if ending == "mp4":
        whole = fast_start(whole, tmp_path / "fast.mp4")
    cut = tmp_path / f"cut.{ending}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with VideoReader(str(cut)) as reader:
        got = len(list(reader.frames()))
        assert 5 < got < 45
        assert got + reader.missing == 50


def fast_start(path: Path, target: Path) -> Path:
    """The same packets with the index in front."""
    with av.open(path) as source, av.open(target, "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    return target


def test_a_whole_file_misses_nothing(tmp_path: Path) -> None:
    for name in ("a.mkv", "a.mp4"):
        with VideoReader(str(make_video(tmp_path / name, 12, sound=True))) as reader:
            assert len(list(reader.frames())) == 12
            assert reader.missing == 0
            assert reader.undecodable == 0


def test_a_broken_packet_in_the_middle_is_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", 20, size=(96, 64), codec="ffv1", muxer="matroska", options={"slicecrc": "1"})
    sizes = packet_spans(path)
    data = bytearray(path.read_bytes())
    at, size = sizes[9]
    data[at + size - 8 : at + size] = b"\0" * 8
    data[at : at + 4] = b"\xff" * 4
    path.write_bytes(data)
    with VideoReader(str(path)) as reader:
        count = len(list(reader.frames()))
        assert count + reader.missing == 20


def packet_spans(path: Path) -> list[tuple[int, int]]:
    """(position, size) of the payload of each packet in the file's bytes."""
    data = path.read_bytes()
    with av.open(path) as container:
        payloads = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    return [(data.index(payload), len(payload)) for payload in payloads]


def test_frames_of_changing_size_are_refused_with_the_number_of_the_first_other_one(tmp_path: Path) -> None:
    first = make_video(tmp_path / "a.ts", 5, size=(48, 32))
    second = make_video(tmp_path / "b.ts", 5, size=(64, 48))
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(FormatError, match="changes in the middle: frame 5 is 64x48 yuv420p, the first was 48x32"):
        read(both)


def interlaced(path: Path) -> Path:
    def mark(stream: Any) -> None:
        stream.codec_context.flags |= 1 << 29  # AV_CODEC_FLAG_INTERLACED_ME
        stream.codec_context.flags |= 1 << 18  # AV_CODEC_FLAG_INTERLACED_DCT

    return make_video(path, 4, options={"x264-params": "tff=1:interlaced=1"}, prepare=mark)


def test_interlaced_video_is_refused_unless_it_is_said_to_be_progressive(tmp_path: Path) -> None:
    path = interlaced(tmp_path / "a.mkv")
    with pytest.raises(FormatError, match=r"interlaced.*deinterlace it first.*--assume-progressive"):
        VideoReader(str(path))
    assert len(read(path, assume_progressive=True)) == 4


def test_what_is_no_video_is_refused_in_one_sentence(tmp_path: Path) -> None:
    text, empty, sound = tmp_path / "text.mp4", tmp_path / "empty.mkv", tmp_path / "sound.m4a"
    text.write_text("not a video\n" * 100)
    empty.write_bytes(b"")
    with av.open(sound, "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=16000)
        block = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        block.sample_rate, block.pts = 16000, 0
        out.mux(stream.encode(block))
        out.mux(stream.encode(None))
    for path, words in [
        (text, "not a video"), (empty, "not a video"), (sound, "no video stream"), (tmp_path, "is a folder"),
        (tmp_path / "none.mp4", "no such file"), (tmp_path / "img%03d.png", "no image of that name"),
    ]:  # fmt: skip
        with pytest.raises(VideoError, match=words) as caught:
            VideoReader(str(path))
        assert "\n" not in str(caught.value)


def test_a_video_without_frames_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.y4m"
    path.write_bytes(b"YUV4MPEG2 W48 H32 F25:1 Ip C420\n")
    with pytest.raises(VideoError, match=r"no frame|not a video"):
        VideoReader(str(path))


def test_a_video_below_sixteen_pixels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="14x32; at least 16x16"):
        VideoReader(str(make_video(tmp_path / "a.mkv", 2, size=(14, 32), codec="ffv1")))


@pytest.mark.parametrize("size", [(17, 16), (33, 31)])
def test_odd_sizes_are_read(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = read(make_video(tmp_path / "a.mkv", 2, size=size, codec="ffv1"))
    assert (frames[0].image.width, frames[0].image.height) == size


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    assert [frame.number for frame in read(make_video(tmp_path / "a.mkv", 1))] == [0]


def test_an_image_sequence_is_read_from_its_first_number_and_a_hole_is_named(tmp_path: Path) -> None:
    for number in range(7, 12):
        picture(number, 32, 24, "rgb24").reformat(format="rgb24").save(tmp_path / f"img{number:03}.png")
    frames = read(tmp_path / "img%03d.png")
    assert len(frames) == 5
    third = planes(frames[2].image.reformat(format="gbrp"))
    assert all(np.array_equal(a, b) for a, b in zip(third, planes(picture(9, 32, 24, "gbrp")), strict=True))
    (tmp_path / "img009.png").unlink()
    with pytest.raises(VideoError, match="number 9 is missing between 7 and 11"):
        VideoReader(str(tmp_path / "img%03d.png"))


def test_stdin_is_read_like_a_file(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", 5, sound=True)
    code = (
        "from duovsr_vs.video.reader import VideoReader as R; r = R('-'); print([f.pts for f in r.frames()], r.total)"
    )
    with path.open("rb") as file:
        out = subprocess.run(
            [sys.executable, "-c", code], stdin=file, capture_output=True, text=True, check=True
        ).stdout
    assert out.strip() == "[0, 40, 80, 120, 160] None"


def test_timestamps_that_do_not_increase_are_replaced_and_counted(tmp_path: Path) -> None:
    part = make_video(tmp_path / "a.ts", 5).read_bytes()
    twice = tmp_path / "twice.ts"
    twice.write_bytes(part + part)
    with VideoReader(str(twice)) as reader:
        stamps = [frame.pts for frame in reader.frames()]
        assert [b - a for a, b in pairwise(stamps)] == [3600] * 9
        assert reader.restamped == 5


def test_the_info_of_a_video_holds_its_tags_shape_and_rotation(tmp_path: Path) -> None:
    def tag(stream: Any) -> None:
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, 16, 2
        context.sample_aspect_ratio = Fraction(16, 15)
        stream.set_display_rotation(90)

    with VideoReader(str(make_video(tmp_path / "a.mp4", 3, prepare=tag, pix_fmt="yuv420p10le"))) as reader:
        info = reader.info
    assert (info.tags.matrix, info.tags.primaries, info.tags.transfer, info.tags.full) == (9, 9, 16, True)
    assert info.sar == Fraction(16, 15)
    assert info.layout.bits == 10
    assert info.rotation is not None
    assert info.rotation[:2] == (0, 65536) or info.rotation[:2] == (0, -65536)


def test_reading_leaves_the_file_alone(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", 3)
    copy = shutil.copy(path, tmp_path / "copy.mkv")
    read(path)
    assert path.read_bytes() == Path(copy).read_bytes()
    assert len(decoded(path)) == 3


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/a.mp4", "tcp://127.0.0.1:9", "https://localhost:9/a.mkv"])
def test_addresses_are_refused_without_a_look_at_the_network(address: str) -> None:
    with pytest.raises(VideoError, match=r"is an address; duovsr uses no network, fetch the file first"):
        VideoReader(address)


def test_a_playlist_reaches_no_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(1)
        port = server.getsockname()[1]
        playlist = tmp_path / "a.m3u8"
        playlist.write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n"
        )
        with pytest.raises(VideoError):
            VideoReader(str(playlist))
        with pytest.raises(TimeoutError):
            server.accept()
