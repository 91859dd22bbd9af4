"""Costs of deep models from shallow ones: every second block is like the one two before it, every sample like another,
and an autoencoder works on every latent but the first alike.

`base` has thirty blocks; counting two and four of them, for one sample, tells what thirty cost for any number.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from duovsr_vs.model.family import PRESETS, AnyConfig
from duovsr_vs.model.wan.config import PATCH, BaseConfig
from training.costs import DENOISERS, Cost, Mode, Rehearsal, Shape
from training.discriminator import Scores, default_taps
from training.families import WAN

OF_LATENTS = ("encode", "autoencoder", "pair", "features")
"""Parts that work on one latent after the other."""
SHALLOW = 4
"""Blocks up to which a model is counted as it is."""


class Deep:
    """What a `Rehearsal` tells, of a model with many blocks. FLOPs and weights are exact; what graphs keep is a little
    less than is said, since weights in bfloat16 are counted for every sample."""

    def __init__(self, config: BaseConfig, shape: Shape, bf16: bool, recompute: bool, scores: Scores, adapters: int):
        self.config, self.shape, self.bf16, self.recompute = config, shape, bf16, recompute
        first = 2 + config.blocks % 2
        self.pairs = (config.blocks - first) // 2
        taps, alone = len(default_taps(config.blocks)), _without_autoencoder(config)
        self.low, self.high = (
            _shallow(_of_depth(alone, n), replace(shape, batch=1), bf16, scores, adapters, taps)
            for n in (first, first + 2)
        )

    def cost(self, part: str, mode: Mode, full: bool = False) -> Cost:
        """Of one pass of a part for a whole batch; full: in float32."""
        if part in OF_LATENTS:
            return self._by_latents(part, mode, full) * self.shape.batch
        if part not in DENOISERS:
            return self.low.cost(part, mode, full) * self.shape.batch
        low, pair = self.low.cost(part, mode, full), self._pair(part, mode, full)
        if self.recompute and mode != "forward":
            return self._recomputed(low, pair, self._pair(part, "forward", full), full) * self.shape.batch
        return (low + pair * self.pairs) * self.shape.batch

    def _pair(self, part: str, mode: Mode, full: bool) -> Cost:
        """Of two blocks."""
        return self.high.cost(part, mode, full) + self.low.cost(part, mode, full) * -1

    def _recomputed(self, low: Cost, pair: Cost, forward: Cost, full: bool) -> Cost:
        """Each block runs once more, and keeps its input only; all of one is there while it is gone through again."""
        blocks, first = self.config.blocks, self.low.generator.config.blocks
        width, half = self.config.channels, self.bf16 and not full
        tokens = replace(self.shape, batch=1).tokens_of(self.config) // (PATCH[1] * PATCH[2])
        inputs = blocks * tokens * width * (2 if half else 4)
        outside = low.kept - first * pair.kept // 2
        network = low.network + pair.network * self.pairs + forward.network * blocks // 2
        return Cost(network, low.fixed + pair.fixed * self.pairs, outside + inputs + pair.kept // 2)

    def _by_latents(self, part: str, mode: Mode, full: bool) -> Cost:
        """From two and three latents."""
        two, three = (self._autoencoder(latents).cost(part, mode, full) for latents in (2, 3))
        return two + (three + two * -1) * (WAN.latents(self.shape.frames) - 2)

    def _autoencoder(self, latents: int) -> Rehearsal | Deep:
        """Of a model that is hardly more than its autoencoder."""
        shape = Shape(1, WAN.time * (latents - 1) + 1, self.shape.patch)
        return rehearsal(self.config.with_values(transformer=_tiny().transformer), shape, self.bf16, False)

    def _sum(self, low: int, high: int, part: str) -> int:
        return low + (high - low) * self.pairs if part in DENOISERS else low

    def parameters(self, part: str) -> int:
        """How many weights a part has."""
        if part in ("codec", "pair"):
            return self._autoencoder(2).parameters(part)
        return self._sum(self.low.parameters(part), self.high.parameters(part), part)

    def own(self, part: str) -> int:
        """Those of them that belong to one network alone."""
        if part in ("codec", "pair"):
            return self.parameters(part)
        return self._sum(self.low.own(part), self.high.own(part), part)

    @property
    def batch_bytes(self) -> int:
        """Of the tensors of a `Batch`."""
        return self.low.batch_bytes * self.shape.batch


def _tiny() -> BaseConfig:
    found = PRESETS["base-tiny-light"]
    assert isinstance(found, BaseConfig)
    return found


def _without_autoencoder(config: BaseConfig) -> BaseConfig:
    return config.with_values(autoencoder=None, light=_tiny().light)


def _of_depth(config: BaseConfig, blocks: int) -> BaseConfig:
    return config.with_values(transformer=replace(config.transformer, blocks=blocks))


@cache
def _shallow(config: BaseConfig, shape: Shape, bf16: bool, scores: Scores, adapters: int, taps: int) -> Rehearsal:
    return Rehearsal(config, shape, bf16, False, scores, adapters, taps)


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
