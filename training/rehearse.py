"""An update of every stage as it is, on tensors that have shapes but no contents: what it allocates and computes.

The costs of `plan` are reckoned from passes; here the stages themselves run, optimizers included, with a model of any
size on any machine. Numbers that an update reads off its tensors (losses, norms) are 1.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from duovsr_vs.model.config import CELL, SCALE
from training.architecture import wanted_shapes
from training.batch import Batch
from training.costs import know_kernels
from training.families import family_of
from training.models import Seen, blank_condition
from training.preference.pairs import Chosen
from training.recipes import Recipe
from training.stages import CLASSES
from training.stages.base import START, Stage
from training.stages.preference import Preference


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """One update of a stage, all on one process."""

    stage: str
    flops: int
    """Of networks; latents of batches are made before."""
    standing: int
    """Bytes of all that is there between updates: weights, averages, moments, and what the stage was handed."""


class Contentless(FakeTensorMode):  # type: ignore[no-untyped-call]
    """Tensors without contents, of which every number that is asked for is 1."""

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1.0 if args[0].is_floating_point() else 1
        return super().dispatch(func, types, args, kwargs)


class Held(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that are alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self._known: dict[int, int] = {}

    def note(self, tensor: Tensor) -> None:
        """One more tensor, unless its memory is known."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known[key] = size
            self.now += size
            weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self._known.pop(key, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self.note(tensor)
        return result


class _GivenPairs(Preference):
    """The stage with pairs of no contents."""

    def pairs_for(self, step: int, part: int = 0) -> tuple[Batch, Chosen]:
        batch = next(_batches(self))
        return batch, Chosen(torch.rand_like(batch.z0), torch.rand_like(batch.z0), torch.ones(len(batch.z0)))


def rehearsed(recipe: Recipe, name: str) -> Rehearsed:
    """An update of a stage. Not number 0, at which stage II also measures the ratio of its gradients."""
    know_kernels()
    recipe = replace(recipe, device="cpu")
    cls: Callable[..., Stage] = _GivenPairs if name == Preference.name else CLASSES[name]
    with Contentless(allow_non_fake_inputs=True), Held() as held:
        handed = _handed(recipe, name)
        stage = cls(recipe, handed)
        del handed
        with FlopCounterMode(display=False) as counter:
            stage.update(1, _batches(stage))
        return Rehearsed(name, int(counter.get_total_flops()), held.now)


def _handed(recipe: Recipe, name: str) -> dict[str, dict[str, Tensor]]:
    """Results of earlier stages, and the start."""

    def made(rank: int) -> dict[str, Tensor]:
        return {key: torch.zeros(shape) for key, shape in wanted_shapes(recipe.model, rank).items()}

    needs = CLASSES[name].needs_of(recipe)
    start = {START: made(0)} if recipe.adapters or not needs else {}
    return start | {needed: made(recipe.adapters) for needed in needs}


def _batches(stage: Stage) -> Iterator[Batch]:
    """Parts of batches."""
    s, config = stage.common, stage.student.config
    count = len(stage.world.slots(s.batch, stage.parts, 0))
    size, side = (SCALE * s.patch,) * 2, s.patch // CELL
    moves = s.frames - 1 if family_of(config).in_pixels else 0
    while True:
        condition: Seen = blank_condition(stage.encoder, count, s.frames, s.patch)
        yield Batch(
            condition,
            torch.rand(count, family_of(config).latents(s.frames), config.latent_channels, side, side),
            torch.ones(count, dtype=torch.long),
            torch.ones(count),
            torch.rand(count, moves, 2, *size),
            torch.rand(count, moves, *size),
            range(count),
            steady=family_of(config).steady,
        )
