"""DUO-VSR Compare: before and after at 1:1, and a table of measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..duovsr_vs.engine.resize import resize
from ..duovsr_vs.errors import FormatError
from .decode import source_of
from .image import check, frame_of
from .model import CATEGORY
from .progress import Bar, tell

LINE = 2
"""Width of the line between the halves, in pixels."""
SAMPLES = 4
"""Frames that are measured, from the shown one on."""
PACKAGES = {"cv2": "opencv-python-headless"}
"""Names by which pip knows what the measures import."""
type Frames = list[tuple[Tensor, Tensor]]


def frames_of(what: Any) -> Iterator[Tensor]:
    """(3 h w) float32 frames of an IMAGE or a VIDEO."""
    if isinstance(what, Tensor):
        check(what)
        yield from (frame_of(image) for image in what)
        return
    source = source_of(what)
    try:
        yield from source.frames()
    finally:
        source.close()


def pairs_of(before: Any, after: Any, wanted: range) -> Frames:
    """Those frames of both, the smaller enlarged to the larger; FormatError if the first is missing."""
    bar = Bar(wanted.stop)
    pairs = []
    for n, (a, b) in enumerate(zip(frames_of(before), frames_of(after), strict=False)):
        bar.advance()
        if n in wanted:
            height, width = max(a.shape[1], b.shape[1]), max(a.shape[2], b.shape[2])
            pairs.append((resize(a, height, width).clamp(0, 1), resize(b, height, width).clamp(0, 1)))
        if n + 1 == wanted.stop:
            break
    if not pairs:
        raise FormatError(f"frame {wanted.start} is not in both inputs; choose a smaller one")
    return pairs


def split_view(before: Tensor, after: Tensor, position: float) -> Tensor:
    """(3 h w): `before` left of the position, `after` right of it, a white line between."""
    at = round(position * before.shape[2])
    picture = torch.cat([before[..., :at], after[..., at:]], -1)
    picture[..., max(at - LINE // 2, 0) : at + LINE // 2] = 1
    return picture


def table(pairs: Frames) -> str:
    """A row per measure; those whose library is not there say so."""
    before, after = (np.stack([p[side].movedim(0, -1).mul(255).numpy() for p in pairs]) for side in (0, 1))
    rows = [f"{'':14}{'before':>10}{'after':>10}"]
    for name, measure in _MEASURES.items():
        try:
            one, other = measure(before, after)
        except ImportError as error:
            rows.append(f"{name:14}needs the Python package {PACKAGES.get(error.name or '', error.name)}")
        except FormatError as error:
            rows.append(f"{name:14}{error}")
        else:
            rows.append(f"{name:14}{_number(one)}{_number(other)}")
    rows.append(f"over {len(pairs)} frame{'s' if len(pairs) > 1 else ''} of {after.shape[2]}x{after.shape[1]}")
    return "\n".join(rows)


def _number(value: float | None) -> str:
    return f"{'':>10}" if value is None else f"{value:10.3f}"


def _naturalness(before: Any, after: Any) -> tuple[float, float]:
    from ..duovsr_vs.metrics.noreference import niqe

    return niqe(before), niqe(after)


def _detail(before: Any, after: Any) -> tuple[float, float]:
    from ..duovsr_vs.metrics.fidelity import detail_energy

    return detail_energy(before), detail_energy(after)


def _drift(before: Any, after: Any) -> tuple[None, float]:
    from ..duovsr_vs.metrics.difference import colour_drift

    return None, float(np.mean([colour_drift(a, b) for a, b in zip(before, after, strict=True)]))


def _fidelity(before: Any, after: Any) -> tuple[None, float]:
    from ..duovsr_vs.metrics.fidelity import psnr_y

    return None, psnr_y(before, after)


_MEASURES: dict[str, Callable[[Any, Any], tuple[float | None, float | None]]] = {
    "NIQE": _naturalness,
    "fine detail": _detail,
    "PSNR-Y": _fidelity,
    "colour dE2000": _drift,
}
"""NIQE: smaller is more natural. Fine detail: energy that a four times smaller frame cannot hold. The others are
distances between the two, infinite or 0 where they agree."""


class Compare(io.ComfyNode):
    """Two IMAGEs or VIDEOs to a picture and a table."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        either = [io.Image, io.Video]
        return io.Schema(
            node_id="DuoVSR_Compare",
            display_name="DUO-VSR Compare",
            category=CATEGORY,
            description="Before and after in one picture at 1:1, the smaller one enlarged by bicubic resampling, and a "
            "table of measures over four frames.",
            search_aliases=["duovsr", "compare", "before after", "metrics", "niqe", "psnr", "A/B"],
            is_output_node=True,
            inputs=[
                io.MultiType.Input("before", types=either, tooltip="What went in, an IMAGE or a VIDEO."),
                io.MultiType.Input("after", types=either, tooltip="What came out, an IMAGE or a VIDEO."),
                io.Int.Input(
                    "frame", default=0, min=0, max=10_000_000, tooltip="Number of the frame to show. Default: 0."
                ),
                io.Float.Input(
                    "position",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Where the line stands: before on its left, after on its right. Default: 0.5, the middle.",
                ),
            ],
            outputs=[io.Image.Output(display_name="picture"), io.String.Output(display_name="measures")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, before: Any, after: Any, frame: int, position: float) -> io.NodeOutput:
        pairs = pairs_of(before, after, range(frame, frame + SAMPLES))
        picture = split_view(*pairs[0], position).movedim(0, -1)[None]
        measures = table(pairs)
        tell(cls, measures)  # the front end shows the text of `ui` in text nodes alone
        seen = {**ui.PreviewImage(picture, cls=cls).as_dict(), **ui.PreviewText(measures).as_dict()}
        return io.NodeOutput(picture, measures, ui=seen)
