"""What every objective guarantees, by property-based testing: order, padding, size, ties and single answers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_batches import DTYPE, feedback_for, likelihoods_from, random_margins, with_draws

from unveil import objectives as o
from unveil.objectives import RECIPES, Feedback, Likelihoods, weights

EVERY = {name: recipe.make() for name, recipe in RECIPES.items()} | {
    "fdpo forward_kl": o.fdpo("forward_kl"),
    "fdpo alpha": o.fdpo("alpha"),
    "disco ratio": o.disco("l_ratio"),
    "disco k2": o.disco(estimate="k2"),
    "nca soft": o.nca(reward_tau=0.5),
    "adpo standardised": o.adpo(standardise=True),
    "soft_dpo label": o.soft_dpo(trust="label"),
    "best_worst": o.dpo(pairs="best_worst"),
    "best_versus_rest": o.dpo(pairs="best_versus_rest"),
    "jackknife": o.jackknife(o.vrpo()),
    "kto zero": o.kto(baseline="zero"),
}
RELATIVE = [
    *("dpo", "cdpo", "rdpo", "hinge", "exo", "discopop", "ld_dpo", "madpo", "beta_dpo", "da_dpo", "soft_dpo", "adpo"),
    *("tree_po", "rankdpo", "plackett_luce", "lipo", "d2_dpo", "best_worst", "best_versus_rest", "adpo standardised"),
]
"""Objectives of differences of summed log-ratios: a constant per prompt is invisible to them."""
seeds, sizes = st.integers(0, 10**6), st.integers(2, 6)
few = settings(max_examples=12, deadline=None)


def batch(seed, candidates, prompts=3, scale=3.0, grades=4):
    relevance = torch.randint(0, grades, (prompts, candidates), generator=torch.Generator().manual_seed(seed + 1))
    return likelihoods_from(random_margins(prompts, candidates, seed, scale), seed), feedback_for(relevance, seed)


def run(objective, likelihoods, feedback):
    """Loss per prompt and weights `[..., K]`, the axis of draws summed away."""
    given_draws = with_draws(likelihoods, 3) if objective.per_draw else likelihoods
    losses = objective(given_draws, feedback)
    _, slopes = weights(objective, given_draws, feedback)
    return losses, slopes.sum(dim=0) if objective.per_draw else slopes


def columns(of, likelihoods, feedback):
    """Both tuples with `of` applied to every array."""
    return (
        Likelihoods(*(None if v is None else of(v) for v in likelihoods)),
        Feedback(*(None if v is None else of(v) for v in feedback)),
    )


@pytest.mark.parametrize("name", RELATIVE)
@few
@given(seeds, sizes, st.lists(st.floats(-200, 200), min_size=3, max_size=3))
def test_a_constant_per_prompt_changes_nothing_and_weights_add_up_to_zero(name, seed, candidates, constants):
    likelihoods, feedback = batch(seed, candidates)
    shifted = likelihoods._replace(policy=likelihoods.policy + torch.tensor(constants, dtype=DTYPE)[:, None])
    losses, slopes = run(EVERY[name], likelihoods, feedback)
    moved_losses, moved_slopes = run(EVERY[name], shifted, feedback)
    torch.testing.assert_close(moved_losses, losses, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(moved_slopes, slopes, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(slopes.sum(dim=-1), torch.zeros(3, dtype=DTYPE), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", EVERY)
@few
@given(seeds, sizes, st.randoms(use_true_random=False))
def test_order_of_candidates_does_not_matter(name, seed, candidates, random):
    likelihoods, feedback = batch(seed, candidates)
    order = torch.tensor(random.sample(range(candidates), candidates))
    losses, slopes = run(EVERY[name], likelihoods, feedback)
    mixed_losses, mixed_slopes = run(EVERY[name], *columns(lambda v: v[:, order], likelihoods, feedback))
    torch.testing.assert_close(mixed_losses, losses)
    torch.testing.assert_close(mixed_slopes, slopes[:, order])


@pytest.mark.parametrize("name", EVERY)
@few
@given(seeds, sizes, st.integers(1, 3), st.sampled_from([0.0, 1e4, -1e4, math.nan, math.inf]))
def test_padding_changes_neither_value_nor_gradient(name, seed, candidates, extra, garbage):
    likelihoods, feedback = batch(seed, candidates)
    losses, slopes = run(EVERY[name], likelihoods, feedback)

    def widened(value):
        return torch.cat([value, torch.full((3, extra), garbage, dtype=value.dtype)], dim=-1)

    wide, wide_feedback = columns(widened, likelihoods, feedback)
    mask = torch.arange(candidates + extra).expand(3, -1) < candidates
    wide_losses, wide_slopes = run_padded(EVERY[name], wide, wide_feedback._replace(mask=mask))
    torch.testing.assert_close(wide_losses, losses)
    torch.testing.assert_close(wide_slopes[:, :candidates], slopes)
    assert torch.all(wide_slopes[:, candidates:] == 0)


def run_padded(objective, likelihoods, feedback):
    """As `run`, where garbage in the policy must not be multiplied with noise."""
    if not objective.per_draw:
        return run(objective, likelihoods, feedback)
    repeated = likelihoods._replace(
        policy=likelihoods.policy.expand(3, -1, -1), reference=likelihoods.reference.expand(3, -1, -1)
    )
    return objective(repeated, feedback), weights(objective, repeated, feedback)[1].sum(dim=0)


@pytest.mark.parametrize("name", EVERY)
@few
@given(st.lists(st.sampled_from([-1e4, -1e2, 0.0, 1.0, 1e3, 1e4]), min_size=8, max_size=8), seeds)
def test_extreme_margins_stay_finite_in_float32(name, margins, seed):
    u = torch.tensor(margins, dtype=torch.float32).view(2, 4)
    reference = torch.full((2, 4), -2e4)
    _, feedback = batch(seed, 4, prompts=2)
    likelihoods = Likelihoods(reference + u, reference, torch.full((2, 4), 16.0))
    losses, slopes = run(EVERY[name], likelihoods, feedback)
    assert losses.dtype == torch.float32
    assert torch.isfinite(losses).all()
    assert torch.isfinite(slopes).all()


@pytest.mark.parametrize("name", EVERY)
@given(seed=seeds, candidates=st.integers(1, 4))
@few
def test_ties_and_single_answers_are_finite_and_relative_objectives_ignore_them(name, seed, candidates):
    likelihoods, feedback = batch(seed, candidates, grades=1)
    for level in (0.0, 1.0):
        losses, slopes = run(EVERY[name], likelihoods, feedback._replace(relevance=feedback.relevance + level))
        assert torch.isfinite(losses).all()
        assert torch.isfinite(slopes).all()
        if name in RELATIVE and "adpo" not in name:
            assert torch.all(losses == 0)
            assert torch.all(slopes == 0)


@pytest.mark.parametrize("name", [name for name in EVERY if "adpo" in name])
def test_adpo_of_a_single_answer_is_zero(name):
    losses, slopes = run(EVERY[name], *batch(0, 1))
    torch.testing.assert_close((losses, slopes), (torch.zeros(3, dtype=DTYPE), torch.zeros(3, 1, dtype=DTYPE)))


@pytest.mark.parametrize("name", EVERY)
def test_a_prompt_that_is_all_padding_is_silent(name):
    likelihoods, feedback = batch(1, 3)
    mask = torch.tensor([[True] * 3, [False] * 3, [True] * 3])
    losses, slopes = run(EVERY[name], likelihoods, feedback._replace(mask=mask))
    assert torch.isfinite(losses).all()
    assert torch.all(slopes[1] == 0)
    if not name.startswith("disco"):  # the trust region is one number for the whole batch
        assert losses[1] == 0


@pytest.mark.parametrize("name", EVERY)
def test_no_gradient_reaches_reference_or_feedback(name):
    likelihoods, feedback = batch(2, 3)
    if EVERY[name].per_draw:
        likelihoods = with_draws(likelihoods, 3)
    policy = likelihoods.policy.clone().requires_grad_()
    others = [likelihoods.reference.clone(), feedback.relevance.clone(), feedback.score.clone()]
    for value in others:
        value.requires_grad_()
    losses = EVERY[name](
        likelihoods._replace(policy=policy, reference=others[0]),
        feedback._replace(relevance=others[1], score=others[2]),
    )
    losses.sum().backward()
    assert policy.grad is not None
    assert [value.grad for value in others] == [None] * 3


@pytest.mark.parametrize("name", EVERY)
def test_without_a_reference_it_works_or_says_so(name):
    likelihoods, feedback = batch(2, 3)
    if EVERY[name].per_draw:
        likelihoods = with_draws(likelihoods, 3)
    alone = likelihoods._replace(reference=None)
    if EVERY[name].needs_reference:
        with pytest.raises(ValueError, match="reference"):
            EVERY[name](alone, feedback)
    else:
        torch.testing.assert_close(EVERY[name](alone, feedback), EVERY[name](likelihoods, feedback))


def test_objectives_are_hashable_and_equal_by_value():
    for recipe in RECIPES.values():
        assert hash(recipe.make()) == hash(recipe.make())
        assert recipe.make() == recipe.make()
