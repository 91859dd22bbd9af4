"""`duovsr models embed`: texts to the embeddings that `base` takes, by the text encoder on the user's own disk.

The encoder is umT5-xxl (arXiv 2304.09151), as Wan2.1 comes with it; transformers runs it (extra `embed`). It is needed
once: what it gives is kept in a small file, and upscaling needs that file alone.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ModelError, OptionError
from .exits import guarded

if TYPE_CHECKING:
    from torch import Tensor

LENGTH = 512
"""Tokens that are kept of a text."""
TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "tokenizer.model")

Encoder = Annotated[
    Path, typer.Option(help="Folder of a umT5 text encoder (config.json, *.safetensors).", show_default=False)
]
Text = Annotated[str, typer.Option(help="What the videos show and look like.", show_default=False)]
Null = Annotated[str | None, typer.Option(help="Text that guidance pushes away from, in training.", show_default=False)]
Output = Annotated[Path, typer.Option("--output", "-o", help="File to write.", show_default=False)]
Tokenizer = Annotated[
    Path | None, typer.Option(help="Folder of its tokenizer (default: the encoder's, or `tokenizer` beside it).")
]


def register(app: typer.Typer) -> None:
    """Add the command to a group."""
    app.command(name="embed", no_args_is_help=True)(embed_command)


def embed_command(encoder: Encoder, text: Text, output: Output, null: Null = None, tokenizer: Tokenizer = None) -> None:
    """Make the embedding file of a text for `base`, with transformers and a umT5 encoder on this disk."""
    with guarded():
        run(encoder, text, null, output, tokenizer)


def run(encoder: Path, text: str, null: str | None, output: Path, tokenizer: Path | None = None) -> None:
    """Write `prompt` (n c) and, with a null text, `null` (m c). OptionError, ModelError."""
    if output.suffix != ".safetensors" or not output.resolve().parent.is_dir():
        raise OptionError(f"-o {output}: the name of a .safetensors file in a folder that exists is needed")
    folder = tokenizer_folder(encoder, tokenizer)
    texts = {"prompt": cleaned(text)} | ({} if null is None else {"null": cleaned(null)})
    embeddings = embedded(encoder, folder, texts)
    from safetensors.torch import save_file

    part = output.with_name(output.name + ".part")
    save_file(embeddings, part, {"format": "duovsr-embedding", "version": "1", **texts})
    part.replace(output)
    for name, tensor in embeddings.items():
        print(f"{name}: {tensor.shape[0]} tokens of width {tensor.shape[1]}")
    print(f"written to {output}")


def cleaned(text: str) -> str:
    """Runs of white space count as one space."""
    return re.sub(r"\s+", " ", text).strip()


def tokenizer_folder(encoder: Path, given: Path | None) -> Path:
    """Where the tokenizer lies. ModelError if encoder or tokenizer are not there."""
    if not (encoder / "config.json").is_file():
        raise ModelError(
            f"{encoder} is no folder of a text encoder (it has no config.json); give the folder `text_encoder` of "
            "Wan2.1 in the diffusers layout, or of umT5-xxl"
        )
    places = [given] if given is not None else [encoder, encoder.parent / "tokenizer"]
    for place in places:
        if any((place / name).is_file() for name in TOKENIZER_FILES):
            return place
    names = " or ".join(str(place) for place in places)
    raise ModelError(f"no tokenizer ({', '.join(TOKENIZER_FILES)}) lies in {names}; name its folder with --tokenizer")


def embedded(encoder: Path, tokenizer: Path, texts: dict[str, str]) -> dict[str, Tensor]:
    """The encoder's last states (n c) for the tokens of each text, without what fills it up; bfloat16."""
    transformers = _transformers()
    import torch

    try:
        words: Any = transformers.AutoTokenizer.from_pretrained(str(tokenizer), local_files_only=True)
        model: Any = transformers.UMT5EncoderModel.from_pretrained(
            str(encoder), local_files_only=True, dtype=torch.bfloat16, use_safetensors=True
        )
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        raise ModelError(
            f"the text encoder in {encoder} cannot be loaded: {' '.join(str(error).split())}"[:400]
        ) from error
    model.eval()
    out = {}
    with torch.inference_mode():
        for name, text in texts.items():
            found = words(text, max_length=LENGTH, truncation=True, add_special_tokens=True, return_tensors="pt")
            states = model(input_ids=found["input_ids"], attention_mask=found["attention_mask"]).last_hidden_state
            out[name] = states[0].to(torch.bfloat16).contiguous().clone()
    return out


def _transformers() -> Any:
    """The library, kept from the network. OptionError with the line that installs it."""
    import os

    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        return importlib.import_module("transformers")
    except ImportError:
        raise OptionError(
            'text embeddings need transformers, which is not installed: pip install "duovsr[embed]"'
        ) from None
