"""Low-rank adapters: several networks on one set of frozen weights, each W·x + B·(A·x) with its own A and B.

After LoRA (arXiv 2106.09685), for student, real and fake score, which are one model at different times. Every network
is a module of its own that holds the very same frozen parameters: nothing is switched, so that a block that is computed
again in the backward pass, or two networks in one graph, cannot meet the adapters of another.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models import Model
from training.ranges import RecipeError

ADAPTED = re.compile(r"(?:^|\.)blocks\.\d+\.(?:(?:self|cross)_attn\.[qkvo]|ffn\.[02])$")
"""Layers that get an adapter: all large products of a block."""
IN_FULL = re.compile(r"(?:^|\.)(?:patch_embedding\.(?:weight|bias)|context)$")
"""Parameters that every network has for itself: what takes the LR in, and the learned context tokens."""
OWN = (".down", ".up")
Weights = dict[str, Tensor]


class AdaptedLinear(nn.Linear):
    """W·x + b + B·(A·x): W and b frozen and shared, A (rank, in) and B (out, rank) trained. B begins as zero."""

    def __init__(self, layer: nn.Linear, rank: int):
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        device = layer.weight.device
        self.down = nn.Parameter(torch.randn(rank, self.in_features, device=device) / self.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(self.out_features, rank, device=device))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + F.linear(F.linear(x, self.down), self.up)


def adapted(base: Model, rank: int) -> Model:
    """A network on the frozen parameters of `base` with adapters of its own, equal to `base` as it begins."""
    shared: dict[int, object] = {id(p): p for p in base.parameters()} | {id(b): b for b in base.buffers()}
    network = copy.deepcopy(base, shared)
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Linear) and ADAPTED.search(name):
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, AdaptedLinear(module, rank))
    for name, parameter in list(network.named_parameters()):
        if IN_FULL.search(name):
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, nn.Parameter(parameter.detach().clone()))
    return learn_own(network)


def is_own(name: str) -> bool:
    """Whether a parameter belongs to one network alone."""
    return name.endswith(OWN) or IN_FULL.search(name) is not None


def is_adapted(network: nn.Module) -> bool:
    """Whether a network shares weights with others."""
    return any(isinstance(module, AdaptedLinear) for module in network.modules())


def learn_own[M: nn.Module](network: M) -> M:
    """Gradients for what belongs to the network, none for what it shares."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(is_own(name))
    return network


def shared_parameters(network: nn.Module) -> set[nn.Parameter]:
    """Those that other networks hold too; none of a network without adapters."""
    return {p for name, p in network.named_parameters() if not is_own(name)} if is_adapted(network) else set()


def own_state(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The tensors that tell this network from others: all, or its adapters and what it trains in full."""
    few, given = is_adapted(network), {name for name, _ in network.named_buffers()}
    every = network.state_dict().items()
    return ((name, tensor) for name, tensor in every if not few or (is_own(name) and name not in given))


def load_own(network: Model, weights: Mapping[str, Tensor]) -> None:
    """Take over adapters. RecipeError: weights of another rank, or of a network without adapters."""
    wanted = dict(own_state(network))
    if shapes(wanted) != shapes(weights):
        name = sorted(set(shapes(wanted).items()) ^ set(shapes(weights).items()))[0][0]
        raise RecipeError(
            f"these weights are no adapters of this rank: {name} is {shapes(weights).get(name, 'missing')}, "
            f"{shapes(wanted).get(name, 'nothing')} is needed; give the --adapters that they were made with"
        )
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(weights[name])


def shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """By name."""
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def rank_of(weights: Mapping[str, Tensor]) -> int:
    """Of adapters; 0: these are weights of a whole network."""
    return next((len(tensor) for name, tensor in weights.items() if name.endswith(".down")), 0)


def merge(base: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Weights:
    """Weights of a whole network without adapters, W + B·A, equal to base and adapters but for rounding."""
    merged = dict(base)
    for name, tensor in own.items():
        layer, _, last = name.rpartition(".")
        if last == "down":
            merged[f"{layer}.weight"] = base[f"{layer}.weight"].float() + own[f"{layer}.up"].float() @ tensor.float()
        elif last != "up":
            merged[name] = tensor
    return merged
