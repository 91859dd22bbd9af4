"""What a user can choose, checked, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import FormatError, OptionError
from .budget import parse_size

SMALLEST_SIDE = 16
LARGEST_SIDE = 16384
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of one run; the same in the filter, the nodes, the command line and Python."""

    model: str | None = None
    """Shipped name or path to a safetensors file; None: the default model."""
    scale: int = 4
    """Output size over input size, 1 to 4."""
    width: int | None = None
    """Output width; alone it keeps the aspect, and it wins over `scale`."""
    height: int | None = None
    """Output height, likewise."""
    strength: float = 1.0
    """0 is the plain resampler, 1 all that the model adds."""
    detail: float | None = None
    """0: the faithful weights, 1: the detailed ones, between: interpolated; None: the model's default."""
    seed: int = 0
    """Of the generator's noise."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: str = "auto"
    """auto, float32, bfloat16 or float16."""
    tile: int = 0
    """Side of a tile in LR pixels; 0: chosen from model and frame size."""
    tile_overlap: int = 0
    """Halo of a tile in LR pixels; 0: the model's receptive field, with which tiles change nothing."""
    vram: str | None = None
    """Memory that a run may take, such as 6GB: of the GPU, or of the process on a CPU; None: no limit is set."""
    scene_cut: bool = True
    """Keep the frames of different shots apart."""
    threads: int | None = None
    """CPU threads of torch; None: torch's own choice."""

    def __post_init__(self) -> None:
        self._in_range("scale", self.scale, 1, 4)
        for name, size in (("width", self.width), ("height", self.height)):
            if size is not None:
                self._in_range(name, size, SMALLEST_SIDE, LARGEST_SIDE)
        self._in_range("strength", self.strength, 0, 1)
        if self.detail is not None:
            self._in_range("detail", self.detail, 0, 1)
        self._in_range("seed", self.seed, 0, 2**63 - 1)
        self._in_range("tile", self.tile, 0, LARGEST_SIDE)
        self._in_range("tile_overlap", self.tile_overlap, 0, LARGEST_SIDE)
        if self.threads is not None:
            self._in_range("threads", self.threads, 1, 1024)
        if self.vram is not None:
            parse_size(self.vram)
        kind, _, index = self.device.partition(":")
        if kind not in DEVICES or (index and not (kind == "cuda" and index.isdecimal())):
            raise OptionError(f"device={self.device!r} is unknown; use auto, cpu, cuda or cuda:N")
        if self.precision not in PRECISIONS:
            raise OptionError(f"precision={self.precision!r} is unknown; use one of {', '.join(PRECISIONS)}")

    def _in_range(self, name: str, value: float, low: float, high: float) -> None:
        if not math.isfinite(value) or not low <= value <= high:
            raise OptionError(f"{name}={value} is out of range; it must be from {low:g} to {high:g}")

    @property
    def budget(self) -> int | None:
        """Bytes of `vram`."""
        return None if self.vram is None else parse_size(self.vram)

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the output for an input of that size. FormatError if the input is too small or large."""
        if min(width, height) < SMALLEST_SIDE or max(width, height) > LARGEST_SIDE:
            raise FormatError(
                f"frames of {width}x{height} cannot be upscaled; "
                f"each side must be from {SMALLEST_SIDE} to {LARGEST_SIDE} pixels"
            )
        wide, high = self.width, self.height
        if wide is None and high is None:
            wide, high = width * self.scale, height * self.scale
        elif wide is None and high is not None:
            wide = max(round(width * high / height), 1)
        elif high is None and wide is not None:
            high = max(round(height * wide / width), 1)
        assert wide is not None and high is not None
        if max(wide, high) > 2 * LARGEST_SIDE or min(wide, high) < SMALLEST_SIDE:
            raise OptionError(
                f"the output would be {wide}x{high}; "
                f"each side must be from {SMALLEST_SIDE} to {2 * LARGEST_SIDE} pixels"
            )
        return wide, high
