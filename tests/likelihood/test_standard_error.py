"""The standard error says how far an estimate is from its mean, and never too little on average."""

import math

import numpy as np
import pytest
import torch
from design_laws import iid_law, tiling_law
from simulation import simulate
from table_predictor import MarkovChain, exact_moments, plan_of, random_predictor

from unveil.draws import DESIGNS, plan
from unveil.likelihood import Response, score, standard_error


@pytest.mark.parametrize(("sizes_drawn", "masks_per_size"), [(2, 1), (3, 1), (2, 2)])
def test_squared_standard_error_of_iid_draws_has_the_variance_as_its_mean(sizes_drawn, masks_per_size):
    found = exact_moments(random_predictor(3, 3, seed=9), (0, 2, 1), iid_law(3, sizes_drawn, masks_per_size))
    assert found.mean_squared_error_bar == pytest.approx(found.variance, rel=1e-10)


@pytest.mark.parametrize("masks_per_size", [1, 2])
def test_squared_standard_error_of_eight_iid_draws_has_the_variance_as_its_mean(masks_per_size):
    """Draws that share a size are not independent: counting eight instead of four would be 25 % too small or more."""
    found = simulate(random_predictor(3, 5, seed=9), (0, 2, 1, 1, 0), 6000, 8, "iid", masks_per_size)
    squares = found.standard_error.square()
    assert squares.mean().item() == pytest.approx(found.values.var().item(), rel=0.08)


@pytest.mark.parametrize(("sizes_drawn", "masks_per_size"), [(2, 1), (4, 1), (2, 2), (4, 2)])
def test_squared_standard_error_of_strata_is_too_large_rather_than_too_small(sizes_drawn, masks_per_size):
    """No unbiased estimate exists with one draw a stratum; the error must be on the safe side, table after table."""
    for seed in range(6):
        predictor = random_predictor(3, 4, seed) if seed % 2 else MarkovChain(3, 4, seed).predictor
        found = exact_moments(predictor, (0, 2, 1, 1), tiling_law(4, sizes_drawn, masks_per_size))
        print(sizes_drawn, masks_per_size, seed, found.mean_squared_error_bar / found.variance)
        assert found.mean_squared_error_bar > found.variance


def test_neighbouring_strata_stand_for_each_other_and_an_odd_last_joins_the_pair_before():
    shares = np.array([0.2, 0.3, 0.5])
    drawn = plan_of([(0,), (0, 1), (0, 1, 2)], 3, shares, design="quadratic_tiling")
    found = standard_error(torch.tensor([1.0, 3.0, 10.0], dtype=torch.float64), drawn)
    variance = (0.2**2 + 0.3**2) * (3 - 1) ** 2 / 2 + 0.5**2 * (10 - 3) ** 2 / 2
    assert found.item() == pytest.approx(math.sqrt(variance), rel=1e-12)


def test_draws_that_share_a_size_count_as_one():
    drawn = plan_of([(0,), (1,), (0, 1), (1, 2)], 3, sizes_drawn=2)
    found = standard_error(torch.tensor([1.0, 3.0, 6.0, 10.0]), drawn)
    assert found.item() == pytest.approx(math.sqrt(((2 - 5) ** 2 + (8 - 5) ** 2) / 1 / 2), rel=1e-6)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("draws", [2, 3, 7, 8])
def test_draws_that_agree_have_no_error(design, draws):
    drawn = plan(0, 3, 0, 40, draws, design)
    found = standard_error(torch.full((draws,), -123.4), drawn)
    assert found.item() == pytest.approx(0, abs=1e-4)  # rounding of float32
    assert standard_error(torch.zeros(draws), drawn).item() == 0.0


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize(("draws", "masks_per_size"), [(1, 1), (4, 4)])
def test_one_size_tells_nothing_of_the_error(design, draws, masks_per_size):
    found = simulate(random_predictor(3, 4, seed=0), (0, 1, 2, 0), 3, draws, design, masks_per_size)
    assert found.standard_error.tolist() == [math.inf] * 3


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize(("draws", "masks_per_size"), [(1, 1), (7, 1), (8, 2), (4, 4)])
def test_one_token_is_scored_exactly(design, draws, masks_per_size):
    predictor = random_predictor(4, 1, seed=2)
    predictor.table = predictor.table.float()
    truth = torch.log_softmax(predictor.table[predictor.mask_token_id, 0], dim=-1)[3].item()
    drawn = plan(0, 0, 0, 1, draws, design, masks_per_size)
    found = score(predictor, [Response(0, (), (3,))], [drawn])
    assert found.values.item() == pytest.approx(truth, rel=1e-6)
    assert found.standard_error.item() == 0.0
