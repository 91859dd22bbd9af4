"""SSIMULACRA2 through VapourSynth's vszip plugin."""

from collections import deque
from typing import Any

import numpy as np

from ..errors import DuoVsrError
from .colour import Clip, check_pair

_PREFETCH = 2
"""Frames in work at once: as many as the smallest machine has cores, so that memory stays small."""


class MissingPluginError(DuoVsrError, ImportError):
    """A metric's optional package is not installed."""


def _core() -> tuple[Any, Any]:
    try:
        import vapoursynth as vs
    except ImportError:
        found = None
    else:
        found = getattr(vs.core, "vszip", None)
    if found is None or not hasattr(found, "SSIMULACRA2"):
        raise MissingPluginError(
            "SSIMULACRA2: VapourSynth's vszip plugin is not here; install it with pip install vapoursynth-vszip"
        )
    return vs, vs.core


def _node(clip: Clip, vs: Any, core: Any) -> Any:
    """An RGBS clip of the samples / 255: both clips pass the same way, so no matrix is ever applied."""
    t, h, w, _ = clip.shape
    blank = core.std.BlankClip(format=vs.RGBS, width=w, height=h, length=t, keep=True)

    def fill(n: int, f: Any) -> Any:
        frame = f.copy()
        for plane in range(3):
            np.multiply(clip[n, ..., plane], np.float32(1 / 255), out=np.asarray(frame[plane]))
        return frame

    return core.std.ModifyFrame(blank, clips=blank, selector=fill)


def ssimulacra2_frames(reference: Clip, clip: Clip) -> list[float]:
    """SSIMULACRA2 of each frame: 100 is equal, 90 not to be told apart, 50 medium, below 0 very poor.

    Sneyers, Cloudinary 2023, as vszip computes it on sRGB samples.  Both: uint8 (t, h, w, 3).
    Raises MissingPluginError without the plugin.
    """
    check_pair(reference, clip)
    vs, core = _core()
    scored = core.vszip.SSIMULACRA2(_node(reference, vs, core), _node(clip, vs, core))
    scores, waiting = [], deque[Any]()
    # Not `scored.frames()`: that collects garbage at its end, which takes ten times as long as scoring a small clip.
    for n in range(scored.num_frames + _PREFETCH):
        if n < scored.num_frames:
            waiting.append(scored.get_frame_async(n))
        if n >= _PREFETCH:
            with waiting.popleft().result() as frame:
                scores.append(float(frame.props["SSIMULACRA2"]))
    return scores


def ssimulacra2(reference: Clip, clip: Clip) -> float:
    """Mean of `ssimulacra2_frames`."""
    return float(np.mean(ssimulacra2_frames(reference, clip)))
