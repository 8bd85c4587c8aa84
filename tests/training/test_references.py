"""Frozen copy, adapters off and cached values are one reference; adapters train and the base stays as it was."""

import copy

import pytest
import torch
from datasets import Dataset
from one_pass import first_step, make_groups, perturbed, relative_gap
from peft import LoraConfig, get_peft_model

from unveil.errors import UserError
from unveil.models import LORA_TARGETS, load_denoiser_model, unwrap
from unveil.training import add_adapters


def records_of(trainer, data):
    return [(r.policy, r.reference) for r in trainer._scored(trainer.prepare(data, 0), 0)]


def move(adapted):
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.05)
    return adapted


def test_adapters_off_equals_a_frozen_copy_of_the_base(trainer_of, rows, tiny_llada):
    base, data = tiny_llada(vocab_size=24, dtype=torch.float64), rows(6)
    adapted = add_adapters(copy.deepcopy(base), r=4, alpha=8)
    new = trainer_of(data, adapted, per_device_train_batch_size=6)
    move(adapted)
    off = records_of(new, data)
    copied = records_of(
        trainer_of(data, adapted, per_device_train_batch_size=6, trainer_arguments={"ref_model": base}), data
    )
    torch.testing.assert_close(torch.tensor(off), torch.tensor(copied), rtol=1e-12, atol=0)
    assert all(abs(policy - reference) > 1e-3 for policy, reference in off)


def test_adapters_that_were_trained_before_have_themselves_as_reference(trainer_of, rows, tiny_llada):
    data = rows(6)
    adapted = move(add_adapters(tiny_llada(vocab_size=24, dtype=torch.float64), r=4, alpha=8))
    trainer = trainer_of(data, adapted, per_device_train_batch_size=6, max_steps=2, learning_rate=1e-2)
    assert all(policy == reference for policy, reference in records_of(trainer, data))
    before = records_of(trainer, data)
    trainer.train()
    after = records_of(trainer, data)
    assert [reference for _, reference in after] == [reference for _, reference in before]
    assert all(policy != reference for policy, reference in after)
    ours, theirs = (unwrap(model).model.transformer["wte"].weight for model in (adapted, trainer.reference.model))
    assert ours is theirs, "the frozen weights are in memory once"


@pytest.mark.parametrize("extra", ["biases", "norms"])
def test_weights_of_the_base_that_are_trained_beside_adapters_do_not_move_the_reference(
    trainer_of, rows, tiny_llada, extra
):
    data, base = rows(6), tiny_llada(vocab_size=24, dtype=torch.float64, include_bias=True)
    config = LoraConfig(r=4, target_modules=LORA_TARGETS, bias="all" if extra == "biases" else "none")
    adapted = get_peft_model(base, config)
    if extra == "norms":
        unwrap(adapted).model.transformer["ln_f"].requires_grad_(True)
    trainer = trainer_of(data, adapted, per_device_train_batch_size=6, max_steps=2, learning_rate=1e-2)
    before = records_of(trainer, data)
    trainer.train()
    after = records_of(trainer, data)
    assert [reference for _, reference in after] == [reference for _, reference in before]
    assert all(policy != reference for policy, reference in after)


@pytest.mark.parametrize("draws", ["fresh", "fixed"])
def test_cached_reference_trains_to_the_same_weights_as_a_live_one(trainer_of, rows, tiny_llada, draws):
    data, held_out = rows(8), rows(4, seed=2)
    runs = []
    for cached in (False, True):
        model = tiny_llada(vocab_size=24, dtype=torch.float64)
        trainer = trainer_of(
            data,
            model,
            eval_rows=held_out,
            per_device_train_batch_size=4,
            num_train_epochs=2,
            draws=draws,
            precompute_ref_log_probs=cached,
            eval_strategy="epoch",
        )
        trainer.train()
        runs.append((torch.cat([p.flatten() for p in model.parameters()]), trainer.evaluate()["eval_loss"]))
    torch.testing.assert_close(runs[0][0], runs[1][0], rtol=1e-9, atol=1e-12)
    assert runs[0][1] == pytest.approx(runs[1][1], rel=1e-9)


@pytest.mark.parametrize("objective", ["dpo", "ld_dpo"])
def test_cached_values_tell_the_pairs_of_one_list_apart(trainer_of, tiny_llada, objective):
    """An answer shares the mask sizes of the pair it stands in, and under LD-DPO the length of its partner."""
    reference = tiny_llada(vocab_size=24, dtype=torch.float64)
    policy, three = perturbed(reference), make_groups(2, "lists")[1]["responses"]
    for response, length in zip(three, (12, 3, 7)):
        response["completion_ids"] = list(range(4, 4 + length))
    pairs = [
        {"example_id": three[a]["example_id"], "responses": [three[a], three[b]], "relevance": [1.0, 0.0]}
        for a, b in ((0, 1), (0, 2), (2, 1))
    ]
    live, cached = (
        first_step(trainer_of, policy, reference, pairs, objective=objective, precompute_ref_log_probs=value)
        for value in (False, True)
    )
    assert cached.loss == pytest.approx(live.loss, rel=1e-12)
    assert relative_gap(cached.grads, live.grads) < 1e-12


def test_cached_values_of_two_sources_with_the_same_ids_and_lengths_are_their_own(trainer_of, rows, tiny_llada):
    """Concatenated training data, and two held-out sets by name: policy and reference are one, so margins are 0."""
    reference = tiny_llada(vocab_size=24, dtype=torch.float64)
    one = rows(4)
    other = [row | {"completion_ids": [*reversed(row["completion_ids"][:-1]), 0], "prompt_ids": [9]} for row in one]
    third = [row | {"prompt_ids": [7, 8]} for row in one]
    trainer = trainer_of(
        [*one, *other], reference, per_device_train_batch_size=8, max_steps=1, learning_rate=0.0,
        precompute_ref_log_probs=True,
    )  # fmt: skip
    trainer.eval_dataset = {"one": Dataset.from_list(one), "third": Dataset.from_list(third)}
    trainer.train()
    logs = trainer.state.log_history[0]
    assert logs["loss"] == 0.5
    assert [logs["rewards/margins"], logs["baseline"]] == pytest.approx([0, 0], abs=1e-12)  # several threads round
    found = trainer.evaluate()
    rewards = [value for name, value in found.items() if name.endswith(("rewards/chosen", "rewards/rejected"))]
    assert len(rewards) == 4
    assert rewards == pytest.approx([0] * 4, abs=1e-9)
    with pytest.raises(UserError, match=r"--precompute_ref_log_probs: row 0 was not scored as a held-out row"):
        trainer.evaluate(Dataset.from_list([other[0] | {"prompt_ids": [5]}, one[1]]))


def test_fresh_draws_differ_between_epochs_and_fixed_ones_do_not(trainer_of, rows):
    data = [row | {"completion_ids": list(range(4, 20))} for row in rows(4)]
    trainer = trainer_of(data, per_device_train_batch_size=4)
    first, second = (trainer.prepare(data, epoch).plans for epoch in (0, 1))
    assert any(not (a == b).all() for a, b in zip(first[0].positions, second[0].positions) if len(a) == len(b)) or [
        len(p) for p in first[0].positions
    ] != [len(p) for p in second[0].positions]


def test_lora_moves_adapters_only_and_is_saved_as_an_adapter(trainer_of, rows, tiny_llada, tmp_path):
    base, data = tiny_llada(vocab_size=24), rows(8)
    base.save_pretrained(tmp_path / "base")
    before = {name: p.detach().clone() for name, p in base.named_parameters()}
    base = load_denoiser_model(tmp_path / "base")
    adapted = add_adapters(base, r=4, alpha=8)
    trainer = trainer_of(
        data, adapted, per_device_train_batch_size=8, num_train_epochs=3, learning_rate=1e-2, save_strategy="epoch"
    )
    trainer.train()
    for name, parameter in adapted.get_base_model().named_parameters():
        if "lora_" not in name:
            assert torch.equal(parameter, before[name.replace(".base_layer", "")]), name
    folder = tmp_path / "run" / "checkpoint-3"
    assert (folder / "adapter_model.safetensors").is_file()
    assert not (folder / "model.safetensors").exists()
    assert not any(".transformer.ff_out" in name for name, _ in adapted.named_parameters() if "lora_" in name)
    trained, loaded = dict(adapted.named_parameters()), dict(load_denoiser_model(folder).named_parameters())
    assert trained.keys() == loaded.keys()
    assert all(torch.equal(trained[name], loaded[name]) for name in trained)
    assert any(parameter.any() for name, parameter in loaded.items() if "lora_B" in name)


def test_gradient_checkpointing_under_lora_changes_nothing(trainer_of, rows, tiny_llada):
    base, data, trained = tiny_llada(vocab_size=24, dtype=torch.float64), rows(8), []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        adapted = add_adapters(copy.deepcopy(base), r=4, alpha=8)
        trainer_of(
            data,
            adapted,
            per_device_train_batch_size=8,
            max_steps=3,
            learning_rate=1e-2,
            gradient_checkpointing=checkpointing,
        ).train()
        trained.append(torch.cat([p.flatten() for n, p in adapted.named_parameters() if "lora_" in n]))
    assert trained[0].norm() > 0
    torch.testing.assert_close(trained[0], trained[1], rtol=1e-9, atol=1e-12)
