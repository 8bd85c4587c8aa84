"""Noise of the surrogates: the plug-in's bias, what removes it, and what moves it elsewhere."""

import pytest
import torch
from objective_batches import DTYPE, lists, pairs, random_margins, with_draws

from unveil import objectives as o
from unveil.errors import UserError
from unveil.objectives import Feedback, Likelihoods, weights

PAIR = Feedback(torch.tensor([[1.0, 0.0]], dtype=DTYPE))


def noisy(mean: float, deviation: float, draws: int, repeats: int, seed: int = 0) -> tuple[Likelihoods, Feedback]:
    """`repeats` independent estimates of one pair's gap: normal draws of u_w, noise of sum zero across the repeats."""
    generator = torch.Generator().manual_seed(seed)
    errors = torch.randn(draws, repeats, generator=generator, dtype=DTYPE)
    errors = deviation * torch.cat([errors, -errors], dim=1)
    u = torch.stack([mean + errors, torch.zeros_like(errors)], dim=-1)
    return Likelihoods(u, torch.zeros_like(u), torch.ones(2 * repeats, 2)), Feedback(
        torch.tensor([1.0, 0.0], dtype=DTYPE).expand(2 * repeats, 2)
    )


def bias(objective, mean: float, deviation: float, draws: int, repeats: int = 40000) -> float:
    """Expected loss of estimates minus the loss of the truth."""
    likelihoods, feedback = noisy(mean, deviation, draws, repeats)
    given = likelihoods if objective.per_draw else likelihoods.mean_over_draws()
    truth = Likelihoods(torch.tensor([[mean, 0.0]], dtype=DTYPE), torch.zeros(1, 2, dtype=DTYPE), torch.ones(1, 2))
    plain = objective.objective if isinstance(objective, o.Jackknife) else objective
    return objective(given, feedback).mean().item() - plain(truth, PAIR).item()


def test_plug_in_bias_is_half_the_curvature_times_the_variance():
    """beta 1, deviation 1 per draw, 16 draws: z = 0.5 with variance 1/16."""
    sigma = torch.sigmoid(torch.tensor(0.5)).item()
    assert bias(o.dpo(1.0), 0.5, 1.0, 16) == pytest.approx(0.5 * sigma * (1 - sigma) / 16, rel=0.05)


def test_jackknife_takes_most_of_the_bias_of_the_logistic_link():
    plain, corrected = bias(o.dpo(1.0), 0.5, 2.0, 4), bias(o.jackknife(o.dpo(1.0)), 0.5, 2.0, 4)
    assert plain > 0.08
    assert abs(corrected) < 0.25 * plain


def test_jackknife_takes_most_of_the_bias_of_an_exponential():
    objective = o.Pairwise(o.LogRatio(1.0), link=o.DiscoPop(1e-3))
    plain, corrected = bias(objective, 8.0, 1.0, 8), bias(o.jackknife(objective), 8.0, 1.0, 8)
    assert plain > 0
    assert abs(corrected) < 0.15 * plain


@pytest.mark.parametrize("objective", [o.ipo(per_token=False), o.sppo(0.1)])
def test_jackknife_is_exact_for_squared_links(objective):
    """Over all 2^4 sign patterns of the noise the corrected mean is the noiseless loss to rounding."""
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=DTYPE)] * 4).T
    u = torch.stack([1.5 + 2 * signs, torch.zeros_like(signs)], dim=-1)
    feedback = Feedback(torch.tensor([1.0, 0.0]).expand(16, 2))
    exact = objective(Likelihoods(torch.tensor([[1.5, 0.0]]).double(), torch.zeros(1, 2).double()), PAIR)
    corrected = o.jackknife(objective)(Likelihoods(u, torch.zeros_like(u)), feedback).mean()
    assert corrected.item() == pytest.approx(exact.item(), rel=1e-12)
    plain = objective(Likelihoods(u.mean(0), torch.zeros_like(u[0])), feedback).mean()
    assert plain.item() == pytest.approx(exact.item() + 1.0, rel=1e-12)  # variance 4 of a draw over 4 draws


def test_jackknife_leaves_linear_objectives_alone():
    likelihoods, feedback = pairs()
    noisy_draws = with_draws(likelihoods, 5, noise=3.0)
    torch.testing.assert_close(o.jackknife(o.sft())(noisy_draws, feedback), o.sft()(likelihoods, feedback))


def test_jackknife_keeps_the_batch_of_every_replicate_together():
    """KTO's baseline is that of the replicate, not of all replicates at once."""
    likelihoods, feedback = pairs()
    draws = with_draws(likelihoods, 3, noise=2.0)
    expected = 3 * o.kto()(likelihoods, feedback)
    for k in range(3):
        kept = [i for i in range(3) if i != k]
        replicate = likelihoods._replace(policy=draws.policy[kept].mean(dim=0))
        expected = expected - 2 / 3 * o.kto()(replicate, feedback)
    torch.testing.assert_close(o.jackknife(o.kto())(draws, feedback), expected)


def test_expectation_outside_is_the_mean_of_the_objective_over_draws_and_lies_above_convex_ones():
    likelihoods, feedback = lists()
    draws = with_draws(likelihoods, 4, noise=5.0)
    singles = [o.rankdpo()(likelihoods._replace(policy=policy), feedback) for policy in draws.policy]
    outside = o.expectation_outside(o.rankdpo())(draws, feedback)
    torch.testing.assert_close(outside, torch.stack(singles).mean(dim=0))
    assert torch.all(outside > o.rankdpo()(likelihoods, feedback))


def test_a_sum_gives_draws_to_the_terms_that_want_them_and_the_mean_to_the_others():
    likelihoods, feedback = pairs()
    draws = with_draws(likelihoods, 4, noise=5.0)
    both = o.d2_dpo() + 0.05 * o.sft()
    assert both.per_draw
    expected = o.d2_dpo()(draws, feedback) + 0.05 * o.sft()(likelihoods, feedback)
    torch.testing.assert_close(both(draws, feedback), expected)


def test_a_cross_fitted_weight_does_not_see_its_own_draw():
    likelihoods, feedback = pairs()
    draws = with_draws(likelihoods, 4, noise=2.0)
    moved = draws._replace(policy=draws.policy.clone())
    moved.policy[1] += random_margins(5, 2, seed=9)
    for folds, blind in ((2, [1, 3]), (4, [1])):
        before = o.cross_fitted_weights(o.dpo(), draws, feedback, folds)[1]
        after = o.cross_fitted_weights(o.dpo(), moved, feedback, folds)[1]
        unchanged = [k for k in range(4) if torch.equal(before[k], after[k])]
        assert unchanged == blind


def test_cross_fitted_weights_are_the_other_halfs_slopes_over_the_number_of_draws():
    likelihoods, feedback = pairs()
    draws = with_draws(likelihoods, 4, noise=2.0)
    loss, crossed = o.cross_fitted_weights(o.dpo(), draws, feedback)
    for k in range(4):
        others = draws.policy[[1 - k % 2, 3 - k % 2]].mean(dim=0)
        torch.testing.assert_close(4 * crossed[k], weights(o.dpo(), likelihoods._replace(policy=others), feedback)[1])
    torch.testing.assert_close(loss, o.dpo()(likelihoods, feedback).mean())


def test_cross_fitted_weights_remove_the_covariance_of_weight_and_gradient():
    """Where a draw's gradient has the noise of its margin, only the plug-in gradient is biased by it."""
    likelihoods, feedback = noisy(2.0, 2.0, 4, 20000, seed=3)
    # The gradient of every draw's u_w is 1 + its own error: correlated with the weight that the same draw makes.
    own = 1 + (likelihoods.policy[..., 0] - 2.0)
    truth = -torch.sigmoid(torch.tensor(-2.0, dtype=DTYPE))
    _, plain = weights(o.dpo(1.0), likelihoods.mean_over_draws(), feedback)
    _, crossed = o.cross_fitted_weights(o.dpo(1.0), likelihoods, feedback, folds=4)
    plug_in, cross_fit = (plain[:, 0] * own.mean(dim=0)).sum(), (crossed[..., 0] * own).sum()
    # Both keep the curvature bias of the weight; subtract it by weighing noiseless gradients.
    covariance = plug_in - plain[:, 0].sum()
    left = cross_fit - crossed[..., 0].sum()
    assert covariance.abs() > 0.5 * truth.abs()
    assert left.abs() < 0.05 * covariance.abs()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda one, f: o.jackknife(o.dpo())(one, f), "--num_draws 1"),
        (lambda one, f: o.cross_fitted_weights(o.dpo(), one, f), "--num_draws 1"),
        (lambda one, f: o.cross_fitted_weights(o.d2_dpo(), one, f), "mean over draws"),
        (lambda one, f: o.jackknife(o.d2_dpo()), "do not nest"),
    ],
)
def test_too_few_draws_and_nesting_are_refused(call, message):
    likelihoods, feedback = pairs()
    with pytest.raises(UserError, match=message):
        call(with_draws(likelihoods, 1), feedback)


def test_combinators_answer_for_the_objective_inside():
    inner = o.ld_dpo(alpha=0.3)
    for outer in (o.jackknife(inner), o.expectation_outside(inner)):
        assert (outer.shape, outer.needs_reference, outer.per_draw) == ("pairs", True, True)
        assert outer.position_weights == o.PositionWeights("ld", 0.3)
        likelihoods, _ = pairs()
        torch.testing.assert_close(o.implicit_reward(outer, likelihoods), 0.1 * likelihoods.margins())
    likelihoods, feedback = pairs()
    draws = with_draws(likelihoods, 3, noise=1.0)
    outer, plain = o.jackknife(o.bco()), o.bco()
    state = outer.update(outer.initial_state(), draws, feedback)
    assert state == pytest.approx(plain.update(plain.initial_state(), likelihoods, feedback))
    torch.testing.assert_close(outer.given(state)(draws, feedback), o.jackknife(plain.given(state))(draws, feedback))
