"""The jackknife takes the first-order bias off a nonlinear function of the surrogate."""

import numpy as np
import pytest
import torch
from design_laws import iid_law
from table_predictor import elbo_by_subsets, plan_of, random_predictor, set_values

from unveil.draws import plan
from unveil.errors import UserError
from unveil.likelihood.jackknife import jackknife, jackknife_draw_weights, left_out_values

LOSS = torch.nn.functional.logsigmoid


def jackknifed(draws_K: torch.Tensor, drawn) -> torch.Tensor:
    full = (draws_K * torch.from_numpy(drawn.shares)).sum()
    return jackknife(LOSS(full), LOSS(left_out_values(draws_K, drawn)))


@pytest.mark.parametrize(
    ("design", "draws", "masks_per_size"),
    [("iid", 4, 1), ("iid", 6, 2), ("coupled", 6, 1), ("harmonic", 5, 1), ("mirrored", 4, 1)],
)
def test_draw_weights_are_the_gradient(design, draws, masks_per_size):
    drawn = plan(0, 3, 0, 12, draws, design, masks_per_size)
    count = len(drawn.positions)
    sums = torch.randn(count, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    draws_K = sums * torch.from_numpy(drawn.weights / drawn.shares)
    (expected,) = torch.autograd.grad(jackknifed(draws_K, drawn), sums)
    rbar = (draws_K.detach() * torch.from_numpy(drawn.shares)).sum()
    slope = torch.sigmoid(-rbar).item()
    slopes = torch.sigmoid(-left_out_values(draws_K.detach(), drawn)).numpy()
    np.testing.assert_allclose(jackknife_draw_weights(slope, slopes, drawn), expected.numpy(), rtol=1e-9, atol=1e-12)


def test_draw_weights_match_finite_differences():
    drawn = plan(0, 3, 0, 12, 4, "iid")
    sums = np.array([-3.0, 1.0, 0.5, 2.0])
    ratio = drawn.weights / drawn.shares
    at = lambda s: jackknifed(torch.from_numpy(s * ratio), drawn).item()  # noqa: E731
    draws_K = torch.from_numpy(sums * ratio)
    slope = torch.sigmoid(-(draws_K * torch.from_numpy(drawn.shares)).sum()).item()
    found = jackknife_draw_weights(slope, torch.sigmoid(-left_out_values(draws_K, drawn)).numpy(), drawn)
    for k in range(4):
        step = np.eye(4)[k] * 1e-5
        assert found[k] == pytest.approx((at(sums + step) - at(sums - step)) / 2e-5, rel=1e-6)


def test_a_linear_function_keeps_its_weights():
    drawn = plan(0, 3, 0, 12, 8, "coupled")
    found = jackknife_draw_weights(0.7, np.full(drawn.sizes_drawn, 0.7), drawn)
    np.testing.assert_allclose(found, 0.7 * drawn.weights, rtol=1e-12)


def test_bias_is_reduced_at_a_noise_of_one_nat():
    """Exact expectation over all iid draws of three, a logistic loss whose argument varies by beta sd = 1."""
    length, completion = 3, (2, 0, 1)
    predictor = random_predictor(3, length, seed=4)
    sums = set_values(predictor, completion)
    exact = elbo_by_subsets(sums, length)
    laws = []
    for probability, drawn in iid_law(length, 3):
        draws = [length / len(p) * sums[tuple(p.tolist())] - exact for p in drawn.positions]
        laws.append((probability, torch.tensor(draws, dtype=torch.float64), drawn))
    sd = sum(p * d.mean().item() ** 2 for p, d, _ in laws) ** 0.5
    truth = LOSS(torch.tensor(0.0)).item()
    plain = sum(p * LOSS(d.mean() / sd).item() for p, d, _ in laws) - truth
    debiased = sum(p * jackknifed(d / sd, drawn).item() for p, d, drawn in laws) - truth
    assert plain < -0.05  # log sigmoid is concave
    assert abs(debiased) < 0.4 * abs(plain)


def test_strata_and_single_draws_are_refused():
    with pytest.raises(UserError, match=r"--draw_design quadratic_tiling.*use one of iid, mirrored"):
        left_out_values(torch.zeros(4), plan(0, 0, 0, 9, 4))
    with pytest.raises(UserError, match="--num_draws 1: a jackknife needs at least two"):
        left_out_values(torch.zeros(1), plan_of([(0, 2)], 3))
