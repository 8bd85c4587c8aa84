"""The length-controlled win rate: equal to the plain one without lengths, and to a fit by other means with them."""

import numpy as np
import pytest
from scipy.optimize import minimize

from unveil.errors import UserError
from unveil.judging import adjusted_win_rate, length_controlled_win_rate


def sample(n: int = 200, seed: int = 0):
    generator = np.random.default_rng(seed)
    a, b = generator.integers(5, 80, size=(2, n)).astype(float)
    chance = 1 / (1 + np.exp(-0.4 - 1.2 * np.tanh((a - b) / (a - b).std())))
    return (generator.random(n) < chance).astype(float), a, b


def test_without_a_difference_in_length_it_is_the_adjusted_win_rate():
    outcomes = [1, 1, 0, 0.5, 1, 0.5, 0, 1, 1]
    labels = list("aabbcdefg")
    for clusters in (None, labels):
        found = length_controlled_win_rate(outcomes, [7] * 9, [7] * 9, clusters)
        plain = adjusted_win_rate(outcomes, clusters)
        assert (found.rate, found.low, found.high) == pytest.approx((plain.rate, plain.low, plain.high), rel=1e-9)
        assert found.n == plain.n
        assert found.slope == 0


def test_the_rate_maximises_the_documented_likelihood():
    outcomes, a, b = sample()
    outcomes[:40] = 0.5
    x = np.tanh((a - b) / (a - b).std())

    def loss(beta):
        logits = beta[0] + beta[1] * x
        return -np.sum(outcomes * logits - np.logaddexp(0, logits)) + beta[1] ** 2 / 50

    theta, slope = minimize(loss, [0.0, 0.0], tol=1e-12).x
    found = length_controlled_win_rate(outcomes, a, b)
    assert found.rate == pytest.approx(1 / (1 + np.exp(-theta)), abs=1e-5)
    assert found.slope == pytest.approx(slope, abs=1e-4)


def test_it_takes_away_what_length_bought():
    """Equal answers to a judge that likes length; A is longer."""
    generator = np.random.default_rng(1)
    difference = generator.normal(20, 30, size=4000)
    outcomes = (generator.random(4000) < 1 / (1 + np.exp(-1.5 * np.tanh(difference / 30)))).astype(float)
    found = length_controlled_win_rate(outcomes, 50 + difference, np.full(4000, 50.0))
    assert outcomes.mean() > 0.6
    assert found.low < 0.5 < found.high
    assert found.slope > 1


def test_exchanging_the_models_mirrors_it():
    outcomes, a, b = sample()
    one, other = length_controlled_win_rate(outcomes, a, b), length_controlled_win_rate(1 - outcomes, b, a)
    assert (one.rate, one.low, one.high) == pytest.approx((1 - other.rate, 1 - other.high, 1 - other.low), rel=1e-9)
    assert one.slope == pytest.approx(other.slope)
    assert one.mean_difference == pytest.approx(-other.mean_difference)


def test_the_unit_of_length_does_not_matter():
    outcomes, a, b = sample()
    words, letters = length_controlled_win_rate(outcomes, a, b), length_controlled_win_rate(outcomes, 5 * a, 5 * b)
    assert (words.rate, words.low) == pytest.approx((letters.rate, letters.low), rel=1e-9)


def test_repeating_every_comparison_of_a_prompt_does_not_narrow_the_interval():
    outcomes, a, b = sample(40)
    once = length_controlled_win_rate(outcomes, a, b)
    thrice = length_controlled_win_rate(np.tile(outcomes, 3), np.tile(a, 3), np.tile(b, 3), list(range(40)) * 3)
    assert (thrice.rate, thrice.low, thrice.high) == pytest.approx((once.rate, once.low, once.high), rel=1e-9)


def test_a_longer_answer_that_always_wins_gives_finite_numbers():
    a, b = np.array([9.0, 8, 7, 1, 2, 3] * 5), np.full(30, 5.0)
    found = length_controlled_win_rate((a > b).astype(float), a, b)
    assert found.low < 0.5 < found.high
    assert found.rate == pytest.approx(0.5)
    assert np.isfinite(found.slope)


def test_lengths_that_always_differ_alike_cannot_be_told_from_quality():
    found = length_controlled_win_rate([1, 1, 0, 1] * 20, [9] * 80, [4] * 80)
    assert (found.low, found.high) == (0.0, 1.0)


@pytest.mark.parametrize("outcome", [0.0, 0.5, 1.0])
def test_equal_outcomes_have_the_exact_bound(outcome):
    found, plain = length_controlled_win_rate([outcome] * 9, range(9), [4] * 9), adjusted_win_rate([outcome] * 9)
    assert (found.rate, found.low, found.high) == (plain.rate, plain.low, plain.high)


def test_lengths_must_fit_and_be_finite():
    with pytest.raises(UserError, match="give two finite lengths per outcome"):
        length_controlled_win_rate([1, 0], [3, 4, 5], [1, 2, 3])
    with pytest.raises(UserError, match="give two finite lengths per outcome"):
        length_controlled_win_rate([1, 0], [3, float("nan")], [1, 2])
