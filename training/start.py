"""What a run begins with: weights of a stage, or a model file, such as `duovsr models convert` makes of Wan's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from duovsr_vs.errors import ModelError
from duovsr_vs.model.checkpoint import DETAILED, FAITHFUL, GOLDEN
from duovsr_vs.model.config import ModelConfig
from duovsr_vs.model.wan.config import BaseConfig
from training.architecture import check_architecture
from training.checkpoints import TrainingError, read_facts, read_tensors
from training.families import config_of
from training.growth import can_grow, grown

_SETS = tuple(f"{name}." for name in (DETAILED, FAITHFUL))
_FOREIGN = ("patch_embedding.weight", "condition_embedder.time_proj.weight", "decoder.conv_in.weight")
"""Ends of names that only files of other programs have without our prefixes before them."""


def start_weights(path: Path, model: str) -> dict[str, Tensor]:
    """Weights of a whole network of a preset, float32: of a model file those of the detailed end of its dial.

    Those of a smaller network of the same kind are grown: the preset then computes what that one did.

    TrainingError: not readable, another program's, or of another architecture; says what is needed.
    """
    tensors = read_tensors(path)
    weights = one_set(tensors)
    if weights is tensors and any(name.endswith(_FOREIGN) and not name.startswith("transformer.") for name in tensors):
        raise TrainingError(
            f"{path} has the names of another program's weights; make a model file of it first: "
            "duovsr models convert --transformer FILE --vae FILE -o base.safetensors"
        )
    _check_context(weights, model, path)
    if can_grow(weights, model):
        weights = grown(weights, model)
    check_architecture(weights, model, path)
    return dict(weights)


def smaller_start(path: Path, model: str) -> str:
    """What `start_weights` would grow, in words; empty if it takes the weights as they are."""
    if not isinstance(config_of(model), ModelConfig) or not can_grow(one_set(read_tensors(path)), model):
        return ""
    facts = read_facts(path)
    return f"{facts.get('model', 'a smaller model')} after {facts.get('steps', 'unknown')} updates"


def _check_context(weights: Mapping[str, Tensor], model: str, path: Path) -> None:
    """TrainingError: a text where tokens are learned, or the reverse; names the preset to give."""
    config, tokens = config_of(model), weights.get("transformer.context")
    if not isinstance(config, BaseConfig) or tokens is None:
        return
    wanted = config.transformer
    is_text = tokens.shape[1] == wanted.text_length
    if is_text and not wanted.text:
        raise TrainingError(
            f"{path} holds the tokens of a text, and {model} learns tokens of its own; give --model {model}-text"
        )
    if wanted.text and not is_text:
        raise TrainingError(
            f"{path} holds no tokens of a text, which {model} needs; make it with --embedding, or give --model "
            f"{model.removesuffix('-text')}"
        )


def autoencoder_weights(path: Path) -> dict[str, Tensor]:
    """Those of `start_weights` that belong to the video autoencoder, of a model of any size.

    TrainingError: there are none.
    """
    found = {name: t for name, t in one_set(read_tensors(path)).items() if name.startswith("autoencoder.")}
    if not found:
        raise TrainingError(
            f"{path} holds no video autoencoder; give a model file of base, as `duovsr models convert` makes it"
        )
    return found


def one_set(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The detailed set of a model file's tensors, else the faithful one; what is no model file stays as it is."""
    for prefix in _SETS:
        found = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        if found:
            return found
    if any(name.startswith(f"{GOLDEN}.") for name in tensors):
        raise ModelError("the model file holds no set of weights; export it again")
    return tensors
