"""The two-pass gradient is the one-pass gradient, however the batch is cut (spec tests 7, 10, 11, 12)."""

import copy

import pytest
import torch

from unveil.draws import plan
from unveil.likelihood import Response, build_rows, micro_batches, row_values
from unveil.models import Denoiser
from unveil.objectives import Feedback, Likelihoods, kto, sft, total_loss


def perturbed(model, seed=1, size=0.05):
    """A policy a little away from its reference."""
    moved = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return moved


def one_pass_gradient(policy, reference, rows, objective, num_draws, seed=42):
    """The oracle: one graph over everything, no packing across responses, no weights."""
    policy = copy.deepcopy(policy)
    surrogates = []
    for model in (policy, reference):
        denoiser, values = Denoiser(model), []
        for row in rows:
            response = Response.from_row(row)
            drawn = plan(seed, response.example_id, 0, response.length, num_draws)
            packed = micro_batches(build_rows([response], [drawn], denoiser.mask_token_id), 10**9)
            (part,) = packed
            weights = torch.tensor([drawn.weights[k] for k in part.order], dtype=torch.float64)
            values.append((weights * row_values(denoiser, part)).sum())
        surrogates.append(torch.stack(values)[:, None])
    lengths = torch.tensor([[float(len(row["completion_ids"]))] for row in rows], dtype=torch.float64)
    labels = torch.tensor([[float(row["label"])] for row in rows], dtype=torch.float64)
    likelihoods = Likelihoods(surrogates[0], surrogates[1].detach(), lengths)
    loss = total_loss(objective, likelihoods, Feedback(labels))
    loss.backward()
    return loss.item(), [p.grad for p in policy.parameters()]


def trainer_gradient(trainer_of, policy, reference, rows, **arguments):
    """Gradient that the trainer hands to the optimizer in its first step."""
    policy = copy.deepcopy(policy)
    caught = {}

    def catch(*_, **__):
        caught["grads"] = [p.grad.clone() for p in policy.parameters()]

    trainer = trainer_of(
        rows,
        policy,
        trainer_arguments={"ref_model": copy.deepcopy(reference)},
        max_steps=1,
        max_grad_norm=0.0,
        train_sampling_strategy="sequential",
        **arguments,
    )
    trainer.create_optimizer()
    trainer.optimizer.register_step_pre_hook(catch)
    trainer.train()
    return trainer.state.log_history[0]["loss"], caught["grads"]


def relative_gap(one, other):
    flat = [torch.cat([g.flatten() for g in grads]) for grads in (one, other)]
    return ((flat[0] - flat[1]).norm() / flat[1].norm()).item()


@pytest.mark.parametrize(
    ("arguments", "objective"),
    [
        ({}, kto()),
        ({"baseline": "zero", "beta": 0.7}, kto(0.7, baseline="zero")),
        ({"baseline": "kl", "desirable_weight": 2.0}, kto(0.1, 2.0, baseline="kl")),
        ({"sft_weight": 0.3, "beta": 2.0}, kto(2.0) + 0.3 * sft()),
    ],
)
def test_two_pass_gradient_equals_one_pass_gradient(tiny_llada, trainer_of, rows, arguments, objective):
    reference = tiny_llada(vocab_size=24, dtype=torch.float64)
    policy, data = perturbed(reference), rows(8)
    loss, expected = one_pass_gradient(policy, reference, data, objective, num_draws=3)
    ours, grads = trainer_gradient(
        trainer_of, policy, reference, data, num_draws=3, per_device_train_batch_size=8, **arguments
    )
    assert ours == pytest.approx(loss, rel=1e-6)
    assert relative_gap(grads, expected) < 1e-10


@pytest.mark.filterwarnings("ignore:--tokens_per_batch 1")
@pytest.mark.parametrize(
    "cut",
    [
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
        {"per_device_train_batch_size": 8, "tokens_per_batch": 1},
        {"per_device_train_batch_size": 8, "tokens_per_batch": 37},
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "gradient_checkpointing": True},
    ],
)
def test_cutting_the_batch_changes_nothing(tiny_llada, trainer_of, rows, cut):
    reference = tiny_llada(vocab_size=24, dtype=torch.float64)
    policy, data = perturbed(reference), rows(8)
    whole = trainer_gradient(trainer_of, policy, reference, data, per_device_train_batch_size=8)
    parts = trainer_gradient(trainer_of, policy, reference, data, **cut)
    assert parts[0] == pytest.approx(whole[0], rel=1e-6)
    assert relative_gap(parts[1], whole[1]) < 1e-10


def test_replay_adds_the_gradient_of_its_own_loss_and_nothing_else(tiny_llada, trainer_of, rows):
    reference = tiny_llada(vocab_size=24, dtype=torch.float64)
    policy, data = perturbed(reference), rows(4)
    replay = rows(1, seed=9, labels=False)
    arguments = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    loss, plain = trainer_gradient(trainer_of, policy, reference, data, **arguments)
    with_replay, both = trainer_gradient(
        trainer_of, policy, reference, data, replay_rows=replay, replay_weight=0.5, replay_batch_size=3, **arguments
    )
    response = Response.from_row(replay[0])
    drawn = plan(42, response.example_id, 1, response.length, 1)
    (part,) = micro_batches(build_rows([response], [drawn], 1), 10**9)
    values = row_values(Denoiser(policy), part)
    nelbo = -(torch.tensor(drawn.weights)[part.order] * values).sum() / response.length
    (0.5 * nelbo).backward()
    expected = [p.grad + g for p, g in zip(policy.parameters(), plain)]
    assert with_replay == pytest.approx(loss + 0.5 * nelbo.item(), rel=1e-6)
    assert relative_gap(both, expected) < 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_margins_are_exactly_zero_before_the_first_update(tiny_llada, trainer_of, rows, dtype):
    trainer = trainer_of(rows(6), tiny_llada(vocab_size=24, dtype=dtype), per_device_train_batch_size=6, max_steps=1)
    batch = trainer.prepare(rows(6), epoch=0)
    records = trainer._scored(batch, 0)
    assert [r.policy - r.reference for r in records] == [0.0] * 6
    assert {r.margin_error for r in records} == {0.0}
