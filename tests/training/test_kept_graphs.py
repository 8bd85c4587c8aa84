"""Graphs that pass 1 keeps save work and change nothing; where they would be wrong or useless, none is kept."""

import copy

import pytest
import torch
from one_pass import first_step, make_groups, perturbed, relative_gap

from unveil.training import add_adapters

SMALL = {"d_model": 16, "n_heads": 2, "mlp_hidden_size": 24}


@pytest.fixture
def counted(monkeypatch):
    """Tokens whose graph is found in pass 2, one number per packed part that pass 1 kept."""
    from unveil.training.surrogate_trainer import SurrogateTrainer

    found = []
    plain = SurrogateTrainer.first_pass

    def first_pass(self, batch):
        values = plain(self, batch)
        found.extend(batch.packed[number].num_tokens for number in batch.kept)
        return values

    monkeypatch.setattr(SurrogateTrainer, "first_pass", first_pass)
    return found


@pytest.mark.parametrize("adapters", [False, True])
def test_kept_tokens_change_no_gradient(tiny_llada, trainer_of, counted, adapters):
    """None, those of some packed parts, and all; with LoRA the reference is the same model with adapters off."""
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    policy, data = perturbed(reference), make_groups(4)
    if adapters:
        torch.manual_seed(0)
        policy, reference = add_adapters(policy, r=2, alpha=4), None
        with torch.no_grad():
            for name, parameter in policy.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1)
    steps, kept = [], []
    for tokens in (0, 120, 10**6):
        counted.clear()
        steps.append(
            first_step(
                trainer_of, policy, reference, data, objective="dpo", kept_tokens=tokens, tokens_per_batch=40,
                per_device_train_batch_size=2, gradient_accumulation_steps=2,
            )
        )  # fmt: skip
        kept.append(sum(counted))
    assert kept[0] == 0 < kept[1] <= 120 < kept[2] == steps[2].logs["num_tokens"]
    for step in steps[1:]:
        assert relative_gap(step.grads, steps[0].grads) < 1e-12


def test_no_graph_is_kept_under_gradient_checkpointing(tiny_llada, trainer_of, counted):
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    policy, data = perturbed(reference), make_groups(2)
    plain = first_step(trainer_of, policy, reference, data, objective="dpo")
    assert sum(counted) == plain.logs["num_tokens"]
    counted.clear()
    recomputed = first_step(trainer_of, policy, reference, data, objective="dpo", gradient_checkpointing=True)
    assert counted == []
    assert relative_gap(recomputed.grads, plain.grads) < 1e-12


def test_no_graph_is_kept_with_dropout_or_with_several_processes(tiny_llada, trainer_of):
    model = tiny_llada(vocab_size=24, **SMALL)
    assert trainer_of(make_groups(2), model, objective="dpo", kept_tokens=50).tokens_to_keep() == 50
    assert trainer_of(make_groups(2), model, objective="dpo", disable_dropout=False).tokens_to_keep() == 0
    trainer = trainer_of(make_groups(2), model, objective="dpo", kept_tokens=50)
    args = copy.copy(trainer.args)
    trainer.args = type("Ranks", (), {"__getattr__": lambda self, name: getattr(args, name), "world_size": 2})()
    assert trainer.tokens_to_keep() == 0


def test_no_graph_is_kept_of_rows_that_pass_2_will_not_run(tiny_llada, trainer_of, counted):
    """With --num_draws_weight pass 1 scores rows of its own."""
    reference = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    first_step(trainer_of, perturbed(reference), reference, make_groups(2), objective="dpo", num_draws_weight=6)
    assert counted == []
