"""Every operation that the engine uses gives the same bits at any number of threads and on any part of a frame.

`PROVEN` is the list: an operation is in it because a test here runs it. What the engine does is recorded while it runs,
so a new operation fails `test_the_engine_uses_nothing_else` until it has its proof.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import synthetic_clip
from einops import rearrange
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from duovsr_vs.engine.machine import has_bfloat16_arithmetic
from duovsr_vs.engine.options import Options
from duovsr_vs.engine.upscaler import Upscaler

SIZES = [(69, 121), (31, 17)]
PART = (24, 16)
"""Rows and columns of the part that is computed again on its own."""
FLOATS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Proof:
    """One operation, as a function of x (1 c h w) that keeps the places of h and w."""

    name: str
    covers: tuple[str, ...]
    """Names of the overloads in torch's dispatcher."""
    run: Callable[[Tensor], Tensor]
    channels: int = 16
    reach: int = 0
    """Positions to each side that one result sees."""
    types: tuple[str, ...] = field(default=FLOATS)


def weights(like: Tensor, *shape: int) -> Tensor:
    """Fixed normal weights whose products have deviation 1."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    return (values / values[0].numel() ** 0.5).to(like.dtype)


def convolution(outputs: int, channels: int, side: int, *, direct: bool = False, bias: bool = False) -> Proof:
    """A convolution, channels last; `direct` calls oneDNN's without torch's choice among several."""

    def run(x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        kernel = weights(x, outputs, channels, side, side).contiguous(memory_format=torch.channels_last)
        offset = weights(x, outputs, 1)[:, 0] if bias else None
        pad = side // 2
        if direct:
            return torch.mkldnn_convolution(x, kernel, offset, [pad, pad], [1, 1], [1, 1], 1)
        return F.conv2d(x, kernel, offset, padding=pad)

    kind = "aten.mkldnn_convolution.default" if direct else "aten.conv2d.default"
    name = f"{'direct ' if direct else ''}convolution {side}x{side} {channels} to {outputs}{' + bias' if bias else ''}"
    # Torch's own choice in float32 depends on the number of threads (1x1) and of values (20480 of them): not proven.
    return Proof(name, (kind,), run, channels, side // 2, FLOATS if direct else ("bfloat16",))


def rows(x: Tensor) -> Tensor:
    """(1 c h w) -> (h·w c): one row per position."""
    return rearrange(x, "1 c h w -> (h w) c").contiguous()


def picture(tokens: Tensor, like: Tensor) -> Tensor:
    """Inverse of `rows`."""
    return rearrange(tokens, "(h w) c -> 1 c h w", h=like.shape[-2])


def attention(x: Tensor) -> Tensor:
    """Masked attention among the 12 tokens of each position, two heads of 8."""
    q, k, v = (picture_tokens(x * factor) for factor in (1.0, 0.5, 2.0))
    mask = torch.ones(q.shape[0], 1, 1, 12, dtype=torch.bool)
    mask[..., 10:] = False
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return picture(rearrange(mixed, "n m l d -> n (l m d)"), x)


def picture_tokens(x: Tensor) -> Tensor:
    """(1 192 h w) -> (h·w 2 12 8)."""
    return rearrange(x, "1 (l m d) h w -> (h w) m l d", m=2, d=8).contiguous()


def simple(name: str, covers: str, run: Callable[[Tensor], Tensor], *types: str) -> Proof:
    return Proof(name, tuple(f"aten.{cover}" for cover in covers.split()), run, types=types or FLOATS)


LAYERS = [(16, 37, 3), (64, 37, 3), (16, 96, 1), (64, 96, 1), (16, 16, 3), (64, 64, 3), (96, 16, 3), (96, 64, 3),
          (1, 16, 1), (1, 64, 1), (12, 96, 3), (96, 12, 3), (192, 96, 1), (16, 16, 1), (96, 16, 1)]  # fmt: skip
"""(outputs, inputs, side) of all convolutions of the tests' models and of `nano`."""

CONVOLUTIONS = [convolution(*layer, direct=direct) for layer in LAYERS for direct in (False, True)] + [
    convolution(16, 16, 3, bias=True),
    convolution(16, 16, 3, bias=True, direct=True),
]
PRODUCTS = [
    Proof("matmul", ("aten.matmul.default", "aten.bmm.default", "aten.mm.default"),
          lambda x: picture(torch.matmul(rows(x), weights(x, 12, 32)), x), 12, 0, ("float32",)),
    Proof("baddbmm_", ("aten.baddbmm_.default", "aten.baddbmm.out"),
          lambda x: picture(torch.ones(1, x[0, 0].numel(), 32).baddbmm_(rows(x)[None], weights(x, 12, 32)[None])[0], x),
          12, 0, ("float32",)),
    Proof("linear", ("aten.linear.default", "aten.addmm.default"),
          lambda x: picture(F.linear(rows(x), weights(x, 48, 16)), x)),
    Proof("attention", ("aten.scaled_dot_product_attention.default",), attention, 192),
]  # fmt: skip
ELEMENTWISE = [
    simple("add", "add.Tensor add_.Tensor add.out", lambda x: (x + x.flip(1)).add_(x.roll(1, 1)).add_(0.1)),
    simple("add a multiple", "add.Tensor+alpha add_.Tensor+alpha", lambda x: x.add(x.flip(1), alpha=0.3), "float32"),
    simple("sub", "sub.Tensor sub_.Tensor rsub.Scalar", lambda x: (x - x.flip(1)).sub_(0.1)),
    simple("mul", "mul.Tensor mul_.Tensor mul.out mul.Scalar", lambda x: (x * x.flip(1)).mul_(0.3)),
    simple("div", "div.Tensor div_.Tensor div.out", lambda x: (x / (x.flip(1).abs() + 0.1)).div_(3)),
    simple("reciprocal", "reciprocal.default", lambda x: 1 / (x.abs() + 0.1), "float32"),
    simple("abs", "abs.default abs_.default", torch.abs),
    simple("relu", "relu.default relu_.default", lambda x: F.relu(x - 0.1).relu_()),
    simple("exp", "exp.default exp_.default", torch.exp, "float32"),
    simple("log", "log.default log_.default", lambda x: torch.log(x.abs() + 1e-3), "float32"),
    simple("sqrt", "sqrt.default sqrt_.default", lambda x: torch.sqrt(x.abs()), "float32"),
    simple("square", "square.default pow.Tensor_Scalar", lambda x: x.square() + x**2, "float32"),
    simple("clamp, round", "clamp.default round.default", lambda x: (x * 50).clamp(0, 255).round(), "float32"),
    simple("sum over channels", "sum.dim_IntList",
           lambda x: picture(rows(x).square().sum(-1, keepdim=True), x), "float32"),
    simple("replicate and zero padding", "pad.default replication_pad2d.default constant_pad_nd.default",
           lambda x: F.pad(F.pad(x, (1, 2, 3, 1), mode="replicate"), (1, 0, 2, 2))[..., 5:-3, 2:-2]),
    simple("float32 to bfloat16 and back", "to.dtype to.device to.dtype_layout _to_copy.default",
           lambda x: x.bfloat16().float() + x),
]  # fmt: skip
PROOFS = CONVOLUTIONS + PRODUCTS + ELEMENTWISE
PROVEN = {(name, kind) for proof in PROOFS for name in proof.covers for kind in proof.types}

MOVES = {
    "alias", "arange", "as_strided", "cat", "clone", "contiguous", "copy_", "detach", "empty", "empty_like", "expand",
    "fill_", "flatten", "index", "lift_fresh", "narrow", "new_empty", "new_zeros", "ones", "permute", "repeat",
    "reshape", "select", "slice", "split", "split_with_sizes", "squeeze", "stack", "t", "transpose", "unbind",
    "unflatten", "unfold", "unsqueeze", "view", "zero_", "zeros", "zeros_like",
}  # fmt: skip
"""Operations that compute nothing: they move, copy or view numbers."""
EXACT = {"all", "isfinite", "is_nonzero", "_local_scalar_dense"}
"""Operations whose result is a truth or one number out of a tensor."""
WHOLE_NUMBERS = {"sum", "sub", "abs", "to", "_to_copy"}
"""Exact as long as they are done with integers."""


@pytest.fixture(autouse=True)
def torch_threads() -> Iterator[None]:
    """As many threads of torch afterwards as before."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def values(proof: Proof, kind: str, height: int, width: int) -> Tensor:
    source = torch.Generator().manual_seed(height)
    return torch.randn(1, proof.channels, height, width, generator=source).to(getattr(torch, kind))


def differing(one: Tensor, other: Tensor) -> int:
    """Values that are not equal."""
    assert one.shape == other.shape
    return int((one != other).sum())


CASES = [
    pytest.param(
        proof, kind, id=f"{proof.name}-{kind}",
        marks=pytest.mark.skipif(kind == "bfloat16" and not has_bfloat16_arithmetic(), reason="no bfloat16 here"),
    )
    for proof in PROOFS
    for kind in proof.types
]  # fmt: skip


@pytest.mark.parametrize(("proof", "kind"), CASES)
def test_same_bits_for_any_number_of_threads(proof: Proof, kind: str) -> None:
    for height, width in SIZES:
        x = values(proof, kind, height, width)
        torch.set_num_threads(1)
        alone = proof.run(x)
        assert bool(torch.isfinite(alone).all())
        for count in (2, 3, 8):
            torch.set_num_threads(count)
            assert differing(proof.run(x), alone) == 0, f"{width}x{height}, {count} threads"


@pytest.mark.parametrize(("proof", "kind"), CASES)
def test_same_bits_on_a_part_of_the_frame(proof: Proof, kind: str) -> None:
    torch.set_num_threads(1)
    for height, width in SIZES:
        x = values(proof, kind, height, width)
        whole = proof.run(x)
        y, x0 = 3, 1
        rows_, columns = min(PART[0], height - y), min(PART[1], width - x0)
        part = proof.run(x[..., y : y + rows_, x0 : x0 + columns].contiguous())
        edge = proof.reach
        inside = (..., slice(edge, rows_ - edge), slice(edge, columns - edge))
        assert differing(part[inside], whole[..., y : y + rows_, x0 : x0 + columns][inside]) == 0, f"{width}x{height}"


class Recorder(TorchDispatchMode):
    """(overload, type) of every operation that is called; +alpha where it scales what it adds."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, str]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = str(func) + ("+alpha" if kwargs.get("alpha", 1) != 1 else "")
        kinds = {str(v.dtype).removeprefix("torch.") for v in (*args, out) if isinstance(v, Tensor)}
        self.seen |= {(name, kind) for kind in kinds}
        return out


def is_proven(name: str, kind: str) -> bool:
    operation = name.removeprefix("aten.").partition(".")[0]
    known = MOVES | EXACT if kind in FLOATS else MOVES | EXACT | WHOLE_NUMBERS
    return operation in known or (name, kind) in PROVEN or (kind == "bool" and (name, "bfloat16") in PROVEN)


OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "half strength, other size": {"strength": 0.5, "scale": 3},
    "strength 0": {"strength": 0.0},
    "tiles": {"tile": 32},
}


RUNS = list(product(("tiny", "toy", "toy-learned"), FLOATS, OPTIONS))


@pytest.mark.parametrize(("kind", "precision", "options"), RUNS)
def test_the_engine_uses_nothing_else(
    tiny_model: Path, toy_model: Path, learned_model: Path, kind: str, precision: str, options: str
) -> None:
    torch.set_num_threads(1)
    model = {"tiny": tiny_model, "toy": toy_model, "toy-learned": learned_model}[kind]
    count = 18 if kind == "toy" else 3
    chosen = Options(model=str(model), device="cpu", precision=precision, **OPTIONS[options])
    upscaler = Upscaler(chosen, 37, 35)
    clip = synthetic_clip(count, 35, 37)
    list(upscaler.stream(clip[:1]))  # tables that are made once are not part of a frame
    with Recorder() as recorder:
        list(upscaler.stream(clip))
    unproven = sorted(used for used in recorder.seen if not is_proven(*used))
    assert not unproven, "prove them in PROOFS, or use others"
    convolutions = {"aten.conv2d.default", "aten.mkldnn_convolution.default"}
    assert convolutions & {name for name, _ in recorder.seen}, "the recorder saw the network"
    assert ("aten.scaled_dot_product_attention.default", precision) in recorder.seen or kind != "toy"
    assert upscaler.redone == 0


@pytest.mark.parametrize("name", ["silu", "gelu", "softmax", "sigmoid", "mean", "pow"])
def test_operations_known_to_differ_have_no_proof(name: str) -> None:
    assert not [kind for kind in FLOATS if is_proven(f"aten.{name}.default", kind)]
