"""Model files: what is written is read again, and what is not a model is refused by a sentence that says why."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import random_weights
from safetensors.torch import save_file
from torch import Tensor

from duovsr_vs.errors import ModelError, OptionError
from duovsr_vs.model import registry
from duovsr_vs.model.checkpoint import DETAILED, FAITHFUL, Golden, load, model_hash, read_golden, save
from duovsr_vs.model.config import PRESETS, ModelConfig
from duovsr_vs.model.generator import Generator

TINY = PRESETS["tiny"]
CONFIGURATIONS = [
    TINY,
    PRESETS["toy"],
    TINY.with_values(channels=8, heads=1, blocks=3),
    TINY.with_values(attention_every=1, attention_window=6, window=5, overlap=2, chunk=3),
    TINY.with_values(attention_every=2, blocks=4, heads=4, channels=24),
    TINY.with_values(quality_classes=5, back_projections=0, latent_std=tuple(0.5 + n for n in range(24))),
]


def written(path: Path, config: ModelConfig = TINY, **sets: dict[str, Tensor]) -> Path:
    save(path, config, sets or {DETAILED: random_weights(config, 0)}, {"stages": ["random"]})
    return path


@pytest.mark.parametrize("number", range(len(CONFIGURATIONS)))
@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
def test_what_is_saved_is_loaded(tmp_path: Path, number: int, dtype: torch.dtype | None) -> None:
    config, path = CONFIGURATIONS[number], tmp_path / "model.safetensors"
    weights = random_weights(config, 0)
    saved = save(path, config, {DETAILED: weights}, {"licence": "CC0", "stages": ["a", "b"]}, dtype=dtype)
    model = load(path)
    assert (model.hash, model.config) == (saved, config)
    assert model.provenance == {"licence": "CC0", "stages": ["a", "b"]}
    state = model.generator.state_dict()
    assert state.keys() == weights.keys()
    for name, tensor in weights.items():
        assert state[name].dtype == torch.float32
        assert torch.equal(state[name], tensor.to(dtype or tensor.dtype).float()), name
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("config", [*PRESETS.values(), *CONFIGURATIONS])
def test_a_configuration_survives_json(config: ModelConfig) -> None:
    assert ModelConfig.from_json(config.to_json()) == config


def test_the_dial_interpolates_weights(tmp_path: Path) -> None:
    a, b = random_weights(TINY, 0), random_weights(TINY, 1)
    path = written(tmp_path / "two.safetensors", TINY.with_values(default_detail=0.25), **{FAITHFUL: a, DETAILED: b})
    for detail, position in ((0.0, 0.0), (1.0, 1.0), (0.5, 0.5), (None, 0.25)):
        model = load(path, detail)
        assert model.detail == position
        for name, tensor in model.generator.state_dict().items():
            torch.testing.assert_close(tensor, (1 - position) * a[name] + position * b[name])


def test_a_dial_without_a_second_set_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "one.safetensors")
    with pytest.raises(
        OptionError, match=r"^detail=0\.5: one\.safetensors holds one set of weights, .*; leave it out$"
    ):
        load(path, 0.5)


def test_the_golden_frame_is_read_back(tmp_path: Path) -> None:
    golden = Golden(torch.full((3, 3, 4, 4), 7, dtype=torch.uint8), torch.rand(3, 16, 16).half(), 0.004)
    save(tmp_path / "m.safetensors", TINY, {DETAILED: random_weights(TINY, 0)}, {}, golden)
    found = read_golden(tmp_path / "m.safetensors")
    assert found is not None and found.tolerance == 0.004
    assert torch.equal(found.frames, golden.frames) and torch.equal(found.output, golden.output)
    assert read_golden(written(tmp_path / "without.safetensors")) is None


# -- hash -----------------------------------------------------------------------------------------------------------


def test_the_hash_covers_values_names_shapes_types_and_configuration() -> None:
    tensors = {"a": torch.arange(6.0), "b": torch.zeros(2, 3)}
    others = [
        ({"a": torch.arange(6.0), "b": torch.zeros(3, 2)}, "{}"),
        ({"a": torch.arange(6.0), "c": torch.zeros(2, 3)}, "{}"),
        ({"a": torch.arange(6.0).flip(0), "b": torch.zeros(2, 3)}, "{}"),
        ({"a": torch.arange(6.0), "b": torch.zeros(2, 3, dtype=torch.int32)}, "{}"),
        ({"a": torch.arange(6.0)}, "{}"),
        (tensors, "{ }"),
    ]
    hashes = {model_hash(*other) for other in others} | {model_hash(tensors, "{}")}
    assert len(hashes) == len(others) + 1
    assert model_hash(dict(reversed(tensors.items())), "{}") == model_hash(tensors, "{}")


def test_a_file_whose_contents_changed_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "model.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged: its contents do not match its hash; fetch"):
        load(path)


# -- what is not a model ----------------------------------------------------------------------------------------------


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "model.safetensors")
    data = path.read_bytes()
    for size in (0, 5, 8, 300, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(ModelError, match=r"model\.safetensors is .*damaged.*; fetch or export it again$"):
            load(path)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5, "torch"])
def test_a_pickle_is_refused_whatever_its_name(tmp_path: Path, protocol: int | str) -> None:
    path = tmp_path / "model.safetensors"
    if protocol == "torch":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({"weight": 1}))
    else:
        path.write_bytes(pickle.dumps({"weight": [1.0] * 50}, protocol=int(protocol)))
    words = (
        "not a safetensors file" if protocol == 0 else "is a pickle, whatever its name says; .* safetensors files only"
    )
    with pytest.raises(ModelError, match=words):
        load(path)


@pytest.mark.parametrize("text", [b"{", b"[1, 2]", b"\xff\xfe{}", b"null"])
def test_a_broken_header_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(ModelError, match="is not a safetensors file, or is damaged"):
        load(path)


def test_a_foreign_safetensors_file_is_named_by_its_tensors(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"conv_first.weight": torch.zeros(2), "conv_last.bias": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match=r"safetensors file of something else .*conv_first\.weight.*training export"):
        load(path)


def changed(weights: dict[str, Tensor], change: str) -> dict[str, Tensor]:
    out = dict(weights)
    if change == "missing":
        del out["network.out.weight"]
    elif change == "unknown":
        out["network.extra.weight"] = torch.zeros(3)
    else:
        out["network.kappa.bias"] = torch.zeros(7)
    return out


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("missing", r"network\.out\.weight is missing"),
        ("unknown", r"network\.extra\.weight is unknown"),
        ("shape", r"network\.kappa\.bias is \(7,\), \(1,\) is needed"),
    ],
)
def test_wrong_keys_and_shapes_are_named(tmp_path: Path, change: str, sentence: str) -> None:
    path = written(tmp_path / "model.safetensors", **{DETAILED: changed(random_weights(TINY, 0), change)})
    with pytest.raises(ModelError, match=rf"does not fit its own configuration: {sentence}; export it again$"):
        load(path)


def test_many_wrong_keys_are_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "model.safetensors", **{DETAILED: {"nothing": torch.zeros(1)}})
    count = len(Generator(TINY).state_dict()) + 1 - 4
    with pytest.raises(ModelError, match=f" and {count} more; export it again$"):
        load(path)


def test_two_sets_of_different_tensors_are_refused(tmp_path: Path) -> None:
    weights = random_weights(TINY, 0)
    sets = {FAITHFUL: weights, DETAILED: changed(weights, "missing")}
    with pytest.raises(ModelError, match=r"two sets of weights differ in \['network\.out\.weight'\]"):
        load(written(tmp_path / "model.safetensors", **sets))


CONFIGURATION_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"channels": 0}, "channels=0, which is out of range"),
    ({"overlap": 9}, "overlap=9, which is out of range"),
    ({"latent_std": [1.0] * 3}, "latent_std="),
    ({"colour": "blue"}, r"unknown fields \['colour'\]; a newer duovsr may know them"),
    ({"blocks": "many"}, "incomplete or of wrong types"),
]


@pytest.mark.parametrize(("fault", "sentence"), CONFIGURATION_FAULTS)
def test_a_faulty_configuration_is_named(fault: dict[str, Any], sentence: str) -> None:
    text = json.dumps({**json.loads(TINY.to_json()), **fault})
    with pytest.raises(ModelError, match=rf"^the model's configuration .*{sentence}"):
        ModelConfig.from_json(text)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"name": "x"}'])
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match=r"^the model's configuration is "):
        ModelConfig.from_json(text)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"config": "{"},
        {"config": "[]"},
        {"config": TINY.to_json(), "provenance": "{"},
        {"config": TINY.to_json(), "golden_tolerance": "small"},
    ],
)
def test_a_header_of_ours_that_says_nonsense_is_refused(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"detailed.a": torch.zeros(1)}, path, {"format": "duovsr", **metadata})
    with pytest.raises(ModelError, match=r"configuration|header|damaged"):
        load(path)


# -- names ------------------------------------------------------------------------------------------------------------


def test_unknown_names_list_the_known_ones_nearest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nano", "small", "smaller", "base"):
        (tmp_path / f"{name}.safetensors").touch()
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    with pytest.raises(ModelError, match=r"^there is no model named 'smal'; known are small, smaller, .*nano"):
        registry.resolve("smal")
    with pytest.raises(ModelError, match=r"^there is no model named 'nanno'; known are nano, "):
        registry.resolve("nanno")
    assert registry.resolve("small") == tmp_path / "small.safetensors"
    assert registry.resolve(None) == tmp_path / "nano.safetensors"
    assert registry.resolve(tmp_path / "base.safetensors") == tmp_path / "base.safetensors"


@pytest.mark.parametrize("name", ["missing.safetensors", "folder/missing"])
def test_a_missing_file_is_named(name: str) -> None:
    with pytest.raises(ModelError, match=f"^the model file {name} does not exist; give a path .* or one of"):
        registry.resolve(name)


def test_a_folder_is_no_model_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        load(tmp_path)


def test_the_shipped_model_is_small_and_says_where_it_comes_from() -> None:
    path = registry.resolve(None)
    facts = registry.describe(path)
    assert facts["bytes"] <= 6_000_000
    assert facts["hash"] == load(path).hash
    assert facts["provenance"]
