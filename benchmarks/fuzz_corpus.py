"""The sound files that the fuzzers damage: `python fuzz_corpus.py FOLDER` makes them. Small, and of every format.

FOLDER/media holds videos and images, FOLDER/models one model file for each kind of model, FOLDER/job a long job of
which two segments are finished, and FOLDER/tiny.safetensors the model that upscales where the command line is tried.
"""

import shutil
import sys
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from container_sources import Case, make_source

from duovsr_vs.video.pixels import component_arrays, layout_of
from duovsr_vs.video.scheduling import usual_scheduling

PLAIN: dict[str, tuple[str, str, str]] = {
    "avi": ("avi", "mpeg4", "yuv420p"),
    "ffv1.mkv": ("matroska", "ffv1", "yuv444p10le"),
    "vp9.mkv": ("matroska", "libvpx-vp9", "yuva420p"),
    "prores.mov": ("mov", "prores_ks", "yuva444p10le"),
    "mjpeg.avi": ("avi", "mjpeg", "yuvj420p"),
    "hevc.mp4": ("mp4", "libx265", "yuv420p"),
    "ts": ("mpegts", "libx264", "yuv420p"),
    "mpeg2.ts": ("mpegts", "mpeg2video", "yuv420p"),
    "mpg": ("mpeg", "mpeg2video", "yuv420p"),
    "flv": ("flv", "libx264", "yuv420p"),
    "y4m": ("yuv4mpegpipe", "wrapped_avframe", "yuv420p"),
    "png": ("image2", "png", "rgb48be"),
    "exr": ("image2", "exr", "gbrpf32le"),
    "tif": ("image2", "tiff", "rgb24"),
}
"""End of a name -> muxer, encoder, pixel format."""
FULL = Case("mkv", "mkv", "variable", "even", "16:15", "709", "8", "3", "2", "yes", "yes")
RICH = (
    FULL,
    replace(FULL, timing="late start", colour="PQ", bits="10"),
    replace(FULL, source="mp4", shape="turned"),
    replace(FULL, source="mp4", timing="29.97 fps", size="odd", colour="HLG", bits="10", audio="1"),
    replace(FULL, source="mov", audio="3"),
    replace(FULL, source="webm", timing="late start", size="odd"),
    replace(FULL, source="webm", colour="full range", bits="8", subtitles="1"),
)
"""Files with all that a container can hold."""
SIZE = 64, 64
FRAMES = 10
LONG_FRAMES, LENGTH = 20, 8
"""Frames of the source of the long job, and of each of its segments."""


def picture(number: int, pix_fmt: str) -> av.VideoFrame:
    """A moving ramp."""
    layout = layout_of(pix_fmt)
    frame = av.VideoFrame(*SIZE, layout.planar_name)
    top = 1 if layout.floating else (1 << layout.bits) - 1
    for component, view in enumerate(component_arrays(frame, layout)):
        rows, columns = np.indices(view.shape)
        wave = 0.5 + 0.4 * np.sin((rows * (1 + component) + 2 * columns + 5 * number) * 0.05)
        view[:] = (wave * top).astype(view.dtype)
    return frame if pix_fmt == frame.format.name else frame.reformat(format=pix_fmt, threads=1)


def plain(path: Path, muxer: str, codec: str, pix_fmt: str, frames: int = FRAMES, gap: int = 12) -> Path:
    """A video without anything beside it. gap: frames from one key frame to the next."""
    with av.open(path, "w", format=muxer) as out:
        options = {"g": str(gap)} | ({"x265-params": "log-level=none:pools=1"} if codec == "libx265" else {})
        stream: Any = out.add_stream(codec, rate=25, width=SIZE[0], height=SIZE[1], pix_fmt=pix_fmt, options=options)
        stream.codec_context.thread_count = 1
        with usual_scheduling():
            out.start_encoding()
        for number in range(frames):
            frame = picture(number, pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def media(folder: Path) -> None:
    """Videos and single images."""
    folder.mkdir()
    for number, case in enumerate(RICH):
        path = make_source(case, folder)
        path.rename(folder / f"rich{number}{path.suffix}")
    for name, (muxer, codec, pix_fmt) in PLAIN.items():
        if muxer == "image2":
            context: Any = av.CodecContext.create(codec, "w")
            context.width, context.height, context.pix_fmt, context.time_base = *SIZE, pix_fmt, Fraction(1, 25)
            packets = [*context.encode(picture(0, pix_fmt)), *context.encode(None)]
            (folder / f"plain.{name}").write_bytes(b"".join(bytes(packet) for packet in packets))
        else:
            plain(folder / f"plain.{name}", muxer, codec, pix_fmt)


def models(folder: Path) -> None:
    """One file of each kind, with two sets of weights or one, with a golden frame or without."""
    import torch

    from duovsr_vs.model.checkpoint import DETAILED, FAITHFUL, Golden, save
    from duovsr_vs.model.config import PRESETS
    from duovsr_vs.model.generator import Generator

    folder.mkdir()
    torch.manual_seed(0)
    facts = {"stages": [{"stage": "teacher", "updates": 3}], "data": [{"name": "a clip", "licence": "CC0"}]}
    golden = Golden(torch.full((3, 3, 16, 16), 7, dtype=torch.uint8), torch.rand(3, 64, 64).half(), 0.004)
    for name in ("tiny", "toy", "toy-learned"):
        sets = {kind: Generator(PRESETS[name]).state_dict() for kind in (FAITHFUL, DETAILED)}
        save(folder / f"{name}.safetensors", PRESETS[name], sets, facts, golden if name == "tiny" else None)
    one = {DETAILED: Generator(PRESETS["tiny"]).state_dict()}
    save(folder / "one.safetensors", PRESETS["tiny"], one, {}, dtype=torch.float16)


def job(folder: Path, model: Path) -> None:
    """A long job that was left with two of its three segments: a.mkv, and what lies beside the output b.mkv."""
    from duovsr_vs.cli.job import described, open_job
    from duovsr_vs.cli.render import Station, opened_folder
    from duovsr_vs.cli.request import Request
    from duovsr_vs.engine.options import Options

    folder.mkdir()
    source = plain(folder / "a.mkv", "matroska", "libx264", "yuv420p", LONG_FRAMES, gap=5)
    options = Options(model=str(model), scale=1, threads=1)
    request = Request(source=str(source), output=str(folder / "b.mkv"), options=options, segment=LENGTH)
    with ExitStack() as stack:
        one = open_job(request, stack, None)
        upscaler = one.upscaler()
        description = described(request, one.identity(upscaler.plan, one.grid(upscaler, LENGTH)))
    with opened_folder(request).locked():
        opened_folder(request).begin(description)
        with Station(description) as station:
            station.render(0, 1)


def make(folder: Path) -> None:
    """All of them."""
    media(folder / "media")
    models(folder / "models")
    tiny = shutil.copy(folder / "models" / "one.safetensors", folder / "tiny.safetensors")
    job(folder / "job", tiny)


if __name__ == "__main__":
    av.logging.set_level(None)
    make(Path(sys.argv[1]))
