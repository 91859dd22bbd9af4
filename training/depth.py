"""Costs of deep models from shallow ones: every second block is like the one two before it, every sample like another,
and an autoencoder works on every latent but the first alike.

`base` has thirty blocks; counting two and four of them, for one sample, tells what thirty cost for any number.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from duovsr_vs.model.family import AnyConfig
from duovsr_vs.model.wan.config import BaseConfig
from training.costs import DENOISERS, Cost, Mode, Rehearsal, Shape
from training.discriminator import Scores, default_taps
from training.families import WAN

SHALLOW = 4
"""Blocks up to which a model is counted as it is."""


class Deep:
    """What a `Rehearsal` tells, of a model with many blocks. FLOPs and weights are exact; what graphs keep is a little
    less than is said, since weights in bfloat16 are counted for every sample."""

    def __init__(self, config: BaseConfig, shape: Shape, bf16: bool, recompute: bool, scores: Scores, adapters: int):
        low = 2 + config.blocks % 2
        self.shape, self.pairs = shape, (config.blocks - low) // 2

        def given(latents: int) -> tuple[BaseConfig, Shape, bool, bool]:
            """Of a model that is hardly more than its autoencoder."""
            return _of_depth(config, 1), Shape(1, WAN.time * (latents - 1) + 1, shape.patch), bf16, recompute

        self.given = given
        taps = len(default_taps(config.blocks))
        self.low, self.high = (
            Rehearsal(_of_depth(config, n), replace(shape, batch=1), bf16, recompute, scores, adapters, taps)
            for n in (low, low + 2)
        )

    def cost(self, part: str, mode: Mode, full: bool = False) -> Cost:
        """Of one pass of a part for a whole batch; full: in float32."""
        if part == "encode":
            return self._encode(mode, full) * self.shape.batch
        low = self.low.cost(part, mode, full)
        if part in DENOISERS:
            low = low + (self.high.cost(part, mode, full) + low * -1) * self.pairs
        return low * self.shape.batch

    def _encode(self, mode: Mode, full: bool) -> Cost:
        """From two and three latents."""
        two, three = (rehearsal(*self.given(latents)).cost("encode", mode, full) for latents in (2, 3))
        return two + (three + two * -1) * (WAN.latents(self.shape.frames) - 2)

    def _count(self, low: int, high: int, part: str) -> int:
        return low + (high - low) * self.pairs if part in DENOISERS else low

    def parameters(self, part: str) -> int:
        """How many weights a part has."""
        return self._count(self.low.parameters(part), self.high.parameters(part), part)

    def own(self, part: str) -> int:
        """Those of them that belong to one network alone."""
        return self._count(self.low.own(part), self.high.own(part), part)

    @property
    def batch_bytes(self) -> int:
        """Of the tensors of a `Batch`."""
        return self.low.batch_bytes * self.shape.batch


def _of_depth(config: BaseConfig, blocks: int) -> BaseConfig:
    return config.with_values(transformer=replace(config.transformer, blocks=blocks))


@cache
def rehearsal(
    config: AnyConfig, shape: Shape, bf16: bool, recompute: bool, scores: Scores = "both", adapters: int = 0
) -> Rehearsal | Deep:
    """One for each shape: counting again would give the same."""
    if isinstance(config, BaseConfig) and config.blocks > SHALLOW:
        return Deep(config, shape, bf16, recompute, scores, adapters)
    return Rehearsal(config, shape, bf16, recompute, scores, adapters)
