"""Variance of a surrogate taken apart: across and within mask sizes, strata, size laws, and Psi of a batch."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from design_laws import independent_law, power_units
from simulation import simulate, z_of_mean
from table_predictor import across_and_within, elbo_by_subsets, exact_moments, random_predictor, set_values

from unveil.diagnostics.variance_split import (
    Split,
    best_size_law,
    loss_bounds,
    psi_of_replicates,
    psi_of_standard_errors,
    split_by_size,
    split_variance,
    stratum_variance,
    variance_of_size_law,
)

COMPLETION = (2, 0, 1, 1, 2)


def test_split_of_all_sets_is_that_of_the_enumeration():
    sums = set_values(random_predictor(3, 5, seed=6), COMPLETION)
    by_size = [np.array([5 / s * v for hidden, v in sums.items() if len(hidden) == s]) for s in range(1, 6)]
    assert split_by_size(by_size) == pytest.approx(across_and_within(sums, 5), rel=1e-12)


@pytest.mark.parametrize(("sizes_drawn", "masks_per_size"), [(4, 2), (2, 4)])
def test_split_of_draws_is_unbiased(sizes_drawn, masks_per_size):
    predictor = random_predictor(3, 5, seed=6)
    expected = across_and_within(set_values(predictor, COMPLETION), 5)
    found = simulate(predictor, COMPLETION, 3000, 8, "iid", masks_per_size)
    splits = [split_variance(draws.numpy().reshape(sizes_drawn, masks_per_size)) for draws in found.per_draw]
    for part, exact in zip(zip(*splits), expected):
        assert abs(z_of_mean(torch.tensor(part), exact)) < 4


def test_split_says_how_designs_vary():
    assert Split(6.0, 4.0).variance(2, 2) == 6 / 2 + 4 / 4
    with pytest.raises(ValueError, match="at least 2 sizes of 2 masks"):
        split_variance(np.zeros((4, 1)))


@pytest.mark.parametrize("seed", range(3))
def test_best_size_law_is_the_best_of_a_hundred(seed):
    length = 5
    sums = set_values(random_predictor(3, length, seed), COMPLETION)
    squares = np.array([np.mean([v**2 for h, v in sums.items() if len(h) == s]) for s in range(1, length + 1)])
    exact = elbo_by_subsets(sums, length)
    best = variance_of_size_law(best_size_law(squares), squares, exact)
    laws = np.random.default_rng(seed).dirichlet(np.ones(length), size=100)
    assert best <= min(variance_of_size_law(law, squares, exact) for law in laws)
    near = best_size_law(squares) + 1e-3 * (laws[0] - laws[1])
    assert variance_of_size_law(near / near.sum(), squares, exact) > best


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_variance_of_a_size_law_is_that_of_the_importance_design(exponent):
    length, predictor = 4, random_predictor(3, 4, seed=2)
    sums = set_values(predictor, COMPLETION[:4])
    squares = np.array([np.mean([v**2 for h, v in sums.items() if len(h) == s]) for s in range(1, 5)])
    law = np.arange(1, 5) ** -exponent
    expected = variance_of_size_law(law / law.sum(), squares, elbo_by_subsets(sums, length))
    found = exact_moments(
        predictor, COMPLETION[:4], independent_law(length, power_units(length, 1, exponent), "importance")
    )
    assert found.variance == pytest.approx(expected, rel=1e-10)


def test_variance_of_strata_adds_up_where_sets_are_independent():
    predictor = random_predictor(3, 5, seed=6)
    found = simulate(predictor, COMPLETION, 3000, 4, "quadratic")
    shares = np.diff((np.arange(5) / 4) ** 2)
    by_stratum = stratum_variance(np.array([draws.tolist() for draws in found.per_draw]))
    assert (shares**2 * by_stratum).sum() == pytest.approx(found.values.var().item(), rel=0.15)
    with pytest.raises(ValueError, match="2 repeated plans"):
        stratum_variance(np.zeros((1, 4)))


def correlated_margins(seed: int, replicates: int, count: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    common = generator.normal(size=(replicates, 1)) * generator.normal(size=count)
    return common + generator.normal(size=(replicates, count)) * generator.gamma(1, size=count)


@pytest.mark.parametrize("seed", range(5))
def test_psi_is_the_variance_left_after_centring_on_the_batch_mean(seed):
    margins = correlated_margins(seed, 50, 7)
    left = (margins - margins.mean(axis=1, keepdims=True)).var(axis=0, ddof=1).mean()
    found = psi_of_replicates(margins)
    covariance = np.cov(margins, rowvar=False)
    assert found.v == pytest.approx(np.diag(covariance).mean(), rel=1e-12)
    assert found.c == pytest.approx((covariance.sum() - np.trace(covariance)) / 42, rel=1e-10, abs=1e-12)
    assert found.psi == pytest.approx(left, rel=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_any_other_common_baseline_leaves_more_by_the_variance_of_the_difference(seed):
    margins = correlated_margins(seed, 50, 7)
    mean = margins.mean(axis=1)
    noise = np.random.default_rng(seed + 100).normal(size=50)
    for baseline in (np.zeros(50), noise, np.median(margins, axis=1), margins[:, 0]):
        left = (margins - baseline[:, None]).var(axis=0, ddof=1).mean()
        excess = (baseline - mean).var(ddof=1)
        assert left - psi_of_replicates(margins).psi == pytest.approx(excess, rel=1e-10)


def test_psi_of_independent_margins_follows_from_their_standard_errors():
    errors = np.array([1.0, 2.0, 0.5])
    assert psi_of_standard_errors(errors).psi == pytest.approx(2 / 3 * np.mean(errors**2))
    assert psi_of_standard_errors(np.array([1.0, math.inf])).psi == math.inf
    margins = np.random.default_rng(0).normal(size=(40_000, 3)) * errors
    assert psi_of_replicates(margins).psi == pytest.approx(psi_of_standard_errors(errors).psi, rel=0.03)


def kto_loss(margins_SM: np.ndarray, signs: np.ndarray, beta: float) -> np.ndarray:
    u = beta * (margins_SM - margins_SM.mean(axis=1, keepdims=True))
    return (1 / (1 + np.exp(signs * u))).mean(axis=1)


def test_loss_bounds_hold_in_a_thousand_configurations():
    """Expectations are exact: margins take finitely many values, jointly (any dependence) or independently."""
    generator = np.random.default_rng(0)
    closest = 0.0
    for trial in range(1000):
        count, beta = int(generator.integers(2, 5)), float(10 ** generator.uniform(-2, 1))
        true = generator.normal(size=count) * 10 ** generator.uniform(-1, 1.5)
        if independent := trial % 2 == 0:
            noise = generator.normal(size=(count, 3)) * 10 ** generator.uniform(-1, 1.5)
            noise -= noise.mean(axis=1, keepdims=True)
            scenarios = np.array(list(product(*noise)))
        else:
            scenarios = generator.standard_t(3, size=(20, count)) * 10 ** generator.uniform(-1, 1.5)
            scenarios -= scenarios.mean(axis=0)
        margins = true + scenarios
        signs = generator.choice([-1.0, 1.0], size=count)
        psi = (margins - margins.mean(axis=1, keepdims=True)).var(axis=0).mean()
        losses, target = kto_loss(margins, signs, beta), kto_loss(true[None], signs, beta)[0]
        bounds = loss_bounds(psi, beta, independent=count if independent else None)
        assert abs(losses.mean() - target) <= bounds.bias * (1 + 1e-9)
        assert losses.var() <= bounds.variance * (1 + 1e-9)
        closest = max(closest, losses.var() / bounds.variance)
    assert closest > 0.3  # the bounds were put to the test
