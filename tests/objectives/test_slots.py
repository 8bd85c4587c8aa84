"""The parts that recipes are made of: pairs, ranks, log-odds, guarded exponents, the trust region."""

import itertools
import math

import mpmath
import pytest
import torch
from objective_batches import binary_lists, lists, pairs

from unveil import objectives as o
from unveil.objectives import Feedback, Likelihoods, weights
from unveil.objectives.divergences import EXPONENT_LIMIT, guarded_exp
from unveil.objectives.pairs import average_ranks
from unveil.objectives.rewards import log1mexp

GRADES = Feedback(torch.tensor([2.0, 0.0, 3.0, 1.0]))


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("all", {(0, 1), (0, 3), (2, 0), (2, 1), (2, 3), (3, 1)}),
        ("best_worst", {(2, 1)}),
        ("best_versus_rest", {(2, 0), (2, 1), (2, 3)}),
    ],
)
def test_pairs_of_a_list(which, expected):
    chosen = o.Pairs(which, mean=False)(GRADES)
    assert {(i, j) for i, j in itertools.product(range(4), repeat=2) if chosen[i, j]} == expected
    torch.testing.assert_close(o.Pairs(which)(GRADES), chosen / len(expected))


def test_pairs_leave_out_places_filled_up_and_share_equal_bests():
    mask = torch.tensor([True, True, False, True])
    assert o.Pairs("best_worst", mean=False)(GRADES._replace(mask=mask)).nonzero().tolist() == [[0, 1]]
    tied = o.Pairs("best_worst")(Feedback(torch.tensor([1.0, 1.0, 0.0])))
    torch.testing.assert_close(tied, torch.tensor([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]))


def test_tied_ranks_are_shared_and_later_keys_break_ties():
    real = torch.tensor([True, True, True, True, False])
    key = torch.tensor([5.0, 7.0, 5.0, 1.0, 9.0])
    assert average_ranks((key,), real)[:4].tolist() == [2.5, 1.0, 2.5, 4.0]
    second = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0])
    assert average_ranks((key, second), real)[:4].tolist() == [3.0, 1.0, 2.0, 4.0]


def test_rankdpo_weights_of_three_answers_by_hand():
    weight = o.DCG()(Feedback(torch.tensor([2.0, 1.0, 0.0])), torch.zeros(3))
    first, second, third = (1 / math.log(n) for n in (2, 3, 4))
    assert weight[0, 1].item() == pytest.approx(2 * (first - second))
    assert weight[0, 2].item() == pytest.approx(3 * (first - third))
    assert weight[1, 2].item() == pytest.approx(1 * (second - third))


def test_swapping_the_ends_of_a_ranking_costs_more_than_swapping_its_middle():
    likelihoods, feedback = lists()
    order = feedback.relevance.argsort(dim=-1, descending=True)

    def loss(ranking: list[int]) -> float:
        reward = torch.tensor([40.0, 30.0, 20.0, 10.0], dtype=torch.float64)[torch.tensor(ranking)]
        u = torch.zeros_like(likelihoods.policy).scatter(-1, order, reward.expand(5, 4))
        return o.rankdpo()(likelihoods._replace(policy=likelihoods.reference + u), feedback).mean().item()

    right, middle, ends = loss([0, 1, 2, 3]), loss([0, 2, 1, 3]), loss([3, 1, 2, 0])
    assert right < middle < ends


def test_lipo_starts_with_rankdpos_weights_where_all_rewards_are_zero():
    likelihoods, feedback = lists()
    level = likelihoods._replace(policy=likelihoods.reference)
    torch.testing.assert_close(weights(o.lipo(0.1), level, feedback), weights(o.rankdpo(0.1), level, feedback))
    assert weights(o.lipo(), level, feedback)[1].abs().min() > 0


@pytest.mark.parametrize("log_p", [-50.0, -10.0, -1.0, -0.70, -0.69, -0.1, -1e-3, -2e-6])
def test_log1mexp_is_accurate_at_both_ends(log_p):
    x = torch.tensor(log_p, dtype=torch.float64, requires_grad=True)
    value = log1mexp(x)
    (slope,) = torch.autograd.grad(value, x)
    with mpmath.workdps(40):
        exact = mpmath.log(1 - mpmath.exp(mpmath.mpf(log_p)))
        exact_slope = -1 / (mpmath.exp(-mpmath.mpf(log_p)) - 1)
    assert value.item() == pytest.approx(float(exact), rel=1e-13)
    assert slope.item() == pytest.approx(float(exact_slope), rel=1e-9)


def test_a_certain_answer_has_finite_log_odds():
    for certain in (0.0, 1e-3):
        likelihoods = Likelihoods(torch.tensor([[certain, -5.0]]), None, torch.ones(1, 2))
        loss, slopes = weights(o.orpo(), likelihoods, Feedback(torch.tensor([[1.0, 0.0]])))
        assert torch.isfinite(loss)
        assert torch.isfinite(slopes).all()


def test_guarded_exponential_is_exact_below_its_limit_and_a_tangent_above():
    x = torch.tensor([-700.0, 0.0, 19.9, 25.0, 1e4], dtype=torch.float64, requires_grad=True)
    value = guarded_exp(x)
    value.sum().backward()
    top = math.exp(EXPONENT_LIMIT)
    expected = [math.exp(-700), 1.0, math.exp(19.9), top * 6, top * (1 + 1e4 - EXPONENT_LIMIT)]
    torch.testing.assert_close(value.detach(), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)
    slopes = torch.tensor([*expected[:3], top, top], dtype=torch.float64)
    torch.testing.assert_close(x.grad, slopes, rtol=1e-12, atol=0)


def test_jensen_shannon_scores_are_zero_at_the_reference_and_below_log_two():
    scores = o.JensenShannon()(torch.tensor([0.0, 1e3, -1e3], dtype=torch.float64))
    torch.testing.assert_close(scores, torch.tensor([0.0, math.log(2), math.log(2) - 1e3], dtype=torch.float64))


@pytest.mark.parametrize("score", [o.JensenShannon(), o.Alpha(0.3), o.forward_kl(), o.ReverseKL()])
def test_scores_of_divergences_rise_with_the_published_slope(score):
    u = torch.linspace(-3, 3, 13, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(score(u).sum(), u)
    published = {
        o.JensenShannon(): torch.sigmoid(-u),
        o.Alpha(0.3): torch.exp(-0.3 * u),
        o.forward_kl(): torch.exp(-u),
        o.ReverseKL(): torch.ones_like(u),
    }[score]
    torch.testing.assert_close(slope, published.detach())


def disco_pair(shift: float) -> tuple[Likelihoods, Feedback]:
    likelihoods, feedback = binary_lists()
    policy = likelihoods.reference - shift * likelihoods.length
    return likelihoods._replace(policy=policy), feedback


def test_trust_region_is_silent_inside_and_quadratic_outside():
    region = o.TrustRegion(delta=0.1, strength=7.0)
    inside, outside = disco_pair(0.09), disco_pair(0.3)
    loss, slopes = weights(region, *inside)
    assert loss == 0
    assert torch.all(slopes == 0)
    loss, slopes = weights(region, *outside)
    assert loss.item() == pytest.approx(7 / 2 * 0.2**2)
    torch.testing.assert_close(slopes, -7 * 0.2 / (20 * outside[0].length))


def test_trust_region_estimates():
    """k1 may be negative, k2 never is."""
    gained = disco_pair(-0.3)
    assert o.TrustRegion().divergence(*gained).item() == pytest.approx(-0.3)
    assert o.TrustRegion(estimate="k2").divergence(*gained).item() == pytest.approx(0.3**2 / 2)


def test_a_constraint_on_a_second_set_of_surrogates_adds_its_weights():
    """DisCO with its own reference for the preference term: two Likelihoods, one policy."""
    likelihoods, feedback = pairs()
    old = likelihoods._replace(reference=likelihoods.policy + 5)
    preference, region = o.dpo(), o.TrustRegion(delta=0.0, strength=2.0)
    together = likelihoods.policy.clone().requires_grad_()
    loss = (
        preference(likelihoods._replace(policy=together), feedback) + region(old._replace(policy=together), feedback)
    ).mean()
    (whole,) = torch.autograd.grad(loss, together)
    parts = weights(preference, likelihoods, feedback)[1] + weights(region, old, feedback)[1]
    torch.testing.assert_close(whole, parts)


def test_groups_without_both_labels_have_no_disco_loss_and_still_count_in_the_mean():
    likelihoods, feedback = binary_lists()
    relevance = feedback.relevance.clone()
    relevance[0], relevance[1] = 1.0, 0.0
    losses = o.disco(penalty=0.0)(likelihoods, feedback._replace(relevance=relevance))
    assert losses[:2].tolist() == [0.0, 0.0]
    assert torch.all(losses[2:] != 0)
    _, slopes = weights(o.disco(penalty=0.0), likelihoods, feedback._replace(relevance=relevance))
    assert torch.all(slopes[:2] == 0)


def test_disco_tau_to_zero_is_the_hardest_negative():
    likelihoods, feedback = binary_lists()
    score, liked = likelihoods.policy / likelihoods.length, feedback.relevance > 0
    hardest = score.masked_fill(liked, -math.inf).amax(dim=-1) - score[liked].view(5, 2).mean(dim=-1)
    torch.testing.assert_close(o.disco(tau=1e-9, penalty=0.0)(likelihoods, feedback), hardest, rtol=0, atol=1e-7)


def test_adpo_constants_of_scores_vanish_and_standardising_takes_their_scale():
    likelihoods, feedback = lists()
    scaled = feedback._replace(relevance=7 * feedback.relevance + 3)
    objective = o.adpo(standardise=True)
    torch.testing.assert_close(objective(likelihoods, scaled), objective(likelihoods, feedback))
    shifted = feedback._replace(relevance=feedback.relevance + 3)
    torch.testing.assert_close(o.adpo()(likelihoods, shifted), o.adpo()(likelihoods, feedback))
    assert (o.adpo()(likelihoods, scaled) - o.adpo()(likelihoods, feedback)).abs().max() > 0.01


def test_pairs_that_do_not_count_never_meet_the_link():
    """The other direction of a clear pair would be e^1000: an infinity times a weight of zero."""
    objective = o.Pairwise(o.LogRatio(1.0), link=lambda z, p=1.0: torch.exp(-z))
    likelihoods = Likelihoods(torch.tensor([[0.0, -1e3]]), torch.zeros(1, 2))
    loss, slopes = weights(objective, likelihoods, Feedback(torch.tensor([[1.0, 0.0]])))
    assert loss == 0
    assert torch.all(slopes == 0)
