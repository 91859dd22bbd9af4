"""The nodes in a process of a real ComfyUI: run by test_nodes_comfyui.py in ComfyUI's Python, on a folder of its own.

    python comfy_inside.py COMFYUI_DIR FOLDER

FOLDER holds models/duovsr/*.safetensors and input/*. Prints a JSON line per check: [name, null or a traceback].
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACK = "custom_nodes.a clone (of any) name"
NOT_THERE = ("cv2", "vapoursynth", "typer", "rich")
"""Requirements of duovsr that a ComfyUI does not have; they are kept away."""
CHOSEN: dict[str, Any] = {
    "scale": 4, "strength": 1.0, "seed": 3, "width": 0, "height": 0, "scene_cut": True, "tile": 0, "vram": "",
}  # fmt: skip
LOSSLESS = "ffv1 (lossless)"
nodes: dict[str, Any] = {}
folder = Path()


def start(comfyui: str, where: str) -> None:
    """ComfyUI on the CPU, and the pack loaded by its path, under a name that is no identifier."""
    global folder
    folder = Path(where)
    os.chdir(comfyui)
    sys.path.insert(0, comfyui)
    for name in NOT_THERE:
        sys.modules[name] = None  # type: ignore[assignment]
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    comfy.cli_args.args.base_directory = where
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec is not None and spec.loader is not None
    pack = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = pack
    spec.loader.exec_module(pack)
    before = list(sys.path)
    extension = asyncio.run(pack.comfy_entrypoint())
    nodes.update({node.GET_SCHEMA().node_id: node for node in asyncio.run(extension.get_node_list())})
    assert sys.path == before, "the pack changed sys.path"


def part(name: str) -> Any:
    """A module of the pack."""
    return importlib.import_module(f"{PACK}.{name}")


def loaded(name: str = "tiny.safetensors") -> Any:
    return nodes["DuoVSR_LoadModel"].execute(name, "float32", -1.0).result[0]


def upscaled(image: Any, name: str = "tiny.safetensors", model: Any = None, **changed: Any) -> Any:
    return nodes["DuoVSR_Upscale"].execute(model or loaded(name), image, **CHOSEN | changed).result[0]


def upscaled_video(video: Any, codec: str = LOSSLESS, name: str = "tiny.safetensors", **changed: Any) -> Any:
    return nodes["DuoVSR_UpscaleVideo"].execute(loaded(name), video, codec, 16, **CHOSEN | changed).result[0]


def images(count: int, height: int = 24, width: int = 32, channels: int = 3) -> Any:
    import torch

    return torch.rand(count, height, width, channels, generator=torch.Generator().manual_seed(0))


def film(name: str, **trim: float) -> Any:
    from comfy_api.latest import InputImpl

    return InputImpl.VideoFromFile(str(folder / "input" / name), **trim)


def by_engine(frames: Any, model: str = "tiny.safetensors") -> Any:
    """(n h w c) by the engine of the pack, as anyone would call it from Python."""
    import torch

    options = part("duovsr_vs.engine.options").Options(
        model=str(folder / "models" / "duovsr" / model), device="cpu", precision="float32", seed=3
    )
    height, width = frames.shape[1:3]
    engine = part("duovsr_vs.engine.upscaler").Upscaler(options, width, height)
    planes = (frame.movedim(-1, 0).contiguous() for frame in frames)
    return torch.stack([out.clamp(0, 1).movedim(0, -1) for out in engine.stream(planes)])


def pixels(video: Any) -> Any:
    """(n h w 3) int32 of a lossless video. It is held here: its file goes with it."""
    import av
    import numpy as np

    with av.open(video.get_stream_source()) as container:
        return np.stack([f.to_ndarray(format="rgb48le").astype(np.int32) for f in container.decode(video=0)])


def packets(path: str, kind: str = "video") -> list[bytes]:
    import av

    with av.open(path) as container:
        return [bytes(packet) for packet in container.demux(getattr(container.streams, kind)[0]) if packet.size]


def temporary() -> list[str]:
    import folder_paths

    where = Path(folder_paths.get_temp_directory())
    return sorted(path.name for path in where.glob("duovsr_*"))


@contextmanager
def refused(*words: str) -> Iterator[None]:
    """An error in one sentence that holds these words, and nothing left in the temporary folder."""
    try:
        yield
    except Exception as error:
        text = str(error)
        assert all(word in text for word in words) and "\n" not in text, f"{type(error).__name__}: {text}"
    else:
        raise AssertionError(f"nothing was refused; {words} was expected")
    gc.collect()
    assert temporary() == []


# -- what ComfyUI asks of nodes -------------------------------------------------------------------------------------


def check_schemas_are_valid_and_can_be_sent_to_the_front_end() -> None:
    assert list(nodes) == ["DuoVSR_LoadModel", "DuoVSR_Upscale", "DuoVSR_UpscaleVideo", "DuoVSR_Compare"]
    for name, node in nodes.items():
        node.GET_SCHEMA().validate()
        told = node.GET_NODE_INFO_V1()
        assert json.loads(json.dumps(told))["name"] == name


def check_models_are_those_of_the_folder_and_the_built_in_one() -> None:
    options = nodes["DuoVSR_LoadModel"].GET_SCHEMA().inputs[0].options
    assert options == ["nano (built in)", "tiny.safetensors", "toy.safetensors"], options


def check_nothing_of_a_model_is_read_before_it_is_asked_for() -> None:
    import comfy.model_management as mm

    assert mm.loaded_models() == []
    assert f"{PACK}.training" not in sys.modules and "training" not in sys.modules


def check_comfyuis_own_nodes_module_is_not_shadowed() -> None:
    assert str(ROOT) not in sys.path
    spec = importlib.util.find_spec("nodes")
    assert spec is not None and spec.origin is not None and Path(spec.origin).parent != ROOT / "nodes", spec


def check_the_memory_manager_holds_the_model_evicts_it_and_forgets_it() -> None:
    import comfy.model_management as mm
    import torch

    model, image = loaded(), images(2)
    first = upscaled(image, model=model)
    assert model.patcher in mm.loaded_models()
    mm.unload_all_models()
    assert model.patcher not in mm.loaded_models()
    assert torch.equal(upscaled(image, model=model), first)
    del model
    gc.collect()
    assert mm.loaded_models() == []


def check_settings_of_the_process_stay() -> None:
    import av.logging
    import torch

    def settings() -> list[Any]:
        return [
            sys.path.copy(), torch.get_num_threads(), torch.get_default_dtype(), torch.is_inference_mode_enabled(),
            torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled(), torch.initial_seed(),
            torch.random.get_rng_state().tolist(), av.logging.get_level(), Path.cwd(), threading.active_count(),
            os.sched_getscheduler(0),
        ]  # fmt: skip

    upscaled(images(1))  # threads that torch starts once
    before = settings()
    upscaled(images(2))
    for codec in ("h264", "av1"):
        upscaled_video(film("film.mkv"), codec)
    gc.collect()
    for was, now in zip(before, settings(), strict=True):
        assert was == now, (was, now)


# -- images ---------------------------------------------------------------------------------------------------------


def check_images_are_those_of_the_engine() -> None:
    import torch

    image = images(4)
    before = image.clone()
    assert torch.equal(upscaled(image), by_engine(image))
    assert torch.equal(image, before)


def check_as_many_images_come_out_as_went_in() -> None:
    for count in (1, 2, 5, 20, 21, 22, 42, 43):
        assert upscaled(images(count, 16, 20), "toy.safetensors").shape == (count, 64, 80, 3)


def check_odd_sizes_alpha_and_grey() -> None:
    assert upscaled(images(1, 17, 31)).shape == (1, 68, 124, 3)
    assert upscaled(images(1, 17, 31), width=51).shape == (1, 28, 51, 3)
    assert upscaled(images(2, channels=4)).shape == (2, 96, 128, 4)
    assert upscaled(images(1, channels=1)).shape == (1, 96, 128, 3)


def check_when_memory_runs_out_smaller_tiles_make_the_same_pixels() -> None:
    import torch

    renderer = part("duovsr_vs.engine.residual").ResidualRenderer
    image, whole, calls = images(2, 96, 96), renderer.render, list[int]()
    expected = upscaled(image)

    def render(self: Any, *args: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("out of memory")
        return whole(self, *args)

    renderer.render = render
    try:
        assert torch.equal(upscaled(image), expected)
        assert len(calls) > 2
        renderer.render = lambda self, *args: (_ for _ in ()).throw(torch.OutOfMemoryError("out of memory"))
        with refused("not enough memory for frames of 96x96"):
            upscaled(image)
    finally:
        renderer.render = whole


# -- videos ---------------------------------------------------------------------------------------------------------


def check_frames_of_a_video_are_those_of_the_engine_for_what_comfyui_decodes() -> None:
    import numpy as np

    for name in ("film.mkv", "ten.mkv", "odd.mkv"):
        source = film(name)
        expected = by_engine(source.get_components().images).mul(65535).round().int().numpy()
        found = pixels(upscaled_video(source))
        assert np.array_equal(found, expected), (name, found.shape, expected.shape)


def check_a_trim_gives_the_frames_that_comfyui_gives() -> None:
    import numpy as np

    for trim in ({"start_time": 0.12, "duration": 0.2}, {"start_time": 0.2}, {"duration": 0.16}, {"start_time": -0.2}):
        source = film("film.mkv", **trim)
        expected = by_engine(source.get_components().images).mul(65535).round().int().numpy()
        found = pixels(upscaled_video(source))
        assert np.array_equal(found, expected), (trim, found.shape, expected.shape)


def check_a_trim_of_the_result_is_one_of_its_frames() -> None:
    result = upscaled_video(film("film.mkv"), "h264")
    part_of = result.as_trimmed(0.04, 0.2, strict_duration=True)
    assert part_of.get_components().images.shape == (5, 128, 192, 3)


def check_videos_in_memory_and_in_bytes_are_taken() -> None:
    import io

    import av
    import torch
    from comfy_api.latest import InputImpl, Types

    sound = {"waveform": torch.sin(torch.arange(16000) * 0.1)[None, None], "sample_rate": 16000}
    rate = Fraction(float(Fraction(30000, 1001)))
    parts = Types.VideoComponents(images=images(6), frame_rate=rate, audio=sound)
    result = upscaled_video(InputImpl.VideoFromComponents(parts), "h264")
    with av.open(result.get_stream_source()) as container:
        stamps = [frame.pts * frame.time_base for frame in container.decode(video=0)]
        assert stamps == [Fraction(1001 * n, 30000) for n in range(6)], stamps
        assert container.streams.audio[0].codec_context.name == "aac"
    content = io.BytesIO((folder / "input" / "film.mkv").read_bytes())
    found, expected = upscaled_video(InputImpl.VideoFromFile(content)), upscaled_video(film("film.mkv"))
    assert (pixels(found) == pixels(expected)).all()
    assert content.tell() == 0


def check_saving_copies_the_stream_and_the_sound() -> None:
    from comfy_api.latest import Types

    source = film("sound.mp4")
    for codec, ending in (("h264", "mp4"), ("h265", "mp4"), ("av1", "mp4"), (LOSSLESS, "mkv")):
        result = upscaled_video(source, codec)
        saved = folder / f"saved.{ending}"
        kind = Types.VideoContainer.MKV if ending == "mkv" and hasattr(Types.VideoContainer, "MKV") else None
        result.save_to(str(saved), **({"format": kind} if kind else {}), metadata={"prompt": {"1": {}}})
        assert packets(str(saved)) == packets(result.get_stream_source()), codec
        assert packets(str(saved), "audio") == packets(str(folder / "input" / "sound.mp4"), "audio"), codec
        assert saved.stat().st_size > 0


def check_the_file_goes_with_the_last_video_that_needs_it() -> None:
    result = upscaled_video(film("film.mkv"), "h264")
    piece = result.as_trimmed(0, 0.04, strict_duration=False)
    del result
    gc.collect()
    assert len(temporary()) == 1 and piece.get_components().images.shape[0] == 1
    del piece
    gc.collect()
    assert temporary() == []


def makers() -> list[threading.Thread]:
    """Threads on which frames are made, for as long as one is."""
    return [thread for thread in threading.enumerate() if thread.name == "duovsr-node"]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def check_cancel_takes_less_than_a_second_in_the_middle_of_a_frame() -> None:
    import comfy.model_management as mm

    source = film("large.mkv")
    frames = source.get_components().images
    for work in (
        lambda: upscaled_video(source, "h264", "nano (built in)"),
        lambda: upscaled(frames, "nano (built in)"),
    ):
        pressed: list[float] = []

        def press(pressed: list[float] = pressed) -> None:
            wait_for(lambda: bool(makers()))
            time.sleep(0.7)
            pressed.append(time.monotonic())
            mm.interrupt_current_processing(True)

        button = threading.Thread(target=press)
        button.start()
        try:
            work()
        except mm.InterruptProcessingException:
            took = time.monotonic() - pressed[0]
        else:
            raise AssertionError("the work ended before Cancel was pressed")
        button.join()
        print(f"Cancel took {took:.2f} s", file=sys.stderr)
        assert took < 1, took
        gc.collect()
        assert temporary() == []
        began = time.monotonic()
        wait_for(lambda: not makers())
        print(f"The frame that was being made took {time.monotonic() - began:.2f} s more", file=sys.stderr)


def check_a_full_disk_is_told_and_the_next_run_works() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for codec in ("h264", LOSSLESS):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
        try:
            with refused("could not be written to", "free some space"):
                upscaled_video(film("film.mkv"), codec)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        result = upscaled_video(film("film.mkv"), codec)
        assert Path(result.get_stream_source()).stat().st_size > 2000
        del result
        gc.collect()


def check_an_encoder_that_is_not_there_is_told() -> None:
    codecs = part("nodes.encode").CODECS
    before = dict(codecs)
    codecs["h265"] = "no_such_encoder"
    try:
        with refused("h265", "choose h264"):
            upscaled_video(film("film.mkv"), "h265")
    finally:
        codecs.update(before)


def check_bad_input_is_told_in_one_sentence() -> None:
    with refused("2 channels"):
        upscaled(images(1, channels=2))
    with refused("8x16 cannot be upscaled"):
        upscaled(images(1, 16, 8))
    with refused("no pictures, only sound"):
        upscaled_video(film("only_sound.mp4"))
    with refused("trimmed to nothing"):
        upscaled_video(film("film.mkv", start_time=50.0))
    with refused("cannot be opened"):
        upscaled_video(film("text.mp4"))
    with refused("cannot be opened"):
        upscaled_video(film("gone.mp4"))
    for content, words in ((b"PK\x03\x04", "is a pickle"), (b"\x08\0\0\0\0\0\0\0{}      ", "something else")):
        (folder / "models" / "duovsr" / "other.safetensors").write_bytes(content)
        with refused(words):
            loaded("other.safetensors")
    with refused("there is no model 'gone.safetensors'"):
        loaded("gone.safetensors")
    with refused("av1 has even sides only"):
        upscaled_video(film("odd.mkv"), "av1", width=111, height=63)


def check_comparing_needs_no_library_that_comfyui_lacks() -> None:
    before = images(5)
    out = nodes["DuoVSR_Compare"].execute(before, upscaled(before), 0, 0.5)
    picture, table = out.result
    assert picture.shape == (1, 96, 128, 3)
    assert "PSNR-Y" in table and "over 4 frames of 128x96" in table
    print(table, file=sys.stderr)
    result = upscaled_video(film("film.mkv"))
    assert nodes["DuoVSR_Compare"].execute(film("film.mkv"), result, 2, 0.3).result[0].shape == (1, 128, 192, 3)
    del result
    with refused("frame 99 is not in both"):
        nodes["DuoVSR_Compare"].execute(before, before, 99, 0.5)


def main() -> None:
    start(*sys.argv[1:])
    import torch

    checks: dict[str, Callable[[], None]] = {n: c for n, c in globals().items() if n.startswith("check_")}
    for name, check in checks.items():
        trouble = None
        try:
            with torch.inference_mode():
                check()
        except BaseException:
            trouble = traceback.format_exc()
        gc.collect()
        print(json.dumps([name, trouble]), flush=True)


if __name__ == "__main__":
    main()
