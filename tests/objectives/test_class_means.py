"""DDO, BCO and ASFT: a mean over liked plus a mean over disliked answers, whatever the share of either."""

import math

import pytest
import torch
from objective_batches import DTYPE, feedback_for, likelihoods_from, pairs, random_margins

from unveil import objectives as o
from unveil.objectives import Feedback, Likelihoods, total_loss, weights

SHARES = [(4, 4), (6, 2), (1, 7), (8, 0), (0, 8)]


def batch_of(ups: int, downs: int):
    labels = torch.tensor([1.0] * ups + [0.0] * downs)[:, None]
    return likelihoods_from(random_margins(ups + downs, 1)), feedback_for(labels)


def mean(values: torch.Tensor) -> float:
    return values.mean().item() if len(values) else 0.0


def softplus(x: torch.Tensor) -> torch.Tensor:
    return torch.log1p(torch.exp(x))


@pytest.mark.parametrize(("ups", "downs"), SHARES)
def test_ddo_is_the_mean_over_real_plus_alpha_times_the_mean_over_fake_answers(ups, downs):
    likelihoods, feedback = batch_of(ups, downs)
    u = likelihoods.margins()[:, 0]
    expected = mean(softplus(-0.2 * u[:ups])) + 3.0 * mean(softplus(0.2 * u[ups:]))
    loss = total_loss(o.ddo(alpha=3.0, beta=0.2, per_token=False), likelihoods, feedback)
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize(("ups", "downs"), SHARES)
def test_bco_is_the_mean_over_liked_plus_the_mean_over_disliked_answers(ups, downs):
    likelihoods, feedback = batch_of(ups, downs)
    r = 0.1 * likelihoods.margins()[:, 0] - 0.4
    expected = mean(softplus(-r[:ups])) + mean(softplus(r[ups:]))
    assert total_loss(o.bco().given((0.4, 9.0)), likelihoods, feedback).item() == pytest.approx(expected)


@pytest.mark.parametrize(("ups", "downs"), SHARES)
def test_asft_is_the_mean_over_liked_plus_the_mean_over_disliked_answers(ups, downs):
    """`-(1 + w) a_w - w log(1 - e^(a_l))`."""
    likelihoods, feedback = batch_of(ups, downs)
    a = (likelihoods.policy / likelihoods.length)[:, 0]
    expected = -1.7 * mean(a[:ups]) - 0.7 * mean(torch.log1p(-torch.exp(a[ups:])))
    assert total_loss(o.asft(0.7), likelihoods, feedback).item() == pytest.approx(expected)


@pytest.mark.parametrize("up", [2, 4, 6])
def test_at_the_reference_ddo_is_one_plus_alpha_times_log_two(up):
    zero = torch.zeros(8, 1, dtype=DTYPE)
    feedback = Feedback(torch.tensor([[1.0]] * up + [[0.0]] * (8 - up), dtype=DTYPE))
    loss = total_loss(o.ddo(alpha=0.5), Likelihoods(zero, zero, zero + 1), feedback)
    assert loss.item() == pytest.approx(1.5 * math.log(2))


@pytest.mark.parametrize(
    "objective", [o.ddo(), o.bco().given((0.1, 3.0)), o.asft(), o.bco_pair()], ids=["ddo", "bco", "asft", "bco_pair"]
)
def test_pairs_taken_apart_have_the_loss_and_the_slopes_of_pairs(objective):
    likelihoods, feedback = pairs()
    apart = Likelihoods(*(None if v is None else v.reshape(-1, 1) for v in likelihoods))
    whole = weights(objective, likelihoods, feedback)
    found = weights(objective, apart, Feedback(feedback.relevance.reshape(-1, 1)))
    torch.testing.assert_close(found[0], whole[0])
    torch.testing.assert_close(found[1].reshape(-1, 2), whole[1])


def test_means_over_classes_go_by_the_weights_of_their_rows():
    likelihoods, feedback = batch_of(3, 2)
    number = torch.tensor([1.0, 0.0, 3.0, 2.0, 1.0], dtype=DTYPE)
    u = likelihoods.margins()[:, 0]
    up, down = softplus(-0.1 * u[:3]), softplus(0.1 * u[3:])
    classes = (number[:3] * up).sum() / 4 + 0.5 * (number[3:] * down).sum() / 3
    loss = total_loss(o.ddo(per_token=False), likelihoods, feedback._replace(weight=number))
    torch.testing.assert_close(loss, classes * number.mean())


def test_kto_and_apo_stay_means_over_all_answers():
    """As published: classes count by their share."""
    likelihoods, feedback = batch_of(6, 2)
    r = 0.1 * likelihoods.margins()[:, 0]
    signs = torch.tensor([1.0] * 6 + [-1.0] * 2, dtype=DTYPE)
    expected = torch.sigmoid(-signs * r).mean()
    torch.testing.assert_close(total_loss(o.apo_zero_unpaired(), likelihoods, feedback), expected)
    torch.testing.assert_close(total_loss(o.kto(baseline="zero"), likelihoods, feedback), expected)
