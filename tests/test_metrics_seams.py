"""A seam at a border is seen, an even clip and the picture's own edges are not."""

import numpy as np
import pytest

from duovsr_vs.errors import OptionError
from duovsr_vs.metrics.seams import border_step_ratio, border_steps


def clip() -> np.ndarray:
    return np.random.default_rng(0).uniform(80, 160, (6, 96, 128, 3))


@pytest.mark.parametrize("axis, border", [(0, 3), (1, 32), (2, 64)])
def test_a_step_at_the_border_is_measured_and_its_absence_is_one(axis: int, border: int):
    plain = clip()
    seam = plain.copy()
    part = [slice(None)] * 4
    part[axis] = slice(border, None)
    seam[tuple(part)] += 60
    assert border_steps(plain, None, [border], axis) == pytest.approx(1, abs=0.1)
    assert border_steps(seam, plain, [border], axis) > 1.5
    assert border_steps(seam, plain, [border - 1], axis) < 1
    assert border_steps(seam, seam, [border], axis) == 1


def test_a_grid_of_cells_is_measured():
    plain = clip()
    beads = plain.copy()
    beads[:, ::8] += 30
    assert border_step_ratio(plain, None, 8) == pytest.approx(1, abs=0.05)
    assert border_step_ratio(beads, plain, 8) > 1.1


@pytest.mark.parametrize("borders", [[], [0], [128], range(1, 128)])
def test_borders_outside_the_clip_or_everywhere_are_refused(borders):
    with pytest.raises(OptionError, match="borders"):
        border_steps(clip(), None, borders, 2)
