"""The ComfyUI nodes, against a small fake of ComfyUI."""

from __future__ import annotations

import gc
import shutil
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from comfy_fake import PACK, Host, Interrupted, VideoComponents, VideoFromComponents, VideoFromFile, running
from torch import Tensor
from video_files import make_video, times

from duovsr_vs.engine.options import Options
from duovsr_vs.engine.upscaler import Upscaler

CHOSEN = {"scale": 4, "strength": 1.0, "seed": 3, "width": 0, "height": 0, "scene_cut": True, "tile": 0, "vram": ""}
pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def host(tmp_path: Path, tiny_model: Path, toy_model: Path) -> Host:
    models = tmp_path / "models"
    (models / "duovsr").mkdir(parents=True)
    shutil.copy(tiny_model, models / "duovsr" / "tiny.safetensors")
    shutil.copy(toy_model, models / "duovsr" / "toy.safetensors")
    return Host(models, tmp_path / "temp")


@pytest.fixture
def nodes(host: Host) -> Iterator[dict[str, Any]]:
    with running(host) as found, torch.inference_mode():
        yield found


def loaded(nodes: dict[str, Any], name: str = "tiny.safetensors", detail: float = -1.0) -> Any:
    return nodes["DuoVSR_LoadModel"].execute(name, "float32", detail).result[0]


def upscaled(nodes: dict[str, Any], image: Tensor, name: str = "tiny.safetensors", **changed: Any) -> Tensor:
    out: Tensor = nodes["DuoVSR_Upscale"].execute(loaded(nodes, name), image, **CHOSEN | changed).result[0]
    return out


def upscaled_video(nodes: dict[str, Any], video: Any, codec: str = "ffv1 (lossless)", **changed: Any) -> Any:
    return nodes["DuoVSR_UpscaleVideo"].execute(loaded(nodes), video, codec, 16, **CHOSEN | changed).result[0]


def images(count: int, height: int = 24, width: int = 32, channels: int = 3) -> Tensor:
    return torch.rand(count, height, width, channels, generator=torch.Generator().manual_seed(0))


def by_engine(frames: list[Tensor], model: Path) -> list[Tensor]:
    height, width = frames[0].shape[1:]
    options = Options(model=str(model), device="cpu", precision="float32", seed=3)
    return [frame.clamp(0, 1) for frame in Upscaler(options, width, height).stream(iter(frames))]


# -- loading --------------------------------------------------------------------------------------------------------


def test_the_widget_offers_the_built_in_model_first_and_then_files(nodes: dict[str, Any]) -> None:
    schema = nodes["DuoVSR_LoadModel"].define_schema()
    assert schema.inputs[0].facts["options"] == ["nano (built in)", "tiny.safetensors", "toy.safetensors"]
    assert schema.inputs[0].facts["default"] == "nano (built in)"


def test_nothing_has_to_be_downloaded(nodes: dict[str, Any]) -> None:
    model = loaded(nodes, "nano (built in)")
    assert nodes["DuoVSR_Upscale"].execute(model, images(1, 16, 16), **CHOSEN).result[0].shape == (1, 64, 64, 3)


def test_a_file_that_was_replaced_is_loaded_again(nodes: dict[str, Any], host: Host) -> None:
    def fingerprint() -> Any:
        return nodes["DuoVSR_LoadModel"].fingerprint_inputs("tiny.safetensors", "auto", -1.0)

    before = fingerprint()
    assert fingerprint() == before
    file = host.models / "duovsr" / "tiny.safetensors"
    shutil.copy(file, file.with_suffix(".new"))
    file.with_suffix(".new").replace(file)
    assert fingerprint() != before


@pytest.mark.parametrize(
    "content, words",
    [
        (b"PK\x03\x04", "is a pickle"),
        (b"\x08\0\0\0\0\0\0\0{}      ", "something else"),
        (b"", "not a safetensors file"),
    ],
)
def test_a_foreign_file_is_refused_in_words(nodes: dict[str, Any], host: Host, content: bytes, words: str) -> None:
    (host.models / "duovsr" / "other.safetensors").write_bytes(content)
    with pytest.raises(Exception, match=words):
        loaded(nodes, "other.safetensors")


def test_a_file_that_is_gone_is_named_with_what_there_is(nodes: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"there is no model 'gone.safetensors'; put its file into .*models/duovsr"):
        loaded(nodes, "gone.safetensors")


def test_the_memory_manager_sees_the_model_and_what_it_needs(nodes: dict[str, Any], host: Host) -> None:
    upscaled(nodes, images(1))
    upscaled(nodes, images(1, 48, 64))
    assert [(len(patchers), full) for patchers, _, full in host.loads] == [(1, True)] * 2
    assert 0 < host.loads[0][1] < host.loads[1][1]
    assert isinstance(host.loads[0][0][0].model, torch.nn.Module)


@pytest.mark.parametrize("version, works", [("0.22.9", False), ("0.23.0", True), ("1.0.0", True)])
def test_an_old_comfyui_is_told_which_one_is_needed(host: Host, version: str, works: bool) -> None:
    host.version = version
    if works:
        with running(host) as found:
            assert len(found) == 4
    else:
        with pytest.raises(ImportError, match=f"needs ComfyUI 0.23.0 or newer, and this is {version}"), running(host):
            pass


# -- images ---------------------------------------------------------------------------------------------------------


def test_frames_are_those_of_the_engine(nodes: dict[str, Any], tiny_model: Path) -> None:
    image = images(4)
    expected = by_engine([frame.movedim(-1, 0).contiguous() for frame in image], tiny_model)
    assert torch.equal(upscaled(nodes, image), torch.stack(expected).movedim(1, -1))


@pytest.mark.parametrize("count", [1, 2, 20, 21, 22, 43])
def test_as_many_images_come_out_as_went_in(nodes: dict[str, Any], count: int) -> None:
    assert upscaled(nodes, images(count, 16, 20), "toy.safetensors").shape == (count, 64, 80, 3)


@pytest.mark.parametrize("size", [(17, 31), (16, 45), (33, 18)])
def test_odd_sizes_are_exact(nodes: dict[str, Any], size: tuple[int, int]) -> None:
    assert upscaled(nodes, images(1, *size)).shape == (1, 4 * size[0], 4 * size[1], 3)
    assert upscaled(nodes, images(1, *size), width=51).shape[2] == 51


def test_inputs_are_left_as_they_are(nodes: dict[str, Any]) -> None:
    image = images(2, channels=4)
    before = image.clone()
    upscaled(nodes, image)
    assert torch.equal(image, before)


def test_alpha_is_kept(nodes: dict[str, Any]) -> None:
    image = images(2, channels=4)
    image[..., 3] = torch.linspace(0, 1, 32)
    out = upscaled(nodes, image)
    assert out.shape == (2, 96, 128, 4)
    assert torch.equal(out[..., :3], upscaled(nodes, image[..., :3]))
    wanted = torch.linspace(0, 1, 32).repeat_interleave(4)
    assert (out[0, 40, :, 3] - wanted).abs().max() < 0.03


def test_grey_images_are_taken_and_two_channels_are_refused(nodes: dict[str, Any]) -> None:
    grey = images(1, channels=1)
    assert torch.equal(upscaled(nodes, grey), upscaled(nodes, grey.repeat(1, 1, 1, 3)))
    with pytest.raises(Exception, match="has 2 channels; grey"):
        upscaled(nodes, images(1, channels=2))


def test_no_image_and_small_images_are_refused_in_words(nodes: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="holds no frame"):
        upscaled(nodes, images(1)[:0])
    with pytest.raises(Exception, match="frames of 8x16 cannot be upscaled"):
        upscaled(nodes, images(1, 16, 8))


def test_brightness_that_rises_shows_no_step_at_windows(nodes: dict[str, Any]) -> None:
    ramp = torch.linspace(0.2, 0.7, 43)[:, None, None, None].expand(-1, 16, 16, 3)
    means = upscaled(nodes, ramp, "toy.safetensors", strength=0.2).mean((1, 2, 3))
    assert means.diff().max() < 1.6 * means.diff().median()


def test_a_budget_of_memory_is_kept_or_refused(nodes: dict[str, Any]) -> None:
    image = images(1, 96, 128)
    assert torch.equal(upscaled(nodes, image, vram="4GB"), upscaled(nodes, image))
    with pytest.raises(Exception, match="vram=1MB allows less"):
        upscaled(nodes, image, vram="1MB")
    with pytest.raises(Exception, match="is no size; give a number and its unit"):
        upscaled(nodes, image, vram="much")


def test_progress_ends_at_the_total_and_shows_a_picture(nodes: dict[str, Any], host: Host) -> None:
    upscaled(nodes, images(5))
    assert [(done, total) for done, total, _ in host.progress] == [(n, 5) for n in range(1, 6)]
    assert host.progress[0][2][0] == "JPEG" and host.progress[0][2][1].size == (128, 96)


def test_cancel_is_noticed_while_a_frame_is_made(nodes: dict[str, Any], host: Host, monkeypatch: Any) -> None:
    slow = threading.Event()
    pack = sys.modules[f"{PACK}.duovsr_vs.engine.upscaler"]  # a copy of its own, under its own name
    whole = pack.Upscaler._frame

    def waits(self: Any, *args: Any) -> Tensor:
        host.interrupted.set()
        slow.wait(20)
        result: Tensor = whole(self, *args)
        return result

    monkeypatch.setattr(pack.Upscaler, "_frame", waits)
    with pytest.raises(Interrupted):
        upscaled(nodes, images(3))
    slow.set()


# -- videos ---------------------------------------------------------------------------------------------------------

JUMPS = [0, 40, 90, 91, 150, 400]


def rgb_of(video: Path | str) -> list[Tensor]:
    """Frames by the conversion that the nodes use."""
    with av.open(video) as container:
        arrays = [frame.to_ndarray(format="gbrpf32le") for frame in container.decode(video=0)]
    return [torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1))) for array in arrays]


def test_frames_of_a_video_are_those_of_the_engine(nodes: dict[str, Any], tmp_path: Path, tiny_model: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 5, pix_fmt="yuv420p10le", codec="ffv1")
    out = upscaled_video(nodes, VideoFromFile(str(source)))
    expected = by_engine(rgb_of(source), tiny_model)
    for frame, wanted in zip(out.frames(), expected, strict=True):
        found = frame.to_ndarray(format="rgb48le").astype(np.int32)
        assert np.array_equal(found, wanted.mul(65535).round().int().movedim(0, -1).numpy())


@pytest.mark.parametrize("codec", ["h264", "h265", "av1", "ffv1 (lossless)"])
def test_every_codec_keeps_count_and_times(nodes: dict[str, Any], tmp_path: Path, codec: str) -> None:
    base = Fraction(1, 1000)
    source = make_video(tmp_path / "a.mkv", 6, pts=[n + 200 for n in JUMPS], time_base=base)
    out = upscaled_video(nodes, VideoFromFile(str(source)), codec)
    assert times(out.get_stream_source()) == [Fraction(n, 1000) for n in JUMPS]


@pytest.mark.parametrize("pix_fmt, depth", [("yuv420p", 8), ("yuv420p10le", 10)])
def test_ten_bits_stay_ten_bits(nodes: dict[str, Any], tmp_path: Path, pix_fmt: str, depth: int) -> None:
    source = make_video(tmp_path / "a.mkv", 2, pix_fmt=pix_fmt, codec="ffv1")
    out = upscaled_video(nodes, VideoFromFile(str(source)), "h264")
    assert out.frames()[0].format.components[0].bits == depth


def test_odd_sizes_of_a_video_are_exact(nodes: dict[str, Any], tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 2, size=(37, 21), pix_fmt="yuv444p", codec="ffv1")
    frame = upscaled_video(nodes, VideoFromFile(str(source)), "h264", width=111, height=63).frames()[0]
    assert (frame.width, frame.height) == (111, 63)


def sound_packets(path: Path | str) -> list[bytes]:
    with av.open(path) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def test_sound_is_copied_packet_by_packet(nodes: dict[str, Any], tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 12, sound=True)
    out = upscaled_video(nodes, VideoFromFile(str(source)), "h264")
    assert sound_packets(out.get_stream_source()) == sound_packets(source)
    assert abs(times(out.get_stream_source(), "audio")[0] - times(source, "audio")[0]) < Fraction(1, 500)


def test_the_sound_of_a_trimmed_video_begins_and_ends_with_it(nodes: dict[str, Any], tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 24, sound=True)
    out = upscaled_video(nodes, VideoFromFile(str(source), start_time=0.4, duration=0.32), "h264")
    assert times(out.get_stream_source()) == [Fraction(n, 25) for n in range(8)]
    with av.open(out.get_stream_source()) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert 0.32 * 16000 <= samples < 0.32 * 16000 + 2 * 1024


def test_frames_of_a_trim_are_those_of_the_whole_from_there(
    nodes: dict[str, Any], tmp_path: Path, tiny_model: Path
) -> None:
    source = make_video(tmp_path / "a.mkv", 12, codec="ffv1")
    out = upscaled_video(nodes, VideoFromFile(str(source), start_time=0.12, duration=0.2))
    expected = by_engine(rgb_of(source)[3:8], tiny_model)
    found = [torch.from_numpy(f.to_ndarray(format="rgb48le").astype(np.int32)) for f in out.frames()]
    assert len(found) == 5
    assert torch.equal(found[0], expected[0].mul(65535).round().int().movedim(0, -1))


def test_a_video_in_memory_keeps_rate_and_sound(nodes: dict[str, Any]) -> None:
    sound = {"waveform": torch.sin(torch.arange(16000) * 0.1)[None, None], "sample_rate": 16000}
    parts = VideoComponents(images(6), Fraction(float(Fraction(30000, 1001))), sound)
    out = upscaled_video(nodes, VideoFromComponents(parts), "h264")
    assert times(out.get_stream_source()) == [Fraction(1001 * n, 30000) for n in range(6)]
    with av.open(out.get_stream_source()) as container:
        assert container.streams.audio[0].codec_context.name == "aac"


def test_the_file_lives_as_long_as_the_video_and_its_parts(nodes: dict[str, Any], host: Host, tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 3)
    out = upscaled_video(nodes, VideoFromFile(str(source)), "h264")
    path = Path(out.get_stream_source())
    part = out.as_trimmed(0, 0.04)
    del out
    gc.collect()
    assert path.is_file()
    del part
    gc.collect()
    assert not list(host.temp.iterdir())


def test_cancel_leaves_no_file(nodes: dict[str, Any], host: Host, tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", 3)
    host.interrupted.set()
    with pytest.raises(Interrupted):
        upscaled_video(nodes, VideoFromFile(str(source)), "h264")
    assert not list(host.temp.iterdir())


def only_sound(path: Path) -> Path:
    with av.open(path, "w") as out:
        stream = out.add_stream("aac", rate=16000)
        block = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        block.sample_rate, block.pts = 16000, 0
        out.mux(stream.encode(block))
        out.mux(stream.encode(None))
    return path


def test_bad_videos_are_refused_in_words(nodes: dict[str, Any], host: Host, tmp_path: Path) -> None:
    film = str(make_video(tmp_path / "a.mkv", 3))
    (tmp_path / "text.mp4").write_text("no video")
    for video, words in [
        (VideoFromFile(str(only_sound(tmp_path / "s.mp4"))), "holds no pictures, only sound"),
        (VideoFromFile(film, start_time=50.0), "trimmed to nothing"),
        (VideoFromFile(str(tmp_path / "text.mp4")), "cannot be opened"),
        (VideoFromFile(str(tmp_path / "gone.mp4")), "cannot be opened"),
    ]:
        with pytest.raises(Exception, match=words):
            upscaled_video(nodes, video, "h264")
    assert not host.temp.exists() or not list(host.temp.iterdir())


def test_an_encoder_that_is_not_there_is_named_with_those_that_are(nodes: dict[str, Any], monkeypatch: Any) -> None:
    encode = sys.modules[f"{PACK}.nodes.encode"]
    monkeypatch.setitem(encode.CODECS, "h265", "no_such_encoder")
    with pytest.raises(Exception, match=r"codec h265: .* has no encoder for it; choose h264 or"):
        upscaled_video(nodes, VideoFromFile("never opened"), "h265")


def test_a_temporary_folder_that_takes_nothing_is_named(nodes: dict[str, Any], host: Host, tmp_path: Path) -> None:
    host.temp.parent.mkdir(exist_ok=True)
    host.temp.write_text("a file where the folder should be")
    with pytest.raises(Exception, match=r"could not be written to .*temp .*; free some space there"):
        upscaled_video(nodes, VideoFromFile(str(make_video(tmp_path / "a.mkv", 2))), "h264")


# -- comparing ------------------------------------------------------------------------------------------------------


def test_the_comparison_is_half_before_and_half_after(nodes: dict[str, Any], host: Host) -> None:
    dark, bright = torch.full((2, 24, 32, 3), 0.25), torch.full((2, 96, 128, 3), 0.75)
    output = nodes["DuoVSR_Compare"].execute(dark, bright, 1, 0.5)
    shown, measures = output.result
    assert shown.shape == (1, 96, 128, 3)
    assert (shown[0, :, :62] - 0.25).abs().max() < 1e-6 and (shown[0, :, 66:] - 0.75).abs().max() < 1e-6
    assert "PSNR-Y" in measures and "over 1 frame of 128x96" in measures
    assert output.ui["text"] == (measures,) and output.ui["images"] == [1]
    assert host.told == [("7", measures)]


def test_an_image_is_compared_with_a_video(nodes: dict[str, Any], tmp_path: Path) -> None:
    film = make_video(tmp_path / "a.mkv", 3, size=(128, 96))
    shown = nodes["DuoVSR_Compare"].execute(images(3), VideoFromFile(str(film)), 0, 0.5).result[0]
    assert shown.shape == (1, 96, 128, 3)


def test_a_frame_that_is_not_there_is_refused(nodes: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="frame 7 is not in both inputs"):
        nodes["DuoVSR_Compare"].execute(images(3), images(3), 7, 0.5)


# -- what users read ------------------------------------------------------------------------------------------------


def test_every_input_says_what_it_takes(nodes: dict[str, Any]) -> None:
    for name, node in nodes.items():
        schema = node.define_schema()
        assert schema.node_id == name and schema.description and len(schema.search_aliases) >= 3
        for given in schema.inputs:
            assert given.facts.get("tooltip", "").endswith("."), (name, given.id)
            if "default" in given.facts:
                assert "Default" in given.facts["tooltip"] or "default" in given.facts["tooltip"], (name, given.id)
