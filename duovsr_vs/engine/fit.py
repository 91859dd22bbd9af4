"""Tile and frames in flight for a budget of memory, and for a machine that turned out to have too little of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from ..errors import OptionError
from .budget import as_size
from .options import Options
from .tiles import SMALLEST_TILE

HELPS = 0.8
"""A smaller tile is worth its halo where it leaves no more than this share of the memory."""


class Demand(Protocol):
    """What a run of some family asks of memory, and how it can be cut up."""

    @property
    def width(self) -> int:
        """Of the input, as `height`."""

    @property
    def height(self) -> int: ...

    @property
    def on_cpu(self) -> bool: ...

    @property
    def tile_step(self) -> int:
        """Tiles have sides that are multiples of this many LR pixels."""

    @property
    def can_offload(self) -> bool:
        """Whether weights may wait in main memory until they are needed."""

    @property
    def own_weights(self) -> bool:
        """Whether the engine puts a copy of the weights on the device, and the model itself stays where it is."""

    def bytes(self, tile: int, overlap: int, in_flight: int, offload: bool = False) -> int:
        """Peak bytes on the device that computes."""

    def resolve_tile(self, tile: int, overlap: int) -> tuple[int, int]:
        """(tile, overlap) in LR pixels of what the options say, 0 where they leave it open; tile 0: whole frames."""


@dataclass(frozen=True, slots=True)
class Level:
    """How a run is cut up: tile and halo in LR pixels, tile 0 for whole frames, and frames in flight."""

    tile: int
    overlap: int
    in_flight: int
    offload: bool = False
    """The network's weights wait in main memory; this changes no bit."""

    def needs(self, demand: Demand) -> int:
        """Peak bytes."""
        return demand.bytes(self.tile, self.overlap, self.in_flight, self.offload)


def fitting(demand: Demand, options: Options, in_flight: int) -> Level:
    """The level that options and size ask for; where that takes more than the budget, the largest tile that fits.

    Frames in flight are lowered to one where no tile fits otherwise. OptionError names what would fit where nothing
    does, or where the tile was given.
    """
    asked, budget = _asked(demand, options, in_flight), options.budget
    if budget is None or asked.needs(demand) <= budget:
        return asked
    for count in dict.fromkeys((in_flight, 1)):
        alone = replace(asked, in_flight=count)
        for level in _loaded_or_not(demand, alone) if options.tile else _levels(demand, asked.overlap, count):
            if level.needs(demand) <= budget:
                return level
    raise OptionError(_refusal(demand, options, replace(asked, in_flight=1)))


def fitted_text(demand: Demand, options: Options, level: Level, in_flight: int) -> str:
    """What the budget has changed, for people: `tiles of 256 for vram=2GB`; "" where nothing."""
    asked = _asked(demand, options, in_flight)
    changed = [f"tiles of {level.tile}"] if level.tile != asked.tile else []
    changed += ["weights in main memory"] if level.offload else []
    changed += ["one frame at a time"] if level.in_flight != in_flight else []
    return f"{', '.join(changed)} for vram={options.vram}" if changed else ""


def _asked(demand: Demand, options: Options, in_flight: int) -> Level:
    """The level without a budget."""
    return Level(*demand.resolve_tile(options.tile, options.tile_overlap), in_flight)


def _levels(demand: Demand, overlap: int, in_flight: int) -> Iterator[Level]:
    """Whole frames where they are usual, then tiles, the largest first."""
    chosen, longest, step = demand.resolve_tile(0, 0)[0], max(demand.width, demand.height), demand.tile_step
    yield from _loaded_or_not(demand, Level(chosen, overlap, in_flight))
    smallest = -(-SMALLEST_TILE // step) * step
    for tile in range((min(chosen or longest, longest) - 1) // step * step, smallest - 1, -step):
        yield from _loaded_or_not(demand, Level(tile, overlap, in_flight))


def _loaded_or_not(demand: Demand, level: Level) -> Iterator[Level]:
    """The level, and the same with weights in main memory, which costs time but no pixel."""
    yield level
    if demand.can_offload:
        yield replace(level, offload=True)


def _refusal(demand: Demand, options: Options, asked: Level) -> str:
    """One sentence: what is needed, what was allowed, what would fit."""
    size, given = f"{demand.width}x{demand.height}", f"vram={options.vram}"
    budget = options.budget or 0
    least = min(level.needs(demand) for level in _levels(demand, asked.overlap, 1))
    if not options.tile:
        return f"frames of {size} take {as_size(least)} at least, {given} allows less; give vram={as_size(least)}"
    needed = min(level.needs(demand) for level in _loaded_or_not(demand, asked))
    fits = next((level.tile for level in _levels(demand, asked.overlap, 1) if level.needs(demand) <= budget), None)
    instead = f"no tile fits, vram={as_size(least)} is the least" if fits is None else f"tile={fits or 0} fits"
    return (
        f"frames of {size} with tile={options.tile} take {as_size(needed)}, {given} allows less; {instead}, or give "
        f"vram={as_size(needed)}"
    )


def next_level(demand: Demand, level: Level, exact: bool) -> Level | None:
    """What to try after memory ran out at `level`: with exact tiles first a smaller one, if by the plan it helps, then
    fewer frames in flight, then smaller tiles anyway; else only fewer frames in flight, or the weights in main memory.
    None: nothing is left.
    """
    smaller = list(_halves(demand, level)) if exact else []
    now = level.needs(demand)
    helpful = next((each for each in smaller if each.needs(demand) <= HELPS * now), None)
    if helpful is None and level.in_flight > 1:
        return replace(level, in_flight=1)
    if demand.can_offload and not level.offload:
        return replace(level, offload=True)
    return helpful or next(iter(smaller), None)


def tile_to_name(demand: Demand, level: Level) -> int | None:
    """The tile to recommend when memory has run out at `level`: the largest that takes clearly less."""
    now = level.needs(demand)
    return next((each.tile for each in _halves(demand, level) if each.needs(demand) <= HELPS * now), None)


def _halves(demand: Demand, level: Level) -> Iterator[Level]:
    """Tiles of half the side, a quarter and so on."""
    step = demand.tile_step
    smallest = -(-SMALLEST_TILE // step) * step
    side = level.tile or max(demand.width, demand.height)
    while side > smallest:
        side = max(side // 2 // step * step, smallest)
        yield replace(level, tile=side)
