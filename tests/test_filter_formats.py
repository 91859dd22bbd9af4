"""Every constant format goes in and comes out: converted as resize would, with the properties as they were."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import vapoursynth as vs
from conftest import synthetic_clip
from filter_clips import clip_of, core, frames_of, planes_of, tensor_of

INTEGERS = [8, 9, 10, 12, 14, 16]
DEPTHS = [(vs.INTEGER, bits) for bits in INTEGERS] + [(vs.FLOAT, 16), (vs.FLOAT, 32)]
SUBSAMPLINGS = [(0, 0), (1, 0), (1, 1), (0, 1), (2, 0), (2, 2)]
FORMATS = [
    *[core.query_video_format(vs.GRAY, *depth) for depth in DEPTHS],
    *[core.query_video_format(vs.RGB, *depth) for depth in DEPTHS],
    *[core.query_video_format(vs.YUV, *depth, 1, 1) for depth in DEPTHS],
    *[core.query_video_format(vs.YUV, vs.INTEGER, 10, *shift) for shift in SUBSAMPLINGS],
    core.query_video_format(vs.YUV, vs.FLOAT, 32, 0, 0),
]
NAMES = [format.name for format in FORMATS]
BT709, ST170M = 1, 6


def film(format: vs.VideoFormat, **tags: Any) -> vs.VideoNode:
    """Three different frames in that format."""
    clip = clip_of([0.9 * frame for frame in synthetic_clip(3, 32, 48)])
    matrix = None if format.color_family == vs.RGB else BT709
    clip = core.resize.Bicubic(clip, format=format.id, matrix=matrix)
    return core.std.SetFrameProps(clip, **tags) if tags else clip


def properties(clip: vs.VideoNode, n: int) -> dict[str, Any]:
    with clip.get_frame(n) as frame:
        return dict(frame.props)


@pytest.mark.parametrize("format", FORMATS, ids=NAMES)
def test_every_format_comes_back_as_resize_converts_it(tiny_model: Path, format: vs.VideoFormat) -> None:
    clip = film(format)
    made = core.duovsr.Upscale(clip, model=str(tiny_model))
    assert (made.format.id, made.width, made.height, len(made)) == (format.id, 192, 128, 3)
    gray = format.color_family == vs.GRAY
    rgb = core.resize.Bicubic(clip, format=vs.GRAYS if gray else vs.RGBS)
    if gray:
        rgb = core.std.SetFrameProps(core.std.ShufflePlanes([rgb] * 3, [0, 0, 0], vs.RGB), _Matrix=0, _Range=1)
    upscaled = core.duovsr.Upscale(rgb, model=str(tiny_model))
    matrix = None if format.color_family == vs.RGB else BT709
    location = properties(clip, 0).get("_ChromaLocation")
    expected = core.resize.Bicubic(
        upscaled, format=format.id, matrix=matrix, chromaloc=location, range=properties(clip, 0).get("_Range")
    )
    for frame, wanted in zip(frames_of(made), frames_of(expected), strict=True):
        assert planes_of(frame) == planes_of(wanted)


@pytest.mark.parametrize("format", FORMATS, ids=NAMES)
def test_a_plain_colour_stays_itself(tiny_model: Path, format: vs.VideoFormat) -> None:
    """At strength 0, where the output is the resampler's: no range, matrix or offset is applied twice or left out."""
    high = 1.0 if format.sample_type == vs.FLOAT else 2 ** (format.bits_per_sample - 8) * 200
    middle = 0.1 if format.sample_type == vs.FLOAT else 2 ** (format.bits_per_sample - 8) * 110
    colour = [high * 0.8, middle, middle][: format.num_planes]
    clip = core.std.BlankClip(format=format.id, width=32, height=32, length=1, color=colour)
    matrix = None if format.color_family == vs.RGB else 9
    made = core.duovsr.Upscale(clip, model=str(tiny_model), strength=0.0, matrix=matrix)
    step = 1e-3 if format.sample_type == vs.FLOAT else 1
    with clip.get_frame(0) as source, made.get_frame(0) as frame:
        for plane in range(format.num_planes):
            high, wide = frame[plane].shape
            assert abs(float(frame[plane][high // 2, wide // 2]) - float(source[plane][4, 4])) <= step


def test_gray_goes_through_as_gray_and_comes_back_as_luma(tiny_model: Path) -> None:
    clip = film(core.query_video_format(vs.GRAY, vs.FLOAT, 32))
    made = core.duovsr.Upscale(clip, model=str(tiny_model), matrix=ST170M)
    rgb = core.std.SetFrameProps(core.std.ShufflePlanes([clip] * 3, [0, 0, 0], vs.RGB), _Matrix=0)
    with made.get_frame(1) as frame, core.duovsr.Upscale(rgb, model=str(tiny_model)).get_frame(1) as three:
        red, green, blue = tensor_of(three)
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        assert not bool((red == blue).all())
        assert float((tensor_of(frame)[0] - luma).abs().max()) < 1e-5


TAGS: dict[str, Any] = {
    "_SARNum": 16, "_SARDen": 15, "_DurationNum": 1001, "_DurationDen": 24000, "_Primaries": 5, "_Transfer": 4,
    "_Range": 1, "_ChromaLocation": 2, "_FieldBased": 0, "_AbsoluteTime": 1.5, "mine": [1, 2, 3], "word": "yes",
}  # fmt: skip
KEPT = [vs.GRAY8, vs.GRAYS, vs.RGB24, vs.RGBH, vs.RGBS, vs.YUV420P8, vs.YUV422P10, vs.YUV444PS]


def number(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
    made = f.copy()
    made.props["number"] = n
    return made


@pytest.mark.parametrize("format", [core.get_video_format(id) for id in KEPT], ids=lambda format: format.name)
@pytest.mark.parametrize("tagged", [True, False])
def test_properties_are_kept(tiny_model: Path, format: vs.VideoFormat, tagged: bool) -> None:
    blank = core.std.BlankClip(format=format.id, width=32, height=32, length=3)
    clip = core.std.SetFrameProps(blank, **TAGS) if tagged else blank
    if format.color_family == vs.YUV:
        clip = core.std.SetFrameProps(clip, _Matrix=9)
    clip = core.std.ModifyFrame(clip, clip, number)
    made = core.duovsr.Upscale(clip, model=str(tiny_model))
    assert made.fps == clip.fps
    for n in range(3):
        assert properties(made, n) == properties(clip, n)


def test_the_displayed_shape_is_kept_where_the_axes_grow_differently(tiny_model: Path) -> None:
    """A PAL frame of 16:15 samples, asked for with square ones, gets them; a rounded size changes nothing."""
    clip = core.std.BlankClip(format=vs.YUV420P8, width=90, height=72, length=1)
    clip = core.std.SetFrameProps(clip, _SARNum=16, _SARDen=15, _Matrix=ST170M)
    for size, expected in [((192, 144), (1, 1)), ((180, 144), (16, 15)), ((178, 142), (16, 15))]:
        made = core.duovsr.Upscale(clip, model=str(tiny_model), width=size[0], height=size[1])
        tags = properties(made, 0)
        assert (tags["_SARNum"], tags["_SARDen"]) == expected


@pytest.mark.parametrize("location", range(6))
@pytest.mark.parametrize("range_", [0, 1])
def test_range_and_chroma_location_are_honoured(tiny_model: Path, location: int, range_: int) -> None:
    """A ramp stays that ramp inside the frame: chroma that is read or written at a wrong place would be shifted."""
    ys, xs = torch.linspace(0, 0.4, 48)[:, None], torch.linspace(0, 0.4, 64)[None]
    ramp = torch.stack([0.1 + xs + ys, 0.9 - xs - ys, (0.5 + xs - ys)])
    source = clip_of([ramp])
    stored = core.resize.Bicubic(source, format=vs.YUV420P16, matrix=BT709, range=range_, chromaloc=location)
    made = core.duovsr.Upscale(stored, model=str(tiny_model), strength=0.0)
    expected = core.duovsr.Upscale(source, model=str(tiny_model), strength=0.0)
    back = core.resize.Bicubic(made, format=vs.RGBS)
    with back.get_frame(0) as frame, expected.get_frame(0) as wanted:
        difference = (tensor_of(frame) - tensor_of(wanted)).abs()[:, 64:-64, 64:-64]
        assert float(difference.max()) < 2e-4


@pytest.mark.parametrize("height, matrix", [(718, ST170M), (720, BT709)])
@pytest.mark.parametrize("unspecified", [True, False])
def test_an_untagged_matrix_goes_by_the_lines_and_is_said(
    tiny_model: Path, caplog: pytest.LogCaptureFixture, height: int, matrix: int, unspecified: bool
) -> None:
    clip = core.std.BlankClip(format=vs.YUV420P8, width=16, height=height, length=1, color=[90, 100, 180])
    clip = core.std.SetFrameProps(clip, _Matrix=2) if unspecified else clip
    made = core.duovsr.Upscale(clip, model=str(tiny_model), scale=1)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert re.match(rf"Upscale: the clip has no _Matrix; .* \({matrix}\) is assumed", caplog.records[0].message)
    caplog.clear()
    given = core.duovsr.Upscale(clip, model=str(tiny_model), scale=1, matrix=matrix)
    own = core.duovsr.Upscale(core.std.SetFrameProps(clip, _Matrix=matrix), model=str(tiny_model), scale=1)
    assert caplog.records == []
    with made.get_frame(0) as a, given.get_frame(0) as b, own.get_frame(0) as c:
        assert planes_of(a) == planes_of(b) == planes_of(c)
        assert a.props["_Matrix"] == b.props["_Matrix"] == c.props["_Matrix"] == matrix


def test_the_argument_matrix_wins_over_the_tag(tiny_model: Path) -> None:
    format = core.get_video_format(vs.YUV444P16)
    wrong = core.std.SetFrameProps(film(format), _Matrix=ST170M)
    made = core.duovsr.Upscale(wrong, model=str(tiny_model), matrix=BT709)
    right = core.duovsr.Upscale(film(format), model=str(tiny_model))
    other = core.duovsr.Upscale(wrong, model=str(tiny_model))
    with made.get_frame(0) as a, right.get_frame(0) as b, other.get_frame(0) as c:
        assert planes_of(a) == planes_of(b) != planes_of(c)
        assert a.props["_Matrix"] == BT709


def test_a_clip_that_changes_its_matrix_comes_back_in_the_first_one(tiny_model: Path) -> None:
    rgb = clip_of([0.9 * frame for frame in synthetic_clip(2, 32, 48)])
    one = core.resize.Bicubic(rgb, format=vs.YUV444P16, matrix=BT709)
    other = core.resize.Bicubic(rgb, format=vs.YUV444P16, matrix=ST170M)
    mixed = core.duovsr.Upscale(one[0] + other[1], model=str(tiny_model))
    pure = core.duovsr.Upscale(one, model=str(tiny_model))
    with mixed.get_frame(1) as a, pure.get_frame(1) as b:
        assert a.props["_Matrix"] == BT709
        assert int((tensor_of(a).int() - tensor_of(b).int()).abs().max()) < 64  # of 65535: two roundings


@pytest.mark.parametrize("matrix", [0, 3, 10, 14, 99])
def test_a_matrix_that_cannot_be_converted_is_refused(tiny_model: Path, matrix: int) -> None:
    clip = core.std.BlankClip(format=vs.YUV444P8, width=32, height=32, length=1)
    with pytest.raises(vs.Error, match=f"^Upscale: matrix={matrix}, which the filter cannot convert by itself"):
        core.duovsr.Upscale(clip, model=str(tiny_model), matrix=matrix)


def test_gray_taken_out_of_rgb_is_accepted(tiny_model: Path) -> None:
    """Such planes are tagged as RGB, which resize refuses for gray."""
    gray = core.std.SetFrameProps(
        core.std.BlankClip(format=vs.GRAY8, width=32, height=32, length=1, color=99), _Matrix=0
    )
    with core.duovsr.Upscale(gray, model=str(tiny_model), strength=0.0).get_frame(0) as frame:
        assert frame[0][9, 9] == 99 and frame.props["_Matrix"] == 0


@pytest.mark.parametrize(
    "format, width, height, fix",
    [
        (vs.YUV420P8, 101, 76, r"width=102, height=76"),
        (vs.YUV420P8, 102, 75, r"width=102, height=76"),
        (vs.YUV422P10, 101, 75, r"width=102, height=75"),
        (vs.YUV410P8, 101, 73, r"width=104, height=76"),
    ],
)
def test_sizes_that_chroma_cannot_have_name_the_next_ones(
    tiny_model: Path, format: int, width: int, height: int, fix: str
) -> None:
    clip = core.std.BlankClip(format=format, width=32, height=32, length=1)
    with pytest.raises(vs.Error, match=rf"^Upscale: the output would be {width}x{height}.*{fix}.*4:4:4"):
        core.duovsr.Upscale(clip, model=str(tiny_model), width=width, height=height, matrix=1)
    full = core.std.BlankClip(format=vs.YUV444P8, width=32, height=32, length=1)
    made = core.duovsr.Upscale(full, model=str(tiny_model), width=width, height=height, matrix=1)
    assert (made.width, made.height) == (width, height)


def test_integers_of_32_bits_are_refused_with_advice(tiny_model: Path) -> None:
    clip = core.std.BlankClip(format=vs.GRAY32, width=32, height=32, length=1)
    with pytest.raises(vs.Error, match=r"^Upscale: the clip is Gray32, at most 16 bits are supported.*vs\.GRAYS"):
        core.duovsr.Upscale(clip, model=str(tiny_model))
