"""What BCO and beta-DPO remember is in every checkpoint, so that a resumed run is the uninterrupted one."""

import json

import pytest
import torch
from one_pass import make_groups

from unveil.objectives import bco
from unveil.training import checkpoint_to_resume

SMALL = {"d_model": 16, "n_heads": 2, "mlp_hidden_size": 24}


class InterruptedRunError(Exception):
    """Stands for a kill between two steps."""


def stop_before(trainer, step):
    plain = trainer.training_step

    def stop(*args, **kwargs):
        if trainer.state.global_step == step:
            raise InterruptedRunError
        return plain(*args, **kwargs)

    trainer.training_step = stop


@pytest.mark.parametrize("restore", [False, True])
@pytest.mark.parametrize("name", ["bco", "beta_dpo"])
def test_a_resumed_run_of_a_stateful_objective_ends_bit_for_bit_where_the_uninterrupted_one_does(
    trainer_of, rows, tiny_llada, tmp_path, name, restore
):
    """With and without transformers' own restoring of callbacks."""
    data = rows(12) if name == "bco" else make_groups(12)

    def fresh(folder):
        return trainer_of(
            data, tiny_llada(vocab_size=24, seed=5, **SMALL), objective=name, output_dir=str(tmp_path / folder),
            per_device_train_batch_size=4, num_train_epochs=2, save_strategy="steps", save_steps=2, num_draws=2,
            learning_rate=1e-2, restore_callback_states_from_checkpoint=restore,
        )  # fmt: skip

    whole = fresh("whole")
    whole.train()
    cut = fresh("cut")
    stop_before(cut, 3)
    with pytest.raises(InterruptedRunError):
        cut.train()
    stored = json.loads((tmp_path / "cut" / "checkpoint-2" / "trainer_state.json").read_text())
    assert stored["stateful_callbacks"]["ObjectiveState"]["attributes"]["values"][-1] == (8 if name == "bco" else 2)
    resumed = fresh("cut")
    resumed.train(resume_from_checkpoint=checkpoint_to_resume(str(tmp_path / "cut"), True))
    assert resumed.objective_state.values == whole.objective_state.values
    assert whole.objective_state.values[-1] == (24 if name == "bco" else 6)
    for (key, one), (_, other) in zip(whole.model.named_parameters(), resumed.model.named_parameters()):
        assert torch.equal(one, other), key


def test_every_optimizer_batch_is_remembered_once_and_evaluation_is_not(trainer_of, rows, tiny_llada):
    data = rows(8)
    trainer = trainer_of(
        data, tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL), eval_rows=data, objective="bco",
        per_device_train_batch_size=2, gradient_accumulation_steps=2, num_train_epochs=1, learning_rate=1e-2,
        eval_strategy="steps", eval_steps=1, warmup_steps=0,
    )  # fmt: skip
    seen = []
    plain = trainer._slopes
    trainer._slopes = lambda batch: seen.extend(0.1 * r.margin for r in batch.records) or plain(batch)
    trainer.train()
    shift, count = trainer.objective_state.values
    assert count == len(seen) == 8
    assert shift == pytest.approx(sum(seen) / 8, rel=1e-9)
    assert shift != 0
    assert trainer.objective == bco()


def test_a_state_that_works_draw_by_draw_is_that_of_the_mean(trainer_of, rows, tiny_llada):
    data, values = rows(8), []
    for debias in ("none", "jackknife", "cross_fit"):
        trainer = trainer_of(
            data, tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL), objective="bco", draw_design="iid",
            per_device_train_batch_size=8, debias=debias, max_steps=1,
            trainer_arguments={"ref_model": tiny_llada(vocab_size=24, seed=3, dtype=torch.float64, **SMALL)},
        )  # fmt: skip
        trainer.train()
        values.append(trainer.objective_state.values)
    assert values[1] == pytest.approx(values[0])
    assert values[2] == pytest.approx(values[0])
