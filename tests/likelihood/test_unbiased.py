"""`score` has the exact ELBO as its mean, whatever the design and however inconsistent the predictor."""

import pytest
from design_laws import iid_law, tile_laws, tiling_law
from simulation import simulate, z_of_mean
from table_predictor import elbo_by_subsets, exact_moments, perturbed, random_predictor, set_values

DESIGNS = ("quadratic_tiling", "iid")

LAWS = [
    (iid_law, 4, 1, 1),
    (iid_law, 3, 3, 1),
    (iid_law, 4, 1, 2),
    (iid_law, 3, 2, 2),
    (tiling_law, 4, 1, 1),
    (tiling_law, 5, 2, 1),
    (tiling_law, 5, 4, 1),
    (tiling_law, 4, 2, 2),
    (tiling_law, 4, 5, 1),
]


@pytest.mark.parametrize(("law", "length", "sizes_drawn", "masks_per_size"), LAWS)
def test_mean_over_all_draws_of_a_design_is_the_elbo(law, length, sizes_drawn, masks_per_size):
    predictor, completion = random_predictor(3, length, seed=length), (2, 0, 1, 1, 0)[:length]
    exact = elbo_by_subsets(set_values(predictor, completion), length)
    found = exact_moments(predictor, completion, law(length, sizes_drawn, masks_per_size))
    assert found.mean == pytest.approx(exact, abs=1e-10)


@pytest.mark.parametrize(("draws", "exponent"), [(8, 2.0), (9, 2.0), (8, 1.0)])
def test_means_over_all_draws_of_every_tile_add_up_to_the_elbo(draws, exponent):
    """From eight draws on there is more than one tile; the mean of the whole is the sum of theirs."""
    predictor, completion = random_predictor(3, 4, seed=2), (2, 0, 1, 1)
    exact = elbo_by_subsets(set_values(predictor, completion), 4)
    found = [exact_moments(predictor, completion, law).mean for law in tile_laws(4, draws, exponent)]
    assert len(found) == 2
    assert sum(found) == pytest.approx(exact, abs=1e-10)


@pytest.mark.parametrize("masks_per_size", [1, 2])
@pytest.mark.parametrize("design", DESIGNS)
def test_mean_over_many_plans_is_the_elbo(design, masks_per_size):
    predictor, completion = random_predictor(3, 5, seed=1), (0, 2, 1, 1, 0)
    exact = elbo_by_subsets(set_values(predictor, completion), 5)
    found = simulate(predictor, completion, 8000, 4, design, masks_per_size)
    assert abs(z_of_mean(found.values, exact)) < 4


@pytest.mark.parametrize("design", DESIGNS)
def test_mean_margin_over_many_plans_is_the_difference_of_the_elbos(design):
    """Shared draws make the margin precise: its z-test is much sharper than that of either ELBO."""
    reference, completion = random_predictor(3, 5, seed=1), (0, 2, 1, 1, 0)
    policy = perturbed(reference, seed=2, scale=0.1)
    exact = [elbo_by_subsets(set_values(p, completion), 5) for p in (policy, reference)]
    found = [simulate(p, completion, 4000, 4, design).values for p in (policy, reference)]
    assert abs(z_of_mean(found[0] - found[1], exact[0] - exact[1])) < 4
