"""ELBO-KTO against its closed forms (spec tests 8, 10, 13)."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unveil.errors import UserError
from unveil.objectives import Feedback, Likelihoods, kto, sft, total_loss, weights

BATCH = 6


def thumbs(*labels: int) -> Feedback:
    return Feedback(torch.tensor(labels, dtype=torch.float64)[:, None])


def surrogates(margins: list[float]) -> Likelihoods:
    reference = torch.linspace(-90, -20, len(margins), dtype=torch.float64)
    return Likelihoods((reference + torch.tensor(margins, dtype=torch.float64))[:, None], reference[:, None])


def test_at_the_reference_the_loss_is_half_the_mean_weight_and_every_slope_a_quarter_beta_lambda():
    objective = kto(beta=0.3, desirable_weight=1.5, undesirable_weight=0.5)
    feedback = thumbs(1, 0, 1, 0, 0, 1)
    loss, slopes = weights(objective, surrogates([0.0] * BATCH), feedback)
    assert loss.item() == pytest.approx((1.5 + 0.5) / 2 / 2)
    expected = [(-1.5 if label else 0.5) * 0.3 / 4 / BATCH for label in (1, 0, 1, 0, 0, 1)]
    torch.testing.assert_close(slopes[:, 0], torch.tensor(expected, dtype=torch.float64))


def test_loss_is_the_published_formula():
    margins, labels, beta = [1.0, -2.0, 4.0, 0.5], (1, 0, 0, 1), 0.2
    mean = sum(margins) / 4
    expected = sum(
        (1.0 if label else 2.0) / (1 + math.exp((1 if label else -1) * beta * (r - mean)))
        for r, label in zip(margins, labels)
    )
    loss = total_loss(kto(beta, 1.0, 2.0), surrogates(margins), thumbs(*labels))
    assert loss.item() == pytest.approx(expected / 4, rel=1e-12)


@pytest.mark.parametrize("label", [0, 1])
def test_loss_saturates_at_zero_and_at_lambda(label):
    objective = kto(beta=1.0, desirable_weight=3.0, undesirable_weight=3.0, baseline="zero")
    for margin in (-1e4, 1e4):
        loss, slope = weights(objective, surrogates([margin]), thumbs(label))
        assert loss.item() == pytest.approx(0.0 if (margin > 0) == bool(label) else 3.0, abs=1e-12)
        assert slope.item() == 0.0


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=8))
def test_flipping_labels_and_margins_together_changes_nothing(margins):
    labels = [i % 2 for i in range(len(margins))]
    loss = total_loss(kto(), surrogates(margins), thumbs(*labels))
    flipped = total_loss(kto(), surrogates([-m for m in margins]), thumbs(*(1 - x for x in labels)))
    torch.testing.assert_close(loss, flipped)


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=8), st.floats(-30, 30))
def test_a_common_shift_of_all_margins_changes_nothing_under_the_batch_baseline(margins, shift):
    labels = [i % 2 for i in range(len(margins))]
    before = weights(kto(), surrogates(margins), thumbs(*labels))
    after = weights(kto(), surrogates([m + shift for m in margins]), thumbs(*labels))
    torch.testing.assert_close(before, after)


def test_loss_is_linear_in_lambda():
    likelihoods, feedback = surrogates([1.0, -3.0, 2.0]), thumbs(1, 0, 1)
    one, other = kto(0.1, 1.0, 0.0), kto(0.1, 0.0, 1.0)
    both = total_loss(kto(0.1, 2.0, 3.0), likelihoods, feedback)
    parts = 2 * total_loss(one, likelihoods, feedback) + 3 * total_loss(other, likelihoods, feedback)
    torch.testing.assert_close(both, parts)


def test_baseline_is_detached():
    """The slope equals the finite difference with b0 frozen, and differs from the full derivative."""
    margins, feedback, objective = [2.0, -1.0, 5.0], thumbs(1, 0, 0), kto(beta=0.4)
    _, slopes = weights(objective, surrogates(margins), feedback)
    frozen = sum(margins) / 3
    step = 1e-6

    def loss_at(first: float, b0: float) -> float:
        return (1 / (1 + math.exp(0.4 * (first - b0)))) / 3

    difference = (loss_at(2.0 + step, frozen) - loss_at(2.0 - step, frozen)) / (2 * step)
    assert slopes[0].item() == pytest.approx(difference, rel=1e-6)
    full = [2.0 + step, -1.0, 5.0], [2.0 - step, -1.0, 5.0]
    through = [total_loss(objective, surrogates(m), feedback).item() for m in full]
    assert slopes[0].item() != pytest.approx((through[0] - through[1]) / (2 * step), rel=1e-2)


def test_clamped_baseline_is_the_batch_mean_above_zero_and_zero_below():
    feedback = thumbs(1, 0)
    for margins in ([3.0, 1.0], [-3.0, -1.0]):
        plain = kto(baseline="batch") if sum(margins) > 0 else kto(baseline="zero")
        torch.testing.assert_close(
            weights(kto(baseline="kl"), surrogates(margins), feedback),
            weights(plain, surrogates(margins), feedback),
        )


def test_fall_of_both_classes_is_invisible_to_the_batch_baseline_and_seen_by_the_clamped_one():
    feedback = thumbs(1, 0)
    fallen, level = surrogates([-19.0, -21.0]), surrogates([1.0, -1.0])
    torch.testing.assert_close(total_loss(kto(), fallen, feedback), total_loss(kto(), level, feedback))
    clamped = kto(baseline="kl")
    assert weights(clamped, fallen, feedback)[1].sum() < weights(clamped, level, feedback)[1].sum()


def test_centring_noise_is_never_larger_than_with_any_other_common_baseline():
    """Psi_b - Psi_b0 = Var(b - b0): an identity of sample moments (spec 5.6)."""
    generator = torch.Generator().manual_seed(0)
    samples, items = 4000, 5
    mixing = torch.randn(items, items, generator=generator, dtype=torch.float64)
    margins = torch.randn(samples, items, generator=generator, dtype=torch.float64) @ mixing
    margins = margins - margins.mean(dim=0)
    objective = kto()
    mean = torch.stack([objective.shift(row[:, None]) for row in margins])

    def psi(baseline: torch.Tensor) -> torch.Tensor:
        return (margins - baseline[:, None]).var(dim=0, correction=0).mean()

    for other in (torch.zeros(samples, dtype=torch.float64), margins[:, 0], margins.median(dim=1).values):
        gap = psi(other) - psi(mean)
        torch.testing.assert_close(gap, (other - mean).var(correction=0), rtol=1e-10, atol=1e-10)


def test_masked_candidates_change_neither_value_nor_gradient():
    margins, feedback = surrogates([1.0, -2.0, 0.5]), thumbs(1, 0, 1)
    loss, slopes = weights(kto(), margins, feedback)
    padded = Likelihoods(
        torch.cat([margins.policy, torch.full((3, 1), 1e4, dtype=torch.float64)], dim=1),
        torch.cat([margins.reference, torch.zeros((3, 1), dtype=torch.float64)], dim=1),
    )
    mask = torch.tensor([[True, False]] * 3)
    wide = Feedback(torch.cat([feedback.relevance, torch.ones(3, 1)], dim=1), mask)
    padded_loss, padded_slopes = weights(kto(), padded, wide)
    torch.testing.assert_close(padded_loss, loss)
    torch.testing.assert_close(padded_slopes[:, :1], slopes)
    assert torch.all(padded_slopes[:, 1] == 0)


def test_a_batch_of_one_with_the_batch_baseline_is_refused_with_the_remedy():
    with pytest.raises(UserError, match="--per_device_train_batch_size"):
        total_loss(kto(), surrogates([1.0]), thumbs(1))
    assert total_loss(kto(baseline="zero"), surrogates([0.0]), thumbs(1)).item() == 0.5


def test_a_batch_with_one_label_never_saturates():
    """b0 follows the margins up, so slopes stay near beta / 4: why training warns about such batches."""
    _, slopes = weights(kto(), surrogates([100.0, 100.5, 99.5]), thumbs(1, 1, 1))
    assert torch.all(slopes < -0.9 * 0.1 / 4 / 3)


def test_sum_of_objectives_adds_losses_and_weights():
    likelihoods = surrogates([1.0, -2.0])._replace(length=torch.tensor([[4.0], [5.0]]))
    feedback = thumbs(1, 0)
    loss, slopes = weights(kto() + 0.5 * sft(), likelihoods, feedback)
    kto_loss, kto_slopes = weights(kto(), likelihoods, feedback)
    sft_loss, sft_slopes = weights(sft(), likelihoods, feedback)
    torch.testing.assert_close(loss, kto_loss + 0.5 * sft_loss)
    torch.testing.assert_close(slopes, kto_slopes + 0.5 * sft_slopes)
    torch.testing.assert_close(sft_slopes[:, 0], torch.tensor([-1 / 4 / 2, 0.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        ({"beta": 0.0}, "--beta"),
        ({"undesirable_weight": -1.0}, "weight"),
        ({"baseline": "ema"}, "--baseline"),
    ],
)
def test_values_out_of_range_name_the_flag(arguments, flag):
    with pytest.raises(UserError, match=flag):
        kto(**arguments)
