"""One part of a run, alone in a fresh process: `python speed_parts.py SPEC`; SPEC and the answer on stdout are JSON.

Four parts make what the others need, in a folder: `clips` (clip_<n>.mp4), `frames` (lr.npy: float RGB of the longest
one), `outputs` (hr.npy, hr.yuv: what the engine makes of it), `model` (one with random weights). The others are timed.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from duovsr_vs.engine.options import Options
from duovsr_vs.errors import DuoVsrError
from duovsr_vs.video.colour import ColourTags, resolve_matrix
from duovsr_vs.video.convert import FromRGB, ToRGB
from duovsr_vs.video.encoding import THREADS, Encoding, choose
from duovsr_vs.video.pixels import component_arrays
from duovsr_vs.video.reader import VideoInfo, VideoReader

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "dog.mp4"
CODEC, PRESET = "libx264", "veryfast"
WARM_UP = 4
"""Frames before the clock starts: memory is allocated and kernels are chosen there."""
FLOAT_OUTPUTS = 8
"""Different float output frames in memory, more than any cache holds: 200 MB at 1080p."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """part: which.  folder: of everything that is read and written.  lengths: numbers of frames, ascending.

    width, height: of the input.  options: fields of the engine's `Options`.  began: when the process was started
    (time.time(), seconds).
    """

    part: str
    folder: str
    lengths: list[int]
    width: int
    height: int
    options: dict[str, Any]
    began: float = 0.0

    def clip(self, frames: int) -> Path:
        """The video of so many frames."""
        return Path(self.folder) / f"clip_{frames}.mp4"

    def path(self, name: str) -> Path:
        return Path(self.folder) / name

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the output."""
        return Options(**self.options).output_size(self.width, self.height)


# -- what is needed ----------------------------------------------------------------------------------------------------


def there_and_back(count: int, frames: int) -> list[int]:
    """Numbers of `frames` frames out of `count`: forward, backward, forward…, so that motion never jumps."""
    order = [*range(count), *range(count - 2, 0, -1)]
    return [order[n % len(order)] for n in range(frames)]


def clips(spec: Spec) -> dict[str, Any]:
    """Moving pictures of the wanted size and lengths, from the example."""
    with av.open(str(EXAMPLE)) as container:
        source = [f.reformat(spec.width, spec.height, "yuv420p") for f in container.decode(video=0)]
    for length in spec.lengths:
        with av.open(str(spec.clip(length)), "w") as container:
            stream: Any = container.add_stream("libx264", rate=25, options={"crf": "12", "preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, "yuv420p"
            stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1
            for n, number in enumerate(there_and_back(len(source), length)):
                source[number].pts, source[number].time_base = n, stream.codec_context.time_base
                container.mux(stream.encode(source[number]))
            container.mux(stream.encode())
    return {}


def frames(spec: Spec) -> dict[str, Any]:
    """Float RGB of the longest clip, as the command line would hand it to the engine."""
    with VideoReader(str(spec.clip(spec.lengths[-1]))) as reader:
        convert = ToRGB(reader.info.layout, _tags(reader.info), spec.width, spec.height)
        np.save(spec.path("lr.npy"), np.stack([convert(frame.image) for frame in reader.frames()]))
    return {}


def outputs(spec: Spec) -> dict[str, Any]:
    """What the engine makes of the longest clip: all frames as the encoder gets them, the first ones as float."""
    upscaler, lr = _upscaler(spec), _lr(spec)
    encoding = _encoding(spec)
    convert = FromRGB(encoding.layout, encoding.tags, *spec.size)
    kept = []
    with spec.path("hr.yuv").open("wb") as file:
        for frame in upscaler.stream(lr):
            kept += [frame.numpy()] if len(kept) < FLOAT_OUTPUTS else []
            for plane in component_arrays(convert(frame.numpy()), encoding.layout):
                file.write(np.ascontiguousarray(plane))
    np.save(spec.path("hr.npy"), np.stack(kept))
    return {}


def model(spec: Spec) -> dict[str, Any]:
    """A file with random weights of the preset that options["model"] names: speed does not depend on weights."""
    import torch

    from duovsr_vs.model.checkpoint import DETAILED, save
    from duovsr_vs.model.config import PRESETS
    from duovsr_vs.model.generator import Generator

    torch.manual_seed(0)
    config = PRESETS[spec.options["model"]]
    weights = {DETAILED: Generator(config).state_dict()}
    save(spec.path("model.safetensors"), config, weights, {"stages": ["random weights"]})
    return {}


# -- what is timed -----------------------------------------------------------------------------------------------------


def engine(spec: Spec) -> dict[str, Any]:
    """Float RGB in memory to float RGB in memory."""
    upscaler = _upscaler(spec)
    ready = time.time() - spec.began
    lr = _lr(spec)

    def work(length: int) -> None:
        for _ in upscaler.stream(islice(lr, length)):
            pass

    return _timed(work, spec) | {"ready": ready, "plan": upscaler.plan.as_dict()}


def decode(spec: Spec) -> dict[str, Any]:
    """File to decoded frames."""

    def work(length: int) -> None:
        with VideoReader(str(spec.clip(length))) as reader:
            assert sum(1 for _ in reader.frames()) == length

    return _timed(work, spec)


def to_rgb(spec: Spec) -> dict[str, Any]:
    """Decoded frames in memory to float RGB."""
    with VideoReader(str(spec.clip(spec.lengths[-1]))) as reader:
        convert = ToRGB(reader.info.layout, _tags(reader.info), spec.width, spec.height)
        images = [frame.image for frame in reader.frames()]

    def work(length: int) -> None:
        for image in images[:length]:
            convert(image)

    return _timed(work, spec)


def from_rgb(spec: Spec) -> dict[str, Any]:
    """Float RGB in memory to frames for the encoder."""
    hr, encoding = np.load(spec.path("hr.npy")), _encoding(spec)
    convert = FromRGB(encoding.layout, encoding.tags, *spec.size)

    def work(length: int) -> None:
        for n in range(length):
            convert(hr[n % len(hr)])

    return _timed(work, spec)


def encode(spec: Spec) -> dict[str, Any]:
    """Frames for the encoder, in memory, to a file."""
    encoding, file = _encoding(spec), spec.path("encoded.mkv")
    images = _output_images(spec, encoding)

    def work(length: int) -> None:
        with av.open(str(file), "w") as container:
            stream = _encoder(container, spec, encoding)
            for n, image in enumerate(images[:length]):
                image.pts, image.time_base = n, stream.codec_context.time_base
                container.mux(stream.encode(image))
            container.mux(stream.encode())

    return _timed(work, spec)


def _timed(work: Callable[[int], None], spec: Spec) -> dict[str, Any]:
    """[wall, core] seconds of work(length) for each length, after a warm-up."""
    work_short = min(spec.lengths)
    work(work_short if spec.part in ("decode", "encode") else min(WARM_UP, work_short))
    costs = []
    for length in spec.lengths:
        wall, core = time.perf_counter(), time.process_time()
        work(length)
        costs.append([time.perf_counter() - wall, time.process_time() - core])
    return {"costs": costs}


# -- the same settings as the command line's -----------------------------------------------------------------------


def _tags(info: VideoInfo) -> ColourTags:
    return resolve_matrix(info.tags, info.layout, info.height, None)[0]


def _encoding(spec: Spec) -> Encoding:
    with VideoReader(str(spec.clip(spec.lengths[-1]))) as reader:
        info = reader.info
    return choose("x.mkv", info.layout, _tags(info), spec.size, codec=CODEC, options={"preset": PRESET})


def _encoder(container: Any, spec: Spec, encoding: Encoding) -> Any:
    width, height = spec.size
    stream = container.add_stream(
        encoding.codec, rate=25, width=width, height=height, pix_fmt=encoding.pix_fmt, options=dict(encoding.options)
    )
    stream.codec_context.thread_count = THREADS
    return stream


def _output_images(spec: Spec, encoding: Encoding) -> list[av.VideoFrame]:
    width, height = spec.size
    images = []
    with spec.path("hr.yuv").open("rb") as file:
        for _ in range(spec.lengths[-1]):
            image = av.VideoFrame(width, height, encoding.pix_fmt)
            for plane in component_arrays(image, encoding.layout):
                data = np.frombuffer(file.read(plane.nbytes), plane.dtype)
                np.copyto(plane, data.reshape(plane.shape))
            images.append(image)
    return images


def _upscaler(spec: Spec) -> Any:
    from duovsr_vs.engine.upscaler import Upscaler

    return Upscaler(Options(**spec.options), spec.width, spec.height)


def _lr(spec: Spec) -> list[Any]:
    import torch

    frames: NDArray[np.float32] = np.load(spec.path("lr.npy"))
    return list(torch.from_numpy(frames))


PARTS = {f.__name__: f for f in (clips, frames, outputs, model, engine, decode, to_rgb, from_rgb, encode)}

if __name__ == "__main__":
    given = Spec(**json.loads(sys.argv[1]))
    try:
        json.dump(PARTS[given.part](given), sys.stdout)
    except DuoVsrError as error:
        sys.exit(f"{given.part}: {error}")
