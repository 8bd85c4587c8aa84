"""Pass 1 may draw more often than pass 2: better weights at the price of forward passes only."""

import pytest
import torch
from one_pass import OnePass, first_step, horvitz_thompson, make_groups, perturbed, relative_gap

from unveil.objectives import dpo, weights

SMALL = {"d_model": 16, "n_heads": 2, "mlp_hidden_size": 24}


def test_weights_come_from_the_larger_plan_and_the_gradient_from_the_smaller_one(tiny_llada, trainer_of):
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    policy, data = perturbed(reference), make_groups(4)
    many, few = (OnePass(policy, reference, data, num_draws=count) for count in (8, 2))
    loss, slopes = weights(dpo(), many.likelihoods(horvitz_thompson()), many.feedback())
    step = first_step(trainer_of, policy, reference, data, objective="dpo", num_draws=2, num_draws_weight=8)
    expected = few.gradient((slopes * few.likelihoods(horvitz_thompson()).policy).sum())
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    assert relative_gap(step.grads, expected) < 1e-10


def test_the_same_number_of_draws_is_one_plan(tiny_llada, trainer_of):
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    policy, data = perturbed(reference), make_groups(2)
    plain = first_step(trainer_of, policy, reference, data, objective="dpo", num_draws=3)
    same = first_step(trainer_of, policy, reference, data, objective="dpo", num_draws=3, num_draws_weight=3)
    assert relative_gap(same.grads, plain.grads) == 0
    assert "elbo/passes_gap" in same.logs


def test_it_serves_with_cached_reference_values(tiny_llada, trainer_of):
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    policy, data = perturbed(reference), make_groups(4)
    live, cached = (
        first_step(
            trainer_of, policy, reference, data, objective="dpo", num_draws=2, num_draws_weight=6,
            precompute_ref_log_probs=value,
        )
        for value in (False, True)
    )  # fmt: skip
    assert cached.loss == pytest.approx(live.loss, rel=1e-9)
    assert relative_gap(cached.grads, live.grads) < 1e-10
