"""`duovsr models convert`: Wan2.1-T2V-1.3B's public files, or a trained `base` and a light pair, to one model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import OptionError
from ..model.registry import in_bytes, stages_of
from .exits import guarded

if TYPE_CHECKING:
    from ..model.wan.convert import Converted

TYPES = ("auto", "bfloat16", "float16", "float32")

Transformer = Annotated[
    Path,
    typer.Option(
        help="Wan2.1-T2V-1.3B: .safetensors file, folder, or index of shards; or a trained model of base.",
        show_default=False,
    ),
]
Vae = Annotated[
    Path | None, typer.Option(help="Wan2.1's VAE (default: in the transformer's file or folder).", show_default=False)
]
Embedding = Annotated[
    Path | None, typer.Option(help="Embeddings of a text (default: learned tokens).", show_default=False)
]
Light = Annotated[Path | None, typer.Option(help="Trained light pair, for base-fast.", show_default=False)]
Output = Annotated[Path, typer.Option("--output", "-o", help="The model file to write.", show_default=False)]
Type = Annotated[str, typer.Option("--dtype", help="auto (as stored), bfloat16, float16 or float32.")]
Full = Annotated[bool, typer.Option("--full-attention", help="No windows of attention.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the command to a group."""
    app.command(name="convert", no_args_is_help=True)(convert_command)


def convert_command(
    transformer: Transformer,
    output: Output,
    vae: Vae = None,
    embedding: Embedding = None,
    light: Light = None,
    dtype: Type = "auto",
    full_attention: Full = False,
    overwrite: Overwrite = False,
) -> None:
    """Make a model of `base` from Wan2.1-T2V-1.3B's public files, to be trained; or `base-fast` from one that was."""
    with guarded():
        _refuse(output, dtype, overwrite, [path for path in (transformer, vae, embedding, light) if path])
        import torch

        from ..model.wan.convert import Sources, convert

        sources = Sources(transformer=transformer, autoencoder=vae, embedding=embedding, light=light)
        kind = None if dtype == "auto" else getattr(torch, dtype)
        made = convert(sources, output, kind, windowed=not full_attention)
        print(f"{output}: {made.config.name}, {in_bytes(output.stat().st_size)}, {made.hash}")
        _tell(made, output)


def _tell(made: Converted, output: Path) -> None:
    """Where the model comes from, and what to do with it."""
    for name in ("from", "weights", "context", "light", "licence"):
        if name in made.provenance:
            print(f"{name:<8} {made.provenance[name]}")
    print(f"stages   {stages_of(made.provenance)}")
    if made.is_trained:
        print(f"next     duovsr upscale IN -o OUT --model {output}")
        return
    print("next     it is of no use before it is trained for upscaling:")
    text = " --model base-text" if made.config.transformer.text else ""
    print(f"         python -m training run --recipe paper{text} --data DIR --from {output}")


def _refuse(output: Path, dtype: str, overwrite: bool, sources: list[Path]) -> None:
    """OptionError before anything is read."""
    if dtype not in TYPES:
        raise OptionError(f"--dtype {dtype}: known are {', '.join(TYPES)}")
    if output.suffix != ".safetensors" or output.is_dir() or not output.absolute().parent.is_dir():
        raise OptionError(f"-o {output}: the name of a .safetensors file in a folder that exists is needed")
    if output.exists() and any(path.exists() and output.samefile(path) for path in sources):
        raise OptionError(f"-o {output} is one of the files to read; give another name")
    if output.exists() and not overwrite:
        raise OptionError(f"-o {output} exists; give --overwrite to replace it, or another name")
