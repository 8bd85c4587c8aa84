"""The part of a benchmark's error that is due to the draws, against simulation."""

import math

import numpy as np
import pytest

from unveil.evaluation.likelihoods import Estimate
from unveil.evaluation.monte_carlo import Decision, decisions_summary, likelihood_summary


def test_the_error_over_draws_is_the_spread_of_the_accuracy_over_draws():
    """200 questions of two options with known errors: redraw them 4,000 times and look at the accuracy."""
    random = np.random.default_rng(3)
    values, errors = random.normal(-10, 1, (200, 2)), random.uniform(0.1, 1.0, (200, 2))
    right = random.integers(2, size=200)
    decisions = [Decision(tuple(v), tuple(e), int(r)) for v, e, r in zip(values, errors, right)]
    drawn = values + errors * random.normal(size=(4000, 200, 2))
    accuracy = (drawn.argmax(-1) == right).mean(1)
    assert decisions_summary(decisions)["standard_error"] == pytest.approx(accuracy.std(), rel=0.05)


def test_decisions_within_their_error_are_counted():
    clear, close, exact = (
        Decision((-1.0, -9.0), (0.5, 0.5), 0),
        Decision((-1.0, -1.5), (0.4, 0.4), 0),
        Decision((-1.0, -1.1), (0.0, 0.0), 1),
    )  # fmt: skip
    found = decisions_summary([clear, close, exact])
    assert found["within_error"] == pytest.approx(1 / 3)
    chance = close.chance_of_right()
    assert chance == pytest.approx(0.5 * (1 + math.erf(0.5 / math.hypot(0.4, 0.4) / math.sqrt(2))))
    assert found["standard_error"] == pytest.approx(math.sqrt(chance * (1 - chance)) / 3, rel=1e-6)
    assert exact.chance_of_right() == 0.0
    assert decisions_summary([exact, exact])["exact"]


def test_what_is_not_known_is_not_told():
    one_draw = Decision((-1.0, -2.0), (None, 0.1), 0)
    found = decisions_summary([one_draw])
    assert (found["within_error"], found["standard_error"], found["exact"]) == (None, None, False)
    assert decisions_summary([Decision((-1.0, -2.0), (0.1, 0.1))])["standard_error"] is None
    assert decisions_summary([])["within_error"] is None


def test_means_of_likelihoods_carry_their_errors():
    found = likelihood_summary([Estimate(-4.0, 0.3, 2, 3), Estimate(-8.0, 0.4, 4, 1)])
    assert (found["mean"], found["per_token"], found["forwards"]) == (-6.0, -2.0, 4)
    assert found["mean_standard_error"] == pytest.approx(0.25)
    assert found["per_token_standard_error"] == pytest.approx(0.5 / 6)
    assert likelihood_summary([Estimate(-4.0, None, 2, 1)])["mean_standard_error"] is None
