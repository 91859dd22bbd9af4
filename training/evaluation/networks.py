"""Measures that are networks (MUSIQ, CLIP-IQA, LPIPS, …), through `pyiqa` where it is installed with its weights.

Optional, and never a download: pyiqa fetches missing weights on its own, past the hub's offline switch, so whatever it
tries to connect to while it loads is refused. What is not here is left out, with one sentence on how to get it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange

from training.data.arrays import U8


@dataclass(frozen=True, slots=True)
class Network:
    """One measure of pyiqa, frame by frame."""

    name: str
    metric: Any
    """pyiqa's module: (1 3 h w) in [0, 1], and the truth's where it compares, -> a score."""
    needs_truth: bool
    lower_is_better: bool

    def score(self, clip: U8, truth: U8 | None) -> float:
        """Mean over frames; NaN where it compares and there is no truth.  clip, truth: (t, h, w, 3)."""
        if self.needs_truth and truth is None:
            return float("nan")
        pairs = zip(clip, truth, strict=True) if self.needs_truth and truth is not None else zip(clip, strict=True)
        with torch.inference_mode(), _WALL.around():
            scores = [float(self.metric(*map(_tensor, frames))) for frames in pairs]
        return sum(scores) / len(scores)


def _tensor(frame: U8) -> torch.Tensor:
    return rearrange(torch.from_numpy(frame.copy()), "h w c -> 1 c h w").float() / 255


class _Wall:
    """While `closed`, no connection leaves this process. An audit hook stays for good, so it is put up once."""

    def __init__(self) -> None:
        self.closed = False
        self._built = False

    def _refuse(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.closed and event in ("socket.connect", "socket.getaddrinfo"):
            raise OSError("nothing is downloaded here")

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        if not self._built:
            sys.addaudithook(self._refuse)
            self._built = True
        self.closed = True
        try:
            yield
        finally:
            self.closed = False


_WALL = _Wall()


def open_networks(names: Sequence[str], device: str) -> tuple[list[Network], list[str]]:
    """The networks that are here, and a sentence for each that is not. Sets HF_HUB_OFFLINE for this process."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # before the import, which reads it
    notes = ["pyiqa: nothing is downloaded (HF_HUB_OFFLINE=1 is set, connections are refused while it loads)"]
    try:
        pyiqa: Any = importlib.import_module("pyiqa")
    except ImportError as error:
        why = "is not installed" if error.name == "pyiqa" else f"cannot be loaded ({error})"
        return [], [f"pyiqa {why}; left out: {', '.join(names)}; install it with pip install pyiqa"]
    found: list[Network] = []
    for name in names:
        try:
            with _WALL.around(), contextlib.redirect_stdout(sys.stderr):
                metric = pyiqa.create_metric(name, device=torch.device(device))
        except Exception as error:  # pyiqa has no errors of its own: assertions, URLError, whatever a backbone raises
            notes.append(
                f"pyiqa: {name} is left out ({_in_short(error)}); where it is a weight file that is missing, fetch it "
                f"once with: python -c \"import pyiqa; pyiqa.create_metric('{name}')\""
            )
        else:
            found.append(Network(name, metric, metric.metric_mode == "FR", bool(metric.lower_better)))
    return found, notes


def _in_short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
