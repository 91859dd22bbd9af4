"""Everything that is resolved once before the first frame, for people and for the record; nothing here is timed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

EXACT, SEAMS, BLENDED = "exact", "smaller than the receptive field: seams possible", "cross-faded"
"""What tiles do to the pixels, in words."""
NOT_PIXELS = (
    "device", "machine", "threads", "in_flight", "offload", "kind_of_tiles", "fitted", "memory_bytes",
)  # fmt: skip
"""What a plan says beside what makes the pixels; the machine is told on its own."""
TILES = ("tile", "tile_overlap", "exact_tiles")
"""Exact tiles change no bit on a CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A resolved run. Equal plans on one machine class give equal pixels."""

    model_name: str
    model_hash: str
    width: int
    height: int
    out_width: int
    out_height: int
    device: str
    machine: str
    precision: str
    strength: float
    detail: float
    seed: int
    scene_cut: bool
    tile: int
    tile_overlap: int
    exact_tiles: bool
    kind_of_tiles: str
    """EXACT, SEAMS or BLENDED."""
    window: int
    overlap: int
    chunk: int
    before: int
    after: int
    threads: int
    in_flight: int
    """Frames that are made side by side."""
    offload: bool
    """The network's weights wait in main memory and are copied block by block."""
    fitted: str
    """What a limit of memory has changed, for people; "" where nothing."""
    memory_bytes: int
    """What it is expected to take at its peak, libraries apart."""

    def as_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return asdict(self)

    def pixels(self) -> dict[str, Any]:
        """The fields that pixels depend on, on one machine class."""
        left_out = NOT_PIXELS + (TILES if self.exact_tiles and self.device == "cpu" else ())
        return {name: value for name, value in self.as_dict().items() if name not in left_out}

    def lines(self) -> list[str]:
        """A few lines for people."""
        if self.tile == 0:
            tiles = "whole frames"
        else:
            tiles = f"tiles of {self.tile} with a halo of {self.tile_overlap} ({self.kind_of_tiles})"
        time = (
            "frame by frame, with both neighbours"
            if self.window == 1
            else f"windows of {self.window}, overlap {self.overlap}"
        )
        cuts = "kept apart at scene cuts" if self.scene_cut else "scene cuts ignored"
        return [
            f"model    {self.model_name} ({self.model_hash}), "
            f"strength {self.strength:g}, detail {self.detail:g}, seed {self.seed}",
            f"size     {self.width}x{self.height} to {self.out_width}x{self.out_height}",
            f"device   {self.machine}, {self.precision}, {self.threads} threads",
            f"windows  {time}, {cuts}; {tiles}",
            f"memory   about {self.memory()}",
        ]

    def memory(self) -> str:
        """`215 MB for frames and network; tiles of 256 chosen for vram=2GB`."""
        text = f"{self.memory_bytes / 1e6:.0f} MB for frames and network"
        return f"{text}; {self.fitted}" if self.fitted else text
