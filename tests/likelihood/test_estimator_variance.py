"""The variance of an estimate is the one that the design's formula says."""

import pytest
from design_laws import iid_law, strata, tiling_law
from simulation import simulate, z_of_variance
from table_predictor import across_and_within, exact_moments, random_predictor, set_values, size_only_predictor


@pytest.mark.parametrize(("sizes_drawn", "masks_per_size"), [(1, 1), (2, 1), (3, 1), (1, 2), (1, 3), (2, 2)])
def test_iid_variance_is_across_over_sizes_plus_within_over_draws(sizes_drawn, masks_per_size):
    predictor, completion = random_predictor(3, 3, seed=4), (2, 0, 1)
    across, within = across_and_within(set_values(predictor, completion), 3)
    found = exact_moments(predictor, completion, iid_law(3, sizes_drawn, masks_per_size))
    expected = across / sizes_drawn + within / (sizes_drawn * masks_per_size)
    assert found.variance == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(("sizes_drawn", "masks_per_size"), [(8, 1), (4, 2), (2, 4), (1, 8)])
def test_eight_iid_plans_vary_as_the_formula_says(sizes_drawn, masks_per_size):
    predictor, completion = random_predictor(3, 5, seed=6), (2, 0, 1, 1, 2)
    across, within = across_and_within(set_values(predictor, completion), 5)
    found = simulate(predictor, completion, 4000, 8, "iid", masks_per_size)
    expected = across / sizes_drawn + within / 8
    assert abs(z_of_variance(found.values, expected)) < 4


@pytest.mark.parametrize(("sizes_drawn", "masks_per_size"), [(4, 1), (2, 2)])
def test_tiling_plans_vary_as_their_law_says(sizes_drawn, masks_per_size):
    predictor, completion = random_predictor(3, 5, seed=6), (2, 0, 1, 1, 2)
    expected = exact_moments(predictor, completion, tiling_law(5, sizes_drawn, masks_per_size)).variance
    found = simulate(predictor, completion, 4000, 4, "quadratic_tiling", masks_per_size)
    assert abs(z_of_variance(found.values, expected)) < 4


@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_strata_vary_as_the_formula_says_where_only_the_size_matters(exponent):
    """sum_k share_k^2 Var(f | stratum k): the masks within a size are all alike, so that tiling plays no part."""
    length, draws = 6, 4
    predictor, completion = size_only_predictor(3, length, seed=3), (1,) * length
    f = {len(h): length / len(h) * value for h, value in set_values(predictor, completion).items()}
    expected = 0.0
    for share, law in strata(length, draws, exponent):
        mean = sum(p * f[size] for size, p in law.items())
        expected += share**2 * sum(p * (f[size] - mean) ** 2 for size, p in law.items())
    found = simulate(predictor, completion, 4000, draws, strata_exponent=exponent)
    assert abs(z_of_variance(found.values, expected)) < 4


@pytest.mark.parametrize("seed", range(5))
def test_equal_strata_never_vary_more_than_iid_sizes(seed):
    """Proportional stratification takes away the variance between strata; again only the size matters."""
    predictor, completion = size_only_predictor(3, 5, seed), (1,) * 5
    for draws in (2, 4):
        stratified = exact_moments(predictor, completion, tiling_law(5, draws, exponent=1.0)).variance
        across, within = across_and_within(set_values(predictor, completion), 5)
        assert within == pytest.approx(0, abs=1e-12)
        assert stratified < across / draws
