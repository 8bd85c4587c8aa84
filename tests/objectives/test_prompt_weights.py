"""What a prompt counts: weight 2 is the prompt twice and weight 0 is its absence, in loss, slopes and statistics."""

import pytest
import torch
from objective_batches import BATCHES, binary_lists, thumbs, with_draws

from unveil import objectives as o
from unveil.objectives import RECIPES, Feedback, Likelihoods, total_loss, weights

# beta-DPO draws the pairs that it keeps at random, by their place: only without the filter are two batches comparable.
EVERY = {name: recipe.make() for name, recipe in RECIPES.items()} | {
    "beta_dpo": o.beta_dpo(keep=1.0),
    "kto kl": o.kto(baseline="kl"),
    "jackknife": o.jackknife(o.kto()),
    "disco k2": o.disco(estimate="k2"),
}
WEIGHTS = [2.0, 1.0, 0.0, 1.0, 1.0]
COPIES = [0, 0, 1, 3, 4]


def batch_for(objective):
    """A batch with every prompt once, far enough from the reference for a penalty to act."""
    likelihoods, feedback = binary_lists() if "Contrast" in repr(objective) else BATCHES[objective.shape]()
    return with_draws(likelihoods, 3) if objective.per_draw else likelihoods, feedback


def chosen(of, likelihoods: Likelihoods, feedback: Feedback):
    """The prompts `of`, which may be named twice."""

    def pick(value):
        return None if value is None else value[..., of, :]

    return Likelihoods(*(pick(v) for v in likelihoods)), Feedback(*(pick(v) for v in feedback))


def loss_and_slopes(objective, likelihoods, feedback):
    state = objective.update(objective.initial_state(), likelihoods, feedback)
    return weights(objective.given(state) if state else objective, likelihoods, feedback)


@pytest.mark.parametrize("name", EVERY)
def test_a_weight_of_two_is_the_prompt_twice_and_a_weight_of_zero_is_its_absence(name):
    objective = EVERY[name]
    likelihoods, feedback = batch_for(objective)
    weighted = feedback._replace(weight=torch.tensor(WEIGHTS, dtype=torch.float64))
    loss, slopes = loss_and_slopes(objective, likelihoods, weighted)
    copied_loss, copied = loss_and_slopes(objective, *chosen(COPIES, likelihoods, feedback))
    torch.testing.assert_close(loss, copied_loss)
    expected = torch.zeros_like(slopes).index_add(slopes.dim() - 2, torch.tensor(COPIES), copied)
    torch.testing.assert_close(slopes, expected)
    assert torch.all(slopes[..., 2, :] == 0)
    assert slopes.abs().sum() > 0


@pytest.mark.parametrize("name", EVERY)
def test_weights_of_one_change_nothing(name):
    objective = EVERY[name]
    likelihoods, feedback = batch_for(objective)
    ones = feedback._replace(weight=torch.ones(5, dtype=torch.float64))
    found, plain = (loss_and_slopes(objective, likelihoods, one) for one in (ones, feedback))
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", EVERY)
def test_a_batch_in_which_nothing_counts_is_silent_and_finite(name):
    objective = EVERY[name]
    likelihoods, feedback = batch_for(objective)
    loss, slopes = loss_and_slopes(objective, likelihoods, feedback._replace(weight=torch.zeros(5)))
    assert loss == 0
    assert torch.all(slopes == 0)


def test_the_running_mean_of_bco_goes_by_weights_from_batch_to_batch():
    likelihoods, feedback = thumbs()
    weighted = feedback._replace(weight=torch.tensor([3.0, 1.0, 0.0, 1.0, 1.0]))
    state = o.bco().update((0.5, 4.0), likelihoods, weighted)
    rewards = 0.1 * likelihoods.margins()[:, 0]
    expected = (4 * 0.5 + (weighted.weight * rewards).sum().item()) / 10
    assert state == pytest.approx((expected, 10.0))


def test_weights_multiply_the_loss_of_every_prompt():
    likelihoods, feedback = BATCHES["pairs"]()
    numbers = torch.tensor([0.5, 2.0, 0.0, 1.0, 7.0], dtype=torch.float64)
    expected = (numbers * o.dpo()(likelihoods, feedback)).mean()
    torch.testing.assert_close(total_loss(o.dpo(), likelihoods, feedback._replace(weight=numbers)), expected)
