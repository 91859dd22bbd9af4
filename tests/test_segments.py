"""Segments: whatever the split and the order, joined they are one file with everything that one writer would give."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from video_files import convert, decoded, double, make_video, picture, planes, times

from duovsr_vs.errors import VideoError
from duovsr_vs.video.colour import resolve_matrix
from duovsr_vs.video.convert import ToRGB
from duovsr_vs.video.encoding import Encoding, choose, output_kind
from duovsr_vs.video.join import Joiner
from duovsr_vs.video.manifest import differences, fingerprint, read_json, write_json
from duovsr_vs.video.pipeline import Work, run
from duovsr_vs.video.probe import scan
from duovsr_vs.video.reader import VideoReader
from duovsr_vs.video.segmented import SegmentedWriter, VideoSegment, carrier_of, digest_frame
from duovsr_vs.video.segments import Grid, Record, SegmentFolder
from duovsr_vs.video.streams import Span, chapters_in
from duovsr_vs.video.writer import OutputVideo

REPEATABLE = [
    ("libx264", "b.mp4", "yuv420p"), ("libx265", "b.mp4", "yuv420p10le"), ("ffv1", "b.mkv", "yuv422p10le"),
    ("libvpx-vp9", "b.webm", "yuv420p"), ("libsvtav1", "b.mkv", "yuv420p10le"), ("prores_ks", "b.mov", "yuv422p10le"),
]  # fmt: skip
"""Encoders whose bytes are equal on every run, each in a container of its kind."""
UNEVEN = [n * 40 + (n * n) % 13 for n in range(40)]
"""Timestamps in milliseconds."""


@dataclass
class Parts:
    """A source, doubled in size, in segments of a folder beside the target."""

    source: Path
    target: Path
    grid: Grid
    folder: SegmentFolder
    encoding: Encoding
    video: OutputVideo

    @classmethod
    def of(cls, source: Path, target: Path, length: int, **asked: Any) -> Parts:
        with VideoReader(str(source)) as reader:
            info, size = reader.info, (2 * reader.info.width, 2 * reader.info.height)
            tags, _ = resolve_matrix(info.tags, info.layout, info.height, None)
            encoding = choose(str(target), info.layout, tags, size, hdr=info.hdr, **asked)
            video = OutputVideo(
                width=size[0], height=size[1], time_base=info.time_base, rate=info.rate, sar=info.sar,
                rotation=info.rotation, metadata=dict(reader.container.metadata),
                stream_metadata=dict(reader.stream.metadata), chapters=tuple(chapters_in(reader.container, Span())),
            )  # fmt: skip
            grid = Grid(0, reader.total or 0, length)
        folder = SegmentFolder(target.parent / f".{target.name}.duovsr", str(target))
        folder.path.mkdir()
        return cls(source, target, grid, folder, encoding, video)

    def render(self, first: int, last: int) -> None:
        """Make some segments in one pass."""
        start, stop = self.grid.frames(first)[0], self.grid.frames(last)[1]
        with VideoReader(str(self.source)) as reader:
            tags, _ = resolve_matrix(reader.info.tags, reader.info.layout, reader.info.height, None)
            writer = SegmentedWriter(self.folder, self.grid, self.segment, lambda: {}, lambda index: None)
            to_rgb = ToRGB(reader.info.layout, tags, reader.info.width, reader.info.height)
            run(reader, to_rgb, double, writer, Work(start, stop, start, stop), lambda: None)
            writer.finish()

    def segment(self, part: Path) -> VideoSegment:
        carrier = carrier_of(self.encoding, output_kind(str(self.target)))
        return VideoSegment(part, self.target.name, self.video, self.encoding, carrier)

    def join(self) -> Path:
        joiner = Joiner(self.folder, self.grid.count, self.target.name)
        joiner.join(
            self.target, output_kind(str(self.target)), self.video, self.encoding, str(self.source), Span()
        )  # fmt: skip
        return self.target


def segmented(source: Path, target: Path, length: int, runs: Sequence[tuple[int, int]] = (), **asked: Any) -> Path:
    """`video_files.convert` in segments, which are made in the given runs (all at once without)."""
    target.parent.mkdir(exist_ok=True)
    parts = Parts.of(source, target, length, **asked)
    for first, last in runs or [(0, parts.grid.count - 1)]:
        parts.render(first, last)
    return parts.join()


def payload(path: Path, kind: str) -> list[bytes]:
    """The bytes of all packets of the first stream of a kind, in the order of the file."""
    with av.open(path) as container:
        return [bytes(packet) for packet in container.demux(getattr(container.streams, kind)[0]) if packet.size]


@pytest.mark.parametrize(("start", "stop", "length"), [(0, 1, 8), (0, 16, 8), (0, 17, 8), (5, 17, 8), (23, 24, 8)])
def test_a_grid_holds_every_frame_once_and_its_borders_do_not_depend_on_the_part(
    start: int, stop: int, length: int
) -> None:
    grid = Grid(start, stop, length)
    frames = [n for index in range(grid.count) for n in range(*grid.frames(index))]
    assert frames == list(range(start, stop))
    assert all(grid.frames(grid.index_of(n))[0] <= n < grid.frames(grid.index_of(n))[1] for n in frames)
    assert all(grid.frames(index)[1] % length == 0 for index in range(grid.count - 1))
    assert grid.index_of(stop + 100) == grid.count - 1


@pytest.mark.parametrize(("codec", "name", "pix_fmt"), REPEATABLE)
def test_any_split_and_order_of_segments_gives_the_same_file_bit_by_bit(
    tmp_path: Path, codec: str, name: str, pix_fmt: str
) -> None:
    source = make_video(tmp_path / "a.mkv", 30, pix_fmt=pix_fmt, sound=True)
    files = []
    for number, runs in enumerate([[(0, 3)], [(2, 3), (0, 0), (1, 1)]]):
        files.append(segmented(source, tmp_path / str(number) / name, 8, runs, codec=codec).read_bytes())
    assert files[0] == files[1]
    target = tmp_path / "0" / name
    assert len(decoded(target)) == 30
    assert [n for n, frame in enumerate(decoded(target)) if frame.key_frame][:2] == [
        0,
        1 if codec == "prores_ks" else 8,
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("codec", "name", "pix_fmt"), REPEATABLE)
def test_encoders_repeat_themselves_on_any_number_of_cores(tmp_path: Path, codec: str, name: str, pix_fmt: str) -> None:
    source, cores = make_video(tmp_path / "a.mkv", 24, size=(400, 232), pix_fmt=pix_fmt), os.sched_getaffinity(0)
    files = []
    try:
        for number, some in enumerate([cores, {min(cores)}, cores]):
            os.sched_setaffinity(0, some)
            files.append(segmented(source, tmp_path / str(number) / name, 12, codec=codec).read_bytes())
    finally:
        os.sched_setaffinity(0, cores)
    assert files[0] == files[1] == files[2]


@pytest.mark.parametrize("name", ["b.mkv", "b.mp4", "b.mov"])
def test_a_joined_file_has_the_timestamps_and_streams_of_one_written_at_once(tmp_path: Path, name: str) -> None:
    options = {"x264-params": "bframes=3:b-pyramid=normal"}
    source = make_video(
        tmp_path / "a.mkv", 40, pts=UNEVEN, time_base=Fraction(1, 1000), sound=True, subtitles=True, chapters=True,
        attachment=True,
    )  # fmt: skip
    whole = convert(source, tmp_path / name, options=options)
    joined = segmented(source, tmp_path / "joined" / name, 7, options=options)
    assert times(joined) == times(whole) == times(source)
    assert times(joined, "audio") == times(whole, "audio") == times(source, "audio")
    assert payload(joined, "audio") == payload(whole, "audio") == payload(source, "audio")
    with av.open(joined) as a, av.open(whole) as b:
        assert a.chapters() == b.chapters()
        assert a.metadata["title"] == b.metadata["title"] == "A film"
        assert [s.type for s in a.streams] == [s.type for s in b.streams]
        assert a.streams.video[0].average_rate == b.streams.video[0].average_rate
        assert a.streams.video[0].time_base == b.streams.video[0].time_base
        decoding = [packet.dts for packet in a.demux(a.streams.video[0]) if packet.size]
    if name != "b.mkv":  # which stores none
        assert decoding == sorted(set(decoding))


def test_a_joined_file_has_the_pixels_of_one_written_at_once(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 20, pix_fmt="yuv420p10le")
    whole, joined = (make(source, tmp_path / n / "b.mkv") for n, make in (("w", _whole), ("j", _joined)))
    for a, b in zip(decoded(whole), decoded(joined), strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(planes(a), planes(b), strict=True))


def _whole(source: Path, target: Path) -> Path:
    target.parent.mkdir()
    return convert(source, target, codec="ffv1")


def _joined(source: Path, target: Path) -> Path:
    return segmented(source, target, 6, codec="ffv1")


@pytest.mark.parametrize(
    ("codec", "name"),
    [("libx264", "b.mp4"), ("ffv1", "b.mkv"), ("libvpx-vp9", "b.webm"), ("prores_ks", "b.mov"), ("libsvtav1", "b.mp4")],
)
def test_shape_rotation_and_colours_of_a_joined_file_are_those_of_one_written_at_once(
    tmp_path: Path, codec: str, name: str
) -> None:
    def prepare(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.codec_context.colorspace, stream.codec_context.color_primaries = 1, 9
        stream.codec_context.color_trc, stream.codec_context.color_range = 14, 1
        stream.set_display_matrix((0, 65536, 0, -65536, 0, 0, 0, 0, 1073741824))

    source = make_video(tmp_path / "a.mp4", 12, prepare=prepare)
    seen = []
    for target in (
        convert(source, tmp_path / name, codec=codec),
        segmented(source, tmp_path / "j" / name, 5, codec=codec),
    ):
        with VideoReader(str(target)) as reader:
            info = reader.info
            seen.append((info.sar, info.rotation, info.tags, info.rate, reader.stream.codec_context.codec_tag))
    assert seen[0] == seen[1]
    assert seen[0][2].matrix == 1


def test_alpha_comes_through_segments(tmp_path: Path) -> None:
    from duovsr_vs.video.alpha import fill_opaque

    def each(frame: av.VideoFrame, number: int) -> None:
        if frame.format.name == "yuva420p":
            fill_opaque(frame)

    source = make_video(tmp_path / "a.mkv", 8, pix_fmt="yuva420p", codec="ffv1", each=each)
    joined = segmented(source, tmp_path / "j" / "b.webm", 4)
    with VideoReader(str(joined)) as reader:
        frames = [frame.image for frame in reader.frames()]
    assert [frame.format.name for frame in frames] == ["yuva420p"] * 8
    assert all(int(np.frombuffer(frame.planes[3], np.uint8).max()) == 255 for frame in frames)


def test_a_codec_that_matroska_does_not_hold_makes_segments_of_the_outputs_kind(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 12, pix_fmt="yuv422p10le", pts=UNEVEN[:12], time_base=Fraction(1, 1000))
    joined = segmented(source, tmp_path / "j" / "b.mov", 5, codec="cfhd")
    whole = convert(source, tmp_path / "b.mov", codec="cfhd")
    assert [p.suffix for p in sorted((tmp_path / "j" / ".b.mov.duovsr").glob("*.mov"))] == [".mov"] * 3
    assert times(joined) == times(whole) == times(source)
    assert payload(joined, "video") == payload(whole, "video")


def test_frames_closer_than_the_carrier_can_tell_stay_in_order(tmp_path: Path) -> None:
    base = Fraction(1, 10_000)
    source = make_video(tmp_path / "a.mp4", 24, rate=5000, pts=[2 * n for n in range(24)], time_base=base)
    options = {"x264-params": "bframes=3"}
    joined = segmented(source, tmp_path / "j" / "b.mp4", 8, options=options, crf=1)
    assert times(joined) == [n * 2 * base for n in range(24)]
    whole = convert(source, tmp_path / "b.mp4", options=options, crf=1)
    for a, b in zip(decoded(joined), decoded(whole), strict=True):
        assert np.abs(planes(a)[0].astype(int) - planes(b)[0].astype(int)).mean() < 1.5  # neighbours differ by more


def test_a_segment_of_another_encoder_a_lost_packet_and_a_lost_segment_are_found(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 24)
    parts = Parts.of(source, tmp_path / "b.mkv", 8)
    parts.render(0, 2)
    kept = shutil.copytree(parts.folder.path, tmp_path / "kept")
    other = Parts.of(source, tmp_path / "c.mkv", 8, crf=30, options={"profile": "baseline"})
    other.render(1, 1)
    shutil.copy(other.folder.path / "000001.mkv", parts.folder.path)
    record = json.loads((other.folder.path / "000001.json").read_text())
    (parts.folder.path / "000001.json").write_text(json.dumps(record))
    with pytest.raises(VideoError, match="written by another encoder"):
        parts.join()
    record = json.loads((kept / "000001.json").read_text())
    for name in ("stamps", "durations", "order"):
        record[name] = record[name][:-1] if name != "order" else [n for n in record[name] if n != 7]
    shutil.copy(kept / "000001.mkv", parts.folder.path)
    (parts.folder.path / "000001.json").write_text(json.dumps(record))
    with pytest.raises(VideoError, match="holds 8 packets instead of 7"):
        parts.join()
    (parts.folder.path / "000001.json").unlink()
    with pytest.raises(VideoError, match="segment 1 has gone"):
        parts.join()


def test_only_whole_segments_count_and_a_changed_bit_is_seen(tmp_path: Path) -> None:
    parts = Parts.of(make_video(tmp_path / "a.mkv", 24), tmp_path / "b.mkv", 8)
    parts.render(0, 2)
    folder, at = parts.folder, parts.folder.path
    assert folder.finished(3) == [0, 1, 2]
    data = bytearray((at / "000001.mkv").read_bytes())
    data[len(data) // 2] ^= 1
    (at / "000001.mkv").write_bytes(data)
    assert (folder.is_intact(0), folder.is_intact(1)) == (True, False)
    (at / "000001.mkv").write_bytes(data[:-1])
    assert folder.finished(3) == [0, 2]
    for nonsense in ("", "{", "[]", "{}", '{"stamps": 3}', '"' + "[" * 100_000):
        (at / "000002.json").write_text(nonsense)
        assert folder.finished(3) == [0]
    shutil.copy(at / "000000.json", at / "000002.json")  # files of another segment are not this one's
    assert folder.finished(3) == [0]


def test_a_record_survives_its_file_and_tells_the_delay_of_its_packets(tmp_path: Path) -> None:
    record = Record(stamps=[5, 7, 9, 11], durations=[2] * 4, order=[0, 3, 1, 2], frames_digest="ab", short=True)
    folder = SegmentFolder(tmp_path, "b.mkv")
    part = folder.part(3)
    part.write_bytes(b"packets")
    folder.commit(3, part, ".mkv", record)
    assert folder.record(3) == record
    assert record.delay == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000003.json", "000003.mkv"]


def test_two_runs_cannot_work_on_one_output(tmp_path: Path) -> None:
    folder = SegmentFolder(tmp_path / "f", "b.mkv")
    with (
        folder.locked(),
        pytest.raises(VideoError, match="is being written by another"),
        SegmentFolder(tmp_path / "f", "b.mkv").locked(),
    ):
        pass
    with folder.locked():
        pass


def test_a_fingerprint_sees_both_ends_the_size_and_the_packets(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 12)
    first = fingerprint(str(source), scan(str(source)))
    assert first == fingerprint(str(source), scan(str(source)))
    data = source.read_bytes()
    for changed in (data + b"\0", bytes([data[0] ^ 1]) + data[1:], data[:-1] + bytes([data[-1] ^ 1])):
        (tmp_path / "c.mkv").write_bytes(changed)
        assert fingerprint(str(tmp_path / "c.mkv"), scan(str(source))) != first
    other = make_video(tmp_path / "d.mkv", 12, pts=[*range(11), 20])
    assert fingerprint(str(source), scan(str(other)))["packets"] != first["packets"]
    for number in (3, 4):
        picture(number, 24, 16, "rgb24").reformat(format="rgb24").save(tmp_path / f"{number}.png")
    pattern = str(tmp_path / "%d.png")
    images = fingerprint(pattern, scan(str(source)))
    picture(9, 24, 16, "rgb24").reformat(format="rgb24").save(tmp_path / "4.png")
    assert fingerprint(pattern, scan(str(source))) != images


def test_differences_are_named_with_both_values(tmp_path: Path) -> None:
    before = {"encoding": {"options": {"crf": "16"}, "codec": "libx264"}, "part": {"start": 0}, "gone": 1}
    now = {"encoding": {"options": {"crf": "18"}, "codec": "libx264"}, "part": {"start": 4}}
    assert differences(before, now) == [
        "crf was 16 and is 18", "gone was 1 and is not there", "start was 0 and is 4"
    ]  # fmt: skip
    assert differences(before, before) == []
    write_json(tmp_path / "m.json", before)
    assert read_json(tmp_path / "m.json") == before
    assert read_json(tmp_path / "n.json") is None


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "nv12", "gbrp10le", "rgb48le", "bgr0"])
def test_the_checksum_of_a_frame_is_that_of_its_samples_alone(pix_fmt: str) -> None:
    import hashlib

    def digest(width: int, fill: int, change: int = 0) -> str:
        frame = av.VideoFrame(50, 34, pix_fmt)
        for plane in frame.planes:
            samples: NDArray[np.uint8] = np.frombuffer(plane, np.uint8)
            samples[:] = fill  # padding, too
        wide = sum(_row(frame, n) for n in range(len(frame.planes)))
        assert wide > 0
        for n, plane in enumerate(frame.planes):
            rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height]
            rows[:, : _row(frame, n)] = np.arange(_row(frame, n)) % 251
        np.frombuffer(frame.planes[-1], np.uint8)[0] += change
        total = hashlib.sha256()
        digest_frame(total, frame)
        return total.hexdigest()

    assert digest(50, 0) == digest(50, 255)
    assert digest(50, 0) != digest(50, 0, change=1)


def _row(frame: av.VideoFrame, plane: int) -> int:
    """Bytes of a row of samples."""
    name, wide = frame.format.name, frame.width
    if name in ("rgb48le", "bgr0"):
        return wide * {"rgb48le": 6, "bgr0": 4}[name]
    if name == "gbrp10le":
        return wide * 2
    return wide if plane == 0 or name == "nv12" else wide // 2
