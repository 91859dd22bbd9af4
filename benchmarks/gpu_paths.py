"""The parts of a run, one by one, with random weights: what `gpu.py` times.

A path takes a window of LR frames as bytes and gives the window's new output frames as bytes. `slow` is the trainer's:
plain modules, nothing folded. `fast` is made of the engine's parts; `compiled` is that with its network compiled,
`streams` that with decoding on a second stream, which shows in whole windows in a row alone. `engine` is the engine
itself, see gpu_engine.py.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from duovsr_vs.engine.pixels import bytes_from_rgb
from duovsr_vs.engine.transfer import Pending, SideStream
from duovsr_vs.model.codec import to_latent_grid
from duovsr_vs.model.compose import compose
from duovsr_vs.model.config import CELL, SCALE, ModelConfig
from duovsr_vs.model.consistency import to_take_off
from duovsr_vs.model.generator import Generator
from duovsr_vs.model.resample import enlarge, shrink
from duovsr_vs.model.wan.config import LATENT_CHANNELS, TIME, BaseConfig
from duovsr_vs.model.wan.fast import FastTransformer
from duovsr_vs.model.wan.fast_autoencoder import FastAutoencoder
from duovsr_vs.model.wan.generator import WanGenerator, clip_of, whole_tokens
from duovsr_vs.model.wan.transformer import WanTransformer

FORMS = ("fast", "slow", "engine", "streams", "compiled")
BF16 = torch.bfloat16


class Path(ABC):
    """config: of the model.  width, height: of the output."""

    beside = True
    """Whether transfers run beside the work."""
    streams = False
    """Whether windows are decoded on a second stream."""

    def __init__(self, config: Any, width: int, height: int, device: torch.device):
        self.config, self.device = config, device
        self.lr_size = (height // SCALE // CELL * CELL, width // SCALE // CELL * CELL)
        self.window, self.new = config.window + 2, config.stride

    def host(self, number: int = 0) -> Tensor:
        """A window of LR frames with its neighbours, (t+2 h w 3) bytes, in pinned memory on a machine with a GPU."""
        generator = torch.Generator().manual_seed(number)
        frames = torch.randint(0, 256, (self.window, *self.lr_size, 3), dtype=torch.uint8, generator=generator)
        return frames.pin_memory() if self.device.type == "cuda" else frames

    @staticmethod
    def floats(raw: Tensor) -> Tensor:
        """(t h w 3) bytes -> (1 t 3 h w) in [0, 1]."""
        return (raw.permute(0, 3, 1, 2).float() * (1 / 255)).contiguous()[None]

    @abstractmethod
    def condition(self, lr: Tensor) -> Any: ...

    @abstractmethod
    def network(self, condition: Any) -> Any: ...

    def decode(self, made: Any, condition: Any) -> Any:
        """What the network made, as `frame` takes it."""
        return made

    @abstractmethod
    def frame(self, made: Any, condition: Any, n: int) -> Tensor:
        """(3 H W) float32."""

    def frames(self, windows: Iterable[Tensor]) -> Iterator[Tensor]:
        """Output frames (H W 3) in bytes of windows that lie on the device."""
        for made, condition in self.made(windows):
            for n in range(self.new):
                yield bytes_from_rgb(self.frame(made, condition, n))

    def made(self, windows: Iterable[Tensor]) -> Iterator[tuple[Any, Any]]:
        """Decoded windows and their conditions; with two streams one is decoded while the network makes the next."""
        side = SideStream(self.device) if self.streams else None
        waiting: tuple[Pending[Any], Any] | None = None
        for raw in windows:
            condition = self.condition(self.floats(raw))
            latents = self.network(condition)
            if side is None:
                yield self.decode(latents, condition), condition
                continue
            # What decoding reads stays referenced until its result has been waited for.
            decode = partial(self.decode, latents, condition)
            pending = side.run(lambda *_: decode(), *tree_leaves(latents)), (latents, condition)  # noqa: B023
            if waiting is not None:
                yield waiting[0].result(), waiting[1][1]
            waiting = pending
        if waiting is not None:
            yield waiting[0].result(), waiting[1][1]


class SlowResidual(Path):
    """`nano`, `small`: as they are trained, under autocast."""

    beside = False

    def __init__(self, config: ModelConfig, width: int, height: int, device: torch.device):
        super().__init__(config, width, height, device)
        self.model = Generator(config).eval().requires_grad_(False).to(device)
        h, w = self.lr_size
        shape = 1, config.window, config.latent_channels, h // CELL, w // CELL
        self.noise = torch.randn(shape, device=device)
        self.quality = torch.tensor([config.best_class], device=device)

    def condition(self, lr: Tensor) -> Any:
        return self.model.condition(lr)

    def network(self, condition: Any) -> Any:
        with torch.autocast(self.device.type, BF16):
            return self.model.generate(self.noise, condition, self.quality)

    def decode(self, made: Any, condition: Any) -> Any:
        return self.model.decode(made.float(), condition)

    def frame(self, made: Any, condition: Any, n: int) -> Tensor:
        out: Tensor = enlarge(condition.base[0, n]) + made[0, n]
        return out


class FastResidual(Path):
    """`nano`, `small`: as the engine runs them."""

    def __init__(self, config: ModelConfig, width: int, height: int, device: torch.device):
        super().__init__(config, width, height, device)
        self.exact = Generator(config).eval().requires_grad_(False).to(device)
        self.exact.fold_for_one_step()
        self.model = copy.deepcopy(self.exact)
        for part in self.model.children():
            part.to(dtype=BF16).to(memory_format=torch.channels_last)
        h, w = self.lr_size
        noise = torch.randn(1, config.latent_channels, h // CELL, w // CELL, dtype=BF16, device=device)
        self.lifted = self.model.network.lift(noise.contiguous(memory_format=torch.channels_last))

    def compile(self) -> None:
        self.model.network.compile()

    def condition(self, lr: Tensor) -> Any:
        return self.exact.condition(lr)

    def network(self, condition: Any) -> Any:
        return self.model.one_step(condition, self.lifted, BF16)

    def frame(self, made: Any, condition: Any, n: int) -> Tensor:
        coefficients, seen = made
        return compose(condition.base[0, n], coefficients[n : n + 1], seen[n], 1.0)


class SlowBase(Path):
    """`base`, `base-fast`: the trainer's modules in bfloat16."""

    beside = False

    def __init__(self, config: BaseConfig, width: int, height: int, device: torch.device):
        super().__init__(config, width, height, device)
        with device:
            self.model = WanGenerator(config)
        self.model.set_constants()
        self.model = self.model.eval().requires_grad_(False).to(device, BF16)
        h, w = self.lr_size
        frames = 1 + config.window // TIME
        self.noise = torch.randn(1, frames, LATENT_CHANNELS, h // CELL, w // CELL, device=device)
        self.quality = torch.tensor([config.best_class], device=device)

    def condition(self, lr: Tensor) -> Any:
        return self.model.condition(lr)

    def network(self, condition: Any) -> Any:
        return self.model.generate(self.noise, condition, self.quality)

    def decode(self, made: Any, condition: Any) -> Any:
        """The residual, and what consistency takes off (t 3 h w)."""
        return torch.cat([part[0].to(BF16) for part in self.model.decoded(made, condition)])

    def frame(self, made: Any, condition: Any, n: int) -> Tensor:
        residual = made[n].float()
        mismatch = to_latent_grid(shrink(residual)[None]) - condition.missing[0, n][None]
        kappa = torch.full_like(mismatch[:, :1], self.config.kappa)
        seen = to_take_off(mismatch, kappa)[0]
        return enlarge(condition.base[0, n] - seen) + residual


class FastBase(SlowBase):
    """`base`, `base-fast`: folded transformer; pictures with their channels last."""

    beside = True

    def __init__(self, config: BaseConfig, width: int, height: int, device: torch.device):
        super().__init__(config, width, height, device)
        slow = self.model
        self.transformer = FastTransformer(slow.transformer, slow.context(self.quality))
        del slow.transformer
        if slow.autoencoder is not None:
            slow.autoencoder = FastAutoencoder(slow.autoencoder)  # type: ignore[assignment]
        for part in (slow.light_encoder, slow.light_decoder):
            if part is not None:
                part.to(memory_format=torch.channels_last)
        self.t = torch.ones(1)

    def compile(self) -> None:
        self.transformer.compile_blocks()

    def network(self, condition: Any) -> Any:
        seen, beside = (clip_of(whole_tokens(x)).to(BF16) for x in (self.noise, condition.latents))
        velocity = clip_of(self.transformer(seen, self.t, None, beside)).float()
        return self.noise - velocity[..., : self.noise.shape[-2], : self.noise.shape[-1]]


class OneBlock:
    """One block of the transformer at full width, with patch embedding and head, on five frames of an output size."""

    frames = 5

    def __init__(self, config: BaseConfig, form: str, width: int, height: int, device: torch.device):
        with device:
            slow = WanTransformer(replace(config.transformer, blocks=1)).to(BF16).eval().requires_grad_(False)
            shape = 1, LATENT_CHANNELS, 2, height // 16 * 2, width // 16 * 2
            self.z = torch.randn(shape, dtype=BF16)
        self.context = slow.learned_context(1)
        self.transformer = slow if form == "slow" else FastTransformer(slow, self.context)
        if form == "compiled":
            self.transformer.compile_blocks()  # type: ignore[union-attr]

    def __call__(self) -> Tensor:
        velocity: Tensor = self.transformer(self.z, torch.ones(1), self.context, self.z)
        return velocity


def path_of(config: Any, form: str, width: int, height: int, device: torch.device) -> Path:
    """A path with random weights."""
    torch.manual_seed(0)
    residual = isinstance(config, ModelConfig)
    if form == "slow":
        return (SlowResidual if residual else SlowBase)(config, width, height, device)
    fast = (FastResidual if residual else FastBase)(config, width, height, device)
    if form == "compiled":
        fast.compile()
    fast.streams = form == "streams"
    return fast
