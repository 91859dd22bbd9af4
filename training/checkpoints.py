"""What a stage needs to go on where it stopped, in folders that a stop cannot spoil; the last two are kept.

Written by torch.distributed.checkpoint as safetensors shards (no pickles), one per rank; another number of ranks can go
on from them. A folder is written under another name first, and renamed when it is whole.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from duovsr_vs.errors import DuoVsrError, ModelError
from duovsr_vs.model.checkpoint import whole_or_not_at_all
from training.distributed import World

KEPT = 2
FACTS = "facts.json"


class TrainingError(DuoVsrError):
    """A run that cannot start or go on, and what to do about it."""


class Checkpoints:
    """The checkpoints of one stage, RUN/<stage>/checkpoints/step-<updates>."""

    def __init__(self, folder: Path, world: World):
        self.folder, self.world = folder, world

    def all(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted(
            path for path in self.folder.glob("step-*") if (path / FACTS).is_file() and path.suffix != ".part"
        )

    def save(self, step: int, state: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
        """Write a checkpoint and drop the oldest. TrainingError: no space and the like; older ones are untouched."""
        path = self.folder / f"step-{step:08d}"
        part = path.with_name(path.name + ".part")
        if self.world.is_first:
            shutil.rmtree(part, ignore_errors=True)
        self.world.barrier()
        failed = None
        try:
            part.mkdir(parents=True, exist_ok=True)
            self._write(part, state)
        except (OSError, SafetensorError, CheckpointException) as error:
            failed = error
        if self.world.any(failed is not None):
            shutil.rmtree(part, ignore_errors=True)
            last = self.all()
            kept = f"{last[-1].name} is whole" if last else "there is none before it"
            raise TrainingError(
                f"the checkpoint of update {step} cannot be written to {self.folder} ({_why(failed)}); "
                f"{kept}: make room and give the same command again"
            )
        if self.world.is_first:
            (part / FACTS).write_text(json.dumps({**facts, "step": str(step)}))
            shutil.rmtree(path, ignore_errors=True)
            part.rename(path)
            for old in self.all()[:-KEPT]:
                shutil.rmtree(old)
        self.world.barrier()

    def _write(self, part: Path, state: Mapping[str, Tensor]) -> None:
        writer = HuggingFaceStorageWriter(str(part), save_distributed=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            dense = {name: t if isinstance(t, DTensor) else t.contiguous() for name, t in state.items()}
            save(dense, storage_writer=writer, no_dist=self.world.size == 1)

    def facts(self) -> dict[str, str] | None:
        """Facts of the newest checkpoint, None if there is none."""
        found = self.all()
        return dict(json.loads((found[-1] / FACTS).read_text())) if found else None

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Fill the tensors of a stage's `state` from the newest checkpoint, whatever number of ranks wrote it."""
        path = self.all()[-1]
        reader = HuggingFaceStorageReader(str(path))
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="torch.distributed is disabled")
                load(dict(state), storage_reader=reader, no_dist=self.world.size == 1)
        except (CheckpointException, SafetensorError, OSError, KeyError, RuntimeError, ValueError) as error:
            raise TrainingError(
                f"{path} is damaged ({_why(error)}); delete it, the run goes on from the one before"
            ) from error

    def clear(self) -> None:
        """A finished stage needs none."""
        if self.world.is_first:
            shutil.rmtree(self.folder, ignore_errors=True)


def _why(error: BaseException | None) -> str:
    """The reason in one line; of a failure on several ranks the first."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:160] if error else "on another rank"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Replace a file at once, so that a stop leaves the old or the new one; its rights are those of other files."""
    try:
        with whole_or_not_at_all(path) as part:
            save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, part, dict(facts))
    except (OSError, ModelError) as error:
        raise TrainingError(
            f"{path} cannot be written ({error.__cause__ or error}); make room and give the same command again"
        ) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file as float32."""
    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise TrainingError(
            f"{path} cannot be read as weights ({error}); give a safetensors file of a stage"
        ) from error


def read_facts(path: Path) -> dict[str, str]:
    """Metadata of a file that `write_tensors` wrote."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise TrainingError(f"{path} is damaged ({error}); delete it") from error
