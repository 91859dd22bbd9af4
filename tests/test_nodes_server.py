"""The nodes over the HTTP API of a real ComfyUI; skipped where COMFYUI_DIR names no checkout of it."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from comfy_server import COMFYUI, ROOT, WHY_NOT, RefusedError, Server, as_prompt, ran
from conftest import write_model
from PIL import Image
from test_nodes_comfyui import only_sound
from video_files import MILLISECOND, make_video, times

NAME = "DUO-VSR_clone-2.main"
NANO, TINY = "nano (built in)", "tiny.safetensors"
CHOSEN: dict[str, Any] = {
    "scale": 4, "strength": 1.0, "seed": 0, "width": 0, "height": 0, "scene_cut": True, "tile": 0, "vram": "",
}  # fmt: skip
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not COMFYUI, reason=WHY_NOT)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base = tmp_path_factory.mktemp("server")
    clips = base / "input"
    clips.mkdir()
    (base / "models" / "duovsr").mkdir(parents=True)
    write_model(base / "models" / "duovsr" / TINY, "tiny")
    make_video(clips / "film.mp4", 12, sound=True)
    make_video(clips / "dog.mp4", 3, (300, 20), sound=True)
    make_video(clips / "large.mkv", 24, (480, 270))
    make_video(clips / "vfr.mkv", 4, pts=[0, 40, 90, 400], time_base=MILLISECOND)
    only_sound(clips / "only_sound.mp4")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)).save(clips / "example.png")
    Image.new("RGB", (8, 8)).save(clips / "small.png")
    (base / "models" / "duovsr" / "pickle.safetensors").write_bytes(b"PK\x03\x04 a pickle")
    running = Server(base, NAME)
    try:
        yield running
    finally:
        running.stop()


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def video_prompt(file: str, model: str = TINY, prefix: str = "out", **changed: Any) -> dict[str, Any]:
    """LoadVideo, Upscale Video, SaveVideo."""
    asked = {**CHOSEN, "codec": "h264", "crf": 20, **changed}
    return {
        "1": node("LoadVideo", file=file),
        "2": node("DuoVSR_LoadModel", model=model, precision="float32", detail=-1.0),
        "3": node("DuoVSR_UpscaleVideo", model=["2", 0], video=["1", 0], **asked),
        # ComfyUI 0.33 asks for the codec by another name than 0.23
        "4": node(
            "SaveVideo", video=["3", 0], filename_prefix=prefix, format="auto", codec="auto", **{"format.codec": "auto"}
        ),
    }


def image_prompt(file: str = "example.png", model: str = TINY, **changed: Any) -> dict[str, Any]:
    """LoadImage, Upscale, PreviewImage."""
    return {
        "1": node("LoadImage", image=file),
        "2": node("DuoVSR_LoadModel", model=model, precision="float32", detail=-1.0),
        "3": node("DuoVSR_Upscale", model=["2", 0], image=["1", 0], **CHOSEN | changed),
        "4": node("PreviewImage", images=["3", 0]),
    }


def saved(server: Server, outputs: dict[str, Any], number: str = "4") -> Path:
    """The file that a saving or showing node names."""
    found = outputs[number]["images"][0]
    return server.base / found["type"] / found["subfolder"] / found["filename"]


def picture(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def packets(path: Path, kind: str = "video") -> list[bytes]:
    with av.open(path) as container:
        return [bytes(p) for p in container.demux(getattr(container.streams, kind)[0]) if p.size]


def still_works(server: Server) -> None:
    """The server lives, and its next prompt runs; a seed that is new, so that nothing comes from the cache."""
    ran(server.run(image_prompt(seed=time.time_ns() % 2**32)))


# -- the pack -------------------------------------------------------------------------------------------------------


def test_the_pack_is_loaded_and_its_import_time_is_told(server: Server) -> None:
    text = server.log.read_text()
    line = next(line for line in text.splitlines() if "seconds" in line and NAME in line)
    print(line)
    assert "IMPORT FAILED" not in line and "DUO-VSR could not be loaded" not in text


def test_nodes_are_offered_with_their_widgets(server: Server) -> None:
    told = server.get("/object_info")
    names = [name for name in told if name.startswith("DuoVSR_")]
    assert names == ["DuoVSR_LoadModel", "DuoVSR_Upscale", "DuoVSR_UpscaleVideo", "DuoVSR_Compare"]
    assert all(told[name]["category"] == "video/DUO-VSR" for name in names)
    assert told["DuoVSR_LoadModel"]["input"]["required"]["model"][1]["options"][0] == NANO


def test_help_translations_and_workflows_are_served(server: Server) -> None:
    for page in ("DuoVSR_Upscale.md", "DuoVSR_Upscale/zh.md", "DuoVSR_Upscale/ja.md"):
        assert server.get(f"/extensions/{NAME}/docs/{page}") == (ROOT / "web" / "docs" / page).read_text("utf-8")
    told = server.get("/i18n")
    for language in ("en", "zh", "ja"):
        texts = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text("utf-8"))
        assert told[language]["nodeDefs"] == texts
    assert sorted(server.get("/workflow_templates")[NAME]) == ["image", "tiled-4k", "video"]
    assert server.get(f"/api/workflow_templates/{NAME}/image.json")["version"] == 0.4


@pytest.mark.parametrize("name", ["image", "video", "tiled-4k"])
def test_example_workflows_run(server: Server, name: str) -> None:
    workflow = json.loads((ROOT / "example_workflows" / f"{name}.json").read_text("utf-8"))
    outputs = ran(server.run(as_prompt(workflow, server.get("/object_info"))))
    result = saved(server, outputs)
    if name == "image":
        assert picture(result).size == (128, 96)
    else:
        with av.open(result) as container:
            stream = container.streams.video[0]
            size, codec = (stream.width, stream.height), stream.codec_context.name
        assert (size, codec) == (((1200, 80), "h264") if name == "video" else ((3840, 256), "hevc"))
        assert len(times(result)) == 3
    text = outputs["6"]["text"][0]
    print(text)
    assert saved(server, outputs, "5").is_file() and "NIQE" in text and "PSNR-Y" in text


# -- while it runs --------------------------------------------------------------------------------------------------


def test_progress_and_previews_are_told_while_frames_are_made(server: Server) -> None:
    begin = len(server.messages)
    ran(server.run(video_prompt("large.mkv", NANO)))
    told = server.messages[begin:]
    steps = [m["data"]["nodes"]["3"] for m in told if m["type"] == "progress_state" and "3" in m["data"]["nodes"]]
    values = [step["value"] for step in steps if step["max"] == 24]
    assert values == sorted(values) and values[-1] == 24 and len(set(values)) > 3
    assert any(m["type"] == "bytes" and m["data"]["size"] > 1000 for m in told)


def test_cancel_ends_within_a_second_and_leaves_nothing(server: Server) -> None:
    before = server.temporary()
    begin = len(server.messages)
    number = server.queue(video_prompt("large.mkv", NANO, seed=time.time_ns() % 2**32))
    server.until(lambda m: m["type"] == "progress_state" and m["data"]["nodes"].get("3", {}).get("value"), start=begin)
    assert len(server.temporary()) == len(before) + 1
    pressed = time.monotonic()
    server.post("/interrupt", {})
    ended = server.until(lambda m: m["type"] == "execution_interrupted" and m["data"]["prompt_id"] == number)
    print(f"Cancel took {ended['at'] - pressed:.2f} s")
    assert ended["at"] - pressed < 1
    assert server.temporary() == before
    still_works(server)


def test_what_has_not_changed_comes_from_the_cache(server: Server) -> None:
    prompt = video_prompt("film.mp4", prefix="cached")
    ran(server.run(prompt))
    begin = len(server.messages)
    prompt["4"]["inputs"]["filename_prefix"] = "again"
    outputs = ran(server.run(prompt))
    cached = [m["data"]["nodes"] for m in server.messages[begin:] if m["type"] == "execution_cached"]
    assert {"1", "2", "3"} <= set(cached[0])
    assert len(times(saved(server, outputs))) == 12


def test_a_model_file_that_was_replaced_is_loaded_again(server: Server) -> None:
    prompt, shown = image_prompt(), []
    for seed in (0, 5):
        write_model(server.base / "models" / "duovsr" / TINY, "tiny", seed)
        shown.append(picture(saved(server, ran(server.run(prompt)))).tobytes())
    assert shown[0] != shown[1]


# -- with other nodes -----------------------------------------------------------------------------------------------


def test_save_video_copies_stream_and_sound(server: Server) -> None:
    outputs = ran(server.run(video_prompt("film.mp4", prefix="copied")))
    made = {tuple(packets(path)) for path in server.temporary()}
    assert tuple(packets(saved(server, outputs))) in made
    assert packets(saved(server, outputs), "audio") == packets(server.base / "input" / "film.mp4", "audio")


def test_times_of_a_variable_rate_survive_saving(server: Server) -> None:
    outputs = ran(server.run(video_prompt("vfr.mkv", prefix="vfr")))
    assert [float(t) for t in times(saved(server, outputs))] == [0, 0.04, 0.09, 0.4]


def test_nodes_of_comfyui_work_before_and_after(server: Server) -> None:
    """Video to images to video, trimmed, upscaled both ways, compared and shown, in one prompt."""
    prompt = {
        **video_prompt("film.mp4", prefix="mixed"),
        "5": node("Video Slice", video=["1", 0], start_time=0.08, duration=0.2, strict_duration=False),
        "6": node("GetVideoComponents", video=["5", 0]),
        "7": node("DuoVSR_Upscale", model=["2", 0], image=["6", 0], **CHOSEN),
        "8": node("ImageScale", image=["7", 0], upscale_method="area", width=48, height=32, crop="disabled"),
        "9": node("CreateVideo", images=["8", 0], audio=["6", 1], fps=["6", 2]),
        "10": node("DuoVSR_Compare", before=["5", 0], after=["9", 0], frame=2, position=0.5),
        "11": node("PreviewImage", images=["10", 0]),
        "12": node("PreviewImage", images=["6", 0]),
        "13": node("LoadImage", image="example.png"),
        "14": node("PreviewImage", images=["13", 0]),
    }
    prompt["3"]["inputs"]["video"] = ["9", 0]
    outputs = ran(server.run(prompt))
    result = saved(server, outputs)
    assert len(times(result)) == 5 and len(outputs["12"]["images"]) == 5
    with av.open(result) as container:
        assert container.streams.video[0].width == 192 and container.streams.audio
    assert picture(saved(server, outputs, "11")).size == (48, 32)
    assert any("PSNR-Y" in told["data"].get("text", "") for told in server.messages if told["type"] == "bytes")
    shown, given = picture(saved(server, outputs, "14")), picture(server.base / "input" / "example.png")
    assert shown.tobytes() == given.tobytes()


def test_temporary_files_go_with_what_the_cache_forgets(server: Server) -> None:
    ran(server.run(video_prompt("film.mp4", seed=77, prefix="gone")))
    there = server.temporary()
    assert there
    server.post("/free", {"unload_models": True, "free_memory": True})
    end = time.monotonic() + 30
    while server.temporary() and time.monotonic() < end:
        time.sleep(0.1)
    assert server.temporary() == []
    still_works(server)


# -- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prompt, words",
    [
        (video_prompt("only_sound.mp4"), "no pictures, only sound"),
        (image_prompt("small.png"), "frames of 8x8 cannot be upscaled; each side must be from 16"),
        (image_prompt(model="pickle.safetensors"), "is a pickle"),
        (image_prompt(width=200, height=3), "height=3"),
        (image_prompt(vram="much"), "vram"),
        ({**video_prompt("film.mp4"), "5": node("Video Slice", video=["1", 0], start_time=9.0, duration=0.0,
          strict_duration=False)}, "trimmed to nothing"),
    ],
    ids=["only sound", "small", "pickle", "height", "budget", "trim"],
)  # fmt: skip
def test_bad_input_is_told_in_one_sentence_and_the_next_prompt_runs(
    server: Server, prompt: dict[str, Any], words: str
) -> None:
    if "5" in prompt:
        prompt["3"]["inputs"]["video"] = ["5", 0]
    before = server.temporary()
    text = server.error(prompt).strip()
    print(text)
    assert words in text and "\n" not in text
    assert server.temporary() == before
    still_works(server)


def test_a_model_that_is_not_there_is_refused_before_the_run(server: Server) -> None:
    with pytest.raises(RefusedError) as refused:
        server.queue(image_prompt(model="gone.safetensors"))
    kinds = [error["type"] for error in refused.value.args[0]["node_errors"]["2"]["errors"]]
    assert kinds == ["value_not_in_list"]
    still_works(server)


@pytest.mark.parametrize("changed", [{"scale": 5}, {"strength": 1.5}, {"tile": -32}, {"width": 20000}])
def test_values_out_of_range_are_refused_before_the_run(server: Server, changed: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match=r"value_(bigger|smaller)_than_(max|min)"):
        server.queue(image_prompt(**changed))


def test_a_full_disk_is_told_and_the_next_prompt_runs(server: Server) -> None:
    before = server.temporary()
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    server.log.write_text("")  # it, too, could grow no further
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        text = server.error(video_prompt("large.mkv", seed=78))
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)
    print(text)
    assert "could not be written to" in text and "free some space" in text
    assert server.temporary() == before
    still_works(server)
