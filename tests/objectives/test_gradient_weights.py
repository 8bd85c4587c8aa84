"""Weights that the model sees: autograd against central differences, and against the formulas of the papers."""

import math

import pytest
import torch
from objective_batches import BATCHES, binary_lists, lists, pairs, thumbs, with_draws

from unveil import objectives as o
from unveil.objectives import RECIPES, Likelihoods, total_loss, weights

# What is detached must stand still under a finite difference: baselines and states are given.
FROZEN = {
    "kto": o.kto(baseline="zero"),
    "bco": o.bco().given((0.3, 7.0)),
    "beta_dpo": o.beta_dpo(keep=1.0, a=0.0),
}
VARIANTS = {
    "fdpo forward_kl": ("pairs", o.fdpo("forward_kl")),
    "fdpo alpha": ("pairs", o.fdpo("alpha", alpha=0.3)),
    "ipo summed": ("pairs", o.ipo(per_token=False)),
    "disco ratio": ("lists", o.disco("l_ratio")),
    "disco k2": ("lists", o.disco(estimate="k2", delta=1e-4)),
    "nca soft": ("lists", o.nca(reward_tau=0.7)),
    "adpo standardised": ("lists", o.adpo(standardise=True, per_token=True)),
    "jackknife": ("pairs", o.jackknife(o.dpo(0.5))),
}
CASES = {name: (recipe.shape, FROZEN.get(name) or recipe.make()) for name, recipe in RECIPES.items()} | VARIANTS


def central_differences(objective, likelihoods, feedback, step=1e-5):
    flat = likelihoods.policy.flatten()
    slopes = torch.empty_like(flat)
    for i in range(len(flat)):
        sides = []
        for sign in (1, -1):
            moved = flat.clone()
            moved[i] += sign * step
            policy = moved.view_as(likelihoods.policy)
            sides.append(total_loss(objective, likelihoods._replace(policy=policy), feedback).item())
        slopes[i] = (sides[0] - sides[1]) / (2 * step)
    return slopes.view_as(likelihoods.policy)


@pytest.mark.parametrize("name", CASES)
def test_weights_are_central_differences(name):
    shape, objective = CASES[name]
    likelihoods, feedback = BATCHES[shape](seed=3)
    if objective.per_draw:
        likelihoods = with_draws(likelihoods, 3, noise=1.0)
    _, slopes = weights(objective, likelihoods, feedback)
    assert slopes.abs().max() > 0
    torch.testing.assert_close(slopes, central_differences(objective, likelihoods, feedback), rtol=2e-6, atol=1e-8)


def pair_weights(objective):
    """Weights of the chosen and of the rejected, times the number of prompts, with u and z = beta D at beta 0.1."""
    likelihoods, feedback = pairs()
    _, slopes = weights(objective, likelihoods, feedback)
    u = likelihoods.margins()
    return 5 * slopes[:, 0], 5 * slopes[:, 1], u[:, 0], u[:, 1], 0.1 * (u[:, 0] - u[:, 1])


@pytest.mark.parametrize(
    ("objective", "push"),
    [
        (o.dpo(), lambda z: 0.1 * torch.sigmoid(-z)),
        (o.cdpo(eps=0.2), lambda z: 0.1 * (torch.sigmoid(-z) - 0.2)),
        (o.rdpo(eps=0.2), lambda z: 0.1 * (torch.sigmoid(-z) + 0.2 / 0.6)),
        (o.exo(eps=0.2), lambda z: -0.1 * torch.sigmoid(z) * torch.sigmoid(-z) * (z - math.log(4))),
    ],
)
def test_log_ratio_pairs_have_opposite_weights_of_the_published_size(objective, push):
    chosen, rejected, _, _, z = pair_weights(objective)
    torch.testing.assert_close(chosen, -push(z))
    torch.testing.assert_close(rejected, push(z))


@pytest.mark.parametrize(
    ("divergence", "slope"),
    [
        ("reverse_kl", torch.ones_like),
        ("jensen_shannon", lambda u: torch.sigmoid(-u)),
        ("alpha", lambda u: torch.exp(-0.5 * u)),
        ("forward_kl", lambda u: torch.exp(-u)),
    ],
)
def test_f_dpo_weights_carry_the_slope_of_the_score(divergence, slope):
    objective = o.fdpo(divergence)
    likelihoods, _ = pairs()
    reward = o.implicit_reward(objective, likelihoods)
    push = 0.1 * torch.sigmoid(reward[:, 1] - reward[:, 0])
    chosen, rejected, u_w, u_l, _ = pair_weights(objective)
    torch.testing.assert_close(chosen, -push * slope(u_w))
    torch.testing.assert_close(rejected, push * slope(u_l))


def test_flex_dpo_pulls_its_prompt_up():
    chosen, rejected, u_w, u_l, _ = pair_weights(o.flex_dpo(0.1, 0.08))
    push = torch.sigmoid(-(0.1 * u_w - 0.08 * u_l))
    torch.testing.assert_close(chosen, -0.1 * push)
    torch.testing.assert_close(rejected, 0.08 * push)
    assert torch.all(chosen + rejected < 0)


def test_ddo_weights():
    chosen, rejected, u_w, u_l, _ = pair_weights(o.ddo(0.7, per_token=False))
    torch.testing.assert_close(chosen, -0.1 * torch.sigmoid(-0.1 * u_w))
    torch.testing.assert_close(rejected, 0.7 * 0.1 * torch.sigmoid(0.1 * u_l))


def test_kto_weights():
    likelihoods, feedback = thumbs()
    _, slopes = weights(o.kto(0.3, 1.5, 0.5), likelihoods, feedback)
    sigma = torch.sigmoid(0.3 * (likelihoods.margins() - likelihoods.margins().mean()))
    factor = torch.where(feedback.relevance > 0, -1.5, 0.5)
    torch.testing.assert_close(slopes, factor * 0.3 * sigma * (1 - sigma) / 5)


def test_asft_pushes_an_unlikely_answer_no_further():
    """The weight of the rejected is p / (1 - p) per token and dies with p."""
    _, rejected, *_ = pair_weights(o.asft(0.7))
    likelihoods, feedback = pairs()
    p = (likelihoods.policy / likelihoods.length)[:, 1].exp()
    torch.testing.assert_close(rejected, 0.7 * p / (1 - p) / likelihoods.length[:, 1])
    unlikely = likelihoods._replace(policy=likelihoods.policy - 1e4)
    assert torch.all(weights(o.asft(), unlikely, feedback)[1][:, 1] < 1e-100)


def test_adpo_weights_are_model_minus_target_and_its_hessian_is_the_trust_region():
    likelihoods, feedback = lists()
    objective = o.adpo(2.0, 0.5)
    _, slopes = weights(objective, likelihoods, feedback)
    p = torch.softmax(likelihoods.margins() / 2, dim=-1)
    torch.testing.assert_close(5 * slopes, (p - torch.softmax(feedback.relevance / 0.5, dim=-1)) / 2)
    one = Likelihoods(likelihoods.policy[:1], likelihoods.reference[:1], likelihoods.length[:1])
    first = feedback._replace(**{k: v[:1] for k, v in feedback._asdict().items() if v is not None})
    hessian = torch.autograd.functional.hessian(lambda b: objective(one._replace(policy=b), first).sum(), one.policy)
    expected = (torch.diag(p[0]) - torch.outer(p[0], p[0])) / 4
    torch.testing.assert_close(hessian[0, :, 0, :], expected)


def test_irpo_weights_without_normaliser():
    likelihoods, feedback = lists()
    _, slopes = weights(o.irpo(2.0, normalise=False), likelihoods, feedback)
    w = (2**feedback.relevance - 1) / torch.log2(1 + feedback.rank)
    p = torch.softmax(2.0 * likelihoods.margins() / likelihoods.length, dim=-1)
    expected = 2.0 / 4 * (p * w.sum(dim=-1, keepdim=True) - w) / likelihoods.length
    torch.testing.assert_close(5 * slopes, expected)


def test_disco_weights_are_uniform_on_positives_and_softmax_on_negatives():
    likelihoods, feedback = binary_lists()
    _, slopes = weights(o.disco(tau=0.5, penalty=0.0), likelihoods, feedback)
    score, liked = likelihoods.policy / likelihoods.length, feedback.relevance > 0
    negatives = torch.softmax((score / 0.5).masked_fill(liked, -math.inf), dim=-1)
    expected = torch.where(liked, torch.full_like(score, -0.5), negatives)
    torch.testing.assert_close(5 * slopes * likelihoods.length, expected)


def test_a_larger_da_dpo_factor_weighs_a_pair_most_where_the_argument_is_1_278():
    """x sigma(-x) is largest there: easy pairs get more weight first and less only later (spec 3.8)."""
    factors = torch.linspace(10, 16, 601, dtype=torch.float64)
    likelihoods, feedback = pairs()
    likelihoods = Likelihoods(torch.tensor([[1.0, 0.0]]).double(), torch.zeros(1, 2).double())
    feedback = feedback._replace(relevance=feedback.relevance[:1], rank=None, score=torch.zeros(1, 2).double())
    sizes = torch.stack([weights(o.da_dpo(0.1, f), likelihoods, feedback)[1][0, 1] for f in factors.tolist()])
    assert 0.1 * factors[sizes.argmax()].item() == pytest.approx(1.278, abs=1e-3)


def test_confused_policies_are_pushed_by_a_quarter_of_apo_and_half_of_dpo():
    likelihoods, feedback = pairs()
    level = likelihoods._replace(policy=likelihoods.reference)
    for objective, size in ((o.dpo(), 0.05), (o.apo_zero(), 0.025), (o.hinge(0.1), 0.1)):
        _, slopes = weights(objective, level, feedback)
        torch.testing.assert_close(5 * slopes, torch.tensor([[-size, size]]).double().expand(5, 2))
