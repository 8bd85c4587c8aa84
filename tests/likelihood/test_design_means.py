"""Every design has the mean that it claims: proved over all its draws, and seen in the plans that it makes."""

import numpy as np
import pytest
import torch
from design_laws import (
    Law,
    coupled_law,
    independent_law,
    mirrored_law,
    node_units,
    power_units,
    strata_units,
    systematic_law,
    tiling_law,
)
from simulation import simulate, z_of_mean, z_of_variance
from table_predictor import (
    elbo_by_subsets,
    exact_moments,
    log_p_of,
    perturbed,
    random_predictor,
    set_values,
    size_only_predictor,
    token_values,
)

from unveil.draws import DESIGNS, plan
from unveil.likelihood import Response, score, standard_error
from unveil.likelihood.combiners import token_weights, value

COMPLETION = (2, 0, 1, 1, 0, 2)


def law_of(design: str, length: int, units: int) -> Law:
    """The law of a design with this many units (strata, draws or pairs)."""
    if design in ("stratified", "quadratic"):
        return independent_law(length, strata_units(length, units, 1 + (design == "quadratic")), design)
    if design in ("harmonic", "importance"):
        return independent_law(length, power_units(length, units, 1 if design == "harmonic" else 0.5), design)
    if design == "mirrored":
        return mirrored_law(length, power_units(length, units, 0), design)
    if design == "mirrored_stratified":
        return mirrored_law(length, strata_units(length, units, 1), design)
    if design == "quadrature":
        return independent_law(length, node_units(length, units), design)
    if design == "windows":
        return tiling_law(length, units, exponent=1)
    return {"systematic": systematic_law, "coupled": coupled_law}[design](length, units)


# design, length, units: finite and small enough to enumerate
ENUMERATED = [
    ("stratified", 4, 2), ("stratified", 3, 3), ("stratified", 5, 2),
    ("quadratic", 4, 2), ("quadratic", 4, 3), ("quadratic", 5, 2),
    ("systematic", 5, 2), ("systematic", 4, 3), ("systematic", 3, 4),
    ("mirrored", 4, 1), ("mirrored", 5, 1), ("mirrored", 3, 2),
    ("mirrored_stratified", 4, 1), ("mirrored_stratified", 3, 2),
    ("coupled", 4, 1), ("coupled", 5, 1), ("coupled", 4, 2),
    ("harmonic", 4, 2), ("importance", 4, 2), ("importance", 5, 1),
    ("windows", 5, 2), ("windows", 4, 4),
]  # fmt: skip


def test_every_design_is_here():
    elsewhere = {"iid", "quadratic_tiling", "quadrature", "all_subsets", "left_to_right"}
    assert {design for design, *_ in ENUMERATED} | elsewhere == set(DESIGNS)


@pytest.mark.parametrize(("design", "length", "units"), ENUMERATED)
def test_mean_over_all_draws_of_a_design_is_the_elbo(design, length, units):
    predictor, completion = random_predictor(3, length, seed=length), COMPLETION[:length]
    exact = elbo_by_subsets(set_values(predictor, completion), length)
    assert DESIGNS[design].unbiased
    assert exact_moments(predictor, completion, law_of(design, length, units)).mean == pytest.approx(exact, abs=1e-10)


@pytest.mark.parametrize(("design", "units"), [(d, u) for d, length, u in ENUMERATED if length == 4])
def test_plans_have_the_mean_and_variance_of_the_law(design, units):
    """The plans that the package draws, against the enumeration."""
    predictor, completion = random_predictor(3, 4, seed=4), COMPLETION[:4]
    expected = exact_moments(predictor, completion, law_of(design, 4, units))
    found = simulate(predictor, completion, 3000, units * DESIGNS[design].draws_per_unit, design)
    assert abs(z_of_mean(found.values, expected.mean)) < 4
    assert abs(z_of_variance(found.values, expected.variance)) < 4


@pytest.mark.parametrize("design", [name for name, design in DESIGNS.items() if design.draws_per_unit])
def test_masks_that_share_a_size_leave_the_mean_alone(design):
    predictor, completion = random_predictor(3, 4, seed=1), COMPLETION[:4]
    exact = elbo_by_subsets(set_values(predictor, completion), 4)
    found = simulate(predictor, completion, 3000, 8, design, 2)
    assert (abs(z_of_mean(found.values, exact)) < 4) == DESIGNS[design].unbiased


@pytest.mark.parametrize("design", ["harmonic", "importance", "mirrored", "coupled"])
def test_squared_standard_error_of_independent_units_has_the_variance_as_its_mean(design):
    units, length = 2, 4 if design != "mirrored" else 3
    found = exact_moments(random_predictor(3, length, seed=7), COMPLETION[:length], law_of(design, length, units))
    assert found.mean_squared_error_bar == pytest.approx(found.variance, rel=1e-10)


@pytest.mark.parametrize(("design", "units"), [("stratified", 2), ("stratified", 3), ("mirrored_stratified", 2)])
@pytest.mark.parametrize("seed", range(3))
def test_standard_error_of_equal_independent_strata_is_never_too_small_on_average(design, units, seed):
    length = 3
    found = exact_moments(random_predictor(3, length, seed), COMPLETION[:length], law_of(design, length, units))
    if units % 2:  # the odd stratum borrows from its neighbour: a theorem for pairs only
        assert found.mean_squared_error_bar > 0.8 * found.variance
    else:
        assert found.mean_squared_error_bar >= found.variance * (1 - 1e-12)


@pytest.mark.parametrize("design", ["quadratic", "systematic", "windows", "quadrature"])
def test_standard_error_of_other_strata_is_on_the_safe_side_on_average_over_predictors(design):
    found = [exact_moments(random_predictor(3, 4, s), COMPLETION[:4], law_of(design, 4, 2)) for s in range(12)]
    assert sum(m.mean_squared_error_bar for m in found) > sum(m.variance for m in found)


@pytest.mark.parametrize(("length", "nodes"), [(6, 2), (6, 4), (5, 3)])
def test_quadrature_has_the_bias_of_its_fixed_sizes_and_no_other(length, nodes):
    predictor, completion = random_predictor(3, length, seed=2), COMPLETION[:length]
    sums = set_values(predictor, completion)
    profile = {
        size: np.mean([length / size * value for hidden, value in sums.items() if len(hidden) == size])
        for size in range(1, length + 1)
    }
    mean = sum(share * profile[size] for ((_, size, share),) in node_units(length, nodes))
    drawn = [plan(0, example, 0, length, nodes, "quadrature") for example in range(2)]
    assert [len(p) for p in drawn[0].positions] == [size for ((_, size, _),) in node_units(length, nodes)]
    assert not all(np.array_equal(a, b) for a, b in zip(drawn[0].positions, drawn[1].positions))
    np.testing.assert_allclose(drawn[0].shares, [share for ((_, _, share),) in node_units(length, nodes)], rtol=1e-12)
    found = simulate(predictor, completion, 2000, nodes, "quadrature")
    assert abs(z_of_mean(found.values, float(mean))) < 4
    assert abs(mean - elbo_by_subsets(sums, length)) > 0.02  # the bias, not zero


def test_quadrature_of_a_smooth_profile_is_nearly_exact():
    length = 40
    exact = np.mean([np.exp(-size / length) for size in range(1, length + 1)])
    drawn = plan(0, 0, 0, length, 4, "quadrature")
    found = sum(s * np.exp(-len(p) / length) for s, p in zip(drawn.shares, drawn.positions))
    assert found == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_all_subsets_give_the_exact_elbo_without_error(length):
    predictor, completion = random_predictor(3, length, seed=3), COMPLETION[:length]
    found = score(predictor, [Response(0, (), completion)], [plan(0, 0, 0, length, 1, "all_subsets")])  # type: ignore
    assert found.values.item() == pytest.approx(elbo_by_subsets(set_values(predictor, completion), length), abs=1e-10)
    assert found.standard_error.item() == 0.0


def test_left_to_right_is_the_chain_rule():
    """Row j hides token j and all that follow, and scores token j."""
    predictor, completion = random_predictor(3, 4, seed=3), COMPLETION[:4]
    tokens = token_values(predictor, completion)
    expected = sum(tokens[tuple(range(j, 4))][j] for j in range(4))
    drawn = plan(0, 0, 0, 4, 1, "left_to_right")
    assert [sorted((*p, *more)) for p, more in zip(drawn.positions, drawn.also_hidden)] == [
        [0, 1, 2, 3], [1, 2, 3], [2, 3], [3],
    ]  # fmt: skip
    assert drawn.weights.tolist() == [1.0] * 4
    assert value(token_weights(drawn, 4), log_p_of(tokens, drawn)) == pytest.approx(expected, abs=1e-12)
    assert abs(expected - elbo_by_subsets(set_values(predictor, completion), 4)) > 0.01  # no estimate of B
    assert standard_error(torch.zeros(4), drawn).item() == 0.0


@pytest.mark.parametrize("design", ["stratified", "systematic"])
def test_strata_take_away_the_variance_between_them(design):
    """Only the size matters here: iid sizes vary most."""
    predictor, completion = size_only_predictor(3, 4, seed=1), (1,) * 4
    found = exact_moments(predictor, completion, law_of(design, 4, 2)).variance
    assert found < exact_moments(predictor, completion, law_of("importance", 4, 2)).variance
    assert found < 0.9 * exact_moments(predictor, completion, law_of("mirrored", 4, 1)).variance


@pytest.mark.parametrize("design", ["coupled", "harmonic", "mirrored", "quadratic"])
def test_mean_margin_is_the_difference_of_the_elbos(design):
    reference, completion = random_predictor(3, 4, seed=1), COMPLETION[:4]
    policy = perturbed(reference, seed=2, scale=0.1)
    exact = [elbo_by_subsets(set_values(p, completion), 4) for p in (policy, reference)]
    found = [simulate(p, completion, 1500, 4, design).values for p in (policy, reference)]
    assert abs(z_of_mean(found[0] - found[1], exact[0] - exact[1])) < 4
