"""The paired bootstrap: an interval that covers what it says, of whole groups, and modest with few of them."""

import math

import numpy as np
import pytest

from duovsr_vs.errors import OptionError
from duovsr_vs.metrics.bootstrap import FEWEST, paired_interval


def test_the_interval_holds_the_mean_and_agrees_with_the_normal_one_for_many_clips():
    values = np.random.default_rng(0).normal(0.3, 2.0, 400)
    found = paired_interval(values)
    error = values.std() / math.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_without_a_difference_about_one_in_twenty_is_called_resolved():
    rng = np.random.default_rng(1)
    called = [paired_interval(rng.normal(0, 1, 30), resamples=500).resolved for _ in range(600)]
    assert 0.03 < np.mean(called) < 0.10  # percentiles are a little narrow at 30 clips


def test_a_clear_difference_is_resolved_and_a_doubtful_one_is_not():
    assert paired_interval([0.9, 1.1, 1.0, 0.8, 1.2, 1.0]).resolved
    assert paired_interval([-0.9, -1.1, -1.0, -0.8, -1.2, -1.0]).resolved
    assert not paired_interval([3.0, -1.0, 0.5, -0.5, 1.0, -2.0]).resolved


def test_a_difference_of_nothing_is_not_resolved():
    found = paired_interval([0.0] * 12)
    assert (found.mean, found.low, found.high) == (0, 0, 0) and not found.resolved


def test_fewer_clips_than_a_sign_test_needs_resolve_nothing():
    assert not paired_interval([1.0] * (FEWEST - 1)).resolved
    assert paired_interval([1.0] * FEWEST).resolved


def test_whole_groups_are_drawn_since_clips_of_one_film_are_alike():
    films = np.random.default_rng(2).normal(0, 1, 8)
    values, groups = np.repeat(films, 25), np.repeat([f"film {n}" for n in range(8)], 25)
    alone, together = paired_interval(values), paired_interval(values, groups)
    by_film = paired_interval(films)
    assert (together.low, together.high) == pytest.approx((by_film.low, by_film.high))
    assert (together.groups, together.count) == (8, 200)
    assert alone.high - alone.low < (together.high - together.low) / 3


def test_the_mean_is_over_clips_also_where_groups_differ_in_size():
    found = paired_interval([1.0, 1.0, 1.0, 5.0], ["a", "a", "a", "b"])
    assert found.mean == 2.0
    assert (found.low, found.high) == (1.0, 5.0)  # each film alone is drawn in a quarter of the resamples
    assert paired_interval([1.0, 1.0, 1.0, 5.0], ["a", "a", "a", "b"], level=0.4).low == 2.0  # and both in half


def test_clips_without_a_value_are_left_out():
    found = paired_interval([1.0, math.nan, 3.0, math.inf, 2.0])
    assert found == paired_interval([1.0, 3.0, 2.0])
    assert found.count == 3


def test_the_same_differences_give_the_same_interval_and_another_seed_nearly():
    values = list(np.random.default_rng(3).normal(0, 1, 20))
    assert paired_interval(values) == paired_interval(values)
    other = paired_interval(values, seed=1)
    assert other != paired_interval(values)
    assert other.low == pytest.approx(paired_interval(values).low, abs=0.05)


@pytest.mark.parametrize("values", [[], [2.0], [math.nan, 2.0]])
def test_of_one_clip_or_none_no_interval_is_made_up(values):
    found = paired_interval(values)
    assert math.isnan(found.low) and math.isnan(found.high) and not found.resolved
    assert found.count == sum(map(math.isfinite, values))


def test_groups_that_do_not_fit_are_refused():
    with pytest.raises(OptionError, match="2 differences and 3 groups"):
        paired_interval([1.0, 2.0], ["a", "b", "c"])
