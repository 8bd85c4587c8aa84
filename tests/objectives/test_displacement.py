"""Diagnostics of what the policy raises and lowers (spec 3.13, 3.14)."""

import math

import pytest
import torch

from unveil.objectives import Feedback, Likelihoods, displacement

PAIR = torch.tensor([[1.0, 0.0]] * 4)


def surrogates(margins: list[list[float]]) -> Likelihoods:
    u = torch.tensor(margins, dtype=torch.float64)
    reference = torch.linspace(-80, -20, u.numel(), dtype=torch.float64).view_as(u)
    return Likelihoods(reference + u, reference)


def test_shares_of_fallen_answers_are_counted():
    found = displacement(surrogates([[1, -1], [-1, -2], [-3, 1], [2, 3]]), Feedback(PAIR))
    assert (found.chosen_fell, found.both_fell) == (0.5, 0.25)
    assert (found.chosen, found.rejected) == pytest.approx((-0.25, 0.25))


def test_order_of_a_pair_does_not_matter():
    likelihoods = surrogates([[1, -1], [-1, -2], [-3, 1], [2, 3]])
    mirrored = Likelihoods(likelihoods.policy.flip(-1), likelihoods.reference.flip(-1))
    assert displacement(mirrored, Feedback(PAIR.flip(-1))) == displacement(likelihoods, Feedback(PAIR))


def test_entropy_is_log_k_at_the_reference_and_zero_when_one_candidate_took_all():
    feedback = Feedback(torch.tensor([[2.0, 1.0, 0.0]]))
    assert displacement(surrogates([[0.0, 0.0, 0.0]]), feedback).did_entropy == pytest.approx(math.log(3))
    assert displacement(surrogates([[5.0, 5.0, 5.0]]), feedback).did_entropy == pytest.approx(math.log(3))
    assert displacement(surrogates([[900.0, 0.0, 0.0]]), feedback).did_entropy == pytest.approx(0.0)
    p = 1 / (1 + math.exp(-1))
    expected = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert displacement(surrogates([[1.0, 0.0]]), Feedback(PAIR[:1])).did_entropy == pytest.approx(expected)


def test_group_mass_is_the_probability_of_all_candidates_against_the_reference():
    reference = torch.tensor([[0.2, 0.1], [0.3, 0.3]], dtype=torch.float64).log()
    policy = torch.tensor([[0.1, 0.05], [0.5, 0.1]], dtype=torch.float64).log()
    found = displacement(Likelihoods(policy, reference), Feedback(PAIR[:2]))
    assert found.group_mass_ratio == pytest.approx(math.sqrt(0.5 * 1.0))


def test_lists_compare_the_best_with_the_worst_and_thumbs_are_one_or_the_other():
    graded = displacement(surrogates([[5.0, -4.0, -1.0]]), Feedback(torch.tensor([[1.0, 3.0, 0.5]])))
    assert (graded.chosen, graded.rejected, graded.both_fell) == pytest.approx((-4.0, -1.0, 1.0))
    apart = displacement(surrogates([[-1.0], [3.0], [5.0]]), Feedback(torch.tensor([[1.0], [0.0], [1.0]])))
    assert (apart.chosen, apart.rejected, apart.chosen_fell) == pytest.approx((2.0, 3.0, 0.5))
    assert math.isnan(apart.both_fell)
    assert math.isnan(apart.did_entropy)


def test_places_filled_up_are_not_counted():
    plain = displacement(surrogates([[1.0, -1.0], [-2.0, 0.5]]), Feedback(PAIR[:2]))
    short = surrogates([[1.0, -1.0], [-2.0, 0.5]])
    wide = Likelihoods(*(torch.cat([v, torch.full((2, 2), math.nan)], -1) for v in (short.policy, short.reference)))
    mask = torch.tensor([[True, True, False, False]] * 2)
    assert displacement(wide, Feedback(torch.cat([PAIR[:2], torch.ones(2, 2)], -1), mask)) == plain
