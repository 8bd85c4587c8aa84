"""What training is for: liked answers gain on disliked ones, text gains likelihood (spec test 26, small)."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset

from unveil.objectives import kto
from unveil.training import PreferenceConfig, SFTConfig, SFTTrainer, objective_of


def preference_rows(count: int) -> list[dict]:
    """Liked answers hold even tokens, disliked ones odd tokens."""
    generator = np.random.default_rng(0)
    made = []
    for i in range(count):
        label = bool(i % 2)
        answer = (4 + 2 * generator.integers(0, 8, 6) + (0 if label else 1)).tolist()
        made.append(
            {"example_id": i, "prompt_ids": [20], "completion_ids": [*answer, 0], "tail_ids": [], "label": label}
        )
    return made


@pytest.mark.parametrize(
    "arguments", [{}, {"draw_design": "iid", "num_draws": 2}, {"baseline": "kl", "sft_weight": 0.1}]
)
def test_elbo_kto_separates_liked_from_disliked_answers_it_has_not_seen(trainer_of, tiny_llada, arguments):
    data = preference_rows(64)
    trainer = trainer_of(
        data[:48],
        tiny_llada(vocab_size=24),
        eval_rows=data[48:],
        per_device_train_batch_size=16,
        num_train_epochs=5,
        learning_rate=5e-3,
        **arguments,
    )
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert before["eval_rewards/margins"] == 0.0
    assert before["eval_rewards/auc"] == 0.5
    liked_per_token = -before["eval_logps/chosen"] / 7
    assert before["eval_loss"] == pytest.approx(0.5 + arguments.get("sft_weight", 0) * liked_per_token / 2)
    assert after["eval_rewards/auc"] > 0.95
    assert after["eval_rewards/margins"] > 0.2
    assert after["eval_loss"] < before["eval_loss"]


def test_sft_lowers_the_held_out_nelbo_and_logs_its_training_loss(tiny_llada, tmp_path):
    data = [{k: v for k, v in row.items() if k != "label"} for row in preference_rows(64)]
    args = SFTConfig(
        output_dir=str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no",
        per_device_train_batch_size=8, gradient_accumulation_steps=2, num_train_epochs=5, learning_rate=1e-2,
        num_draws=2, logging_steps=1, dataloader_pin_memory=False,
    )  # fmt: skip
    train, held_out = Dataset.from_list(data[:48]), Dataset.from_list(data[48:])
    trainer = SFTTrainer(tiny_llada(vocab_size=24), args, train_dataset=train, eval_dataset=held_out)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_nelbo_per_token"] < before["eval_nelbo_per_token"] - 0.3
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    first = next(line for line in lines if "loss" in line)
    # The first step's loss is an estimate of the NELBO per token of the untrained model.
    assert first["loss"] == pytest.approx(before["eval_loss"], rel=0.2)


def test_flags_give_the_objective_that_they_name():
    flags = {"beta": 0.3, "sft_weight": 0.2, "baseline": "zero", "desirable_weight": 2}
    config = PreferenceConfig(output_dir="x", use_cpu=True, **flags)
    objective = objective_of(config)
    ((one, kto_term), (factor, _)) = objective.terms
    assert (one, kto_term.beta, kto_term.baseline, kto_term.desirable_weight) == (1.0, 0.3, "zero", 2)
    assert factor == 0.2


def test_paper_defaults_of_the_optimizer_are_the_defaults():
    config = PreferenceConfig(output_dir="x", use_cpu=True)
    assert (config.learning_rate, config.adam_beta1, config.adam_beta2, config.weight_decay) == (1e-6, 0.9, 0.95, 0.01)
    assert (config.num_train_epochs, config.max_grad_norm, config.warmup_steps) == (1.0, 1.0, 0.03)
    assert objective_of(config) == kto(beta=0.1, desirable_weight=1.0, undesirable_weight=1.0, baseline="batch")
    assert config.lr_scheduler_type == "cosine"
    assert config.bf16 is torch.cuda.is_available()
