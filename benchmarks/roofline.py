"""How fast a machine could run each model at most: counted FLOPs and bytes per part, without a GPU.

    python benchmarks/roofline.py [--size WxH ...] [--tflops N] [--tbytes N] [--preset NAME ...] [--json FILE]

Arithmetic and traffic of every operation are counted as PyTorch runs them one by one in bfloat16, attention and norms
fused; what compiling would save is not. The limit is max(FLOPs / rate, bytes / bandwidth) of each part, one part after
another. Products, convolutions and attention are counted as FLOPs, everything as bytes, on tensors without data. `base`
goes in windows of 21 frames of which 16 are new; its sides are filled up to multiples of 16. Its back-projection and
consistency, which are little beside the rest, are not counted.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import environment
import torch
from arguments import RESULTS
from tables import table
from torch import Tensor
from traffic import Cost, counted

from duovsr_vs.model.compose import compose
from duovsr_vs.model.config import CELL, SCALE, ModelConfig
from duovsr_vs.model.family import PRESETS
from duovsr_vs.model.generator import Generator
from duovsr_vs.model.wan import config as wan
from duovsr_vs.model.wan.autoencoder import WanAutoencoder
from duovsr_vs.model.wan.config import LATENT_CHANNELS, SPACE, TIME, BaseConfig
from duovsr_vs.model.wan.fast import FastTransformer
from duovsr_vs.model.wan.fast_autoencoder import FastAutoencoder
from duovsr_vs.model.wan.light import LightDecoder, LightEncoder
from duovsr_vs.model.wan.transformer import WanTransformer

GRID = 16
"""HR sides of `base` are filled up to multiples of this."""
SIZES = ["1280x720", "1920x1080", "2560x1440", "3840x2160"]
H200 = 790.0, 4.3
"""Dense bfloat16 TFLOP/s and TB/s that were measured on one (the data sheet says 989 and 4.8)."""
Parts = dict[str, Cost]


def size_of(text: str) -> tuple[int, int]:
    """WxH of the output."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and min(int(width), int(height)) >= 64):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; give WxH of the output, such as 1920x1080")
    return int(width), int(height)


def per_frame(cost: Cost, frames: int) -> Cost:
    """The cost of one of so many new frames."""
    return Cost(cost.flops / frames, cost.bytes / frames, cost.operations)


@cache
def parts_of(config: ModelConfig | BaseConfig, width: int, height: int, fast: bool = False) -> Parts:
    """What a model computes for one output frame of that size, part by part.

    fast: `base` on the engine's path, which moves less and computes the same; the others are always counted on it.
    """
    if isinstance(config, ModelConfig):
        return convolutional(config, width, height)
    size = width, height
    encoded, decoded = light(config, *size) if config.light is not None else large(config, *size, fast)
    costs = {"encode": encoded, "transformer": moved(config, *size, fast), "decode": decoded}
    return {name: per_frame(cost, config.stride) for name, cost in costs.items()}


def convolutional(config: ModelConfig, width: int, height: int) -> Parts:
    """Of the family of `nano` and `small`."""
    model = Generator(config).eval()
    model.fold_for_one_step()
    for part in model.children():
        part.bfloat16()
    model = model.to("meta")
    w, h = (-(-side // (SCALE * CELL)) * CELL for side in (width, height))
    lr = torch.empty(1, config.window + 2, 3, h, w, device="meta")
    noise = torch.empty(1, config.latent_channels, h // CELL, w // CELL, dtype=torch.bfloat16, device="meta")
    seen, condition = counted(lambda: model.condition(lr))
    lifted = model.network.lift(noise)
    made, (coefficients, taken) = counted(lambda: model.one_step(condition, lifted, torch.bfloat16))
    composed, _ = counted(lambda: compose(condition.base[0, 0], coefficients[:1], taken[0], 1.0))
    new = config.stride
    return {"condition": per_frame(seen, new), "network": per_frame(made, new), "output frame": composed}


def _sides(width: int, height: int) -> tuple[int, int]:
    return -(-height // GRID) * GRID, -(-width // GRID) * GRID


def _latents(config: BaseConfig, width: int, height: int) -> Tensor:
    h, w = _sides(width, height)
    return torch.empty(1, LATENT_CHANNELS, 1 + config.window // TIME, h // SPACE, w // SPACE, dtype=torch.bfloat16)


def moved(config: BaseConfig, width: int, height: int, fast: bool) -> Cost:
    """Of the transformer, for a window."""
    with torch.device("meta"):
        slow = WanTransformer(config.transformer).bfloat16()
        z, context = _latents(config, width, height), slow.learned_context(1)
        transformer = FastTransformer(slow, context) if fast else slow
        t = torch.ones(1, device="cpu" if fast else "meta")
        return counted(lambda: transformer(z, t, context, z))[0]


def large(config: BaseConfig, width: int, height: int, fast: bool) -> tuple[Cost, Cost]:
    """Encoding and decoding a window by the autoencoder."""
    assert config.autoencoder is not None
    with torch.device("meta"):
        slow = WanAutoencoder(config.autoencoder).bfloat16()
        autoencoder = FastAutoencoder(slow) if fast else slow
        frames = torch.empty(1, 3, config.window, *_sides(width, height), dtype=torch.bfloat16)
        z = _latents(config, width, height)
        return counted(lambda: autoencoder.encode(frames))[0], counted(lambda: autoencoder.decode(z))[0]


def light(config: BaseConfig, width: int, height: int) -> tuple[Cost, Cost]:
    """The same by the light pair, which sees the LR."""
    assert config.light is not None
    with torch.device("meta"):
        encoder, decoder = (kind(config.light).bfloat16() for kind in (LightEncoder, LightDecoder))
        lr_sides = (side // SCALE for side in _sides(width, height))
        lr = torch.empty(1, 3, config.window, *lr_sides, dtype=torch.bfloat16)
        encoded, latents = counted(lambda: encoder(lr))
        return encoded, counted(lambda: decoder(latents, lr))[0]


def _full(config: BaseConfig) -> BaseConfig:
    return config.with_values(transformer=replace(config.transformer, attention_window=0))


CONFIGS: dict[str, tuple[ModelConfig | BaseConfig, bool]] = {
    "nano": (PRESETS["nano"], True),
    "small": (PRESETS["small"], True),
    "base-fast": (PRESETS["base-fast"], True),
    "base-fast, slow path": (PRESETS["base-fast"], False),
    "base": (PRESETS["base"], True),
    "base, slow path": (PRESETS["base"], False),
    "base, full attention": (_full(wan.PRESETS["base"]), True),
}
"""Name -> the model, and whether it is counted on the engine's path."""


def rows_of(name: str, size: tuple[int, int], parts: Parts, rates: tuple[float, float]) -> list[list[str]]:
    """A line per part and one for the whole."""
    rows = []
    total = sum(cost.seconds(*rates) for cost in parts.values())
    for part, cost in parts.items():
        seconds = cost.seconds(*rates)
        bound = "arithmetic" if cost.flops / rates[0] > cost.bytes / rates[1] else "memory"
        rows.append(
            [name, f"{size[0]}x{size[1]}", part, f"{cost.flops / 1e12:.3g}", f"{cost.bytes / 1e9:.3g}",
             f"{1000 * seconds:.3g}", bound, ""]
        )  # fmt: skip
    whole = [sum(getattr(cost, field) for cost in parts.values()) for field in ("flops", "bytes")]
    rows.append(
        [name, f"{size[0]}x{size[1]}", "all", f"{whole[0] / 1e12:.3g}", f"{whole[1] / 1e9:.3g}",
         f"{1000 * total:.3g}", "", f"{1 / total:.3g}"]
    )  # fmt: skip
    return rows


def parse(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add(
        "--size",
        nargs="+",
        type=size_of,
        default=[size_of(s) for s in SIZES],
        help=f"of the output ({' '.join(SIZES)})",
    )
    add("--tflops", type=float, default=H200[0], help=f"TFLOP/s of the machine ({H200[0]:g}, an H200)")
    add("--tbytes", type=float, default=H200[1], help=f"TB/s of its memory ({H200[1]:g}, an H200)")
    add("--preset", nargs="+", choices=CONFIGS, default=list(CONFIGS), help="which models (all)")
    add("--json", type=Path, default=RESULTS / "roofline.json", help="file for the record")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    args = parse(given)
    rates = args.tflops, args.tbytes
    rows: list[list[str]] = []
    record: dict[str, Any] = {"tflops": args.tflops, "tbytes": args.tbytes, "costs": []}
    for name in args.preset:
        for size in args.size:
            config, quick = CONFIGS[name]
            parts = parts_of(config, *size, quick)
            rows += rows_of(name, size, parts, rates)
            costs = {part: asdict(cost) for part, cost in parts.items()}
            record["costs"].append({"preset": name, "size": size, "per_frame": costs})
    head = ["preset", "output", "part", "TFLOP", "GB", "ms at least", "bound by", "fps at most"]
    print("\n".join(table(head, rows)))
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(record | {"machine": environment.describe()}, indent=1) + "\n")
    print(f"written to {args.json}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
