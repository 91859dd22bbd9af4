"""The choice of codec, pixel format and options."""

from __future__ import annotations

from typing import Any

import pytest

from duovsr_vs.errors import OptionError
from duovsr_vs.video.colour import ColourTags
from duovsr_vs.video.encoding import Encoding, choose, output_kind, parse_options
from duovsr_vs.video.pixels import layout_of

TAGS = ColourTags(6, 6, 6, False, 2)


def chosen(
    output: str, source: str, size: tuple[int, int] = (128, 96), tags: ColourTags = TAGS, **asked: Any
) -> Encoding:
    return choose(output, layout_of(source), tags, size, **asked)


@pytest.mark.parametrize(
    ("output", "source", "codec", "pix_fmt"),
    [
        ("a.mkv", "yuv420p", "libx264", "yuv420p"),
        ("a.mp4", "yuv420p10le", "libx264", "yuv420p10le"),
        ("a.mov", "yuv422p10le", "libx264", "yuv422p10le"),
        ("a.mkv", "yuv420p12le", "libx265", "yuv420p12le"),
        ("a.webm", "yuv420p", "libvpx-vp9", "yuv420p"),
        ("a.webm", "yuv420p10le", "libsvtav1", "yuv420p10le"),
        ("a.mkv", "gray", "libx264", "gray"),
        ("a.mkv", "nv12", "libx264", "yuv420p"),
        ("a.mkv", "p010le", "libx264", "yuv420p10le"),
        ("-", "yuv420p10le", "y4m", "yuv420p10le"),
        ("o/%d.png", "yuv420p", "png", "rgb24"),
        ("o/%d.png", "yuv420p10le", "png", "rgb48be"),
        ("o/%d.tif", "gbrp16le", "tiff", "rgb48le"),
        ("o/%d.png", "gray16le", "png", "gray16be"),
    ],
)
def test_depth_and_subsampling_are_kept_without_a_note(output: str, source: str, codec: str, pix_fmt: str) -> None:
    encoding = chosen(output, source)
    assert (encoding.codec, encoding.pix_fmt, encoding.notes) == (codec, pix_fmt, ())


@pytest.mark.parametrize(
    ("asked", "encoder"),
    [("hevc", "libx265"), ("h264", "libx264"), ("vp9", "libvpx-vp9"), ("av1", "libsvtav1")],
)
def test_the_name_of_a_format_means_its_encoder_with_all_that_holds_for_it(asked: str, encoder: str) -> None:
    assert chosen("a.mkv", "yuv420p10le", codec=asked) == chosen("a.mkv", "yuv420p10le", codec=encoder)
    for name in (asked, encoder) if encoder == "libx265" else ():
        with pytest.raises(OptionError, match="libx265 takes no 32x32 frames; each side must be 64 or more"):
            chosen("a.mkv", "yuv420p", (32, 32), codec=name)


def test_rgb_stays_rgb_in_ffv1_and_becomes_444_in_709_elsewhere() -> None:
    rgb = ColourTags(0, full=True)
    for source, kept in (("gbrp", "bgr0"), ("gbrp10le", "gbrp10le"), ("gbrp16le", "gbrp16le")):
        encoding = chosen("a.mkv", source, tags=rgb, codec="ffv1")
        assert (encoding.pix_fmt, encoding.notes, encoding.tags.full) == (kept, (), True)
    plain = chosen("a.mkv", "gbrp", tags=rgb)
    assert (plain.pix_fmt, plain.tags.matrix, plain.tags.full) == ("yuv444p", 1, False)
    assert "matrix 709" in plain.notes[0]


@pytest.mark.parametrize("size", [(65, 48), (64, 47), (65, 47)])
def test_an_odd_side_makes_420_into_444_and_says_so(size: tuple[int, int]) -> None:
    encoding = chosen("a.mkv", "yuv420p10le", size)
    assert encoding.pix_fmt == "yuv444p10le"
    assert encoding.tags.chroma == 0
    assert "4:4:4" in encoding.notes[0]
    assert f"{size[0]}x{size[1]}" in encoding.notes[0]


def test_what_is_lost_is_said() -> None:
    assert "no more than 12 bits" in chosen("a.mkv", "yuv420p16le").notes[0]
    assert "alpha" in chosen("a.mp4", "yuva420p").notes[0]
    assert "becomes yuv422p" in chosen("a.mkv", "yuv411p").notes[0]


def test_full_range_stays_full_range() -> None:
    encoding = chosen("a.mkv", "yuvj420p", tags=ColourTags(5, full=True))
    assert encoding.pix_fmt == "yuv420p"
    assert encoding.tags.full
    assert encoding.notes == ()


def test_repeatable_bitstreams_are_the_default_and_stay_when_parameters_are_added() -> None:
    assert chosen("a.mkv", "yuv420p").options["x264-params"] == "mbtree=0"
    asked = chosen("a.mkv", "yuv420p", options={"x264-params": "me=umh", "preset": "slow"}).options
    assert asked["x264-params"] == "mbtree=0:me=umh"
    assert asked["preset"] == "slow"


def test_a_rate_factor_is_set_only_where_none_was_asked_for() -> None:
    assert chosen("a.mkv", "yuv420p").options["crf"] == "16"
    assert chosen("a.mkv", "yuv420p", crf=20.5).options["crf"] == "20.5"
    assert "crf" not in chosen("a.mkv", "yuv420p", options={"qp": "0"}).options


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"codec": "libx2645"}, "no such video encoder; usual ones are libx264"),
        ({"codec": "aac"}, "no such video encoder"),
        ({"crf": 99.0}, "from 0"),
        ({"crf": -1.0}, "from 0"),
        ({"crf": 3.0, "codec": "ffv1"}, "no constant rate factor"),
        ({"pix_fmt": "yuv420p16le"}, "libx264 takes yuv420p"),
        ({"options": {"prset": "slow"}}, "no such option"),
    ],
)
def test_what_does_not_exist_is_refused_in_words(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        chosen("a.mkv", "yuv420p", **asked)


def test_a_pixel_format_that_cannot_hold_the_size_is_refused() -> None:
    with pytest.raises(OptionError, match="cannot hold 65x48"):
        chosen("a.mkv", "yuv420p", (65, 48), pix_fmt="yuv420p")


def test_encoders_with_a_smallest_size_are_neither_chosen_nor_accepted_below_it() -> None:
    assert chosen("a.mkv", "yuv420p12le", (48, 64)).codec == "libx264"
    assert chosen("a.webm", "yuv420p10le", (64, 32)).codec == "libvpx-vp9"
    for codec in ("libx265", "libsvtav1"):
        with pytest.raises(OptionError, match="takes no 48x64 frames"):
            chosen("a.mkv", "yuv420p", (48, 64), codec=codec)


def test_names_decide_the_kind_and_unknown_ones_are_refused() -> None:
    kinds = {"a.mkv": "matroska", "b.MP4": "mp4", "c.d/e.mov": "mov", "-": "y4m", "o/%03d.png": "image"}
    assert {name: output_kind(name) for name in kinds} == kinds
    for name in ("a", "a.avi", "dir.mkv/a", "a.gif"):
        with pytest.raises(OptionError, match="output can be"):
            output_kind(name)


def test_encoder_options_are_split_at_commas_and_equal_signs() -> None:
    assert parse_options(["preset=slow,x264-params=me=umh:ref=4", "tune=film"]) == {
        "preset": "slow", "x264-params": "me=umh:ref=4", "tune": "film",
    }  # fmt: skip
    with pytest.raises(OptionError, match="name=value"):
        parse_options(["slow"])
