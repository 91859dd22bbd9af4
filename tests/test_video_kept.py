"""What an output kept of its source: each loss is found, and nothing is found where nothing is lost."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from video_files import convert, double, make_video

from duovsr_vs.errors import VideoError
from duovsr_vs.video.colour import ColourTags
from duovsr_vs.video.encoding import choose
from duovsr_vs.video.facts import facts, facts_of
from duovsr_vs.video.kept import check, kept, surprises
from duovsr_vs.video.pipeline import Work
from duovsr_vs.video.pixels import layout_of
from duovsr_vs.video.reader import VideoReader
from duovsr_vs.video.streams import Span

ENCODING = choose("b.mkv", layout_of("yuv420p"), ColourTags(6), (96, 64))


def whole(path: Path, **more: Any) -> Path:
    return make_video(path, 12, sound=True, subtitles=True, chapters=True, attachment=path.suffix == ".mkv", **more)


def items(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["item"]: one for one in report["items"]}


def test_a_faithful_copy_surprises_nobody_and_its_report_is_json(tmp_path: Path) -> None:
    source = whole(tmp_path / "a.mkv")
    report = kept(facts(str(source)), convert(source, tmp_path / "b.mkv"), kind="matroska", encoding=ENCODING)
    assert surprises(report) == []
    check(report, "b.mkv")
    assert json.loads(json.dumps(report)) == report
    assert {name: one["status"] for name, one in items(report).items() if one["status"] != "kept"} == {
        "size": "changed", "matrix": "changed",
    }  # fmt: skip
    assert items(report)["stream 1: audio (aac, eng)"]["status"] == "kept"
    assert report["source"] == str(source)


def remuxed(path: Path, target: Path, change: Any) -> Path:
    """A copy of a file; change(packet, number, out) says what becomes of each video packet; sound is copied."""
    with av.open(path) as source, av.open(target, "w") as out:
        made = {s.index: out.add_stream_from_template(s, opaque=True) for s in source.streams if s.type != "attachment"}
        numbers = itertools.count()
        for packet in source.demux(*[s for s in source.streams if s.type != "attachment"]):
            if packet.size and change(packet, next(numbers) if packet.stream.type == "video" else -1):
                packet.stream = made[packet.stream.index]
                out.mux(packet)
    return target


def without_frame(packet: Any, number: int) -> bool:
    return number != 11


def moved_frame(packet: Any, number: int) -> bool:
    packet.pts += 7 * (number == 5)
    return True


def late_sound(packet: Any, number: int) -> bool:
    if packet.stream.type == "audio":
        packet.pts, packet.dts = packet.pts + 20, packet.dts + 20
    return True


def without_sound(packet: Any, number: int) -> bool:
    return not (packet.stream.type == "audio" and packet.pts > 300)


@pytest.mark.parametrize(
    ("change", "item", "vital"),
    [
        (without_frame, "frames", True),
        (moved_frame, "timestamps", True),
        (without_sound, "stream 1: audio (aac, eng)", False),
        (late_sound, "stream 1: audio (aac, eng)", False),
    ],
)
def test_a_lost_frame_a_moved_frame_and_lost_sound_are_found(
    tmp_path: Path, change: Any, item: str, vital: bool
) -> None:
    source = make_video(tmp_path / "a.mkv", 12, sound=True, options={"bf": "0"})
    report = kept(facts(str(source)), remuxed(source, tmp_path / "b.mkv", change), kind="matroska", encoding=ENCODING)
    assert any(text.startswith(f"{item}: changed") for text in surprises(report))
    if vital:
        with pytest.raises(VideoError, match=rf"^b\.mkv does not hold what its source holds: {item}: changed"):
            check(report, "b.mkv")
    else:
        check(report, "b.mkv")


def test_changed_bytes_of_a_packet_are_found(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 12, sound=True)
    target = convert(source, tmp_path / "b.mkv")
    data = bytearray(target.read_bytes())
    with av.open(target) as container:
        sound = [bytes(p) for p in container.demux(container.streams.audio[0]) if p.size][3]
    data[data.index(sound) + len(sound) // 2] ^= 1
    target.write_bytes(data)
    told = items(kept(facts(str(source)), target, kind="matroska"))["stream 1: audio (aac, eng)"]
    assert told["status"] == "changed"


def test_lost_streams_chapters_and_metadata_are_found(tmp_path: Path) -> None:
    source = whole(tmp_path / "a.mkv")
    bare = make_video(tmp_path / "b.mkv", 12)
    report = items(kept(facts(str(source)), bare, kind="matroska"))
    for item in (
        "chapters",
        "metadata",
        "stream 1: audio (aac, eng)",
        "stream 2: subtitle (srt, fra)",
        "stream 3: attachment (font.ttf)",
    ):
        assert (report[item]["status"], report[item]["why"]) == ("dropped", "")


def tagged(path: Path, codes: tuple[int, int, int, int], sar: Fraction | None = None, turn: float = 0) -> Path:
    def prepare(stream: Any) -> None:
        c = stream.codec_context
        c.colorspace, c.color_primaries, c.color_trc, c.color_range = codes
        if sar:
            c.sample_aspect_ratio = sar
        if turn:
            stream.set_display_rotation(turn)

    return make_video(path, 3, prepare=prepare)


def test_lost_shape_rotation_and_colours_are_found(tmp_path: Path) -> None:
    source = tagged(tmp_path / "a.mp4", (9, 9, 16, 2), Fraction(16, 15), 90)
    report = items(kept(facts(str(source)), tagged(tmp_path / "b.mp4", (1, 1, 1, 1))))
    for item in ("matrix", "primaries", "transfer", "full range", "sample aspect", "rotation"):
        assert report[item]["status"] in ("changed", "dropped"), item
        assert report[item]["why"] == "", item
    turned = items(kept(facts(str(source)), tagged(tmp_path / "c.mp4", (9, 9, 16, 2), Fraction(16, 15), 270)))
    assert {item for item, one in turned.items() if one["status"] != "kept"} == {"rotation"}


def test_a_cut_is_compared_with_its_part_of_the_source(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 50, sound=True, subtitles=True, chapters=True)
    work = Work(first=9, last=26, start=10, stop=25, until=Fraction(1), shift=400)

    def part(frames: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        return itertools.islice(double(frames), 1, 16)

    target = convert(source, tmp_path / "b.mkv", part, work, Span(Fraction(2, 5), Fraction(1)))
    found = facts(str(source))
    assert surprises(kept(found, target, kind="matroska", start=10, stop=25, encoding=ENCODING)) == []
    shifted = items(kept(found, target, kind="matroska", start=11, stop=26, encoding=ENCODING))
    assert shifted["frames"]["status"] == "kept"
    assert any(
        one["status"] == "changed" and not one["why"] for name, one in shifted.items() if name.startswith("stream")
    )


def test_reasons_are_given_for_what_was_to_be_expected(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", 12, rate=Fraction(30000, 1001), sound=True, chapters=True)
    with VideoReader(str(source)) as reader:
        encoding = choose("b.webm", reader.info.layout, ColourTags(6), (96, 64))
        target = convert(source, tmp_path / "b.webm")
        report = items(kept(facts_of(reader), target, kind="webm", encoding=encoding, left_out={1}))
    assert "whole milliseconds" in report["timestamps"]["why"]
    assert report["stream 1: audio (aac, eng)"]["why"] == "webm cannot hold it"
    assert report["matrix"]["why"]


def test_frames_that_do_not_decode_are_a_reason_only_if_the_others_are_there(tmp_path: Path) -> None:
    source, short = make_video(tmp_path / "a.mkv", 12), make_video(tmp_path / "b.mkv", 10)
    found = facts(str(source))
    damaged = items(kept(found, short, kind="matroska", written=10))
    assert damaged["frames"]["why"] == "2 frames of the source cannot be decoded"
    assert items(kept(found, short, kind="matroska", written=12))["frames"]["why"] == ""


@pytest.mark.parametrize("ending", ["y4m", "png"])
def test_formats_of_frames_only_are_compared_by_their_frames(tmp_path: Path, ending: str) -> None:
    source = whole(tmp_path / "a.mkv")
    folder = tmp_path / "images"
    target = convert(source, tmp_path / "b.y4m" if ending == "y4m" else folder / "%03d.png")
    kind = "y4m" if ending == "y4m" else "image"
    encoding = choose(str(target), layout_of("yuv420p"), ColourTags(6), (96, 64))
    report = kept(facts(str(source)), target if ending == "y4m" else folder, kind=kind, encoding=encoding)
    assert surprises(report) == []
    assert items(report)["frames"]["output"] == 12
    next(iter(folder.iterdir()) if ending == "png" else iter([target])).unlink()
    if ending == "png":
        assert items(kept(facts(str(source)), folder, kind=kind))["frames"]["status"] == "changed"


def test_a_pipe_is_compared_as_far_as_it_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = whole(tmp_path / "a.mkv")
    target = convert(source, tmp_path / "b.mkv")
    with VideoReader(str(source)) as reader:
        monkeypatch.setattr(reader, "source", "-")
        monkeypatch.setattr(reader, "scan", None)
        report = kept(facts_of(reader), target, kind="matroska", encoding=ENCODING, written=12)
    assert surprises(report) == []
    assert items(report)["timestamps"]["why"] == "a pipe is read only once"
    assert items(report)["stream 1: audio (aac, eng)"]["status"] == "kept"
