"""What a stage shows while it trains: a log that no resume doubles, TensorBoard, pictures, a bar or plain lines.

Everything goes into the stage's folder: `log.jsonl` with one object a line, `events.out.tfevents.*`, and
`samples/{step:06d}-{name}.png`. Only the process of rank 0 watches; the others hold a `Silent`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt

from training.board import Board, WholeFile
from training.checkpoints import TrainingError

LOG = "log.jsonl"
SAMPLES = "samples"
MACHINE = ("seconds", "wait", "samples_per_second", "tokens_per_second", "mfu", "memory_gb", "rate", "steps")
"""Figures about the machine and the schedule: on the bar there is no room for them."""
MAIN = ("dmd", "gan", "features", "velocity", "preference", "latent", "structure", "temporal", "consistency")
ON_BAR = 3
"""Losses that the bar shows: the first of these, in this order."""
Picture = npt.NDArray[np.uint8]
"""(h w 3) RGB."""


class Silent:
    """The interface of a watcher, doing nothing: for every process but the first. A context manager."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the bar and writes what is still on its way."""

    def advance(self, step: int) -> None:
        """`step` updates are done; moves the bar and writes nothing. May be left out."""

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        """Means since the last call, at `step` updates done. "seconds" is the time of an update, if it is given."""

    def evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        """Measures on the validation split: "kind/name", and "+kind/name" for the gain over the base resampler."""

    def samples(self, step: int, pictures: Mapping[str, Picture]) -> None:
        """Pictures of the fixed clips, by name."""

    def event(self, step: int, text: str) -> None:
        """Something that happened: resumed, stopped, a round of halving begun."""

    def verdict(self, step: int, text: str) -> None:
        """What a stage says of itself at its end."""

    def machine(self, text: str) -> None:
        """What the updates from here on run on, as `machine_class` says it; only the log holds it."""


class Watcher(Silent):
    """Writes all of it.

    folder: of the stage; made if it is missing. first: updates that were done before; what the log says beyond them
    is dropped, and so is a line that a stop cut short. say: where lines for people go.
    """

    def __init__(self, folder: Path, stage: str, first: int, steps: int, say: Callable[[str], None]):
        self.folder, self.stage, self.first, self.steps, self.say = folder, stage, first, steps, say
        folder.mkdir(parents=True, exist_ok=True)
        _drop_beyond(folder / LOG, first, finished=first >= steps)
        self._board = Board(folder, first)
        self._begin = time.monotonic()
        self._step = first
        self._bar: Any = None

    def __enter__(self) -> Self:
        self._begin = time.monotonic()
        if sys.stdout.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task(self.stage, total=self.steps, completed=self.first, shown="", pace="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            with suppress(OSError):  # a full disk must not hide what went wrong
                self._write(self._step, {"event": f"ended early: {reason}"})
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._board.close()

    def advance(self, step: int) -> None:
        self._step = step
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        self._step = step
        self._write(step, figures)
        for name, value in figures.items():
            self._scalar(name, value, step)
        seconds = figures.get("seconds", (time.monotonic() - self._begin) / max(1, step - self.first))
        left = f"{seconds * (self.steps - step) / 60:.1f} min left"
        if self._bar is None:
            self.say(f"{self.stage} {step}/{self.steps}  {_in_figures(figures)}  {left}")
        else:
            losses = [name for name in (*MAIN, *figures) if name in figures and name not in MACHINE]
            shown = _in_figures({name: figures[name] for name in list(dict.fromkeys(losses))[:ON_BAR]})
            used = f"  MFU {figures['mfu']:.0%}" if "mfu" in figures else ""
            pace = f"{1 / max(seconds, 1e-9):.3g} it/s{used}  {left}"
            self._bar.update(self._task, completed=step, shown=shown, pace=pace)

    def evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        self._write(step, {"evaluation": dict(scores)})
        for name, value in scores.items():
            group = "gain" if name.startswith("+") else "evaluation"
            self._scalar(f"{group}/{name.removeprefix('+')}", value, step)
        self.say(f"{self.stage} {step}: {in_words(scores)}")

    def samples(self, step: int, pictures: Mapping[str, Picture]) -> None:
        folder = self.folder / SAMPLES
        with _told(folder):
            folder.mkdir(exist_ok=True)
            for name, picture in pictures.items():
                _, data = cv2.imencode(".png", picture[..., ::-1])
                (folder / f"{step:06d}-{name}.png").write_bytes(data.tobytes())
                self._board.image(f"samples/{name}", picture, step)

    def event(self, step: int, text: str) -> None:
        self._write(step, {"event": text})
        with _told(self.folder):
            self._board.text("event", text, step)
        self.say(f"{self.stage} {step}: {text}")

    def verdict(self, step: int, text: str) -> None:
        self._write(step, {"verdict": text})
        self.say(f"{self.stage} {step}: {text}")

    def machine(self, text: str) -> None:
        self._write(self.first, {"machine": text})

    def _scalar(self, name: str, value: float, step: int) -> None:
        with _told(self.folder):
            self._board.scalar(name, value, step)

    def _write(self, step: int, content: Mapping[str, Any]) -> None:
        line = json.dumps({"step": step, **_finite(content)}, allow_nan=False) + "\n"
        with _told(self.folder / LOG), WholeFile(self.folder / LOG, "a") as file:
            file.write(line.encode())


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """TrainingError names what cannot be written: there is no space, and the like."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"{path} cannot be written ({error.strerror or error}); make room and give the same command again"
        ) from error


def in_words(scores: Mapping[str, float]) -> str:
    """One sentence on an evaluation: what was gained over the base resampler per kind of LR."""
    words = {"psnr_y": "PSNR-Y", "ssimulacra2": "SSIMULACRA2", "niqe": "NIQE"}
    parts = []
    for kind in dict.fromkeys(name.split("/")[0] for name in scores if not name.startswith("+")):
        gains = [f"{word} {scores[key]:+.2f}" for name, word in words.items() if (key := f"+{kind}/{name}") in scores]
        if (key := f"{kind}/e_warp_ratio") in scores:
            gains.append(f"E_warp ratio {scores[key]:.2f}")
        parts.append(f"{kind}: {', '.join(gains)}")
    return "against the base resampler, " + "; ".join(parts)


def _in_figures(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())


def _finite(content: Mapping[str, Any]) -> dict[str, Any]:
    """What is not a finite number becomes null: JSON knows no NaN."""
    out: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            out[name] = _finite(value)
        elif isinstance(value, str):
            out[name] = value
        else:
            out[name] = float(value) if math.isfinite(value) else None
    return out


def _drop_beyond(path: Path, first: int, finished: bool) -> None:
    """Keep the whole lines up to step `first`, but the evaluation and verdict of a finished stage, which come again.

    A stage that begins anew begins a new log.
    """
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if first > 0 and _stays(line, first, finished)]
    if kept != lines:
        part = path.with_name(path.name + ".part")
        part.write_bytes(b"".join(kept))
        part.replace(path)


def _stays(line: bytes, first: int, finished: bool) -> bool:
    try:
        content = json.loads(line)
        step = int(content["step"])
    except (ValueError, TypeError, KeyError):
        return False
    again = finished and step == first and ("evaluation" in content or "verdict" in content)
    return line.endswith(b"\n") and step <= first and not again


def _bar() -> Any:
    from rich import progress as rich

    return rich.Progress(
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[pace]}  {task.fields[shown]}"),
    )
