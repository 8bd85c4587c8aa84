"""Rows that weigh nothing cost no second pass; rows that weigh little may be skipped without bias."""

import itertools

import numpy as np
import pytest
import torch
from one_pass import OnePass, first_step, make_groups, perturbed, relative_gap

from unveil.likelihood import Response
from unveil.objectives import hinge
from unveil.training.row_skipping import keep_probabilities, sizes_of, skip_rows

SMALL = {"d_model": 16, "n_heads": 2, "mlp_hidden_size": 24}


@pytest.mark.parametrize("kept_tokens", [0, 60, None])
def test_rows_of_weight_zero_cost_no_second_pass(tiny_llada, trainer_of, kept_tokens):
    """Under hinge loss, pairs whose margin is beyond 1 / beta are satisfied."""
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    policy, data = perturbed(reference, size=0.1), make_groups(8)
    case = OnePass(policy, reference, data)
    probe = trainer_of(data, policy, trainer_arguments={"ref_model": reference}, objective="hinge", num_draws=3)
    records = probe._scored(probe.prepare(data, 0), 0)
    margins = np.array([r.margin for r in records]).reshape(8, 2)
    gaps = np.sort(margins[:, 0] - margins[:, 1])
    beta = 1 / float(gaps[gaps > 0].mean())
    active = int((beta * gaps < 1).sum())
    assert 0 < active < 8
    arguments = {"objective": "hinge", "beta": beta, "num_draws": 3, "tokens_per_batch": 50, "kept_tokens": kept_tokens}
    step = first_step(trainer_of, policy, reference, data, **arguments)
    everything = sum(len(Response.from_row(r).prompt_ids) + len(r["completion_ids"])
                     for row in data for r in row["responses"]) * 3  # fmt: skip
    needed = sum(
        (len(r["prompt_ids"]) + len(r["completion_ids"])) * 3
        for row, gap in zip(data, margins[:, 0] - margins[:, 1])
        if beta * gap < 1
        for r in row["responses"]
    )
    if kept_tokens == 0:
        assert step.logs["num_tokens"] == needed
    assert needed <= step.logs["num_tokens"] <= everything
    assert relative_gap(step.grads, case.gradient(case.loss_of(hinge(beta)))) < 1e-10


@pytest.mark.parametrize("kept_tokens", [0, None])
def test_a_batch_without_any_weight_is_a_step_of_gradient_zero(tiny_llada, trainer_of, kept_tokens):
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    data = make_groups(3)
    for row in data[:2]:
        row["relevance"] = [0.5, 0.5]  # a tie says nothing
    step = first_step(
        trainer_of, perturbed(reference), reference, data, objective="dpo", kept_tokens=kept_tokens,
        tokens_per_batch=30, per_device_train_batch_size=2, allow_one_label=True,
    )  # fmt: skip
    assert all(not grad.any() for grad in step.grads)
    assert step.loss == 0


# -- row skipping -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [0.1, 0.5, 0.9])
def test_keep_probabilities_meet_the_budget_and_grow_with_importance(budget):
    generator = np.random.default_rng(0)
    importance, cost = generator.exponential(size=200), generator.integers(5, 50, 200).astype(float)
    keep = keep_probabilities(importance, cost, budget)
    assert (keep * cost).sum() == pytest.approx(budget * cost.sum(), rel=1e-9)
    partial = keep < 1
    assert np.ptp(keep[partial] / importance[partial]) < 1e-9 * keep.max()
    assert importance[~partial].min(initial=np.inf) >= importance[partial].max()


def test_keep_probabilities_are_those_of_least_variance_for_the_cost():
    """sum w^2 s^2 / p is least, at the same expected cost, for p ~ |w| s / sqrt(cost): any trade between two rows
    makes it larger."""
    generator = np.random.default_rng(1)
    size, cost = generator.exponential(size=30), generator.integers(5, 50, 30).astype(float)
    keep = keep_probabilities(size / np.sqrt(cost), cost, 0.3)
    free = np.flatnonzero(keep < 1)
    best = (size**2 / keep).sum()
    for one, other in itertools.pairwise(free):
        for shift in (-1e-3, 1e-3):
            moved = keep.copy()
            moved[one] += shift / cost[one]
            moved[other] -= shift / cost[other]
            assert (size**2 / moved).sum() > best


def test_rows_that_weigh_nothing_are_never_kept_and_all_others_are_where_the_budget_allows():
    importance, cost = np.array([0.0, 1.0, 1e-9]), np.array([8.0, 1.0, 1.0])
    assert keep_probabilities(importance, cost, 0.5).tolist() == [0, 1, 1]
    assert keep_probabilities(np.zeros(3), cost, 0.5).tolist() == [0, 0, 0]


def weighed(trainer_of, model, data):
    trainer = trainer_of(data, model, objective="dpo", num_draws=3)
    batch = trainer.prepare_for_training(data, 0)
    batch.weigh_answers(np.random.default_rng(5).normal(size=len(batch.responses)).tolist())
    return batch


def test_the_mean_of_resampled_weights_is_the_weights(tiny_llada, trainer_of):
    batch = weighed(trainer_of, tiny_llada(vocab_size=24, **SMALL), make_groups(4))
    weights, whole, steps, budget = batch.row_weights, sizes_of(batch), 800, 0.4
    drawn, shares = [], []
    for step in range(steps):
        batch.row_weights = weights
        kept, cost = skip_rows([batch], whole, budget, 7, step)
        drawn.append(batch.row_weights)
        shares.append((kept * cost).sum() / cost.sum())
    found = torch.stack(drawn)
    error = found.std(0) / steps**0.5
    z = (found.mean(0) - weights) / error.clamp(min=1e-12)
    assert z.abs().max() < 4  # 24 rows
    assert 0.5 < z.std() < 1.5
    assert np.mean(shares[:200]) == pytest.approx(budget, abs=0.03)


def test_which_rows_are_skipped_depends_on_answers_not_on_the_cut_of_the_batch(tiny_llada, trainer_of):
    """The chance of a row is drawn from (seed, step, answer, draw)."""
    from unveil.training.row_skipping import _uniform

    model, data = tiny_llada(vocab_size=24, **SMALL), make_groups(4)
    whole, part = weighed(trainer_of, model, data), weighed(trainer_of, model, data[2:])
    ours = [_uniform(3, 5, part, row) for row in range(part.num_rows)]
    assert ours == [_uniform(3, 5, whole, row) for row in range(whole.num_rows)][-part.num_rows :]
    assert len(set(ours)) == part.num_rows


def test_a_whole_budget_is_the_exact_gradient_and_a_smaller_one_saves_tokens(tiny_llada, trainer_of):
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    policy, data = perturbed(reference), make_groups(8)
    arguments = {"objective": "dpo", "kept_tokens": 0}
    plain = first_step(trainer_of, policy, reference, data, **arguments)
    whole = first_step(trainer_of, policy, reference, data, row_budget=1.0, **arguments)
    half = first_step(trainer_of, policy, reference, data, row_budget=0.5, **arguments)
    assert relative_gap(whole.grads, plain.grads) == 0
    assert "rows/tokens_kept" not in plain.logs
    assert half.logs["num_tokens"] < 0.75 * plain.logs["num_tokens"]
    assert half.logs["rows/tokens_kept"] == pytest.approx(half.logs["num_tokens"] / plain.logs["num_tokens"])
    assert half.loss == plain.loss


def test_replayed_rows_that_are_skipped_leave_the_loss_a_number(tiny_llada, trainer_of, rows):
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    step = first_step(
        trainer_of, perturbed(reference), reference, rows(6), replay_rows=rows(3, seed=4, labels=False),
        replay_weight=1e-6, replay_batch_size=2, row_budget=0.2,
    )  # fmt: skip
    assert np.isfinite(step.loss)
    assert all(np.isfinite(value) for value in step.logs.values())
