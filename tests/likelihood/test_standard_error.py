"""The standard error says how far an estimate is from its mean; where it cannot, it says too much."""

import math

import numpy as np
import pytest
import torch
from design_laws import ANY_COUNT, iid_law, tiling_law
from simulation import simulate, z_of_mean
from table_predictor import (
    MarkovChain,
    across_and_within,
    exact_moments,
    perturbed,
    plan_of,
    random_predictor,
    set_values,
)

from unveil.draws import DESIGNS, plan
from unveil.likelihood import Response, degrees_of_freedom, score, standard_error

STRATA = [(2, 1), (4, 1), (2, 2), (5, 1)]


@pytest.mark.parametrize(("sizes_drawn", "masks_per_size"), [(2, 1), (3, 1), (2, 2)])
def test_squared_standard_error_of_iid_draws_has_the_variance_as_its_mean(sizes_drawn, masks_per_size):
    found = exact_moments(random_predictor(3, 3, seed=9), (0, 2, 1), iid_law(3, sizes_drawn, masks_per_size))
    assert found.mean_squared_error_bar == pytest.approx(found.variance, rel=1e-10)


@pytest.mark.parametrize("masks_per_size", [1, 2, 4])
def test_squared_standard_error_of_eight_iid_draws_has_the_variance_as_its_mean(masks_per_size):
    predictor, completion = random_predictor(3, 5, seed=9), (0, 2, 1, 1, 0)
    across, within = across_and_within(set_values(predictor, completion), 5)
    found = simulate(predictor, completion, 4000, 8, "iid", masks_per_size)
    expected = across * masks_per_size / 8 + within / 8
    assert abs(z_of_mean(found.standard_error.square(), expected)) < 4


@pytest.mark.parametrize(("sizes_drawn", "masks_per_size"), STRATA)
def test_the_error_of_strata_is_on_the_safe_side_over_consistent_conditionals_of_four_tokens(
    sizes_drawn, masks_per_size
):
    """One draw a stratum allows no unbiased estimate. Of so short an answer the error of a single value is not told; of
    longer ones it is near the truth (tests/benchmarks/test_coverage.py)."""
    chains = [MarkovChain(3, 4, seed) for seed in range(8)]
    law = list(tiling_law(4, sizes_drawn, masks_per_size))
    found = [exact_moments(chain.predictor, (0, 2, 1, 1), iter(law)) for chain in chains]
    ratio = math.sqrt(sum(m.mean_squared_error_bar for m in found) / sum(m.variance for m in found))
    assert 1 < ratio < 1.7
    assert all(degrees_of_freedom(drawn) == 0 for _, drawn in law)


@pytest.mark.parametrize(("sizes_drawn", "masks_per_size"), STRATA)
def test_the_error_of_a_margin_is_near_the_truth(sizes_drawn, masks_per_size):
    """The error of policy minus reference is that of the differences, draw by draw."""
    probabilities, plans = zip(*tiling_law(4, sizes_drawn, masks_per_size))
    p, copies = torch.tensor(probabilities, dtype=torch.float64), [Response(0, (), (0, 2, 1, 1))] * len(plans)
    claimed = actual = 0.0
    for seed in range(12):
        reference = random_predictor(3, 4, seed)
        theirs, ours = score(reference, copies, plans), score(perturbed(reference, seed + 100), copies, plans)
        draws = [a - b for a, b in zip(ours.per_draw, theirs.per_draw)]
        claimed += (p * torch.stack([standard_error(d, q) for d, q in zip(draws, plans)]) ** 2).sum().item()
        margins = ours.values - theirs.values
        actual += (p * (margins - (p * margins).sum()) ** 2).sum().item()
    assert 0.8 < math.sqrt(claimed / actual) < 1.25


def test_each_stratum_is_compared_with_the_line_through_its_neighbours():
    shares = np.array([0.2, 0.3, 0.5])
    drawn = plan_of([(0,), (0, 1), (0, 1, 2)], 3, shares, design="quadratic_tiling")
    found = standard_error(torch.tensor([1.0, 3.0, 10.0], dtype=torch.float64), drawn)
    law = 1 / (np.array([0.1, 0.35, 0.75]) + 1 / 6)  # variance like 1 / (l / L)
    ends, middle = (1 - 2 * 3 + 10) ** 2, (3 - (1 + 10) / 2) ** 2
    variance = ends * shares[0] ** 2 * law[0] / (law @ [1, 4, 1]) + ends * shares[2] ** 2 * law[2] / (law @ [1, 4, 1])
    variance += middle * shares[1] ** 2 * law[1] / (law @ [0.25, 1, 0.25])
    assert found.item() == pytest.approx(math.sqrt(variance), rel=1e-12)


def test_what_strata_differ_by_in_a_straight_line_is_no_error():
    drawn = plan(0, 3, 0, 40, 8, "quadratic")
    assert standard_error(torch.arange(8.0, dtype=torch.float64), drawn).item() == pytest.approx(0, abs=1e-7)


def test_draws_that_share_a_size_count_as_one():
    drawn = plan_of([(0,), (1,), (0, 1), (1, 2)], 3, sizes_drawn=2)
    found = standard_error(torch.tensor([1.0, 3.0, 6.0, 10.0]), drawn)
    assert found.item() == pytest.approx(math.sqrt(((2 - 5) ** 2 + (8 - 5) ** 2) / 1 / 2), rel=1e-6)


@pytest.mark.parametrize("design", [name for name in ANY_COUNT if not DESIGNS[name].random_shares])
@pytest.mark.parametrize("draws", [2, 3, 7, 8])
def test_draws_that_agree_have_no_error(design, draws):
    drawn = plan(0, 3, 0, 40, draws, design)
    found = standard_error(torch.full((draws,), -123.4), drawn)
    assert found.item() == pytest.approx(0, abs=1e-4)  # rounding of float32
    assert standard_error(torch.zeros(draws), drawn).item() == 0.0


@pytest.mark.parametrize("design", ANY_COUNT)
@pytest.mark.parametrize(("draws", "masks_per_size"), [(1, 1), (4, 4)])
def test_one_size_tells_nothing_of_the_error(design, draws, masks_per_size):
    found = simulate(random_predictor(3, 4, seed=0), (0, 1, 2, 0), 3, draws, design, masks_per_size)
    assert found.standard_error.tolist() == [math.inf] * 3


@pytest.mark.parametrize("design", ANY_COUNT)
@pytest.mark.parametrize(("draws", "masks_per_size"), [(1, 1), (7, 1), (8, 2), (4, 4)])
def test_one_token_is_scored_exactly(design, draws, masks_per_size):
    predictor = random_predictor(4, 1, seed=2)
    predictor.table = predictor.table.float()
    truth = torch.log_softmax(predictor.table[predictor.mask_token_id, 0], dim=-1)[3].item()
    drawn = plan(0, 0, 0, 1, draws, design, masks_per_size)
    found = score(predictor, [Response(0, (), (3,))], [drawn])
    assert found.values.item() == pytest.approx(truth, rel=1e-6)
    assert found.standard_error.item() == 0.0
