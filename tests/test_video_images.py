"""Image sequences: 16-bit PNG and TIFF, EXR with light above white, in and out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from video_files import convert, decoded, make_video, picture, planes

from duovsr_vs.video.colour import ColourTags
from duovsr_vs.video.curve import light_from_signal
from duovsr_vs.video.encoding import choose
from duovsr_vs.video.pipeline import Work
from duovsr_vs.video.pixels import component_arrays, layout_of, to_planar
from duovsr_vs.video.reader import VideoReader
from duovsr_vs.video.streams import Span

W, H = 32, 24


def image_bytes(codec: str, frame: av.VideoFrame, **options: str) -> bytes:
    context: Any = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
    context.time_base, context.options = Fraction(1, 25), options
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def light(number: int) -> NDArray[np.float32]:
    """(3, H, W) light from darker than black to 300 times white, another ramp for each frame and colour."""
    ramp = np.concatenate([np.linspace(-0.02, 1, W // 2), np.geomspace(1, 300, W // 2)])
    return np.stack(
        [np.roll(np.broadcast_to(ramp, (H, W)), number * colour, 0) * (1 + colour + number) / 4 for colour in range(3)]
    ).astype(np.float32)


def exr_sequence(folder: Path, frames: int = 3, **options: str) -> Path:
    folder.mkdir()
    for number in range(frames):
        frame = av.VideoFrame(W, H, "gbrpf32le")
        for view, colour in zip(component_arrays(frame, layout_of("gbrpf32le")), light(number), strict=True):
            view[:] = colour
        (folder / f"{number:03}.exr").write_bytes(image_bytes("exr", frame, **options))
    return folder / "%03d.exr"


def image_planes(path: Path) -> NDArray[Any]:
    """(3, height, width) colours of an image or of the first frame of a video, as they are stored."""
    with VideoReader(str(path)) as reader:
        frame = next(reader.frames()).image
        layout = reader.info.layout
        return np.stack([view.copy() for view in component_arrays(to_planar(frame), layout)])


@pytest.mark.parametrize(
    ("options", "pix_fmt", "bound"), [({}, "gbrpf32le", 3e-6), ({"format": "half"}, "gbrpf16le", 0)]
)
def test_exr_keeps_light_far_above_white_and_below_black(
    tmp_path: Path, options: dict[str, str], pix_fmt: str, bound: float
) -> None:
    source = exr_sequence(tmp_path / "in", **options)
    convert(source, tmp_path / "out" / "%03d.exr")
    for number in range(3):
        made = tmp_path / "out" / f"{number:03}.exr"
        with VideoReader(str(made)) as reader:
            assert reader.info.pix_fmt == pix_fmt
            assert reader.info.tags.transfer == 8
        wanted = image_planes(tmp_path / "in" / made.name).astype(np.float64)
        assert wanted.max() > 200
        got = image_planes(made).astype(np.float64)[:, ::2, ::2]
        assert (np.abs(got - wanted) <= bound * np.abs(wanted) + 1e-9).all()


def test_exr_that_holds_no_numbers_is_read_as_black_and_as_bright_as_can_be(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    frame = av.VideoFrame(W, H, "gbrpf32le")
    for view in component_arrays(frame, layout_of("gbrpf32le")):
        view[:] = 0.25
        view[0, 0], view[0, 1], view[0, 2] = np.nan, np.inf, -np.inf
    (folder / "0.exr").write_bytes(image_bytes("exr", frame))
    got = image_planes(convert(folder / "%d.exr", tmp_path / "out" / "%d.exr").parent / "0.exr")
    assert np.isfinite(got).all()
    assert got[0, 0, 0] == 0
    assert got[0, 0, 2] == pytest.approx(65504, rel=1e-3)
    assert got[0, 0, 4] == pytest.approx(-65504, rel=1e-3)


def test_exr_becomes_srgb_video_and_says_what_is_clipped(tmp_path: Path) -> None:
    source = exr_sequence(tmp_path / "in")
    target = convert(source, tmp_path / "b.mkv", codec="ffv1", pix_fmt="gbrp16le")
    with VideoReader(str(target)) as reader:
        assert reader.info.tags.transfer == 13
    got = image_planes(target)[:, ::2, ::2] / 65535
    wanted = np.clip(light(0), 0, 1)
    assert np.abs(light_from_signal(got.astype(np.float32), 13) - wanted).max() < 1e-4
    notes = choose("b.mkv", layout_of("gbrpf32le"), ColourTags(0, transfer=8, full=True), (64, 48)).notes
    assert any("clipped (.exr keeps it)" in note for note in notes)


@pytest.mark.parametrize(("transfer", "peak"), [(1, 1.0), (16, 10000 / 203), (18, 3.774)])
def test_video_becomes_light_in_exr_by_its_own_curve(tmp_path: Path, transfer: int, peak: float) -> None:
    def tag(stream: Any) -> None:
        c = stream.codec_context
        c.colorspace, c.color_primaries, c.color_trc, c.color_range = 9, 9, transfer, 2

    def each(frame: av.VideoFrame, number: int) -> None:
        luma, *chroma = (np.frombuffer(plane, np.uint16).reshape(-1, plane.line_size // 2) for plane in frame.planes)
        luma[:, :48] = np.linspace(0, 1023, 48).round()
        for plane in chroma:
            plane[:] = 512

    source = make_video(tmp_path / "a.mkv", 1, pix_fmt="yuv444p10le", codec="ffv1", prepare=tag, each=each)
    made = convert(source, tmp_path / "out" / "%d.exr").parent / "0.exr"
    got = image_planes(made)[1, 0, ::2].astype(np.float64)
    assert (np.diff(got) > 0).all()
    assert got[-1] == pytest.approx(peak, rel=2e-3)


@pytest.mark.parametrize(("ending", "codec", "pix_fmt"), [("png", "png", "rgb48be"), ("tif", "tiff", "rgb48le")])
@pytest.mark.parametrize("target", ["png", "tif", "ffv1"])
def test_sixteen_bits_go_through_bit_by_bit(tmp_path: Path, ending: str, codec: str, pix_fmt: str, target: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    given = picture(3, W, H, "gbrp16le")
    given.color_range = 2
    (folder / f"7.{ending}").write_bytes(image_bytes(codec, given.reformat(format=pix_fmt, threads=1)))
    source = folder / f"%d.{ending}"
    if target == "ffv1":
        made = convert(source, tmp_path / "b.mkv", codec="ffv1")
    else:
        made = convert(source, tmp_path / "out" / f"%d.{target}").parent / f"0.{target}"
    got = image_planes(made)
    assert got.dtype == np.uint16
    assert np.array_equal(got[:, ::2, ::2], np.stack(planes(given)))
    assert (got % 257 != 0).mean() > 0.9  # 8 bits would be multiples of 257


def test_eight_bit_images_stay_eight_bits(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "0.png").write_bytes(image_bytes("png", picture(0, W, H, "gbrp").reformat(format="rgb24", threads=1)))
    made = convert(folder / "%d.png", tmp_path / "out" / "%d.tif").parent / "0.tif"
    assert decoded(made)[0].format.name == "rgb24"


def test_the_tags_of_hdr_are_in_the_images(tmp_path: Path) -> None:
    def tag(stream: Any) -> None:
        c = stream.codec_context
        c.colorspace, c.color_primaries, c.color_trc, c.color_range = 9, 9, 16, 1

    source = make_video(tmp_path / "a.mkv", 2, pix_fmt="yuv420p10le", codec="ffv1", prepare=tag)
    made = convert(source, tmp_path / "out" / "%d.png").parent / "1.png"
    with VideoReader(str(made)) as reader:
        assert (reader.info.tags.primaries, reader.info.tags.transfer) == (9, 16)
        assert reader.info.layout.bits == 16


def test_part_of_a_sequence_keeps_the_numbers_of_its_images(tmp_path: Path) -> None:
    source = exr_sequence(tmp_path / "in", 6)

    def part(frames: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        return (frame.repeat(2, 1).repeat(2, 2) for frame in itertools.islice(frames, 1, 4))

    convert(source, tmp_path / "out" / "%03d.exr", part, Work(first=1, last=6, start=2, stop=5), Span())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["002.exr", "003.exr", "004.exr"]
    got = image_planes(tmp_path / "out" / "003.exr")[:, ::2, ::2]
    assert np.allclose(got, light(3), rtol=1e-5, atol=1e-6)
