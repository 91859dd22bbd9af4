"""What a run will cost, before it begins: FLOPs, samples, memory and time of each stage of a recipe."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from training.costs import DENOISERS, Cost, Rehearsal, Shape
from training.depth import Deep, rehearsal
from training.distributed import World
from training.families import RESIDUAL, config_of, family_of
from training.machine import free_memory, measured_peak
from training.passes import Pass, batches, passes, updates
from training.recipes import Recipe

EFFICIENCY = 0.35
"""Share of a CPU's peak that updates reach with all that belongs to them: median over the stages of `nano-cpu` on two
cores with AVX512-BF16 (benchmarks/training_speed.py: 0.30 to 0.45). Of GPUs: `Family.efficiency`."""
FULL_PRECISION = 2
"""Time of a float32 product in terms of a bfloat16 one: vectors are half as long, and GPUs use TF32."""
AHEAD = 5
"""Batches in memory: one in use, three made ahead, one in the making."""
TRAINED_BYTES = {"weights": 4, "optimizer": 8, "average": 4}
"""Per trained weight: float32 master, AdamW's two moments, the weight average."""
BEFORE = "preference"
"""Stage that keeps the weight average as it was before, beside the one that goes on."""
GIGA = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes on each process, without the libraries themselves."""

    weights: int
    gradients: int
    optimizer: int
    average: int
    frozen: int
    """Weights of networks that are not trained."""
    gathered: int
    """Weights that a process holds whole while it computes with them: two blocks, and what belongs to none."""
    activations: int
    """What the largest graph of an update keeps for its backward pass, and what its largest pass works with."""
    batches: int
    """In use and ready."""
    making: int
    """While the next batch is made beside the update: pictures, and what the autoencoder works with."""

    @property
    def standing(self) -> int:
        """What is there between updates, without batches."""
        return self.weights + self.optimizer + self.average + self.frozen

    @property
    def total(self) -> int:
        """All of it at once."""
        parts: dict[str, int] = asdict(self)
        return sum(parts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """One stage. An update is one of the student, with the auxiliary ones that belong to it; all processes together."""

    stage: str
    updates: int
    parameters: dict[str, int]
    """Of each network; names of those that are trained end in `*`."""
    flops: int
    """Per update."""
    flops_float32: int
    """Those of them that are not in bfloat16."""
    flops_fixed: int
    """Those of codec and consistency step."""
    samples: int
    """Per update."""
    micro_batch: int
    """Samples that a process computes at once."""
    parts: int
    """Of which its share of a batch consists."""
    tokens: int
    """Latent positions x latent frames per update."""
    memory: Memory
    seconds: float | None
    """Of all updates, without evaluation and the making of pairs; None if the peak is unknown."""
    passes: tuple[Pass, ...]

    @property
    def total_flops(self) -> int:
        """Of the whole stage."""
        return self.flops * self.updates


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole run."""

    recipe: str
    model: str
    device: str
    processes: int
    peak: float | None
    """FLOP/s of all devices together."""
    free: int | None
    """Bytes of memory that a process can have here; None where nobody knows."""
    efficiency: float
    """Share of the peak that updates are taken to reach."""
    recompute: bool
    adapters: int
    stages: tuple[StagePlan, ...]

    @property
    def seconds(self) -> float | None:
        """Of all stages; None if the peak is unknown."""
        known = [stage.seconds for stage in self.stages if stage.seconds is not None]
        return sum(known) if len(known) == len(self.stages) else None

    def trouble(self) -> list[str]:
        """A sentence for each stage that does not fit into memory."""
        if self.free is None:
            return []
        return [_too_much(s, self.free, self.recompute) for s in self.stages if s.memory.total > self.free]


def _too_much(s: StagePlan, free: int, recompute: bool) -> str:
    option, less = s.stage.replace("_", "-"), "" if recompute else ", --recompute"
    return (
        f"{s.stage} needs {s.memory.total / GIGA:.1f} GB on each process, {free / GIGA:.1f} GB are free: give a "
        f"smaller --{option}.micro-batch, --{option}.batch or --{option}.patch{less}, or more processes"
    )


def plan(recipe: Recipe, world_size: int = 1, peak: float | None = None, free: int | None = None) -> Plan:
    """peak: FLOP/s of one device; measured here if None.  free: bytes that a process can have; asked here if None.

    OptionError: a batch that the processes cannot divide.
    """
    peak = peak or measured_peak(recipe.device, recipe.bf16)
    together = None if peak is None else peak * world_size
    return Plan(
        recipe=recipe.name,
        model=recipe.model,
        device=recipe.device,
        processes=world_size,
        peak=together,
        free=free or free_memory(recipe.device),
        efficiency=efficiency(recipe),
        recompute=recipe.recompute,
        adapters=recipe.adapters,
        stages=tuple(stage_plan(recipe, stage, world_size, together) for stage in recipe.stages),
    )


def stage_plan(recipe: Recipe, stage: str, world_size: int = 1, peak: float | None = None) -> StagePlan:
    """peak: FLOP/s of all devices together."""
    settings, table = recipe.stage(stage), passes(stage, recipe)
    config, world = config_of(recipe.model), World(0, world_size)
    parts = world.parts(settings.batch, settings.micro_batch)
    shape = Shape(len(world.share(settings.batch)) // parts, settings.frames, settings.patch)
    work = rehearsal(config, shape, recipe.bf16, recipe.recompute, recipe.dual_stream.taps, recipe.adapters)
    costs = [(one, work.cost(one.part, one.mode, one.full)) for one in table]
    every = world_size * parts
    flops = every * sum(one.count * cost.flops for one, cost in costs)
    slow = every * sum(one.count * cost.flops for one, cost in costs if one.full or not recipe.bf16)
    count, taken = updates(stage, recipe), batches(stage, recipe)
    weighted = flops + (FULL_PRECISION - 1) * slow if recipe.bf16 else flops
    reached = None if peak is None else peak * efficiency(recipe)
    return StagePlan(
        stage=stage,
        updates=count,
        parameters=_weights(work, table, recipe),
        flops=flops,
        flops_float32=slow,
        flops_fixed=every * sum(one.count * cost.fixed for one, cost in costs),
        samples=taken * settings.batch,
        micro_batch=shape.batch,
        parts=parts,
        tokens=taken * every * shape.tokens_of(config),
        memory=_memory(stage, work, costs, recipe, world_size, parts),
        seconds=None if reached is None else count * weighted / reached,
        passes=table,
    )


def efficiency(recipe: Recipe) -> float:
    """Share of the peak that updates of a recipe are taken to reach."""
    is_cpu = torch.device(recipe.device).type == "cpu"
    return EFFICIENCY if is_cpu else family_of(config_of(recipe.model)).efficiency


def _networks(table: tuple[Pass, ...]) -> list[str]:
    """Those with weights, in the order in which they appear."""
    return list(dict.fromkeys(one.part for one in table if one.part in (*DENOISERS, "heads", "codec", "pair")))


def _is_trained(part: str, table: tuple[Pass, ...]) -> bool:
    return any(one.part == part and one.mode == "train" for one in table)


def _weights(work: Rehearsal | Deep, table: tuple[Pass, ...], recipe: Recipe) -> dict[str, int]:
    """Of each network, those that are trained starred; with adapters what each has for itself, and what all share."""
    found = {part + "*" * _is_trained(part, table): work.own(part) for part in _networks(table)}
    return found | ({"shared": work.parameters("student") - work.own("student")} if recipe.adapters else {})


def _memory(
    stage: str, work: Rehearsal | Deep, costs: list[tuple[Pass, Cost]], recipe: Recipe, world_size: int, parts: int
) -> Memory:
    """Weights and all that belongs to them are sharded, but for those that networks share and for autoencoders;
    activations and batches are each process's own."""
    table = tuple(one for one, _ in costs)
    learns = {part: work.own(part) for part in _networks(table) if _is_trained(part, table)}
    trained = sum(learns.values())
    still = sum(work.own(part) for part in _networks(table) if not _is_trained(part, table))
    codec, denoisers = 4 * work.parameters("codec"), [part for part in _networks(table) if part in DENOISERS]
    if family_of(config_of(recipe.model)) is RESIDUAL:
        still, whole = still + codec // 4 * len(denoisers), 0
    else:  # one of half the size makes the latents of batches
        whole = codec * (1 if recipe.adapters else len(denoisers)) + codec // 2 * recipe.bf16
        whole += 4 * (work.parameters("student") - work.own("student"))
    layers = config_of(recipe.model).blocks
    sizes = {name: size * trained // world_size for name, size in TRAINED_BYTES.items()}
    sizes["average"] *= 2 if stage == BEFORE else 1
    return Memory(
        **sizes,
        gradients=_gradients(table, learns, parts) if world_size == 1 else 4 * trained // world_size,
        frozen=4 * still // world_size + whole,
        gathered=4 * 2 * max(work.own(part) for part in _networks(table)) // layers if world_size > 1 else 0,
        activations=_activations(costs),
        batches=(AHEAD + parts - 1) * work.batch_bytes,
        making=max((cost.working for one, cost in costs if one.part == "encode"), default=0),
    )


def _gradients(table: tuple[Pass, ...], learns: dict[str, int], parts: int) -> int:
    """Of one process: one network learns at a time. (Sharded ones collect gradients that should only go through them.)

    Those of a network that is in a graph more than once are added up before they join those of earlier parts.
    """
    times = {part: sum(one.times for one in table if (one.part, one.mode) == (part, "train")) for part in learns}
    return max(4 * count * (2 if times[part] > 1 and parts > 1 else 1) for part, count in learns.items())


def _activations(costs: list[tuple[Pass, Cost]]) -> int:
    """Of the graph that takes most. What a pass without gradient works with comes upon what those before it keep, the
    way back of the others upon what all keep."""
    kept: dict[str, int] = {}
    there: list[int] = []
    back: list[tuple[str, int]] = []
    for one, cost in costs:
        if one.part == "encode":
            continue
        before = kept.get(one.graph, 0)
        kept[one.graph] = before + cost.kept * one.times
        if one.mode == "forward":
            there.append(before + cost.working)
        else:
            back.append((one.graph, cost.working))
    return max(there + [kept[graph] + size for graph, size in back])
