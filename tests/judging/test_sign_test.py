"""The exact sign test against the binomial distribution, written out."""

from fractions import Fraction
from math import comb

import pytest
from scipy.stats import binomtest

from unveil.errors import UserError
from unveil.judging import clopper_pearson, sign_test


def outcomes(wins: int, ties: int, losses: int) -> list[float]:
    return [1.0] * wins + [0.5] * ties + [0.0] * losses


def test_the_p_value_is_the_two_sided_binomial_one():
    """15 wins and 5 losses: twice the chance of five or fewer heads in twenty."""
    exact = 2 * sum(Fraction(comb(20, k), 2**20) for k in range(6))
    assert sign_test(outcomes(15, 7, 5)).p_value == pytest.approx(float(exact), rel=1e-12)
    assert sign_test(outcomes(5, 0, 15)).p_value == sign_test(outcomes(15, 0, 5)).p_value


@pytest.mark.parametrize(("wins", "losses"), [(0, 12), (1, 4), (30, 45), (458, 291)])
def test_interval_and_p_value_are_those_of_scipy(wins, losses):
    found, known = sign_test(outcomes(wins, 3, losses)), binomtest(wins, wins + losses)
    interval = known.proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9, abs=1e-12)
    assert found.p_value == pytest.approx(known.pvalue, rel=1e-9)


def test_ties_say_nothing():
    with_ties, without = sign_test(outcomes(12, 30, 6)), sign_test(outcomes(12, 0, 6))
    assert (with_ties.share, with_ties.low, with_ties.p_value) == (without.share, without.low, without.p_value)
    assert (with_ties.wins, with_ties.ties, with_ties.losses) == (12, 30, 6)


def test_only_ties_are_no_evidence():
    found = sign_test(outcomes(0, 4, 0))
    assert (found.share, found.low, found.high, found.p_value) == (None, 0.0, 1.0, 1.0)


def test_seeds_of_a_prompt_decide_together():
    """x: two of three won; y: one each; z: a win and a tie, also won; thirds add up to exactly even in w."""
    values = [1, 1, 0, 1, 0, 1, 0.5, 0, 0.5, 1]
    found = sign_test(values, list("xxxyyzzwww"))
    assert (found.wins, found.ties, found.losses) == (2, 2, 0)


def test_all_won_has_the_one_sided_closed_form():
    low, high = clopper_pearson(8, 8)
    assert high == 1.0
    assert low == pytest.approx(0.025 ** (1 / 8))


def test_no_outcomes_are_refused():
    with pytest.raises(UserError, match="sign test: outcomes of shape"):
        sign_test([])
