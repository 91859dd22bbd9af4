"""What passes through the networks cost: they are run on tensors that have shapes but no contents, and counted.

FLOPs are those of convolutions and matrix products, a multiply-add counted as 2 (`torch.utils.flop_counter`); what is
done element by element is not in them. Nothing is computed, so the largest model is counted on any machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, fields, replace
from functools import cache, cached_property
from typing import Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from duovsr_vs.model import flow
from duovsr_vs.model.codec import luma
from duovsr_vs.model.config import CELL, COEFFICIENTS, PRESETS, SCALE
from duovsr_vs.model.family import AnyConfig, generator_of
from duovsr_vs.model.features import Condition, frames_of
from duovsr_vs.model.generator import Generator, features_of
from duovsr_vs.model.resample import enlarge
from duovsr_vs.model.wan.autoencoder import WanAutoencoder
from duovsr_vs.model.wan.generator import WanGenerator, clip_of
from training.discriminator import Discriminator, Scores, default_taps
from training.families import family_of
from training.ledger import Ledger, Span
from training.lora import adapted, is_own, learn_own
from training.losses import consistency_loss, pixel_loss, robust_latent_loss, structure_loss, temporal_loss, unit_loss
from training.models import Model, Pair, blank_condition, encoder_of, first_layers, in_pixels, tap_shape

Mode = Literal["forward", "train", "through"]
"""forward: no gradient; train: gradient to the weights; through: gradient to the input only, the weights are held."""
DENOISERS = ("student", "teacher", "real", "fake", "reference")
"""Flow networks of the preset's size. Other parts: heads; codec (a learned one, there and back); and, taken as they
are, transform (pictures to coefficients), encode (to latents), decode (of a learned codec), temporal, consistency,
structure."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one pass: FLOPs of what has weights and of what is fixed (codec, consistency), and bytes."""

    network: int = 0
    fixed: int = 0
    kept: int = 0
    """Held for the backward pass."""
    working: int = 0
    """The most that is there besides for a moment, on the way there or back."""

    @property
    def flops(self) -> int:
        """Forward and, with a gradient, backward."""
        return self.network + self.fixed

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: int) -> Cost:
        return Cost(*(times * value for value in astuple(self)))


def line(low: Cost, high: Cost, steps: int) -> Cost:
    """The straight line through two costs, so many of their distances from the first."""
    return low + (high + low * -1) * steps


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a batch: samples, frames of a sample, side of a crop in LR pixels (even)."""

    batch: int
    frames: int
    patch: int

    def tokens_of(self, config: AnyConfig) -> int:
        """Latent positions of all latent frames."""
        return self.batch * family_of(config).latents(self.frames) * (self.patch // CELL) ** 2


def count_of(module: nn.Module, own: bool = False) -> int:
    """How many weights a module has; own: those that a network with adapters has for itself."""
    return sum(p.numel() for name, p in module.named_parameters() if not own or is_own(name))


@cache
def know_kernels() -> None:
    """Fixed kernels are made once and remembered: they must be real before anything without contents asks for them."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        generator = Generator(PRESETS["tiny"])
        condition = generator.condition(torch.zeros(1, 4, 3, 16, 16))
        z0 = generator.encode(torch.zeros(1, 2, 3, 64, 64), condition)
        generator.decode(generator.generate(z0, condition, torch.zeros(1, dtype=torch.long)), condition)


class Rehearsal:
    """The passes of a stage for batches of one shape, without contents.

    recompute: blocks compute their activations again in the backward pass instead of keeping them.  scores: whose
    features the heads see.  adapters: their rank; 0: all weights are trained.  taps: how many the heads see, if not
    those of the network itself.  deep: whether `pairs` is kept.
    """

    def __init__(
        self,
        config: AnyConfig,
        shape: Shape,
        bf16: bool,
        recompute: bool,
        scores: Scores = "both",
        adapters: int = 0,
        taps: int | None = None,
        deep: bool = False,
    ):
        know_kernels()
        self.shape, self.bf16, self.recompute, self.adapters, self.deep = shape, bf16, recompute, adapters, deep
        self.pairs: dict[tuple[Mode, bool], Cost] = {}
        """What the last two blocks took of the denoiser's passes that were counted: FLOPs, and bytes kept."""
        self.contents = FakeTensorMode(allow_non_fake_inputs=True)
        b, t, p = shape.batch, shape.frames, shape.patch
        with self.contents, torch.no_grad():
            self.generator: Model = generator_of(config)
            if adapters:
                self.generator = adapted(self.generator.requires_grad_(False), adapters)
            self.taps = default_taps(config.blocks)
            self.heads = Discriminator(config.channels, range(taps or len(self.taps)), scores)
            self.condition = blank_condition(self.generator, b, t, p)
            latents = family_of(config).latents(t)
            self.z0 = torch.rand(b, latents, config.latent_channels, p // CELL, p // CELL)
            moves = t - 1 if family_of(config).in_pixels else 0
            self.flow, self.mask = torch.rand(b, moves, 2, *self._size()), torch.rand(b, moves, *self._size())
            self.clean = torch.rand(b)
        self.batch = [self.z0, self.flow, self.mask, self.clean]
        self.batch += [getattr(self.condition, field.name) for field in fields(self.condition)]
        self._known: dict[tuple[str, Mode, bool], Cost] = {}

    def _size(self) -> tuple[int, int]:
        return (SCALE * self.shape.patch,) * 2

    def _hr(self) -> Tensor:
        return torch.rand(self.shape.batch, self.shape.frames, 3, *self._size())

    @property
    def hr_bytes(self) -> int:
        """Of a sample's pictures of the truth."""
        return 4 * 3 * self.shape.frames * self._size()[0] ** 2

    @property
    def batch_bytes(self) -> int:
        """Of the tensors of a `Batch`."""
        return sum(tensor.nbytes for tensor in self.batch)

    def module(self, part: str) -> nn.Module | None:
        """The weights of a part; None if it has none."""
        networks = dict.fromkeys(DENOISERS, self.generator.network) | {
            "heads": self.heads,
            "codec": self.generator.codec,
            "pair": self.pair,
        }
        return networks.get(part)

    def parameters(self, part: str) -> int:
        """How many weights a part has."""
        module = self.module(part)
        return 0 if module is None else count_of(module)

    def own(self, part: str) -> int:
        """Those of them that belong to one network alone: all, or its adapters and what it trains in full."""
        module = self.module(part)
        return 0 if module is None else count_of(module, own=part in DENOISERS and self.adapters > 0)

    def _learns(self, part: str) -> None:
        """Gradients for this part's weights and no others."""
        for name in ("student", "heads", "codec", "pair"):
            if module := self.module(name):
                module.requires_grad_(module is self.module(part))
        if self.adapters and part in DENOISERS:
            learn_own(self.generator.network)

    def cost(self, part: str, mode: Mode, full: bool = False) -> Cost:
        """Of one pass of a part for a whole batch; full: in float32."""
        part = "student" if part in DENOISERS else part  # all are of one size
        full = full and mode != "forward"  # nothing is kept, and a product is a product
        if (part, mode, full) not in self._known:
            with self.contents:
                self._known[part, mode, full] = self._cost(part, mode, full)
        return self._known[part, mode, full]

    def _cost(self, part: str, mode: Mode, full: bool) -> Cost:
        self._learns(part if mode == "train" else "")
        work = {
            "heads": self._judge,
            "codec": self._there_and_back,
            "transform": self._transform,
            "encode": self._encode,
            "decode": self._decode,
            "temporal": self._flicker,
            "consistency": self._miss,
            "structure": self._structure,
            "autoencoder": self._taught,
            "pair": self._paired,
            "features": self._features,
        }.get(part, self._denoise)
        found = self._count(work, mode, full)
        if self.module(part) is None:
            return replace(found, network=0, fixed=found.network)
        # what is fixed has no gradient of its own, so its way back costs as much as its way there
        has_ends = part not in ("heads", "pair")
        fixed = self._ends[part == "codec"] * (2 if mode == "train" else 1) if has_ends else 0
        return replace(found, network=found.network - fixed, fixed=fixed)

    @cached_property
    def _ends(self) -> tuple[int, int]:
        """FLOPs of the fixed end of `_denoise` and of `_there_and_back`, forward."""
        if not isinstance(self.generator, Generator):
            return 0, 0
        generator, condition = self._pixels
        y = torch.rand_like(generator.scale(condition))
        with torch.no_grad():
            with Ledger() as step:
                generator.consist(y, y[:, :, :1], condition)
            with Ledger() as shown:
                generator.pixels(y, condition)
        is_fixed = generator.codec is None
        return step.flops * is_fixed, step.flops + shown.flops

    def _count(self, work: Callable[[Mode], Tensor], mode: Mode, full: bool) -> Cost:
        """FLOPs of a pass, and bytes beside weights, their gradients and the batch."""
        network = self.generator.network
        network.recompute = self.recompute
        owned = [*self.generator.parameters(), *self.heads.parameters(), *self.generator.buffers(), *self.batch]
        owned += self.encoder.parameters() if work == self._encode else []
        for weight in owned:
            if weight.requires_grad:
                weight.grad = torch.zeros_like(weight)
        gradients = [weight.grad for weight in owned if weight.grad is not None]
        ledger = Ledger([*owned, *gradients])
        half = self.bf16 and not full and work != self._encode  # the encoder is in bfloat16 itself
        blocks = list(network.blocks)
        span = Span(ledger, blocks[-2], blocks[-1]) if self.deep and work == self._denoise else None
        with ledger, torch.set_grad_enabled(mode != "forward"):
            with torch.autocast("cpu", torch.bfloat16, enabled=half, cache_enabled=not self.recompute):
                result = work(mode)
            kept = ledger.now if mode != "forward" else 0
            if result.requires_grad:
                result.backward()  # type: ignore[no-untyped-call]
        for module in (self.generator, self.heads):
            module.zero_grad(set_to_none=True)
        if span is not None:
            flops, left = span.taken()
            self.pairs[mode, full] = Cost(flops, kept=left if mode != "forward" else 0)
        return Cost(ledger.flops, kept=kept, working=ledger.peak - kept)

    # -- the passes; each ends in one number --------------------------------------------------------------------

    @cached_property
    def pair(self) -> Pair | None:
        """The light pair of a model that has one."""
        generator = self.generator
        return Pair(generator) if isinstance(generator, WanGenerator) and generator.light_encoder else None

    def _input(self, like: Tensor, mode: Mode) -> Tensor:
        return torch.rand_like(like).requires_grad_(mode == "through")

    def _denoise(self, mode: Mode) -> Tensor:
        """x̂0 against z0; through a score model: its taps."""
        t, quality = torch.rand(self.shape.batch), torch.zeros(self.shape.batch, dtype=torch.long)
        taps: list[Tensor] | None = [] if mode == "through" else None
        z_t = self._input(self.z0, mode)
        x0 = self.generator.denoise(z_t, t, self.condition, quality, taps)
        if taps is not None:
            return torch.stack([taps[n].float().sum() for n in self.taps]).sum()
        return robust_latent_loss(x0, self.z0, self.generator.energy, flow.error_weight(t))

    def _judge(self, mode: Mode) -> Tensor:
        """Logits of the taps of both score models."""
        like = self.z0.new_empty(tap_shape(self.generator, self.z0))
        real, fake = ([self._input(like, mode) for _ in self.heads.taps] for _ in range(2))
        logits: Tensor = self.heads(real, fake, self.z0.shape[1])
        return logits.mean()

    def _there_and_back(self, mode: Mode) -> Tensor:
        """Normalised coefficients through a learned codec, against themselves, also in pixels."""
        generator, condition = self._pixels
        codec, y0 = generator.codec, torch.rand_like(generator.scale(condition))
        assert codec is not None
        found = codec(y0.flatten(0, 1), features_of(condition))
        z, y, kappa = (frames_of(x.float(), self.shape.frames) for x in found)
        y = generator.consist(y, kappa, condition)
        error = generator.pixels(y - y0, condition)
        return robust_latent_loss(y, y0, generator.deviation) + pixel_loss(error) + unit_loss(z)

    def _transform(self, mode: Mode) -> Tensor:
        generator, condition = self._pixels
        config = generator.config.with_values(codec="fixed", latent_channels=COEFFICIENTS)
        return Generator(config).encode(self._hr(), condition).sum()

    def _encode(self, mode: Mode) -> Tensor:
        return self.encoder.encode(self._hr(), self.condition).sum()

    @cached_property
    def encoder(self) -> Model:
        """What makes the latents of batches."""
        return encoder_of(self.generator, self.bf16)

    def _decode(self, mode: Mode) -> Tensor:
        generator, condition = self._pixels
        return generator.coefficients(self._input(self.z0, mode), condition).sum()

    @property
    def _pixels(self) -> tuple[Generator, Condition]:
        return in_pixels(self.generator, self.condition)

    def _coefficients(self, mode: Mode) -> Tensor:
        generator, condition = self._pixels
        return self._input(generator.scale(condition), mode)

    @property
    def _codec(self) -> WanAutoencoder:
        assert isinstance(self.generator, WanGenerator) and self.generator.codec is not None
        return self.generator.codec

    def _taught(self, mode: Mode) -> Tensor:
        return self._codec.decode(clip_of(self.z0)).sum()

    def _paired(self, mode: Mode) -> Tensor:
        assert self.pair is not None
        z, frames = self.pair(clip_of(self.condition.lr), clip_of(self.z0))
        loss: Tensor = z.float().square().mean() + frames.float().square().mean()
        return loss

    def _features(self, mode: Mode) -> Tensor:
        return first_layers(self._codec, clip_of(self._input(self._hr(), mode))).float().sum()

    def _flicker(self, mode: Mode) -> Tensor:
        generator, condition = self._pixels
        error = generator.pixels(self._coefficients(mode), condition)
        return temporal_loss(error, self.flow, self.mask)

    def _structure(self, mode: Mode) -> Tensor:
        """Of an error in pixels, which the temporal loss has made."""
        generator, condition = self._pixels
        with torch.no_grad():
            truth = luma(enlarge(condition.base) + generator.pixels(self._coefficients("forward"), condition))
        return structure_loss(truth + luma(self._input(self._hr(), mode)), truth)

    def _miss(self, mode: Mode) -> Tensor:
        generator, condition = self._pixels
        mismatch = generator.mismatch(self._coefficients(mode), condition)
        return consistency_loss(frames_of(mismatch, self.shape.frames), self.clean)
