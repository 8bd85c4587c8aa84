"""A pack that is too large, or smaller than a row, is told with the flag to change and the size that fits."""

import pytest
import torch

from unveil.errors import UserError, UserInputWarning
from unveil.training import surrogate_trainer


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("not enough memory: 1 TB")]
)
def test_out_of_memory_names_the_flag_and_the_smallest_pack(trainer_of, rows, tiny_llada, monkeypatch, error):
    data = rows(4)
    longest = max(sum(len(row[part]) for part in ("prompt_ids", "completion_ids", "tail_ids")) for row in data)
    trainer = trainer_of(data, tiny_llada(vocab_size=24), per_device_train_batch_size=4, max_steps=1)

    def fail(*_):
        raise error

    monkeypatch.setattr(surrogate_trainer, "hidden_log_probs", fail)
    with pytest.raises(UserError, match=rf"--tokens_per_batch 8192: out of memory; lower it .* has {longest} tokens"):
        trainer.train()


def test_another_error_of_the_model_is_not_mistaken_for_memory(trainer_of, rows, tiny_llada, monkeypatch):
    trainer = trainer_of(rows(4), tiny_llada(vocab_size=24), per_device_train_batch_size=4, max_steps=1)

    def fail(*_):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(surrogate_trainer, "hidden_log_probs", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        trainer.train()


def test_a_pack_smaller_than_a_row_is_told_and_changes_nothing(trainer_of, rows, tiny_llada):
    data, trained = rows(4), []
    for tokens in (8192, 3):
        torch.manual_seed(0)
        model = tiny_llada(vocab_size=24, dtype=torch.float64)
        trainer = trainer_of(data, model, per_device_train_batch_size=4, max_steps=2, tokens_per_batch=tokens)
        if tokens == 3:
            with pytest.warns(UserInputWarning, match="--tokens_per_batch 3: a row has"):
                trainer.train()
        else:
            trainer.train()
        trained.append(torch.cat([p.flatten() for p in model.parameters()]))
    torch.testing.assert_close(trained[0], trained[1], rtol=1e-9, atol=1e-12)
