"""core.duovsr.Upscale: the engine's frames, whatever the order and the threads; one sentence for what is wrong."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import vapoursynth as vs
from conftest import synthetic_clip
from filter_clips import clip_of, core, engine_frames, fetch, orders, tensor_of, tensors_of

import duovsr_vs
from duovsr_vs import filter as bridge
from duovsr_vs.engine.upscaler import Upscaler
from duovsr_vs.model import registry

CHUNK = 8


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = core.num_threads
    yield
    core.num_threads = before


def blank(format: int = vs.RGBS, width: int = 32, height: int = 24, length: int = 3) -> vs.VideoNode:
    return core.std.BlankClip(width=width, height=height, format=format, length=length)


@pytest.mark.parametrize("length", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 3])
def test_frames_are_those_of_the_engine(tiny_model: Path, length: int) -> None:
    frames = synthetic_clip(length, 24, 32)
    upscaled = core.duovsr.Upscale(clip_of(frames), model=str(tiny_model))
    assert (len(upscaled), upscaled.width, upscaled.height) == (length, 128, 96)
    expected = engine_frames(frames, tiny_model)
    for made, wanted in zip(tensors_of(upscaled), expected, strict=True):
        assert torch.equal(made, wanted)


def test_frames_of_a_model_with_windows_are_those_of_the_engine(toy_model: Path) -> None:
    frames = synthetic_clip(40, 16, 16)
    upscaled = core.duovsr.Upscale(clip_of(frames), model=str(toy_model))
    found = fetch(upscaled, orders(40)["shuffled"])
    for n, wanted in enumerate(engine_frames(frames, toy_model)):
        assert found[n] == [plane.numpy().tobytes() for plane in wanted]


@pytest.mark.parametrize("size", [(17, 31), (69, 121)])
def test_odd_sizes_are_those_of_the_engine(tiny_model: Path, size: tuple[int, int]) -> None:
    frames = synthetic_clip(3, *size)
    upscaled = core.duovsr.Upscale(clip_of(frames), model=str(tiny_model), width=101)
    expected = engine_frames(frames, tiny_model, lambda options: replace(options, width=101))
    assert upscaled.width == 101
    for made, wanted in zip(tensors_of(upscaled), expected, strict=True):
        assert torch.equal(made, wanted)


@pytest.mark.parametrize("workers", [1, 2, 8, 16])
def test_frames_do_not_depend_on_order_or_threads(tiny_model: Path, workers: int) -> None:
    frames = synthetic_clip(2 * CHUNK + 3, 16, 24)
    expected = [[plane.numpy().tobytes() for plane in frame] for frame in engine_frames(frames, tiny_model)]
    core.num_threads = workers
    for name, order in orders(len(frames)).items():
        found = fetch(core.duovsr.Upscale(clip_of(frames), model=str(tiny_model)), order)
        assert [found[n] for n in range(len(frames))] == expected, name


def test_a_trimmed_job_gives_the_frames_of_the_whole_one(tiny_model: Path) -> None:
    upscaled = core.duovsr.Upscale(clip_of(synthetic_clip(20, 16, 24)), model=str(tiny_model))
    whole = tensors_of(upscaled)
    again = core.duovsr.Upscale(clip_of(synthetic_clip(20, 16, 24)), model=str(tiny_model))
    assert all(map(torch.equal, tensors_of(again[5:13]), whole[5:13]))


def test_every_option_reaches_the_engine(tiny_model: Path) -> None:
    given = {
        "width": 160, "height": 96, "strength": 0.5, "detail": 0.25, "seed": 2**40, "device": "cpu",
        "precision": "float32", "tile": 32, "tile_overlap": 4, "scene_cut": False, "threads": 1,
    }  # fmt: skip
    frames = synthetic_clip(3, 48, 64)
    before = torch.get_num_threads()
    made = tensors_of(core.duovsr.Upscale(clip_of(frames), model=str(tiny_model), **given))
    expected = engine_frames(frames, tiny_model, lambda options: replace(options, **given))
    torch.set_num_threads(before)
    assert all(map(torch.equal, made, expected))
    other = {"strength": 1.0, "detail": 0.5, "seed": 0, "precision": "bfloat16", "tile": 0}
    for name, value in other.items():
        changed = core.duovsr.Upscale(clip_of(frames), model=str(tiny_model), **{**given, name: value})
        assert not torch.equal(tensors_of(changed)[1], expected[1]), name


def test_an_instance_keeps_its_own_number_of_threads(tiny_model: Path) -> None:
    def seen() -> int:
        (_, number) = bridge._answer(lambda: (torch.get_num_threads(),))
        return int(number)

    default = core.duovsr.Upscale(blank(), model=str(tiny_model))
    before = seen()
    other = core.duovsr.Upscale(blank(), model=str(tiny_model), threads=before + 1)
    other.get_frame(0).close()
    assert seen() == before + 1
    default.get_frame(0).close()
    assert seen() == before
    core.duovsr.Upscale(blank(width=48), model=str(tiny_model), threads=before + 1)
    late = core.duovsr.Upscale(blank(width=64), model=str(tiny_model))
    late.get_frame(0).close()
    assert seen() == before


def test_scene_cuts_come_from_the_frame_property(tiny_model: Path) -> None:
    frames = synthetic_clip(12, 24, 32)
    plain = clip_of(frames)
    start = core.std.SetFrameProps(plain, _SceneChangePrev=1)
    none = core.std.SetFrameProps(plain, _SceneChangePrev=0)
    tagged = none[:5] + start[5] + none[6:]
    cuts = [n == 5 for n in range(12)]
    made = tensors_of(core.duovsr.Upscale(tagged, model=str(tiny_model)))
    expected = engine_frames(frames, tiny_model, cuts=cuts)
    assert all(map(torch.equal, made, expected))
    whole = engine_frames(frames, tiny_model, lambda options: replace(options, scene_cut=False))
    assert not torch.equal(expected[4], whole[4]) and not torch.equal(expected[5], whole[5])
    ignored = tensors_of(core.duovsr.Upscale(tagged, model=str(tiny_model), scene_cut=False))
    assert all(map(torch.equal, ignored, whole))


def test_scene_cuts_are_found_where_no_frame_is_tagged(tiny_model: Path) -> None:
    frames = synthetic_clip(12, 24, 32)
    frames[6:] = [1 - frame for frame in synthetic_clip(12, 24, 32, seed=3)[6:]]
    frames[6:] = [(frame * 0.2 + 0.8) for frame in frames[6:]]
    made = tensors_of(core.duovsr.Upscale(clip_of(frames), model=str(tiny_model)))
    apart = engine_frames(frames, tiny_model, cuts=[n == 6 for n in range(12)])
    whole = engine_frames(frames, tiny_model, lambda options: replace(options, scene_cut=False))
    assert all(map(torch.equal, made, apart)) and not torch.equal(made[6], whole[6])
    not_cuts = core.std.SetFrameProps(clip_of(frames), _SceneChangePrev=0)
    assert all(map(torch.equal, tensors_of(core.duovsr.Upscale(not_cuts, model=str(tiny_model))), whole))


def test_equal_instances_run_at_once_and_share_the_model(tiny_model: Path) -> None:
    frames = synthetic_clip(12, 24, 32)
    expected = engine_frames(frames, tiny_model)
    core.num_threads = 8
    clips = [core.duovsr.Upscale(clip_of(frames), model=str(tiny_model)) for _ in range(3)]
    assert len([key for key in bridge._upscalers if key[0].model == str(tiny_model) and key[1:3] == (32, 24)]) == 1
    pending = [(n, clip.get_frame_async(n)) for n in range(12) for clip in clips]
    for n, future in pending:
        with future.result() as frame:
            assert torch.equal(tensor_of(frame), expected[n])


def test_an_instance_that_is_dropped_lets_its_model_go(tiny_model: Path) -> None:
    clip = core.duovsr.Upscale(blank(width=40), model=str(tiny_model))
    clip.get_frame(0).close()
    assert any(key[1] == 40 for key in bridge._upscalers)
    del clip
    for _ in range(50):  # a thread of VapourSynth may hold the node for a moment
        if not any(key[1] == 40 for key in bridge._upscalers):
            return
        gc.collect()
        time.sleep(0.1)
    pytest.fail("the model is still held")


def test_the_source_is_not_changed(tiny_model: Path) -> None:
    source = blank(length=1).std.Cache() if hasattr(core.std, "Cache") else blank(length=1)
    before = tensors_of(source)[0].clone()
    core.duovsr.Upscale(source, model=str(tiny_model)).get_frame(0).close()
    assert torch.equal(tensors_of(source)[0], before)


def test_models_are_listed_without_torch() -> None:
    code = "import sys, vapoursynth as vs; print(vs.core.duovsr.Models()); assert 'torch' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    listed = core.duovsr.Models()
    assert shown.strip() == str(listed)
    assert {name: file for name, file in listed.items() if name != "default"} == {
        name: str(path) for name, path in registry.known().items()
    }
    assert listed["default"] in registry.known()


def test_the_version_is_that_of_the_package() -> None:
    assert core.duovsr.Version() == duovsr_vs.__version__


def test_printing_in_the_engine_leaves_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert bridge._answer(lambda: (print("soil"),)) == ("", None)
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "soil\n"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), MemoryError(), ZeroDivisionError("no")])
def test_whatever_is_raised_becomes_a_sentence(error: BaseException) -> None:
    def fail() -> tuple[object, ...]:
        raise error

    (sentence,) = bridge._answer(fail)
    assert sentence and "\n" not in sentence


VARIABLE = "only clips with constant format and dimensions"
WRONG = [
    ({"model": "nanoo"}, r"no model named 'nanoo'; known are nano"),
    ({"model": "/nowhere/x.safetensors"}, r"does not exist"),
    ({"scale": 9}, r"scale=9 is out of range"),
    ({"scale": -1}, r"scale=-1 is out of range"),
    ({"strength": float("nan")}, r"strength=nan is out of range"),
    ({"detail": 2.0}, r"detail=2"),
    ({"seed": -1}, r"seed=-1"),
    ({"device": "tpu"}, r"device='tpu' is unknown"),
    ({"precision": "int8"}, r"precision='int8' is unknown"),
    ({"tile": -5}, r"tile=-5"),
    ({"threads": 0}, r"threads=0"),
    ({"width": 2**31}, r"width=2147483648"),
    ({"matrix": 1}, r"matrix=1 was given for an RGB clip"),
]


@pytest.mark.parametrize(
    "options, sentence", WRONG, ids=[next(iter(options)) + str(i) for i, (options, _) in enumerate(WRONG)]
)
def test_a_wrong_option_is_one_sentence(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(vs.Error, match=f"^Upscale: .*{sentence}") as caught:
        core.duovsr.Upscale(blank(), **options)
    assert "\n" not in str(caught.value) and "Error" not in str(caught.value)


def test_a_pickle_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(vs.Error, match=r"^Upscale: .* is a pickle"):
        core.duovsr.Upscale(blank(), model=str(path))


def test_frames_below_16_pixels_are_refused() -> None:
    with pytest.raises(vs.Error, match=r"^Upscale: frames of 32x15 cannot be upscaled"):
        core.duovsr.Upscale(blank(height=15))


def test_clips_that_change_are_refused(tiny_model: Path) -> None:
    sizes = core.std.Splice([blank(), blank(width=64)], mismatch=True)
    formats = core.std.Splice([blank(), blank(format=vs.RGB24)], mismatch=True)
    for clip in (sizes, formats):
        with pytest.raises(vs.Error, match=f"^Upscale: {VARIABLE}"):
            core.duovsr.Upscale(clip, model=str(tiny_model))


@pytest.mark.parametrize("format", [vs.RGBS, vs.YUV420P8])
def test_interlaced_frames_are_refused_wherever_they_are(tiny_model: Path, format: int) -> None:
    clip = blank(format=format, height=26, length=20)  # resize would complain of that height, not of the fields
    for value in (1, 2):
        with pytest.raises(vs.Error, match=rf"^Upscale: frame 0 is interlaced \(_FieldBased={value}\).*deinterlace"):
            core.duovsr.Upscale(core.std.SetFieldBased(clip, value), model=str(tiny_model))
    late = clip[:12] + core.std.SetFieldBased(clip[12:], 2)
    upscaled = core.duovsr.Upscale(late, model=str(tiny_model), matrix=None if format == vs.RGBS else 1)
    upscaled.get_frame(3).close()
    with pytest.raises(vs.Error, match=r"Upscale: frame 1[2-9] is interlaced"):
        upscaled.get_frame(12)
    core.duovsr.Upscale(core.std.SetFieldBased(clip, 0), model=str(tiny_model)).get_frame(0).close()


def test_an_error_in_the_engine_arrives_at_the_frame(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("it\nbroke")

    upscaled = core.duovsr.Upscale(blank(), model=str(tiny_model))
    with monkeypatch.context() as patch:
        patch.setattr(Upscaler, "_frame", broken)
        with pytest.raises(vs.Error, match=r"^Upscale: RuntimeError: it broke \(.*line \d+\)"):
            upscaled.get_frame(0)
    upscaled.get_frame(0).close()


def test_a_source_that_fails_says_so(tiny_model: Path) -> None:
    def fail(n: int) -> vs.VideoNode:
        raise RuntimeError(f"no frame {n}")

    failing = core.std.FrameEval(blank(length=20), fail)
    with pytest.raises(vs.Error, match=r"(?s)^Upscale: the clip's first frame cannot be read: .*no frame 0"):
        core.duovsr.Upscale(failing, model=str(tiny_model))
    late = core.duovsr.Upscale(blank(length=12) + failing[12:], model=str(tiny_model))
    with pytest.raises(vs.Error, match=re.escape("no frame")):
        late.get_frame(12)


def test_a_budget_of_memory_is_one_of_the_engine(tiny_model: Path) -> None:
    frames = synthetic_clip(2, 24, 32)
    upscaled = core.duovsr.Upscale(clip_of(frames), model=str(tiny_model), vram="2GB")
    for made, wanted in zip(tensors_of(upscaled), engine_frames(frames, tiny_model), strict=True):
        assert torch.equal(made, wanted)
    with pytest.raises(vs.Error, match=r"^Upscale: frames of 32x24 take \d+MB at least, vram=1MB allows less; give"):
        core.duovsr.Upscale(clip_of(frames), model=str(tiny_model), vram="1MB")
    with pytest.raises(vs.Error, match=r"^Upscale: vram='lots' is no size; give a number and its unit"):
        core.duovsr.Upscale(clip_of(frames), model=str(tiny_model), vram="lots")
