"""Frames in, frames out: one model, one frame size, resolved options. Every host is a thin layer over this class."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import FormatError
from ..model.checkpoint import LoadedModel, load
from ..model.config import SCALE
from ..model.registry import resolve
from . import family
from .fallback import Fallback
from .fit import fitted_text, fitting
from .machine import machine_class, resolve_device, resolve_precision
from .options import Options
from .plan import EXACT, Plan
from .renderer import Part
from .resize import resize
from .scenes import find_cuts
from .windows import Grid, shot_of
from .workers import Job, Workers, frames_at_once


class Upscaler:
    """Upscales frames of one size. A frame's pixels depend on clip, frame number, plan and machine class only.

    width, height: size of the input frames.  model: what a host has loaded itself, on the device that it runs on; else
    the options say which file. Raises a DuoVsrError where options, model and size do not fit.
    Frames are (3 h w) float32 RGB, nominally in [0, 1]; results are (3 H W) float32, not clamped. One thread at a
    time may use an object.
    """

    def __init__(self, options: Options, width: int, height: int, model: LoadedModel | None = None):
        out_width, out_height = options.output_size(width, height)
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        self.options = options
        self._device = resolve_device(options.device)
        dtype = resolve_precision(options.precision, self._device)
        model = model or load(resolve(options.model), options.detail)
        config = model.config
        self._grid = Grid(config.window, config.overlap)
        # Frames of windowed models share their windows, and a GPU has its own way of doing things side by side.
        on_cpu = self._device.type == "cpu"
        demand = family.demand(model, options, width, height, dtype, on_cpu)
        threads = torch.get_num_threads()
        at_once = frames_at_once(threads if config.window == 1 and on_cpu else 1)
        level = fitting(demand, options, at_once)
        self._workers = Workers(threads if level.in_flight > 1 else 1)
        self.chunk = -(-config.chunk // self._grid.stride) * self._grid.stride
        self.before, self.after = self._grid.before, self._grid.after
        self._renderer = family.renderer(model, options, width, height, dtype, self._device, level)
        self._windows: OrderedDict[tuple[int, int, int], Any] = OrderedDict()
        tiles = family.kind_of_tiles(model, level)
        self._fallback = Fallback(demand, level, tiles == EXACT, self._renderer.use)
        self.plan = Plan(
            model_name=config.name, model_hash=model.hash, width=width, height=height, out_width=out_width,
            out_height=out_height, device=str(self._device), machine=machine_class(str(self._device)),
            precision=str(dtype).removeprefix("torch."), strength=options.strength, detail=model.detail,
            seed=options.seed, scene_cut=options.scene_cut, tile=level.tile,
            tile_overlap=level.overlap if level.tile else 0, exact_tiles=tiles == EXACT, kind_of_tiles=tiles,
            window=config.window, overlap=config.overlap, chunk=self.chunk, before=self.before, after=self.after,
            threads=threads, in_flight=level.in_flight, offload=level.offload,
            fitted=fitted_text(demand, options, level, at_once), memory_bytes=level.needs(demand),
        )  # fmt: skip

    @property
    def redone(self) -> int:
        """Frames that were computed again in float32 because the faster result was not finite."""
        return self._renderer.redone

    @property
    def memory_note(self) -> str | None:
        """One sentence where memory ran out in the middle of the run and frames were made from smaller pieces."""
        return self._fallback.note

    def inputs(self, start: int, stop: int, total: int) -> tuple[int, int]:
        """[first, last) input frames needed for the output frames [start, stop) of a clip of `total` frames."""
        return self._grid.inputs(start, stop, total)

    def chunk_frames(
        self,
        frames: Sequence[Tensor],
        first: int,
        start: int,
        stop: int,
        total: int,
        cuts: Sequence[bool] | None = None,
    ) -> Iterator[Tensor]:
        """Yield the output frames [start, stop) of a clip of `total` frames.

        frames: the input frames [first, first + len(frames)), which must cover `inputs(start, stop, total)`.
        cuts: cuts[i] says that frame first + i starts a new shot; None: the engine's own test, if options ask for it.
        """
        needed = self.inputs(start, stop, total)
        if first > needed[0] or first + len(frames) < needed[1]:
            raise FormatError(
                f"frames {needed[0]} to {needed[1]} are needed, {first} to {first + len(frames)} were given"
            )
        known = [self._checked(frame) for frame in frames[needed[0] - first : needed[1] - first]]
        given = None if cuts is None else list(cuts[needed[0] - first : needed[1] - first])
        shots = self._cuts(known, given)
        self._windows.clear()
        yield from self._workers.in_order(self._job(n, known, needed[0], shots) for n in range(start, stop))

    def stream(self, frames: Iterable[Tensor], cuts: Iterable[bool] | None = None) -> Iterator[Tensor]:
        """Yield one output frame per input frame, in order; holds a bounded number of input frames.

        cuts: beside each frame, whether it starts a new shot. The same pixels as `chunk_frames` of the whole clip.
        """
        return self._workers.in_order(self._jobs(frames, cuts))

    def _jobs(self, frames: Iterable[Tensor], cuts: Iterable[bool] | None) -> Iterator[Job]:
        """One job per input frame, in order; each keeps the frames that it needs."""
        source = iter(frames)
        marks = None if cuts is None else iter(cuts)
        held: list[Tensor] = []
        flags: list[bool] = []
        first = n = 0
        ended = False
        self._windows.clear()
        while True:
            needed = (n // self._grid.stride + 1) * self._grid.stride + self.after
            while not ended and first + len(held) < needed:
                frame = next(source, None)
                if frame is None:
                    ended = True
                    break
                held.append(self._checked(frame))
                flags.append(self._starts_shot(held, marks))
            if n >= first + len(held):
                return
            yield self._job(n, held.copy(), first, flags.copy())
            n += 1
            keep = max((n // self._grid.stride) * self._grid.stride - self.before, 0)
            del held[: keep - first], flags[: keep - first]
            first = max(first, keep)

    # -- one frame ----------------------------------------------------------------------------------------------

    def _job(self, n: int, frames: Sequence[Tensor], first: int, cuts: list[bool]) -> Job:
        return lambda: self._frame(n, frames, first, cuts)

    def _frame(self, n: int, frames: Sequence[Tensor], first: int, cuts: list[bool]) -> Tensor:
        shot = shot_of(n, first, cuts)
        return self._fallback.run(lambda: self._made(n, frames, first, shot))

    def _made(self, n: int, frames: Sequence[Tensor], first: int, shot: tuple[int, int]) -> Tensor:
        with torch.inference_mode():
            out = self._composed(n, frames, first, shot)
            h, w = self.plan.height * SCALE, self.plan.width * SCALE
            if out.shape[-2:] != (h, w):
                out = out[:, :h, :w]
            if (self.plan.out_height, self.plan.out_width) != (h, w):
                out = resize(out, self.plan.out_height, self.plan.out_width)
            return out.cpu()

    def _composed(self, n: int, frames: Sequence[Tensor], first: int, shot: tuple[int, int]) -> Tensor:
        """Output frame at four times the input size, odd sides filled up."""
        parts = [
            Part(self._window(window, shot, frames, first), position, weight)
            for window, position, weight in self._grid.blend(n, shot[1])
        ]
        return self._renderer.composed(parts, self.options.strength)

    def _window(self, window: int, shot: tuple[int, int], frames: Sequence[Tensor], first: int) -> Any:
        """Of the frames of a window; of several frames the last two windows are kept."""
        indices = self._grid.window_frames(window, shot)
        if self._grid.length == 1:
            return self._rendered(window, indices, frames, first)
        key = (window, indices[0], indices[-1])
        if key not in self._windows:
            while len(self._windows) > 1:
                self._windows.popitem(last=False)
            self._windows[key] = self._rendered(window, indices, frames, first)
        return self._windows[key]

    def _rendered(self, window: int, indices: list[int], frames: Sequence[Tensor], first: int) -> Any:
        inputs = torch.stack([frames[i - first] for i in indices])
        return self._renderer.window(inputs, self._grid.first_frame(window))

    # -- input --------------------------------------------------------------------------------------------------

    def _checked(self, frame: Tensor) -> Tensor:
        wanted = (3, self.plan.height, self.plan.width)
        if tuple(frame.shape) != wanted or frame.dtype != torch.float32:
            raise FormatError(
                f"a frame is {tuple(frame.shape)} {str(frame.dtype).removeprefix('torch.')}; "
                f"{wanted} float32 RGB is needed, the same for the whole clip"
            )
        return frame

    def _cuts(self, frames: list[Tensor], given: list[bool] | None) -> list[bool]:
        if not self.options.scene_cut:
            return [False] * len(frames)
        return find_cuts(frames) if given is None else given

    def _starts_shot(self, held: list[Tensor], marks: Iterator[bool] | None) -> bool:
        mark = next(marks, False) if marks is not None else None
        if not self.options.scene_cut or len(held) < 2:
            return False
        return find_cuts(held[-2:])[1] if mark is None else mark
