"""A run that begins with a model file of `base`, as `duovsr models convert` makes it, from command to export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from data_clips import film, save_video
from safetensors.torch import load_file, save_file
from training_files import same
from wan_training import weights

from duovsr_vs.model.checkpoint import DETAILED, load, save
from duovsr_vs.model.family import PRESETS
from training.__main__ import main
from training.checkpoints import TrainingError
from training.data.pack import pack
from training.lora import is_own, merge
from training.start import autoencoder_weights, start_weights

pytestmark = [pytest.mark.usefixtures("trainer_alone"), pytest.mark.slow]
SMALL = [
    *("--model", "base-tiny", "--device", "cpu", "--no-bf16", "--evaluate-clips", "1", "--log-every", "1"),
    *("--stages", "teacher", "guided", "progressive", "--adapters", "3"),
    *(
        word
        for stage in ("teacher", "guided", "progressive")
        for field, value in (("steps", 1), ("batch", 2), ("patch", 16), ("frames", 5))
        for word in (f"--{stage}.{field}", str(value))
    ),
    *("--progressive.start-steps", "2"),
]


@pytest.fixture(scope="module")
def folder(trainer_alone: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack, a model file of base at reduced width, and a run that began with it."""
    out = tmp_path_factory.mktemp("start")
    for n, name in enumerate(("park", "river", "tower")):
        save_video(out / f"{name}.mp4", film(5, 96, 192, seed=n))
    pack(out, out / "pack", jobs=1, val_share=0.4, say=lambda _: None)
    save(out / "base.safetensors", PRESETS["base-tiny"], {DETAILED: weights(0)}, {"stages": ["none yet"]})
    assert main(["run", "--recipe", "paper", *SMALL, *given(out)]) == 0
    return out


def given(out: Path) -> list[str]:
    return ["--data", str(out / "pack"), "--out", str(out / "run"), "--from", str(out / "base.safetensors")]


def test_stages_hand_on_adapters_and_the_export_merges_them(folder: Path) -> None:
    own = load_file(folder / "run" / "progressive" / "result.safetensors")
    assert own and all(is_own(name) for name in own)
    out = folder / "made.safetensors"
    assert main(["export", str(folder / "run"), *given(folder)[:2], *given(folder)[4:], "-o", str(out)]) == 0
    found = load(out).generator.state_dict()
    for name, tensor in merge(weights(0), own).items():
        torch.testing.assert_close(found[name].float(), tensor, atol=1e-2, rtol=1e-2)
    changed = "transformer.patch_embedding.weight"
    assert not torch.equal(found[changed].float(), weights(0)[changed].bfloat16().float())


def test_adapters_without_what_they_stand_on_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(folder / "run"), *given(folder)[:2], "-o", str(folder / "x.safetensors")]) == 1
    assert "holds adapters, which are merged into the weights that they were trained on" in capsys.readouterr().err
    assert main(["run", "--recipe", "paper", *SMALL, *given(folder)[:4]]) == 1
    assert "stand on weights that all networks share; name them by --from FILE" in capsys.readouterr().err


def test_a_model_file_gives_its_weights_and_its_autoencoder(folder: Path, tmp_path: Path) -> None:
    assert same(start_weights(folder / "base.safetensors", "base-tiny"), weights(0))
    found = autoencoder_weights(folder / "base.safetensors")
    assert found and all(name.startswith("autoencoder.") for name in found)
    save_file({"blocks.0.x": torch.ones(1), "patch_embedding.weight": torch.ones(1)}, tmp_path / "wan.safetensors")
    with pytest.raises(TrainingError, match=r"names of another program.s weights.*duovsr models convert"):
        start_weights(tmp_path / "wan.safetensors", "base-tiny")
    with pytest.raises(TrainingError, match="holds no video autoencoder"):
        autoencoder_weights(tmp_path / "wan.safetensors")


def test_a_file_with_a_text_begins_the_preset_with_a_text_and_no_other(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.safetensors" for name in ("base-tiny", "base-tiny-text")}
    for name, path in files.items():
        save(path, PRESETS[name], {DETAILED: weights(0, name)}, {"stages": ["none yet"]})
        assert same(start_weights(path, name), weights(0, name))
    with pytest.raises(TrainingError, match=r"holds the tokens of a text, .* give --model base-tiny-text$"):
        start_weights(files["base-tiny-text"], "base-tiny")
    with pytest.raises(
        TrainingError, match=r"holds no tokens of a text, .* with --embedding, or give --model base-tiny$"
    ):
        start_weights(files["base-tiny"], "base-tiny-text")
