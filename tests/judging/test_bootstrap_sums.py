"""The fast bootstrap of sums is the ordinary one."""

import numpy as np
import pytest

from unveil.errors import UserError
from unveil.judging import bootstrap_interval, bootstrap_sums


def mean(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / sums[:, 1]


def test_it_agrees_with_resampling_rows():
    values = np.random.default_rng(0).choice([0.0, 0.5, 1.0], p=[0.2, 0.2, 0.6], size=200)
    fast = bootstrap_sums(np.column_stack([values, np.ones(200)]), mean, resamples=4000)
    assert fast == pytest.approx(bootstrap_interval(values, resamples=4000), abs=0.006)


def test_the_same_seed_gives_the_same_interval():
    parts = np.column_stack([np.random.default_rng(0).random(50), np.ones(50)])
    assert bootstrap_sums(parts, mean) == bootstrap_sums(parts, mean)
    assert bootstrap_sums(parts, mean) != bootstrap_sums(parts, mean, seed=1)


def test_equal_prompts_leave_a_point():
    assert bootstrap_sums(np.tile([0.25, 1.0], (9, 1)), mean) == (0.25, 0.25)


def test_resamples_without_a_value_are_left_out_unless_they_are_most():
    parts = np.array([[1.0, 1.0], [3.0, 1.0], [0.0, 0.0]])
    with np.errstate(invalid="ignore", divide="ignore"):
        interval = bootstrap_sums(parts, mean)  # 1 in 27 resamples holds the empty row only
        assert interval is not None
        assert (interval[0], interval[1]) == (1.0, 3.0)
        assert bootstrap_sums(np.zeros((4, 2)), mean) is None


def test_no_prompts_are_refused():
    with pytest.raises(UserError, match="bootstrap: no values"):
        bootstrap_sums(np.zeros((0, 2)), mean)
