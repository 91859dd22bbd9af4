"""Everything that is resolved once before the first frame, for people and for the record; nothing here is timed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..model.config import COEFFICIENTS, SCALE, ModelConfig


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
    window: int
    overlap: int
    chunk: int
    before: int
    after: int
    threads: int
    memory_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """A few lines for people."""
        if self.tile == 0:
            tiles = "whole frames"
        else:
            kind = "exact" if self.exact_tiles else "smaller than the receptive field: seams possible"
            tiles = f"tiles of {self.tile} with a halo of {self.tile_overlap} ({kind})"
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
            f"memory   about {self.memory_bytes / 1e6:.0f} MB for frames and network",
        ]


def estimate_memory(
    config: ModelConfig, width: int, height: int, tile: int, overlap: int, item: int, resized: int
) -> int:
    """Bytes that frames, features and activations take at the peak, without Python and torch themselves.

    item: bytes of one number of the network's type; resized: values of an output that is not four times the input.
    """
    cells = width * height // 4
    seen = cells if tile == 0 else min(cells, (tile + 2 * overlap) ** 2 // 4)
    inputs = (config.window + 2 + config.chunk) * width * height * 3 * 4
    features = config.window * cells * (37 + 12 + 12 + 1) * 4 * 2
    widest = config.channels if config.codec == "fixed" else max(config.channels, config.codec_channels)
    network = config.window * seen * item * (4 * widest + 2 * COEFFICIENTS)
    decoded = (2 * config.window - 1) * cells * COEFFICIENTS * item
    frame = width * height * SCALE * SCALE * 3 * 4
    return inputs + features + network + decoded + 3 * frame + resized * 4 * 2
