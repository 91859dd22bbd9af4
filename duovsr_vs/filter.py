"""What the native VapourSynth filter calls: opens an upscaler, and lets it fill the planes of one chunk of frames.

Knows addresses, strides and sizes, and never imports vapoursynth: it is entered from VapourSynth's worker threads,
which have no script environment. All work is handed to one thread of the process, because torch keeps a pool of
workers and CUDA state per calling thread, and because an upscaler may be entered by one thread at a time.

Every function returns a tuple that begins with an error's sentence, "" when all went well. Nothing is ever raised.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .engine.options import Options
from .errors import DuoVsrError
from .model import registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .engine.upscaler import Upscaler

PLANES = 3
NUMBERS_PER_FRAME = 2 * PLANES
"""Address and stride in bytes of the planes R, G, B."""

_engine_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="duovsr")
_upscalers: weakref.WeakValueDictionary[tuple[Any, ...], Upscaler] = weakref.WeakValueDictionary()
"""Equal instances of the filter share one upscaler, and so one copy of the model."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One instance of the filter: an upscaler and the clip that it is for."""

    upscaler: Upscaler
    width: int
    height: int
    frames: int


def open_clip(settings: Mapping[str, Any], width: int, height: int, frames: int) -> tuple[Any, ...]:
    """Load the model for a clip of `frames` frames of width x height pixels; `settings` are fields of `Options`.

    Returns ("", clip, output width, output height, chunk, frames before, frames after, a note on
    what `vram` has changed or "").
    """

    def work() -> tuple[Any, ...]:
        upscaler = _upscaler(Options(**settings), width, height)
        plan = upscaler.plan
        clip = Clip(upscaler, width, height, frames)
        return clip, plan.out_width, plan.out_height, upscaler.chunk, upscaler.before, upscaler.after, plan.fitted

    return _answer(work)


def fill_chunk(
    clip: Clip, first: int, sources: Sequence[int], start: int, targets: Sequence[int], cuts: Sequence[bool]
) -> tuple[Any, ...]:
    """Write the output frames from `start` on into `targets`, made from the input frames from `first` on.

    sources, targets: six numbers per frame, address and stride of each plane of float32. The sources are only read.
    cuts: one flag per source, true where a shot begins; empty where the upscaler has to find out.
    """

    def work() -> tuple[Any, ...]:
        _fill(clip, first, sources, start, targets, cuts)
        return ()

    return _answer(work)


def shipped_models() -> tuple[str, ...]:
    """("", "default", its name, name, file, name, file, …) of the models in the package; needs no torch."""
    try:
        files = [text for name, path in registry.known().items() for text in (name, str(path))]
        return "", "default", registry.resolve(None).stem, *files
    except BaseException as error:
        return (_sentence(error),)


def _answer(work: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
    """Run `work` on the engine's thread; also what a plain `except Exception` lets through must not reach the host."""
    try:
        return "", *_engine_thread.submit(_with_quiet_stdout, work).result()
    except BaseException as error:
        return (_sentence(error),)


def _sentence(error: BaseException) -> str:
    """One line for people. What we did not raise on purpose names its kind and its place, for a report."""
    if isinstance(error, DuoVsrError):
        return str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's own, without torch
        return "there is not enough memory for this size; give a smaller tile, for example tile=256, or precision"
    if isinstance(error, ModuleNotFoundError):
        return f"the Python package {error.name} is missing; install duovsr with its dependencies into {sys.prefix}"
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})" if trace is not None else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


def _upscaler(options: Options, width: int, height: int) -> Upscaler:
    """The upscaler of these options and this size, made when no other instance has it. On the engine's thread."""
    # Read when torch loads its OpenMP: waiting threads sleep, instead of keeping decoder and encoder from the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from .engine.upscaler import Upscaler

    file = registry.resolve(options.model)
    state = file.stat()
    key = (options, width, height, file, state.st_mtime_ns, state.st_size)
    found = _upscalers.get(key)
    if found is None:
        default = _default_threads()  # in any case, before the first number is set
        _use_threads(options.threads or default)
        found = _upscalers[key] = Upscaler(options, width, height)
    return found


@functools.cache
def _default_threads() -> int:
    """Torch's own choice, read before any instance sets another."""
    import torch

    return torch.get_num_threads()


def _use_threads(threads: int) -> None:
    """Undo what another instance has set for the engine's thread; does nothing where no one ever gave `threads`."""
    import torch

    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def _fill(
    clip: Clip, first: int, sources: Sequence[int], start: int, targets: Sequence[int], cuts: Sequence[bool]
) -> None:
    import numpy as np
    import torch

    plan, told = clip.upscaler.plan, clip.upscaler.memory_note
    _use_threads(plan.threads)
    inputs = []
    for planes in _planes(sources, clip.width, clip.height):
        frame = torch.empty(PLANES, clip.height, clip.width)
        np.stack(planes, out=frame.numpy())  # a copy: the engine may keep its input, the planes are VapourSynth's
        inputs.append(frame)
    stop = start + len(targets) // NUMBERS_PER_FRAME
    outputs = clip.upscaler.chunk_frames(inputs, first, start, stop, clip.frames, list(cuts) if cuts else None)
    for planes, output in zip(_planes(targets, plan.out_width, plan.out_height), outputs, strict=True):
        for plane, values in zip(planes, output.numpy(), strict=True):
            np.copyto(plane, values)  # one thread is as fast as the memory
    if clip.upscaler.memory_note != told:
        print(f"duovsr.Upscale: {clip.upscaler.memory_note}", file=sys.stderr)


def _planes(numbers: Sequence[int], width: int, height: int) -> Iterator[list[NDArray[np.float32]]]:
    """Views, without a copy, of the three planes (h w) of each frame; `numbers` are addresses and strides."""
    import numpy as np

    for at in range(0, len(numbers), NUMBERS_PER_FRAME):
        frame = []
        for address, stride in zip(
            numbers[at : at + NUMBERS_PER_FRAME : 2], numbers[at + 1 : at + NUMBERS_PER_FRAME : 2], strict=True
        ):
            size = stride * (height - 1) + width * 4
            memory = (ctypes.c_char * size).from_address(address)
            frame.append(np.ndarray((height, width), np.float32, memory, 0, (stride, 4)))
        yield frame


@contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Send what this thread prints to stderr: under `vspipe … -` stdout carries the video. Others keep theirs."""
    outer = sys.stdout
    if outer is None:  # a host without a console
        yield
        return
    proxy = _ThreadStdout(outer, threading.get_ident())
    sys.stdout = proxy
    try:
        yield
    finally:
        if sys.stdout is proxy:
            sys.stdout = outer


class _ThreadStdout:
    """Looks like sys.stderr to one thread and like the former sys.stdout to all others."""

    def __init__(self, outer: Any, thread: int) -> None:
        self._outer = outer
        self._thread = thread

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr if threading.get_ident() == self._thread else self._outer, name)


def _with_quiet_stdout(work: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
    with _quiet_stdout():
        return work()
