"""Pixel layouts and colour conversion."""

from __future__ import annotations

import gc
import weakref

import av
import numpy as np
import pytest
import vapoursynth as vs
from video_files import picture, planes

from duovsr_vs.errors import FormatError, OptionError
from duovsr_vs.video.colour import ColourTags, parse_matrix, resolve_matrix
from duovsr_vs.video.convert import Conversion, FromRGB, ToRGB, zimg_format
from duovsr_vs.video.pixels import component_arrays, layout_of, to_planar

PLANAR = [
    "gray", "gray10le", "gray16le", "yuv444p", "yuv444p10le", "yuv444p12le", "yuv444p16le",
    "gbrp", "gbrp10le", "gbrp12le", "gbrp16le",
]  # fmt: skip
PACKED = [
    ("nv12", "yuv420p"), ("p010le", "yuv420p10le"), ("p016le", "yuv420p16le"), ("nv16", "yuv422p"),
    ("yuyv422", "yuv422p"), ("yuv420p10be", "yuv420p10le"), ("rgb24", "gbrp"), ("bgr0", "gbrp"), ("rgba", "gbrp"),
    ("rgb48be", "gbrp16le"), ("gray16be", "gray16le"), ("ya8", "gray"),
]  # fmt: skip
W, H = 38, 22


def noise(pix_fmt: str, low: float = 0.1, high: float = 0.9) -> av.VideoFrame:
    """Random samples in a part of the range, so that every YUV triple is a colour that RGB has or nearly has."""
    layout, rng = layout_of(pix_fmt), np.random.default_rng(7)
    frame = av.VideoFrame(W, H, layout.planar_name)
    for view in component_arrays(frame, layout):
        view[:] = rng.integers(int(low * 2**layout.bits), int(high * 2**layout.bits), view.shape, dtype=view.dtype)
    return frame


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pix_fmt", PLANAR)
def test_unsubsampled_samples_survive_the_way_to_float_rgb_and_back(pix_fmt: str, full: bool) -> None:
    layout = layout_of(pix_fmt)
    tags = ColourTags(1, full=full or layout.family == "rgb")
    frame = noise(pix_fmt)
    back = FromRGB(layout, tags, W, H)(ToRGB(layout, tags, W, H)(frame))
    assert back.format.name == pix_fmt
    assert all(np.array_equal(a, b) for a, b in zip(planes(frame), planes(back), strict=True))


@pytest.mark.parametrize(("packed", "planar"), PACKED)
@pytest.mark.parametrize("full", [1, 2])
def test_packed_formats_are_reordered_without_loss(packed: str, planar: str, full: int) -> None:
    frame = noise(planar, 0.0, 1.0)
    frame.color_range = full
    ways = {"src_color_range": full, "dst_color_range": full} if layout_of(planar).family != "rgb" else {}
    given = frame.reformat(format=packed, threads=1, **ways)
    given.color_range = full
    read = to_planar(given)
    assert layout_of(packed).opaque.planar_name == planar == read.format.name
    assert all(np.array_equal(a, b) for a, b in zip(planes(frame), planes(read), strict=True))


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "yuv422p12le", "yuv444p", "gray", "gbrp10le"])
@pytest.mark.parametrize("matrix", [1, 6, 9])
def test_conversion_equals_that_of_a_vapoursynth_clip_with_the_same_tags(pix_fmt: str, matrix: int) -> None:
    layout = layout_of(pix_fmt)
    is_rgb = layout.family == "rgb"
    tags = ColourTags(matrix, full=is_rgb, chroma=2)
    frame = noise(pix_fmt)
    clip = vs.core.std.BlankClip(format=zimg_format(layout).id, width=W, height=H, length=1)

    def fill(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        out = f.copy()
        for plane, view in enumerate(planes(frame)):
            np.asarray(out[plane])[:] = view
        out.props.update({"_Matrix": 0 if is_rgb else matrix, "_Range": int(is_rgb), "_ChromaLocation": 1})
        return out

    tagged = vs.core.std.ModifyFrame(clip, clip, fill)
    expected = vs.core.resize.Bicubic(tagged, format=vs.RGBS).get_frame(0)
    got = ToRGB(layout, tags, W, H)(frame)
    assert all(np.array_equal(np.asarray(expected[plane]), got[plane]) for plane in range(3))


@pytest.mark.parametrize("name", ["rgb24", "bgr24", "gbrp", "rgb48le"])
def test_red_green_and_blue_are_not_exchanged(name: str) -> None:
    red = av.VideoFrame.from_ndarray(np.full((16, 16, 3), (255, 128, 0), np.uint8), format="rgb24")
    layout = layout_of(name)
    rgb = ToRGB(layout, ColourTags(0, full=True), 16, 16)(red.reformat(format=name, threads=1))
    assert np.abs(rgb[:, 8, 8] - [1, 128 / 255, 0]).max() < 0.005
    back = FromRGB(layout, ColourTags(0, full=True), 16, 16)(rgb)
    assert np.abs(back.to_ndarray(format="rgb24")[8, 8].astype(int) - [255, 128, 0]).max() <= 1


@pytest.mark.parametrize("size", [(37, 21), (38, 21), (37, 22), (17, 16)])
def test_odd_sizes_of_subsampled_video_keep_their_size_and_inner_pixels(size: tuple[int, int]) -> None:
    layout, tags = layout_of("yuv420p"), ColourTags(1)
    frame = picture(3, *size)
    whole = to_even(frame)
    got = ToRGB(layout, tags, *size)(frame)
    expected = ToRGB(layout, tags, whole.width, whole.height)(whole)
    assert got.shape == (3, size[1], size[0])
    assert np.array_equal(got, expected[:, : size[1], : size[0]])


def to_even(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame with its last luma row and column repeated."""
    even = av.VideoFrame(frame.width + frame.width % 2, frame.height + frame.height % 2, "yuv420p")
    for view, plane in zip(component_arrays(even, layout_of("yuv420p")), planes(frame), strict=True):
        view[:] = np.pad(plane, [(0, a - b) for a, b in zip(view.shape, plane.shape, strict=True)], mode="edge")
    return even


def test_ten_bits_are_more_than_eight() -> None:
    layout, tags = layout_of("yuv444p10le"), ColourTags(1)
    ramp = np.linspace(0.1, 0.9, 640, dtype=np.float32)[None, None].repeat(3, 0).repeat(16, 1)
    luma = planes(FromRGB(layout, tags, 640, 16)(ramp))[0]
    assert len(np.unique(luma)) > 500
    exact = 64 + 876 * ramp[0].astype(np.float64)
    assert np.abs(luma - exact).max() <= 0.5 + 1e-3  # rounded once, to the nearest


def test_values_outside_the_range_are_saturated() -> None:
    layout, tags = layout_of("gbrp"), ColourTags(0, full=True)
    rgb = np.zeros((3, 16, 16), np.float32)
    rgb[0], rgb[1] = -0.5, 1.5
    assert [int(plane[0, 0]) for plane in planes(FromRGB(layout, tags, 16, 16)(rgb))] == [0, 255, 0]


def test_full_and_limited_range_differ_and_the_name_yuvj_means_full() -> None:
    assert layout_of("yuvj420p").full
    frame = noise("yuv420p")
    limited, full = (ToRGB(layout_of("yuv420p"), ColourTags(1, full=full), W, H)(frame) for full in (False, True))
    assert np.abs(limited - full).max() > 0.02


def test_the_matrix_of_an_untagged_video_follows_its_height() -> None:
    layout = layout_of("yuv420p")
    assert [resolve_matrix(ColourTags(), layout, lines, None)[0].matrix for lines in (576, 719, 720, 1080)] == [
        6,
        6,
        1,
        1,
    ]
    assert "untagged" in resolve_matrix(ColourTags(), layout, 480, None)[1]
    assert resolve_matrix(ColourTags(9), layout, 480, None) == (ColourTags(9), "")
    assert resolve_matrix(ColourTags(9), layout, 480, 1)[0].matrix == 1


def test_a_matrix_that_cannot_be_converted_or_has_no_meaning_is_refused() -> None:
    with pytest.raises(FormatError, match="matrix 14 of this video cannot be converted"):
        resolve_matrix(ColourTags(14), layout_of("yuv420p"), 1080, None)
    assert resolve_matrix(ColourTags(14), layout_of("yuv420p"), 1080, 9)[0].matrix == 9
    assert resolve_matrix(ColourTags(14), layout_of("gray"), 1080, None) == (ColourTags(1), "")
    with pytest.raises(OptionError, match="the input is RGB"):
        resolve_matrix(ColourTags(0), layout_of("gbrp"), 1080, 1)


def test_an_unknown_matrix_and_a_float_format_are_refused_in_words() -> None:
    with pytest.raises(OptionError, match=r"--matrix 7o9: .*709"):
        parse_matrix("7o9")
    for name in ("rgbf32le", "bayer_rggb8", "vaapi", "nonsense"):
        with pytest.raises(FormatError, match="8 to 16 bits"):
            layout_of(name)


def test_a_conversion_goes_with_its_last_user() -> None:
    """Each segment of a long job has one, with the memory of some frames in it."""
    conversion = Conversion(vs.RGBS, W, H, format=vs.YUV420P8, matrix=1)
    conversion.convert(conversion.new_frame()).close()
    there = weakref.ref(conversion)
    del conversion
    gc.collect()
    assert there() is None
