"""Bits per sample: every encoder that is offered keeps the depth it promises, from a file to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from video_files import convert, make_video, planes

from duovsr_vs.errors import OptionError
from duovsr_vs.video.colour import ColourTags
from duovsr_vs.video.encoding import DEFAULT_CRF, choose
from duovsr_vs.video.pixels import layout_of
from duovsr_vs.video.reader import VideoReader

WIDTH = 480


def ramp_video(path: Path, bits: int, sampling: str = "420") -> Path:
    """Three frames of a gray ramp over the limited range, 480 steps from left to right."""
    codes = np.linspace(16 << bits - 8, 235 << bits - 8, WIDTH).round().astype(np.uint16)

    def each(frame: av.VideoFrame, number: int) -> None:
        luma, *chroma = (np.frombuffer(plane, np.uint16).reshape(-1, plane.line_size // 2) for plane in frame.planes)
        luma[:, :WIDTH] = codes
        for plane in chroma:
            plane[:] = 1 << bits - 1

    def prepare(stream: Any) -> None:
        c = stream.codec_context
        c.colorspace, c.color_primaries, c.color_trc, c.color_range = 1, 1, 1, 1

    return make_video(path, 3, (WIDTH, 32), f"yuv{sampling}p{bits}le", "ffv1", each=each, prepare=prepare)


def middle_line(path: Path) -> tuple[NDArray[np.int64], str]:
    """A line of luma of the second frame, and the pixel format."""
    with VideoReader(str(path)) as reader:
        frames = list(reader.frames())
        return planes(frames[1].image)[0][32].astype(np.int64), reader.info.pix_fmt


@pytest.mark.parametrize(
    ("ending", "codec", "bits", "pix_fmt"),
    [
        ("mkv", "libx264", 10, "yuv420p10le"),
        ("mp4", "libx265", 10, "yuv420p10le"),
        ("mkv", "libx265", 12, "yuv420p12le"),
        ("webm", "libsvtav1", 10, "yuv420p10le"),
        ("mp4", "libsvtav1", 10, "yuv420p10le"),
        ("mov", "prores_ks", 10, "yuv422p10le"),
        ("mkv", "ffv1", 10, "yuv420p10le"),
        ("mkv", "ffv1", 12, "yuv420p12le"),
    ],
)
def test_a_deep_ramp_keeps_more_than_256_levels(
    tmp_path: Path, ending: str, codec: str, bits: int, pix_fmt: str
) -> None:
    source = ramp_video(tmp_path / "a.mkv", bits, "422" if codec == "prores_ks" else "420")
    line, found = middle_line(convert(source, tmp_path / f"b.{ending}", codec=codec))
    assert found == pix_fmt
    steps = np.linspace(16 << bits - 8, 235 << bits - 8, WIDTH).repeat(2)
    assert np.abs(line - steps).max() <= 4 << bits - 10  # less than one step of 8 bits, whatever the encoder
    assert len(np.unique(line)) > 256


@pytest.mark.parametrize(
    ("output", "source", "codec"),
    [
        ("a.mkv", "yuv420p", "libx264"),
        ("a.mp4", "yuv422p10le", "libx264"),
        ("a.mov", "yuv444p12le", "libx265"),
        ("a.webm", "yuv420p", "libvpx-vp9"),
        ("a.webm", "yuv420p12le", "libsvtav1"),
    ],
)
def test_the_default_of_each_container_is_listed(output: str, source: str, codec: str) -> None:
    assert choose(output, layout_of(source), ColourTags(1, 1, 1), (128, 96)).codec == codec
    assert codec in DEFAULT_CRF


def test_sides_that_are_odd_are_refused_by_encoders_of_even_ones_and_avoided_by_default() -> None:
    odd, source = (129, 97), layout_of("yuv420p10le")
    with pytest.raises(OptionError, match="libsvtav1 takes no 129x97 frames: both sides must be even"):
        choose("a.webm", source, ColourTags(1), odd, codec="libsvtav1")
    plain = choose("a.webm", source, ColourTags(1), odd)
    assert (plain.codec, plain.pix_fmt) == ("libvpx-vp9", "yuv444p")
    assert any("no more than 8 bits" in note for note in plain.notes)


def test_editors_find_apple_as_the_maker_of_prores(tmp_path: Path) -> None:
    made = convert(ramp_video(tmp_path / "a.mkv", 10, "422"), tmp_path / "b.mov", codec="prores_ks")
    assert b"apl0" in made.read_bytes()
