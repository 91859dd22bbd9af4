"""Two processes train what one would; checkpoints go from any number of processes to any other."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from ranks import COUNT, NAMES, SAVED, STEPS, make, resumed, train, work
from safetensors.torch import load_file
from torch import Tensor
from training_files import same

from duovsr_vs.errors import OptionError
from training.checkpoints import Checkpoints, TrainingError
from training.distributed import ALONE, World

pytestmark = pytest.mark.usefixtures("trainer_alone")

Found = dict[str, Tensor]


@pytest.fixture(scope="module")
def alone(trainer_alone: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Found]]:
    """What one process finds, and the folder with its checkpoints."""
    folder = tmp_path_factory.mktemp("ranks")
    return folder, {name: train(make(name, ALONE), ALONE, 0, STEPS, folder / f"{name}-one") for name in NAMES}


@pytest.fixture(scope="module")
def together(alone: tuple[Path, dict[str, Found]]) -> dict[str, Found]:
    """What two processes find, by case."""
    folder = alone[0]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (folder / "port").write_text(str(free.getsockname()[1]))
    torch.multiprocessing.spawn(work, (2, folder), nprocs=2)  # type: ignore[no-untyped-call]
    found: dict[str, Found] = {}
    for key, tensor in load_file(folder / "found.safetensors").items():
        case, _, name = key.partition("/")
        found.setdefault(case, {})[name] = tensor
    return found


def part(found: Found, kind: str) -> Found:
    return {name: tensor for name, tensor in found.items() if name.startswith(f"{kind}.")}


def distance(a: Found, b: Found) -> float:
    """‖a − b‖/‖b‖ over all tensors."""
    assert a.keys() == b.keys()
    difference = torch.stack([(a[name] - b[name]).double().square().sum() for name in b]).sum()
    return float((difference / torch.stack([t.double().square().sum() for t in b.values()]).sum()).sqrt())


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_of_a_global_batch_is_that_of_one_process(
    name: str, alone: tuple[Path, dict[str, Found]], together: dict[str, Found]
) -> None:
    wanted = part(alone[1][name], "gradient")
    assert len(wanted) > 8
    assert distance(part(together[f"{name} straight"], "gradient"), wanted) < 1e-6
    assert distance(part(together[f"{name} recomputed"], "gradient"), wanted) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_losses_of_ten_updates_are_those_of_one_process(
    name: str, alone: tuple[Path, dict[str, Found]], together: dict[str, Found]
) -> None:
    wanted = alone[1][name]["losses"]
    torch.testing.assert_close(together[f"{name} straight"]["losses"], wanted, rtol=1e-4, atol=1e-4)
    assert len({tuple(row.tolist()) for row in wanted}) == STEPS


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_of_the_same_processes_ends_bit_equal(name: str, together: dict[str, Found]) -> None:
    ends = [part(together[f"{name} {case}"], "end") for case in ("straight", "resumed")]
    assert same(*ends)
    assert torch.equal(together[f"{name} straight"]["losses"][SAVED:], together[f"{name} resumed"]["losses"])


@pytest.mark.parametrize("name", NAMES)
def test_one_process_goes_on_from_two_and_two_from_one(
    name: str, alone: tuple[Path, dict[str, Found]], together: dict[str, Found]
) -> None:
    folder, one = alone
    wanted = one[name]["losses"][SAVED:]
    torch.testing.assert_close(together[f"{name} from one"]["losses"], wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(resumed(name, ALONE, folder / f"{name}-two")["losses"], wanted, rtol=1e-4, atol=1e-4)
    assert len(list((folder / f"{name}-two").glob("*/*.safetensors"))) == 2


@pytest.mark.parametrize("name", NAMES)
def test_weights_gathered_in_bfloat16_give_a_gradient_near_the_exact_one(
    name: str, alone: tuple[Path, dict[str, Found]], together: dict[str, Found]
) -> None:
    found = part(together[f"{name} bfloat16"], "gradient")
    assert 1e-5 < distance(found, part(alone[1][name], "gradient")) < 0.3
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    assert [World(n, 2).share(COUNT) for n in range(2)] == [range(0, 2), range(2, 4)]
    with pytest.raises(OptionError, match="a batch of 4 cannot be divided by 3 processes"):
        World(0, 3).share(COUNT)


# -- checkpoints ------------------------------------------------------------------------------------------------


def test_the_last_two_checkpoints_are_kept_and_a_partial_one_does_not_count(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, ALONE)
    for step in (1, 2, 3):
        kept.save(step, {"a": torch.full((2, 3), float(step))}, {"recipe": "x"})
    (tmp_path / "step-00000009.part").mkdir()
    (tmp_path / "step-00000008").mkdir()
    assert [path.name for path in kept.all()] == ["step-00000002", "step-00000003"]
    state = {"a": torch.zeros(2, 3)}
    kept.load(state)
    assert state["a"].unique().tolist() == [3] and kept.facts() == {"recipe": "x", "step": "3"}


def test_tensors_in_channels_last_come_back_in_place(tmp_path: Path) -> None:
    kept, tensor = Checkpoints(tmp_path, ALONE), torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    kept.save(1, {"a": tensor, "n": torch.tensor(7.0)}, {})
    state = {"a": torch.zeros_like(tensor), "n": torch.tensor(0.0)}
    kept.load(state)
    assert torch.equal(state["a"], tensor) and state["a"].is_contiguous(memory_format=torch.channels_last)
    assert float(state["n"]) == 7


def test_no_space_leaves_the_checkpoint_before_and_says_so(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, ALONE)
    kept.save(1, {"a": torch.ones(2)}, {})
    (tmp_path / "step-00000002.part").write_text("in the way")  # mkdir fails as it would on a full disk
    told = r"update 2 cannot be written to .*; step-00000001 is whole: make room"
    with pytest.raises(TrainingError, match=told) as e:
        kept.save(2, {"a": torch.zeros(2)}, {})
    assert "\n" not in str(e.value)
    state = {"a": torch.zeros(2)}
    kept.load(state)
    assert state["a"].tolist() == [1, 1]


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, ALONE)
    kept.save(1, {"a": torch.ones(2)}, {})
    shard = next(tmp_path.glob("*/*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:20])
    with pytest.raises(TrainingError, match=r"step-00000001 is damaged .*; delete it") as e:
        kept.load({"a": torch.zeros(2)})
    assert "\n" not in str(e.value)
