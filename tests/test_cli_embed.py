"""`duovsr models embed`: texts through a text encoder on this disk, or a sentence that says what is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from duovsr_vs.cli import embed
from duovsr_vs.errors import ModelError, OptionError
from duovsr_vs.model.wan.config import TransformerConfig
from duovsr_vs.model.wan.embedding import read_embedding

Cli = Callable[..., tuple[int, str, str]]
WORDS = ["<pad>", "</s>", "<unk>", "a", "sharp", "film", "blurred"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny umT5 with random weights, in the layout of a diffusers folder: text_encoder and tokenizer side by side."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("umt5")
    torch.manual_seed(0)
    config = transformers.UMT5Config(
        vocab_size=len(WORDS), d_model=20, d_kv=5, d_ff=24, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    transformers.UMT5EncoderModel(config).save_pretrained(folder / "text_encoder")
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", WORDS.index("</s>"))]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(folder / "tokenizer")
    return folder / "text_encoder"


def states(encoder: Path, numbers: list[int]) -> Tensor:
    """What the encoder gives for some tokens, by transformers itself, in float32."""
    import transformers

    model = transformers.UMT5EncoderModel.from_pretrained(encoder)
    with torch.no_grad():
        out: Tensor = model(input_ids=torch.tensor([numbers])).last_hidden_state[0]
    return out


def test_a_text_becomes_the_encoders_states_and_base_reads_them(encoder: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "e.safetensors"
    code, said, errors = cli(
        "models", "embed", "--encoder", encoder, "--text", " a  sharp\nfilm ", "--null", "blurred", "-o", out
    )
    assert code == 0, errors
    assert "prompt: 4 tokens of width 20" in said and "null: 2 tokens of width 20" in said
    found = read_embedding(out, TransformerConfig(width=48, heads=2, blocks=1, text_width=20, text_length=12))
    assert found.null is not None
    for tensor, numbers in ((found.text, [3, 4, 5, 1]), (found.null, [6, 1])):
        expected = states(encoder, numbers)
        assert tensor.shape == (1, *expected.shape)
        assert float((tensor[0].float() - expected).abs().max()) < 0.03 * float(expected.abs().max())
    with safe_open(out, "pt") as file:
        assert file.metadata()["prompt"] == "a sharp film"


def test_without_a_null_text_there_is_one_tensor(encoder: Path, tmp_path: Path) -> None:
    embed.run(encoder, "a film", None, tmp_path / "e.safetensors")
    with safe_open(tmp_path / "e.safetensors", "pt") as file:
        assert list(file.keys()) == ["prompt"]


def test_without_transformers_a_sentence_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(OptionError, match=r'text embeddings need transformers.* pip install "duovsr\[embed\]"'):
        embed.run(folder_of(tmp_path), "a", None, tmp_path / "e.safetensors")


def folder_of(path: Path) -> Path:
    """Looks like an encoder's folder."""
    (path / "config.json").write_text("{}")
    (path / "tokenizer.json").write_text("{}")
    return path


def test_other_folders_are_refused_in_words(tmp_path: Path) -> None:
    out = tmp_path / "e.safetensors"
    with pytest.raises(ModelError, match=r"is no folder of a text encoder \(it has no config.json\)"):
        embed.run(tmp_path / "nowhere", "a", None, out)
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no tokenizer .* lies in .* name its folder with --tokenizer"):
        embed.run(tmp_path / "encoder", "a", None, out)
    assert not out.exists()


def test_an_encoder_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ModelError, match="cannot be loaded"):
        embed.run(folder_of(tmp_path), "a", None, tmp_path / "e.safetensors")


@pytest.mark.parametrize("name", ["e.bin", "nowhere/e.safetensors"])
def test_other_names_for_the_result_are_refused_first(tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionError, match=r"the name of a \.safetensors file in a folder that exists is needed"):
        embed.run(tmp_path, "a", None, tmp_path / name)


def test_help_loads_neither_torch_nor_transformers(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    code, said, _ = cli("models", "embed", "--help")
    assert code == 0 and "--encoder" in said


def test_the_network_is_never_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the user's environment allows it."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    module: Any = type(sys)("transformers")
    monkeypatch.setitem(sys.modules, "transformers", module)
    assert embed._transformers() is module
    import os

    assert os.environ["HF_HUB_OFFLINE"] == "1"
