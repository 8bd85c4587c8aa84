"""BCO's shift and beta-DPO's statistics: a tuple of numbers that the trainer carries."""

import pytest
import torch
from objective_batches import pairs, thumbs

from unveil import objectives as o
from unveil.objectives import Likelihoods, weights


def test_bco_remembers_the_mean_of_all_rewards():
    objective, state, seen = o.bco(), o.bco().initial_state(), []
    for seed in range(3):
        likelihoods, feedback = thumbs(seed)
        state = objective.update(state, likelihoods, feedback)
        seen.append(0.1 * likelihoods.margins())
    everything = torch.cat(seen)
    assert state == pytest.approx((everything.mean().item(), everything.numel()))


def test_bco_counts_no_padding():
    likelihoods, feedback = pairs()
    mask = torch.tensor([[True, False]]).expand(5, 2)
    state = o.bco().update((0.0, 0.0), likelihoods, feedback._replace(mask=mask))
    assert state == pytest.approx((0.1 * likelihoods.margins()[:, 0].mean().item(), 5))


def test_bco_shift_makes_a_common_level_invisible():
    likelihoods, feedback = thumbs()
    lifted = likelihoods._replace(policy=likelihoods.policy + 40)
    torch.testing.assert_close(weights(o.bco(), lifted, feedback), weights(o.bco(), likelihoods, feedback))
    assert weights(o.bco_pair(), lifted, feedback)[0] > weights(o.bco_pair(), likelihoods, feedback)[0]


def gaps(likelihoods: Likelihoods) -> torch.Tensor:
    u = likelihoods.margins()
    return u[:, 0] - u[:, 1]


def test_beta_dpo_keeps_running_statistics_of_the_raw_gap():
    objective = o.beta_dpo()
    first, second = pairs(0), pairs(1)
    state = objective.update(objective.initial_state(), *first)
    assert state == pytest.approx((gaps(first[0]).mean().item(), gaps(first[0]).std().item(), 1))
    after = objective.update(state, *second)
    assert after[0] == pytest.approx(0.9 * state[0] + 0.1 * gaps(second[0]).mean().item())
    assert after[1] == pytest.approx(0.9 * state[1] + 0.1 * gaps(second[0]).std().item())
    assert after[2] == 2


def test_beta_dpo_mean_is_over_kept_pairs_at_the_batch_beta():
    likelihoods, feedback = pairs(2)
    objective = o.beta_dpo(keep=0.6).given((0.5, 3.0, 4.0))
    losses = objective(likelihoods, feedback)
    kept = losses != 0
    assert kept.sum() == 3
    gap = gaps(likelihoods)
    beta = max(1e-3, 0.1 * (1 + 0.6 * (gap[kept].mean().item() - 0.5)))
    torch.testing.assert_close(losses.mean(), o.dpo(beta)(likelihoods, feedback)[kept].mean())
    _, slopes = weights(objective, likelihoods, feedback)
    torch.testing.assert_close(slopes[kept, 0], -beta * torch.sigmoid(-beta * gap[kept]) / 3)
    assert torch.all(slopes[~kept] == 0)


def test_beta_dpo_draws_the_same_pairs_for_one_state_and_others_later():
    likelihoods, feedback = pairs(2)

    def kept(batches: float, seed: int = 0) -> tuple[bool, ...]:
        losses = o.beta_dpo(keep=0.4, seed=seed).given((0.0, 1e6, batches))(likelihoods, feedback)
        return tuple((losses != 0).tolist())

    assert kept(3) == kept(3)
    assert len({kept(b) for b in range(20)}) > 3
    assert len({kept(3, seed) for seed in range(20)}) > 3


def test_beta_dpo_leaves_outliers_out_by_a_gaussian_law():
    """One pair 1.5 deviations off, keep 1 of 2: it is kept with probability w / (1 + w), w = exp(-1.5^2 / 2)."""
    margins = torch.tensor([[0.0, 0.0], [1.5, 0.0]], dtype=torch.float64)
    likelihoods = Likelihoods(margins, torch.zeros_like(margins))
    _, feedback = pairs()
    feedback = feedback._replace(relevance=feedback.relevance[:2], rank=None, score=None)
    objective = o.beta_dpo(keep=0.5)
    outlier = [(objective.given((0.0, 1.0, float(b)))(likelihoods, feedback) != 0)[1].item() for b in range(2000)]
    w = 2.718281828459045 ** (-1.125)
    assert sum(outlier) / 2000 == pytest.approx(w / (1 + w), abs=0.04)


def test_beta_dpo_at_the_reference_is_dpo_of_the_kept():
    """All gaps are 0, and so is their deviation: nothing divides by it."""
    likelihoods, feedback = pairs()
    level = likelihoods._replace(policy=likelihoods.reference)
    objective = o.beta_dpo()
    objective = objective.given(objective.update(objective.initial_state(), level, feedback))
    loss, slopes = weights(objective, level, feedback)
    assert loss.item() == pytest.approx(0.6931471805599453)
    torch.testing.assert_close(slopes.sum(dim=0), torch.tensor([-0.05, 0.05], dtype=torch.float64))


def test_a_sum_carries_the_states_of_its_terms():
    likelihoods, feedback = pairs()
    both = o.sft() + 0.5 * o.bco() + 2.0 * o.beta_dpo()
    state = both.update(both.initial_state(), likelihoods, feedback)
    assert len(state) == 5
    bco_state, beta_state = state[:2], state[2:]
    expected = o.sft() + 0.5 * o.bco().given(bco_state) + 2.0 * o.beta_dpo().given(beta_state)
    torch.testing.assert_close(both.given(state)(likelihoods, feedback), expected(likelihoods, feedback))
    assert both.initial_state() == (0.0,) * 5


def test_called_without_a_state_they_take_the_batch_for_the_first():
    likelihoods, feedback = pairs()
    for objective in (o.bco(), o.beta_dpo()):
        state = objective.update(objective.initial_state(), likelihoods, feedback)
        torch.testing.assert_close(objective(likelihoods, feedback), objective.given(state)(likelihoods, feedback))
