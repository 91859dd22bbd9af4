"""HDR: its metadata in every container, and the code values of PQ and HLG through the whole way."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from video_files import convert, decoded, make_video, planes

from duovsr_vs.video.colour import ColourTags
from duovsr_vs.video.curve import (
    HLG,
    LINEAR,
    PQ,
    light_from_pq,
    light_from_signal,
    light_from_working,
    working_from_light,
)
from duovsr_vs.video.encoding import choose
from duovsr_vs.video.hdr import HdrMetadata, attach, encoder_options, hdr_of
from duovsr_vs.video.pixels import layout_of
from duovsr_vs.video.reader import VideoReader

Point = tuple[Fraction, Fraction]
BT2020: tuple[Point, ...] = tuple(
    (Fraction(x), Fraction(y))
    for x, y in [("0.708", "0.292"), ("0.17", "0.797"), ("0.131", "0.046"), ("0.3127", "0.329")]
)
FILM = HdrMetadata(BT2020, (Fraction("0.005"), Fraction(1000)), (1000, 400))
PARTS = [
    FILM,
    HdrMetadata(BT2020, (Fraction("0.0001"), Fraction(4000))),
    HdrMetadata((), (), (733, 112)),
]


def hdr_video(path: Path, hdr: HdrMetadata = FILM, codec: str = "ffv1", transfer: int = PQ, **more: Any) -> Path:
    """A short BT.2020 video whose container says `hdr`."""

    def prepare(stream: Any) -> None:
        context = stream.codec_context
        size = context.width, context.height, context.pix_fmt, context.framerate
        attach(stream, codec, hdr)
        context.width, context.height, context.pix_fmt, context.framerate = size
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, transfer, 1

    return make_video(path, 3, pix_fmt="yuv420p10le", codec=codec, prepare=prepare, **more)


def said_in_container(path: Path) -> HdrMetadata | None:
    with av.open(path) as container:
        return hdr_of(None, container.streams.video[0].codec_context)


def said_in_bitstream(path: Path) -> HdrMetadata | None:
    """What the first frame says when its decoder knows nothing of the container."""
    with av.open(path) as container:
        stream: Any = container.streams.video[0]
        alone: Any = av.CodecContext.create(stream.codec_context.codec.name, "r")
        alone.extradata = stream.codec_context.extradata
        images = [i for p in container.demux(stream) if p.size for i in alone.decode(p)] + alone.decode(None)
    return hdr_of(images[0], alone)


@pytest.mark.parametrize("hdr", PARTS)
@pytest.mark.parametrize(
    ("ending", "codec", "inside"),
    [
        ("mkv", "libx265", True),
        ("mp4", "libx265", True),
        ("mov", "libx264", True),
        ("webm", "libsvtav1", True),
        ("mp4", "libsvtav1", True),
        ("mkv", "ffv1", False),
        ("mov", "prores_ks", False),
        ("webm", "libvpx-vp9", False),
    ],
)
def test_mastering_display_and_content_light_are_kept_in_container_and_bitstream(
    tmp_path: Path, hdr: HdrMetadata, ending: str, codec: str, inside: bool
) -> None:
    source = hdr_video(tmp_path / "a.mkv", hdr)
    target = convert(source, tmp_path / f"b.{ending}", codec=codec)
    assert hdr.matches(said_in_container(target))
    assert not inside or hdr.matches(said_in_bitstream(target))
    with VideoReader(str(target)) as reader:
        assert hdr.matches(reader.info.hdr)
        assert (reader.info.tags.matrix, reader.info.tags.primaries, reader.info.tags.transfer) == (9, 9, PQ)


def test_brightness_without_primaries_stays_without_primaries(tmp_path: Path) -> None:
    hdr = HdrMetadata((), (Fraction("0.005"), Fraction(1000)))
    target = convert(hdr_video(tmp_path / "a.mkv", hdr), tmp_path / "b.mkv", codec="ffv1")
    assert said_in_container(target) == hdr


def test_metadata_that_only_the_bitstream_holds_is_found_and_kept(tmp_path: Path) -> None:
    name, value = encoder_options("libx264", FILM)
    source = make_video(tmp_path / "a.mkv", 3, pix_fmt="yuv420p10le", options={name: value})
    assert said_in_container(source) is None
    target = convert(source, tmp_path / "b.mkv", codec="libx265")
    assert FILM.matches(said_in_container(target))
    assert FILM.matches(said_in_bitstream(target))


def test_parameters_of_the_user_come_after_those_of_the_film() -> None:
    tags = ColourTags(9, 9, PQ)
    encoding = choose(
        "a.mkv", layout_of("yuv420p10le"), tags, (128, 96), hdr=FILM, options={"x265-params": "max-cll=700,300"}
    )
    parameters = encoding.options["x265-params"].split(":")
    assert parameters.index("max-cll=700,300") > parameters.index("max-cll=1000,400")
    assert "master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50)" in parameters


@pytest.mark.parametrize(("output", "codec"), [("-", None), ("o/%d.png", None), ("a.mkv", "mpeg4")])
def test_where_hdr_metadata_has_no_place_a_note_says_so(output: str, codec: str | None) -> None:
    encoding = choose(output, layout_of("yuv420p"), ColourTags(9, 9, PQ), (128, 96), codec=codec, hdr=FILM)
    assert any(
        "HDR metadata (mastered at 0.005-1000 nits, MaxCLL 1000, MaxFALL 400) is dropped" in n for n in encoding.notes
    )
    assert encoding.hdr is None


def test_hdr_video_is_hevc_where_players_expect_it() -> None:
    for transfer in (PQ, HLG):
        tags = ColourTags(9, 9, transfer)
        for output, codec in (
            ("a.mkv", "libx265"),
            ("a.mp4", "libx265"),
            ("a.mov", "libx265"),
            ("a.webm", "libsvtav1"),
        ):
            assert choose(output, layout_of("yuv420p10le"), tags, (128, 96)).codec == codec
    assert choose("a.mkv", layout_of("yuv420p10le"), ColourTags(1, 1, 1), (128, 96)).codec == "libx264"


def ramp(path: Path, transfer: int) -> Path:
    """A still gray ramp over all 10-bit code values of the limited range, 8 pixels for each of 110 steps."""
    steps = np.linspace(64, 940, 110).round().astype(np.uint16)

    def each(frame: av.VideoFrame, number: int) -> None:
        luma, *chroma = (np.frombuffer(plane, np.uint16).reshape(-1, plane.line_size // 2) for plane in frame.planes)
        luma[:, :880] = steps.repeat(8)
        for plane in chroma:
            plane[:] = 512

    return hdr_video(path, transfer=transfer, size=(880, 16), each=each)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_a_ramp_to_the_peak_keeps_its_levels_through_reader_conversion_and_writer(
    tmp_path: Path, transfer: int
) -> None:
    source = ramp(tmp_path / "a.mkv", transfer)
    before = planes(decoded(source)[1])[0][8, 4::8].astype(int)
    after = planes(decoded(convert(source, tmp_path / "b.mkv", codec="ffv1"))[1])[0][16, 8::16].astype(int)
    assert np.array_equal(before, after)
    assert (before[0], before[-1]) == (64, 940)
    if transfer == PQ:
        assert light_from_pq(np.array([(after[-1] - 64) / 876], np.float32))[0] == pytest.approx(10000, rel=1e-5)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_the_shipped_model_keeps_highlights_up_to_the_peak_and_more_levels_than_8_bits_have(
    tmp_path: Path, cli: Any, transfer: int
) -> None:
    """The whole way of `duovsr upscale`: a ramp from black to the peak (10000 nits in PQ) in 480 steps."""
    codes = np.linspace(64, 940, 480).round().astype(np.uint16)

    def each(frame: av.VideoFrame, number: int) -> None:
        luma, *chroma = (np.frombuffer(plane, np.uint16).reshape(-1, plane.line_size // 2) for plane in frame.planes)
        luma[:, :480] = codes
        for plane in chroma:
            plane[:] = 512

    source = hdr_video(tmp_path / "a.mkv", transfer=transfer, size=(480, 16), each=each)
    code, _, told = cli("upscale", source, "-o", tmp_path / "b.mkv", "--codec", "ffv1", "--scale", "2")
    assert code == 0, told
    with VideoReader(str(tmp_path / "b.mkv")) as reader:
        assert FILM.matches(reader.info.hdr)
        assert reader.info.tags.transfer == transfer
        made = [planes(frame.image)[0].astype(int) for frame in reader.frames()]
    for luma in made:
        line = luma[16]
        assert len(np.unique(line)) > 600
        assert np.diff(line).min() >= 0
        assert np.abs(line - np.interp((np.arange(960) - 0.5) / 2, np.arange(480), codes)).max() <= 4  # of 876
        assert line[-1] >= 938
        if transfer == PQ:
            assert light_from_pq(np.array([(line[-1] - 64) / 876], np.float32))[0] > 9700


def test_pq_gives_the_nits_of_the_standard() -> None:
    # SMPTE ST 2084 at 0, 100, 203, 1000 and 10000 nits
    signal = np.array([0, 0.508078, 0.580689, 0.751827, 1], np.float32)
    assert light_from_pq(signal) == pytest.approx([0, 100, 203, 1000, 10000], rel=1e-3)


def test_light_comes_back_from_the_working_curve_whatever_its_size_and_sign() -> None:
    light = np.concatenate([np.geomspace(1e-6, 65504, 4001), np.linspace(0, 2, 4001)]).astype(np.float32)
    light = np.sort(np.concatenate([-light, light]))
    working = working_from_light(light)
    assert np.abs(light_from_working(working) - light).max() / 65504 < 1e-6
    assert np.allclose(light_from_working(working), light, rtol=3e-6, atol=1e-9)
    assert (np.diff(working) >= 0).all()
    inside = working[(light >= 0) & (light <= 1)]
    assert inside.min() == 0
    assert inside.max() == pytest.approx(1, abs=1e-6)
    assert np.isfinite(working_from_light(np.array([np.nan, np.inf, -np.inf], np.float32))).all()


def test_reference_white_is_one_in_light_for_every_transfer() -> None:
    white = {PQ: 0.580689, HLG: 0.75, 1: 1.0, 13: 1.0, LINEAR: 1.0}
    for transfer, signal in white.items():
        assert light_from_signal(np.array([signal], np.float32), transfer)[0] == pytest.approx(1, rel=1e-3)
