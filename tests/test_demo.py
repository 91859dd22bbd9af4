"""The helpers of `make demo`: the comparison sees everything, the pictures show what they promise."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from video_files import make_video

from duovsr_vs.video.colour import resolve_matrix
from duovsr_vs.video.convert import ToRGB
from duovsr_vs.video.reader import VideoReader

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES))
# Not by `import`: whether a folder of that name lies in the root, made by `make demo`, must not matter to the linter.
demo, pictures = import_module("demo"), import_module("demo_pictures")

WIDTH, HEIGHT = 48, 32


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Three frames of lossless 16-bit RGB."""
    demo.write_copy(make_video(tmp_path / "source.mkv", 3, (WIDTH, HEIGHT)), tmp_path / "copy.mkv")
    return tmp_path / "copy.mkv"


def piped(frames: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Frames as vspipe would write them."""
    return demo.frames_of_pipe(io.BytesIO(b"".join(frame.tobytes() for frame in frames)), WIDTH, HEIGHT)


def test_equal_frames_are_equal_through_file_and_pipe(copy: Path) -> None:
    frames = list(demo.frames_of_file(copy))
    assert len({frame.tobytes() for frame in frames}) == 3
    assert demo.differing_pixels(demo.frames_of_file(copy), piped(frames)) == (3, 0)


def test_one_changed_pixel_is_noticed_and_counted_once(copy: Path) -> None:
    frames = [frame.copy() for frame in demo.frames_of_file(copy)]
    frames[2][1, HEIGHT - 1, WIDTH - 1] ^= 1
    assert demo.differing_pixels(demo.frames_of_file(copy), piped(frames)) == (3, 1)
    frames[2][0, HEIGHT - 1, WIDTH - 1] ^= 256
    assert demo.differing_pixels(demo.frames_of_file(copy), piped(frames)) == (3, 1)
    frames[0][2, 0, 0] ^= 1
    assert demo.differing_pixels(demo.frames_of_file(copy), piped(frames)) == (3, 2)


def test_a_frame_too_few_or_too_many_is_refused(copy: Path) -> None:
    frames = list(demo.frames_of_file(copy))
    for wrong in (frames[:2], [*frames, frames[0]]):
        with pytest.raises(demo.DemoError, match="differ in number"):
            demo.differing_pixels(demo.frames_of_file(copy), piped(wrong))


def test_half_a_frame_at_the_end_of_the_pipe_is_no_frame() -> None:
    data = bytes(WIDTH * HEIGHT * 6 + 100)
    assert len(list(demo.frames_of_pipe(io.BytesIO(data), WIDTH, HEIGHT))) == 1


def test_the_copy_is_lossless_rgb_of_at_most_16_frames(tmp_path: Path) -> None:
    source = make_video(tmp_path / "source.mkv", 20, (WIDTH, HEIGHT))
    assert demo.write_copy(source, tmp_path / "copy.mkv") == 16
    frames = list(demo.frames_of_file(tmp_path / "copy.mkv"))
    with av.open(source) as container:
        wanted = [frame.reformat(format="gbrp16le") for frame in container.decode(video=0)]
    assert len(frames) == 16
    for frame, exact in zip(frames, wanted, strict=False):
        green = np.frombuffer(exact.planes[0], "<u2").reshape(HEIGHT, -1)[:, :WIDTH]
        assert np.array_equal(frame[0], green)


@pytest.mark.parametrize("kind", ["missing", "text", "sound", "folder"])
def test_what_is_not_a_video_gives_one_sentence_and_leaves_nothing(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "input.mkv"
    if kind == "text":
        path.write_text("not a video\n")
    elif kind == "folder":
        path.mkdir()
    elif kind == "sound":
        with av.open(path, "w") as out:
            stream = out.add_stream("pcm_s16le", rate=8000)
            block = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            block.sample_rate = 8000
            out.mux(stream.encode(block))
            out.mux(stream.encode(None))
    assert demo.main([str(path), "--out", str(tmp_path / "demo")]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"demo: {path} ")
    assert said.err.count("\n") == 1
    assert "make demo VIDEO=" in said.err
    assert not (tmp_path / "demo").exists()


def test_what_the_command_line_refuses_is_said_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = make_video(tmp_path / "a.mkv", 2, (12, 10), codec="ffv1")
    assert demo.main([str(source), "--out", str(tmp_path / "demo")]) == 1
    said = capfd.readouterr().err
    assert said.startswith("duovsr: ") and "12x10" in said
    assert said.count("\n") == 1
    assert not any((tmp_path / "demo").iterdir())


def test_vspipe_gets_absolute_names_because_it_runs_in_the_folder_of_the_script(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_model.parent)
    made = demo.Demo(Path("a.mkv"), tmp_path, tiny_model.name).vspipe_command(Path("a.mkv"))
    assert f"source={tiny_model.parent / 'a.mkv'}" in made
    assert f"model={tiny_model}" in made


# -- pictures ---------------------------------------------------------------------------------------------------------


def noise(height: int, width: int, seed: int = 0) -> pictures.Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def view(height: int = 120, width: int = 160) -> pictures.View:
    """Grey, with moving detail around (30, 30) and stronger detail that stands still around (90, 120)."""
    detail, movement = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    detail[20:40, 20:40], movement[20:40, 20:40] = 1, 10
    detail[80:100, 110:130] = 3
    return pictures.View(noise(height, width), detail, movement)


def test_crops_hold_the_moving_and_the_most_detailed_place_and_do_not_overlap() -> None:
    (top, left), (second_top, second_left) = view().places(40, 50)
    assert 0 <= top <= 20 and 0 <= left <= 20
    assert 60 <= second_top <= 80 and 80 <= second_left <= 110
    still = pictures.View(noise(60, 80), noise(60, 80)[..., 0].astype(np.float32), np.zeros((60, 80), np.float32))
    places = still.places(20, 30)
    assert len(places) == 2
    assert abs(places[0][0] - places[1][0]) >= 20 or abs(places[0][1] - places[1][1]) >= 30
    assert still.places(100, 100) == [(0, 0)]


def test_before_and_after_are_the_same_places_at_one_to_one() -> None:
    seen, large = view(), noise(480, 640, 1)
    image = pictures.before_after(seen, large, 160)
    height, width, strip, gap = 160, pictures.CROP[1], 22, 6
    assert image.shape == (strip + 2 * height + gap, 2 * width + gap, 3)
    for row, (top, left) in enumerate(seen.places(height // 4, width // 4)):
        y = strip + row * (height + gap)
        window = slice(4 * top, 4 * top + height), slice(4 * left, 4 * left + width)
        assert np.array_equal(image[y : y + height, width + gap :], large[window])
        assert np.array_equal(image[y : y + height, :width], pictures.enlarge(seen.middle)[window])


def test_a_frame_smaller_than_a_crop_is_shown_whole() -> None:
    small = pictures.View(noise(16, 20), np.ones((16, 20), np.float32), np.ones((16, 20), np.float32))
    assert pictures.before_after(small, noise(64, 80)).shape == (22 + 64, 80 + 6 + 80, 3)


@pytest.mark.parametrize("x", [0, 1, 11, 12, 96, 97, 190, 191])
def test_a_column_is_that_of_the_whole_enlarged_frame(tmp_path: Path, x: int) -> None:
    path = make_video(tmp_path / "a.mkv", 5, (WIDTH, HEIGHT))
    columns = pictures.columns_over_time(path, (1, 4), x, True)
    assert columns.shape == (4 * HEIGHT, 3, 3)
    for time, picture in enumerate(pictures.rgb_frames(path, [1, 2, 3])):
        assert np.array_equal(columns[:, time], pictures.enlarge(picture)[:, x])


def test_a_profile_is_the_column_of_both_videos_over_time(tmp_path: Path) -> None:
    small = make_video(tmp_path / "a.mkv", 10, (WIDTH, HEIGHT))
    large = make_video(tmp_path / "b.mkv", 10, (4 * WIDTH, 4 * HEIGHT), pix_fmt="yuv444p")
    image = pictures.temporal_profile(pictures.View.of(small, 10), small, large, 10, 100)
    assert image.shape == (2 * (22 + 100) + 6, 800, 3)
    frames = list(pictures.rgb_frames(large, range(10)))
    shown = image[-100:, ::80]
    found = [x for x in range(4 * WIDTH) for top in range(0, 4 * HEIGHT - 99, 4)
             if all(np.array_equal(shown[:, t], frames[t][top : top + 100, x]) for t in range(10))]  # fmt: skip
    assert found


def test_frames_come_by_their_numbers_with_full_chroma(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", 12, (WIDTH, HEIGHT), codec="ffv1")
    found = list(pictures.rgb_frames(path, {2, 7, 40}))
    assert len(found) == 2
    with VideoReader(str(path)) as reader:
        to_rgb = ToRGB(
            reader.info.layout, resolve_matrix(reader.info.tags, reader.info.layout, HEIGHT, None)[0], WIDTH, HEIGHT
        )
        exact = [to_rgb(frame.image).transpose(1, 2, 0) for frame in reader.frames()]
    for number, picture in zip((2, 7), found, strict=True):
        assert np.abs(picture / 255 - exact[number].clip(0, 1)).max() <= 0.501 / 255


def test_a_profile_shows_at_most_the_middle_400_frames() -> None:
    assert pictures.span_of_profile(1) == (0, 1)
    assert pictures.span_of_profile(400) == (0, 400)
    assert pictures.span_of_profile(1000) == (300, 700)


def test_a_picture_keeps_the_limit_of_bytes_by_getting_lower(tmp_path: Path) -> None:
    large = noise(480, 640, 1)
    for limit, smallest in ((10**9, 240), (400_000, 96)):
        pictures.save_png(tmp_path / "a.png", lambda height: pictures.before_after(view(), large, height), limit)
        assert (tmp_path / "a.png").stat().st_size <= limit
        height = cv2.imread(str(tmp_path / "a.png")).shape[0]
        assert smallest <= (height - 28) / 2 <= 240
