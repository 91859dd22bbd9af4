"""A model's side of the quality benchmark: the engine on one clip, and the checks that need the engine."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from baselines import METHODS, enlarge, to_uint8
from torch import Tensor

from duovsr_vs.engine.options import Options
from duovsr_vs.engine.upscaler import Upscaler
from duovsr_vs.metrics.colour import Clip, Samples
from duovsr_vs.metrics.consistency import shrink_back_psnr
from duovsr_vs.metrics.seams import border_steps
from duovsr_vs.metrics.temporal import temporal_std

STATIC_FRAMES = 8
NOISE = 2.0
"""Deviation, of 255, of the noise of the static test."""
TILED_FRAMES = 3
TILE = 64
"""LR pixels: small enough to cut every clip of the benchmark both ways."""
_MARGIN = 32


def _tensors(lr: Clip) -> list[Tensor]:
    scaled = np.ascontiguousarray(lr.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)
    return list(torch.from_numpy(scaled))


def _samples(frame: Tensor) -> Samples:
    """(3 H W) in 0..1 -> float32 (H, W, 3) in 0..255."""
    return np.ascontiguousarray(frame.numpy().transpose(1, 2, 0)) * np.float32(255)


class ModelRun:
    """One model with its options; engines are made for each frame size and kept."""

    def __init__(self, options: Options):
        self.options = options
        self._engines: dict[tuple[Options, int, int], Upscaler] = {}

    def engine(self, lr: Clip, options: Options | None = None) -> Upscaler:
        key = (options or self.options, lr.shape[2], lr.shape[1])
        if key not in self._engines:
            self._engines = {key: Upscaler(*key)} | {k: v for k, v in self._engines.items() if k[1:] == key[1:]}
        return self._engines[key]

    def frames(self, lr: Clip, options: Options | None = None) -> Iterator[Samples]:
        """Output frames (H, W, 3) in float32, 0..255, with other options than the model's own where they are given."""
        return map(_samples, self.engine(lr, options).stream(_tensors(lr)))

    def upscale(self, lr: Clip, options: Options | None = None) -> tuple[Clip, float]:
        """Output rounded to 8 bits once, and the shrink-back PSNR (dB) of the float output before that."""
        frames, shrink = [], []
        for small, out in zip(lr, self.frames(lr, options), strict=True):
            shrink.append(shrink_back_psnr(small[None], out[None]))
            frames.append(to_uint8(out))
        return np.stack(frames), float(np.mean(shrink))

    def checks(self, lr: Clip) -> dict[str, Any]:
        """Tiles, base and static clip, on the first frames of one LR clip; also `window_step` where windows join."""
        return self._tiled(lr[:TILED_FRAMES]) | self._base(lr[:1]) | self._static(lr[:1]) | self._windows(lr)

    def _tiled(self, lr: Clip) -> dict[str, Any]:
        """Are tiles and whole frames bit-equal, and is there a step at the tiles' borders (1: none)?"""
        whole = list(self.engine(lr, replace(self.options, tile=max(lr.shape[1:3]))).stream(_tensors(lr)))
        engine = self.engine(lr, replace(self.options, tile=TILE))
        tiled = list(engine.stream(_tensors(lr)))
        a, b = (np.stack([_samples(f) for f in frames]) for frames in (whole, tiled))
        side = 4 * engine.plan.tile
        steps = [border_steps(b, a, range(side, b.shape[axis], side), axis) for axis in (1, 2) if side < b.shape[axis]]
        equal = all(torch.equal(x, y) for x, y in zip(whole, tiled, strict=True))
        return {"tile": engine.plan.tile, "tiled_equal": equal, "tile_step": max(steps, default=1.0)}

    def _base(self, lr: Clip) -> dict[str, Any]:
        """Greatest difference, in 1/255, of the engine at strength 0 from R as `baselines` computes it.

        The two continue a frame beyond its border on different grids, so a margin is left out.
        """
        engine = self.engine(lr, replace(self.options, strength=0.0))
        out = _samples(next(iter(engine.stream(_tensors(lr)))))
        away = np.abs(out - METHODS["base"](lr[0], 4))
        return {"base_difference": float(away[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN].max())}

    def _static(self, lr: Clip) -> dict[str, Any]:
        """Flicker (1/255) of a frame shown again and again, and with fresh noise, the latter over Lanczos's."""
        still = np.repeat(lr, STATIC_FRAMES, axis=0)
        noise = np.random.default_rng(0).normal(0, NOISE, still.shape)
        noisy = to_uint8(still + noise)
        return {
            "static_std": temporal_std(self.upscale(still)[0]),
            "static_noise_ratio": temporal_std(self.upscale(noisy)[0]) / temporal_std(enlarge(noisy, "lanczos")),
        }

    def _windows(self, lr: Clip) -> dict[str, Any]:
        """Step in time where windows join, relative to elsewhere and to Lanczos's; only for models with windows."""
        plan = self.engine(lr).plan
        stride = plan.window - plan.overlap
        if plan.window == 1 or stride >= len(lr):
            return {}
        out, reference = self.upscale(lr)[0], enlarge(lr, "lanczos")
        return {"window_step": border_steps(out, reference, range(stride, len(lr), stride), 0)}
