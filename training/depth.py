"""Costs of deep models from shallow ones: every second block is like the one two before it, every sample like another,
and an autoencoder works on every latent but the first alike.

`base` has thirty blocks; counting two of them, and what the two alone take, tells what thirty cost.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from duovsr_vs.model.family import PRESETS, AnyConfig
from duovsr_vs.model.wan.config import BaseConfig
from training.costs import DENOISERS, Cost, Mode, Rehearsal, Shape, count_of, line
from training.discriminator import Scores, default_taps
from training.families import WAN

OF_LATENTS = ("encode", "autoencoder", "pair", "features")
"""Parts that work on one latent after the other."""
SHALLOW = 4
"""Blocks up to which a model is counted as it is."""


class Deep:
    """What a `Rehearsal` tells, of a model with many blocks. FLOPs and weights are exact. Of memory that grows with the
    batch and of that of the weights in bfloat16, which does not, one and two samples tell."""

    def __init__(self, config: BaseConfig, shape: Shape, bf16: bool, recompute: bool, scores: Scores, adapters: int):
        self.config, self.shape, self.bf16 = config, shape, bf16
        first = 2 + config.blocks % 2
        self.pairs = (config.blocks - first) // 2
        """Pairs of blocks that the shallow model has not."""
        taps, shallow = len(default_taps(config.blocks)), _of_depth(_without_autoencoder(config), first)
        self._given = (bf16, recompute, scores, adapters, taps)
        self.shallow = _shallow(shallow, replace(shape, batch=1), *self._given)

    def cost(self, part: str, mode: Mode, full: bool = False) -> Cost:
        """Of one pass of a part for a whole batch; full: in float32."""
        b = self.shape.batch
        if part == "encode":  # one sample after the other: of the others there are the pictures
            one = self._by_latents(part, mode, full)
            return replace(one * b, working=one.working + (b - 1) * self.shallow.hr_bytes)
        if part in OF_LATENTS:
            return self._by_latents(part, mode, full) * b
        one = self._whole(self.shallow, part, mode, full)
        if mode != "train" or b == 1:
            return one * b
        two = _shallow(self.shallow.generator.config, replace(self.shape, batch=2), *self._given)
        return line(one, self._whole(two, part, mode, full), b - 1)

    def _whole(self, work: Rehearsal, part: str, mode: Mode, full: bool) -> Cost:
        """With all blocks; what a block works with is there once only."""
        found = work.cost(part, mode, full)
        return found + work.pairs[mode, full and mode != "forward"] * self.pairs if part in DENOISERS else found

    def _by_latents(self, part: str, mode: Mode, full: bool) -> Cost:
        """Of one sample, from two and three latents."""
        two, three = (self._autoencoder(latents).cost(part, mode, full) for latents in (2, 3))
        return line(two, three, WAN.latents(self.shape.frames) - 2)

    def _autoencoder(self, latents: int) -> Rehearsal | Deep:
        """Of a model that is hardly more than its autoencoder."""
        shape = Shape(1, WAN.time * (latents - 1) + 1, self.shape.patch)
        return rehearsal(self.config.with_values(transformer=_tiny().transformer), shape, self.bf16, False)

    def parameters(self, part: str) -> int:
        """How many weights a part has."""
        if part in ("codec", "pair"):
            return self._autoencoder(2).parameters(part)
        return self.shallow.parameters(part) + self._more(part, own=False)

    def own(self, part: str) -> int:
        """Those of them that belong to one network alone."""
        if part in ("codec", "pair"):
            return self.parameters(part)
        return self.shallow.own(part) + self._more(part, own=True)

    def _more(self, part: str, own: bool) -> int:
        """Weights of the blocks that the shallow model has not."""
        if part not in DENOISERS:
            return 0
        last = list(self.shallow.generator.network.blocks)[-2:]
        return self.pairs * sum(count_of(block, own and self.shallow.adapters > 0) for block in last)

    @property
    def batch_bytes(self) -> int:
        """Of the tensors of a `Batch`."""
        return self.shallow.batch_bytes * self.shape.batch


def _tiny() -> BaseConfig:
    found = PRESETS["base-tiny-light"]
    assert isinstance(found, BaseConfig)
    return found


def _without_autoencoder(config: BaseConfig) -> BaseConfig:
    return config.with_values(autoencoder=None, light=_tiny().light)


def _of_depth(config: BaseConfig, blocks: int) -> BaseConfig:
    return config.with_values(transformer=replace(config.transformer, blocks=blocks))


@cache
def _shallow(
    config: BaseConfig, shape: Shape, bf16: bool, recompute: bool, scores: Scores, adapters: int, taps: int
) -> Rehearsal:
    return Rehearsal(config, shape, bf16, recompute, scores, adapters, taps, deep=True)


@cache
def rehearsal(
    config: AnyConfig, shape: Shape, bf16: bool, recompute: bool, scores: Scores = "both", adapters: int = 0
) -> Rehearsal | Deep:
    """One for each shape: counting again would give the same."""
    if isinstance(config, BaseConfig) and config.autoencoder is None:  # stages have one beside the light pair
        known = PRESETS["base-tiny" if "tiny" in config.name else "base"]
        assert isinstance(known, BaseConfig)
        return rehearsal(config.with_values(autoencoder=known.autoencoder), shape, bf16, recompute, scores, adapters)
    if isinstance(config, BaseConfig) and config.blocks > SHALLOW:
        return Deep(config, shape, bf16, recompute, scores, adapters)
    return Rehearsal(config, shape, bf16, recompute, scores, adapters)
