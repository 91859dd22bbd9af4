"""Adapters: what networks share, what each learns, and that a merged network is the same."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from safetensors.torch import load_file
from torch import nn
from training_files import copy_of, same
from wan_ranks import trained, work
from wan_training import adapters, batches, recipe, run, stage, weights

from duovsr_vs.model.family import PRESETS, generator_of
from training.lora import AdaptedLinear, adapted, is_own, load_own, merge, own_state, rank_of, shared_parameters
from training.models import Model
from training.ranges import RecipeError
from training.stages.dual_stream import DualStream

pytestmark = [pytest.mark.usefixtures("trainer_alone"), pytest.mark.slow]
RANK = 3


def base() -> Model:
    generator = generator_of(PRESETS["base-tiny"])
    generator.load_state_dict(weights(0))
    return generator.eval().requires_grad_(False)


def denoised(network: Model) -> torch.Tensor:
    batch = next(batches(stage("teacher", recipe())))
    t = torch.tensor([0.3, 1.0])
    with torch.no_grad():
        return network.denoise(batch.z0, t, batch.condition, batch.quality)


def test_a_network_begins_as_the_weights_that_it_stands_on() -> None:
    whole = base()
    assert torch.equal(denoised(adapted(whole, RANK)), denoised(whole))


def test_merged_weights_give_what_base_and_adapters_give() -> None:
    network = adapted(base(), RANK)
    load_own(network, adapters(5, RANK))
    whole = base()
    whole.load_state_dict(merge(weights(0), dict(own_state(network))))
    expected = denoised(network)
    assert not torch.allclose(expected, denoised(base()), atol=1e-3)
    torch.testing.assert_close(denoised(whole), expected, atol=1e-4, rtol=1e-4)


def test_all_large_products_of_a_block_have_adapters_and_the_lr_input_and_the_tokens_are_whole() -> None:
    network = adapted(base(), RANK)
    layers = {name for name, module in network.named_modules() if isinstance(module, AdaptedLinear)}
    wanted = {
        f"transformer.blocks.{n}.{part}"
        for n in range(2)
        for part in (*(f"{a}_attn.{x}" for a in ("self", "cross") for x in "qkvo"), "ffn.0", "ffn.2")
    }
    assert layers == wanted
    learns = {name for name, p in network.named_parameters() if p.requires_grad}
    inputs = {"transformer.patch_embedding.weight", "transformer.patch_embedding.bias", "transformer.context"}
    assert learns == {f"{layer}.{end}" for layer in wanted for end in ("down", "up")} | inputs
    assert rank_of(dict(own_state(network))) == RANK and rank_of(weights(0)) == 0


def test_student_and_scores_hold_the_same_frozen_tensors_and_learn_their_own() -> None:
    work = stage("dual_stream", recipe({"adapters": RANK}))
    assert isinstance(work, DualStream)
    networks = (work.student, work.real, work.fake)
    shared = [{id(p) for p in shared_parameters(network)} for network in networks]
    assert shared[0] == shared[1] == shared[2] and len(shared[0]) > 40
    own = [{id(p) for name, p in network.named_parameters() if is_own(name)} for network in networks]
    assert not own[0] & own[1] and not own[0] & own[2] and not own[1] & own[2]
    before, real = copy_of(work.student.state_dict()), copy_of(work.real.state_dict())
    fake = copy_of(work.fake.state_dict())
    run(work, 0, 1)
    for network, then in ((work.student, before), (work.fake, fake)):
        changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, then[name])}
        assert changed == {name for name in then if is_own(name)}
    assert same(work.real.state_dict(), real)
    assert all(p.grad is None and not p.requires_grad for p in shared_parameters(work.student))


@pytest.mark.parametrize("name", ["teacher", "progressive", "dual_stream"])
def test_checkpoints_and_results_hold_adapters_only_and_go_on_bit_for_bit(name: str) -> None:
    chosen = recipe({"adapters": RANK, "recompute": True})
    work, later = stage(name, chosen), stage(name, chosen)
    run(work, 0, 2)
    kept = {key.split(".", 2)[-1] if key.startswith(("student", "fake")) else key for key in work.state()}
    assert not [key for key in kept if "transformer." in key and not is_own(key)]
    assert set(work.result()) == {key for key, _ in own_state(work.student)}
    later.load_state(copy_of(work.state()))
    run(work, 2, 3), run(later, 2, 3)
    assert same(work.state(), later.state())
    assert same(dict(own_state(work.averaged())), work.result())


def test_adapters_of_another_rank_are_refused_by_name() -> None:
    with pytest.raises(RecipeError, match=r"no adapters of this rank: transformer\.\S+ is \(5, .*, \(3, ") as refused:
        load_own(adapted(base(), RANK), adapters(1, 5))
    assert "\n" not in str(refused.value)


def test_small_models_have_no_adapters() -> None:
    with pytest.raises(RecipeError, match="adapters is 8; nano is small enough to train whole"):
        recipe({"adapters": 8, "model": "nano"})


def test_a_layer_is_the_sum_of_its_parts() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(7, 5)
    one = AdaptedLinear(layer, 2)
    nn.init.normal_(one.up)
    x = torch.randn(3, 7)
    torch.testing.assert_close(one(x), layer(x) + x @ (one.up @ one.down).T)


def test_two_processes_with_sharded_adapters_train_what_one_does(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "port").write_text(str(free.getsockname()[1]))
    torch.multiprocessing.spawn(work, (2, tmp_path), nprocs=2)  # type: ignore[no-untyped-call]
    found, wanted = load_file(tmp_path / "found.safetensors"), trained("dual_stream")
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=1e-5)
