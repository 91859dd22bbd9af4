"""CIEDE2000 gives the numbers of its authors' table, and colour drift sees casts and no detail."""

import numpy as np
import pytest

from duovsr_vs.metrics.difference import ciede2000, colour_drift, lab

PAIRS = """
50.0000  2.6772 -79.7751  50.0000  0.0000 -82.7485  2.0425
50.0000 -1.3802 -84.2814  50.0000  0.0000 -82.7485  1.0000
50.0000  0.0000   0.0000  50.0000 -1.0000   2.0000  2.3669
50.0000  2.4900  -0.0010  50.0000 -2.4900   0.0010  7.1792
50.0000  2.4900  -0.0010  50.0000 -2.4900   0.0011  7.2195
50.0000 -0.0010   2.4900  50.0000  0.0010  -2.4900  4.8045
50.0000 -0.0010   2.4900  50.0000  0.0011  -2.4900  4.7461
50.0000  2.5000   0.0000  50.0000  0.0000  -2.5000  4.3065
50.0000  2.5000   0.0000  73.0000 25.0000 -18.0000 27.1492
50.0000  2.5000   0.0000  56.0000 -27.000  -3.0000 31.9030
50.0000  2.5000   0.0000  50.0000  3.2592   0.3350  1.0000
60.2574 -34.0099 36.2677  60.4626 -34.1751 39.4387  1.2644
61.2901  3.7196  -5.3901  61.4292  2.2480  -4.9620  1.8731
22.7233 20.0904 -46.6940  23.0331 14.9730 -42.5619  2.0373
90.8027 -2.0831   1.4410  91.1528 -1.6435   0.0447  1.4441
 6.7747 -0.2908  -2.4247   5.8714 -0.0985  -2.2286  0.6377
 2.0776  0.0795  -1.1350   0.9033 -0.0636  -0.5514  0.9082
"""
"""Rows of Sharma et al. 2005, table 1: two colours in L*a*b* and their difference, with the hard cases of the hue."""


def test_published_pairs_are_met_to_the_last_digit() -> None:
    table = np.array([[float(number) for number in line.split()] for line in PAIRS.strip().splitlines()])
    for one, other in ((table[:, :3], table[:, 3:6]), (table[:, 3:6], table[:, :3])):
        assert np.abs(ciede2000(one, other) - table[:, 6]).max() < 6e-5


def test_lab_of_known_colours() -> None:
    colours = np.array([[255, 255, 255], [0, 0, 0], [119, 119, 119], [255, 0, 0], [0, 0, 255]])
    wanted = [[100, 0, 0], [0, 0, 0], [50.034, 0, 0], [53.241, 80.092, 67.203], [32.297, 79.188, -107.860]]
    assert np.abs(lab(colours) - wanted).max() < 0.01


def test_a_cast_is_drift_and_fine_detail_is_not() -> None:
    small = np.random.default_rng(0).integers(60, 180, (24, 32, 3)).astype(np.uint8)
    large = np.repeat(np.repeat(small, 4, 0), 4, 1).astype(np.float64)
    grain = np.random.default_rng(1).normal(0, 12, large.shape)
    assert colour_drift(small, large) < 0.1
    assert colour_drift(small, large + grain) < 0.6
    assert colour_drift(small, large + np.array([10, 0, 0])) > 3 * colour_drift(small, large + grain)


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (17, 16)])
def test_pictures_of_any_size_can_be_compared(size: tuple[int, int]) -> None:
    grey = np.full((*size, 3), 128, np.uint8)
    assert colour_drift(grey, np.full((size[0] * 3, size[1] * 2, 3), 128, np.uint8)) == pytest.approx(0, abs=1e-3)
