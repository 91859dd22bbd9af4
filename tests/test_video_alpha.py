"""Alpha: read, enlarged beside the engine, written and read again; and the sentences where it cannot be."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from video_files import convert, double, make_video, picture

from duovsr_vs.video.alpha import AlphaPlanes, fill_opaque
from duovsr_vs.video.colour import ColourTags
from duovsr_vs.video.encoding import Encoding, choose
from duovsr_vs.video.pipeline import Work
from duovsr_vs.video.pixels import PixelLayout, alpha_array, layout_of, plane_array
from duovsr_vs.video.reader import VideoReader
from duovsr_vs.video.streams import Span

W, H = 48, 32


def matte(number: int, layout: PixelLayout, width: int = W, height: int = H) -> NDArray[Any]:
    """(height, width) alpha: clear left, opaque right, a ramp between them that moves with the frame's number."""
    ramp = np.clip((np.arange(width) - width / 4 - number) / (width / 2), 0, 1)
    top = 1 if layout.floating else (1 << layout.bits) - 1
    plane = np.broadcast_to(ramp * top, (height, width))
    return (plane if layout.floating else plane.round()).astype(layout.dtype)


def alpha_video(path: Path, pix_fmt: str, codec: str, frames: int = 3, **more: Any) -> Path:
    """`picture`s with a `matte` each."""
    layout = layout_of(pix_fmt)

    def each(frame: av.VideoFrame, number: int) -> None:
        plane_array(frame, 3, W, H, layout.dtype)[:] = matte(number, layout)

    options = {"lossless": "1"} if codec == "libvpx-vp9" else {}
    return make_video(path, frames, (W, H), layout.planar_name, codec, each=each, options=options, **more)


def alphas(path: Path) -> NDArray[np.float64]:
    """(frames, height, width) alpha of a file in [0, 1]; it must have alpha."""
    with VideoReader(str(path)) as reader:
        layout = reader.info.layout
        assert layout.alpha
        planes = [alpha_array(frame.image).astype(np.float64) for frame in reader.frames()]
    return np.stack(planes) / (1 if layout.floating else (1 << layout.bits) - 1)


def halved(planes: NDArray[np.float64]) -> NDArray[np.float64]:
    return planes.reshape(len(planes), H, 2, W, 2).mean((2, 4))


@pytest.mark.parametrize(
    ("source", "target", "codec"),
    [
        (("a.mkv", "yuva420p", "ffv1"), "b.webm", None),
        (("a.webm", "yuva420p", "libvpx-vp9"), "b.mkv", None),
        (("a.webm", "yuva420p", "libvpx-vp9"), "b.mkv", "ffv1"),
        (("a.mov", "yuva444p10le", "prores_ks"), "b.mov", None),
        (("a.mov", "yuva444p10le", "prores_ks"), "b.mkv", None),
        (("a.mov", "yuva444p10le", "prores_ks"), "c/%03d.png", None),
        (("a.mkv", "yuva422p12le", "ffv1"), "c/%03d.tif", None),
        (("a.mkv", "gbrap16le", "ffv1"), "c/%03d.exr", None),
        (("a.mkv", "gbrap12le", "ffv1"), "b.mkv", "ffv1"),
    ],
)
def test_alpha_is_enlarged_and_kept(
    tmp_path: Path, source: tuple[str, str, str], target: str, codec: str | None
) -> None:
    given = alpha_video(tmp_path / source[0], *source[1:])
    after = alphas(convert(given, tmp_path / target, codec=codec))
    assert after.shape == (3, 2 * H, 2 * W)
    assert np.abs(after[:, :, :8]).max() < 0.01
    assert np.abs(after[:, :, -8:] - 1).max() < 0.01
    assert np.abs(halved(after) - alphas(given)).max() < 0.03  # in its right place, and that of its own frame


def test_opaque_stays_opaque_and_clear_stays_clear_to_the_last_bit() -> None:
    for source, target in (("yuva420p", "yuva444p10le"), ("gbrap16le", "gbrap"), ("gbrapf32le", "gbrapf32le")):
        before, after = layout_of(source), layout_of(target)
        planes = AlphaPlanes(before, after, (W, H), (101, 67))
        frame = av.VideoFrame(W, H, source)
        for number, level in enumerate((0.0, 1.0)):
            top = 1 if before.floating else (1 << before.bits) - 1
            plane_array(frame, 3, W, H, before.dtype)[:] = level * top
            planes.put(number, frame)
            got = planes.take(number)
            assert got.shape == (67, 101)
            assert np.abs(got - level * (1 if after.floating else (1 << after.bits) - 1)).max() < 1e-6


def test_planes_that_nobody_takes_are_forgotten_with_the_next_one() -> None:
    layout = layout_of("yuva420p")
    planes = AlphaPlanes(layout, layout, (W, H), (W, H))
    for number in range(6):
        planes.put(number, picture(number, W, H, "yuva420p"))
    planes.take(4)
    assert list(planes._held) == [5]


def test_a_cut_takes_the_alpha_of_its_own_frames(tmp_path: Path) -> None:
    source = alpha_video(tmp_path / "a.mkv", "gbrap10le", "ffv1", 12)
    work = Work(first=3, last=10, start=4, stop=9)

    def part(frames: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        return itertools.islice(double(frames), 1, 6)

    target = convert(source, tmp_path / "b.mkv", part, work, Span(), codec="ffv1")
    after, before = halved(alphas(target)), alphas(source)[4:9]
    assert np.abs(after - before).max() < 0.02
    assert np.abs(after[1:] - before[:-1]).max() > 0.03  # the neighbours' would be noticed


def test_without_planes_a_format_with_alpha_is_opaque() -> None:
    for name in ("yuva444p10le", "gbrap", "gbrapf32le"):
        frame = av.VideoFrame(W, H, name)
        fill_opaque(frame)
        layout = layout_of(name)
        assert (plane_array(frame, 3, W, H, layout.dtype) == (1 if layout.floating else (1 << layout.bits) - 1)).all()


@pytest.mark.parametrize("pix_fmt", ["rgba", "bgra", "argb", "ya8", "rgba64be", "ya16be", "gbrap10be", "yuva420p10be"])
def test_alpha_is_found_in_every_order_of_samples(pix_fmt: str) -> None:
    layout = layout_of(pix_fmt)
    planar = (
        layout_of("gbrap16le" if layout.bits == 16 else "gbrap")
        if layout.family != "yuv" and layout.bits != 10
        else layout
    )
    frame = picture(1, W, H, planar.planar_name)
    plane_array(frame, 3, W, H, planar.dtype)[:] = matte(1, planar)
    packed = frame.reformat(format=pix_fmt, threads=1)
    assert np.array_equal(alpha_array(packed), matte(1, planar))


def chosen(output: str, source: str, size: tuple[int, int] = (128, 96), **asked: Any) -> Encoding:
    return choose(output, layout_of(source), ColourTags(1, 1, 1), size, **asked)


@pytest.mark.parametrize(
    ("output", "source", "codec", "pix_fmt"),
    [
        ("a.webm", "yuva420p", "libvpx-vp9", "yuva420p"),
        ("a.mkv", "yuva420p", "libvpx-vp9", "yuva420p"),
        ("a.mkv", "yuva444p12le", "ffv1", "yuva444p12le"),
        ("a.mov", "yuva444p12le", "prores_ks", "yuva444p10le"),
        ("a.mov", "rgba", "prores_ks", "yuva444p10le"),
        ("o/%d.png", "yuva420p", "png", "rgba"),
        ("o/%d.png", "ya16be", "png", "rgba64be"),
        ("o/%d.tif", "gbrap10le", "tiff", "rgba64le"),
        ("o/%d.exr", "gbrapf16le", "exr", "gbrapf32le"),
    ],
)
def test_by_default_a_codec_with_alpha_is_chosen(output: str, source: str, codec: str, pix_fmt: str) -> None:
    encoding = chosen(output, source)
    assert (encoding.codec, encoding.pix_fmt, encoding.layout.alpha) == (codec, pix_fmt, True)
    assert not any("dropped" in note for note in encoding.notes)


@pytest.mark.parametrize(
    ("output", "asked", "words"),
    [
        ("a.mp4", {}, "a .mov, .webm, .mkv or .png keeps it"),
        ("a.mkv", {"codec": "libx264"}, "--codec ffv1 or libvpx-vp9 keeps it"),
        ("a.mkv", {"codec": "libx265"}, "--codec ffv1 or libvpx-vp9 keeps it"),
        ("a.mov", {"codec": "libx264"}, "--codec prores_ks keeps it"),
        ("a.mkv", {"codec": "ffv1", "pix_fmt": "yuv444p"}, "--codec ffv1 or libvpx-vp9 keeps it"),
        ("a.webm", {"size": (127, 96)}, "libvpx-vp9 with even sides keeps it"),
        ("-", {}, "a .mov, .webm, .mkv or .png keeps it"),
    ],
)
def test_one_sentence_says_that_alpha_is_dropped_and_what_keeps_it(
    output: str, asked: dict[str, Any], words: str
) -> None:
    encoding = chosen(output, "yuva444p", **asked)
    told = [note for note in encoding.notes if "alpha" in note]
    assert len(told) == 1
    assert told[0].startswith("the alpha channel is dropped")
    assert words in told[0]
    assert not encoding.layout.alpha
