"""Adjusted p-values: worked examples, and the errors that they promise to control."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unveil.errors import UserError
from unveil.judging import benjamini_hochberg, holm


def test_holm_by_hand():
    """0.01 * 4, then 0.02 * 3, 0.03 * 2 (held up to 0.06), 0.5 * 1; back in the order given."""
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def test_benjamini_hochberg_by_hand():
    """0.01 * 4 / 1, 0.02 * 4 / 2, 0.03 * 4 / 3: all 0.04."""
    assert benjamini_hochberg([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.04, 0.04, 0.5, 0.04])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_adjusting_keeps_the_order_and_never_lowers(p_values):
    strict, loose = holm(p_values), benjamini_hochberg(p_values)
    assert all(p <= low + 1e-12 <= high + 2e-12 for p, low, high in zip(p_values, loose, strict))
    for adjusted in (strict, loose):
        assert all(value <= 1 for value in adjusted)
        by_p = [adjusted[i] for i in np.argsort(p_values, kind="stable")]
        assert by_p == sorted(by_p)


def test_error_rates_are_held_in_simulation():
    """Ten tests, five with an effect: Holm's chance of any false finding, and the false share of Benjamini's."""
    generator = np.random.default_rng(0)
    any_false, shares = 0, []
    for _ in range(2000):
        p_values = np.concatenate([generator.random(5), generator.random(5) ** 6])
        any_false += min(holm(p_values)[:5]) < 0.05
        found = np.array(benjamini_hochberg(p_values)) < 0.05
        shares.append(found[:5].sum() / max(1, found.sum()))
    assert any_false / 2000 < 0.05
    assert 0.015 < np.mean(shares) < 0.03, "Benjamini and Hochberg promise 0.05 * 5 / 10"


def test_one_test_needs_no_adjustment():
    assert holm([0.03]) == benjamini_hochberg([0.03]) == [0.03]
    assert holm([]) == []


@pytest.mark.parametrize("wrong", [[0.1, 1.2], [float("nan")], [[0.1]]])
def test_what_is_no_p_value_is_refused(wrong):
    with pytest.raises(UserError, match="p-values must be a list of numbers between 0 and 1"):
        holm(wrong)
