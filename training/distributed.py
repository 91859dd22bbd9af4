"""Several processes that train one model (torchrun): who I am, which samples are mine, what is sharded and summed.

Every rank has `batch / size` samples of the global batch and the mean loss over them; FSDP2 (`fully_shard`) keeps a
slice of weights, gradients and optimizer states on each rank and averages gradients in float32. One process needs none
of it: everything here is then the identity.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from duovsr_vs.engine.machine import resolve_device
from duovsr_vs.errors import OptionError
from training.lora import shared_parameters
from training.models import Model, layers_of

CPU = torch.device("cpu")
PATIENCE = timedelta(hours=12)
"""How long a rank waits for another, which may be evaluating or making pairs."""


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def is_first(self) -> bool:
        """The rank that writes and talks."""
        return self.rank == 0

    def share(self, batch: int) -> range:
        """Slots of the global batch that this rank computes. OptionError: the batch cannot be divided."""
        if batch % self.size:
            raise OptionError(
                f"a batch of {batch} cannot be divided by {self.size} processes; give a multiple, or other processes"
            )
        count = batch // self.size
        return range(self.rank * count, (self.rank + 1) * count)

    def parts(self, batch: int, at_once: int) -> int:
        """In how many parts this rank's share of a batch is computed, `at_once` samples each; 0: all of them.

        OptionError: the share cannot be divided.
        """
        share = len(self.share(batch))
        if at_once and share % at_once:
            raise OptionError(
                f"a share of {share} samples cannot be divided into parts of {at_once}; give a divisor of it, or 0"
            )
        return share // at_once if at_once else 1

    def slots(self, batch: int, parts: int, part: int) -> range:
        """Slots of the global batch in one of the parts of this rank's share."""
        share = self.share(batch)
        count = len(share) // parts
        return share[part * count : (part + 1) * count]

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()

    def any(self, flag: bool) -> bool:
        """Whether it holds on any rank."""
        if self.size == 1:
            return flag
        told = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return bool(told)

    def mean(self, figures: Mapping[str, float]) -> dict[str, float]:
        """Mean of each figure over the ranks, which all have the same names."""
        if self.size == 1 or not figures:
            return dict(figures)
        names = sorted(figures)
        values = torch.tensor([figures[name] for name in names], dtype=torch.float64, device=self.device)
        dist.all_reduce(values)
        return dict(zip(names, (values / self.size).tolist(), strict=True))


ALONE = World()


@contextmanager
def joined(device: str) -> Iterator[World]:
    """The world of this process: that of torchrun's environment, else one process. OptionError: no such device."""
    size, rank, local = (int(os.environ.get(name, default)) for name, default in _TORCHRUN)
    name = f"cuda:{local}" if device == "cuda" and size > 1 else device
    try:
        chosen = resolve_device(name)
    except RuntimeError as error:
        raise OptionError(f"--device {device}: {str(error).splitlines()[0]}; use cpu or cuda") from error
    if chosen.type == "cuda":
        torch.set_float32_matmul_precision("high")  # what is in float32 for its precision has enough of it in TF32
    if size == 1:
        yield World(device=chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield World(rank, size, chosen)
    finally:
        dist.destroy_process_group()


_TORCHRUN = (("WORLD_SIZE", "1"), ("RANK", "0"), ("LOCAL_RANK", "0"))


class Taps(list[Tensor]):
    """A list for activations that FSDP hands through as it is; plain lists among arguments are copied."""


def shard(network: nn.Module, world: World, gather: str) -> None:
    """Split the weights over the ranks: each block by itself, then the rest.

    gather: "bfloat16" rounds weights before they are sent; networks then compute in bfloat16 under autocast.
    """
    if world.size == 1:
        return
    sent = torch.bfloat16 if gather == "bfloat16" else None
    policy = MixedPrecisionPolicy(param_dtype=sent, reduce_dtype=torch.float32, cast_forward_inputs=False)
    options: dict[str, Any] = {
        "mesh": init_device_mesh(world.device.type, (world.size,)),
        "mp_policy": policy,
    }
    if isinstance(network, Model):
        shared = shared_parameters(network)
        for block in layers_of(network):
            fully_shard(block, ignored_params=shared, **options)
        codec = set() if network.codec is None else set(network.codec.parameters())  # also used outside of `denoise`
        fully_shard(network, ignored_params=codec | shared, **options)
        register_fsdp_forward_method(network, "denoise")
    else:
        fully_shard(network, **options)


def settle(network: nn.Module) -> nn.Module:
    """The network with its own slices of the weights: after a forward pass alone FSDP still holds them whole."""
    if isinstance(network, FSDPModule):
        network.reshard()
    return network


def whole(tensor: Tensor) -> Tensor:
    """The full tensor of a sharded one, a copy; a collective operation."""
    full = getattr(tensor, "full_tensor", None)
    return full().clone() if full is not None else tensor.detach().clone()
