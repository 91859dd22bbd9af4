"""All stages of recipe `paper` with a model of the `base` family at reduced width, for real."""

from __future__ import annotations

import math

import pytest
import torch
from training_files import copy_of
from wan_training import recipe, run, stage


pytestmark = pytest.mark.usefixtures("trainer_alone")
STAGES = ("teacher", "guided", "progressive", "dual_stream")


@pytest.mark.parametrize("name", STAGES)
def test_an_update_changes_the_weights_and_every_figure_is_finite(name: str) -> None:
    work = stage(name, recipe())
    before = copy_of(work.student.state_dict())
    (figures,) = run(work, 0, 1)
    assert all(math.isfinite(value) for value in figures.values()) and figures["gradient"] > 0
    still = {key for key, tensor in work.student.state_dict().items() if torch.equal(tensor, before[key])}
    assert still == {key for key in before if not key.startswith("transformer.") or "text_embedding" in key}
