"""Interrupted and resumed equals uninterrupted, bit for bit; a kill while saving leaves no half checkpoint."""

import json

import pytest
import torch

from unveil.errors import UserError
from unveil.objectives import KTO
from unveil.training import checkpoint_to_resume


def settings(folder, **more):
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "num_train_epochs": 2,
        "save_strategy": "steps",
        "save_steps": 2,
        "seed": 3,
        **more,
    }


def weights(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


class InterruptedRunError(Exception):
    """Stands for a kill between two steps."""


def interrupt_at(trainer, step):
    original = trainer.training_step

    def stop(*args, **kwargs):
        if trainer.state.global_step == step:
            raise InterruptedRunError
        return original(*args, **kwargs)

    trainer.training_step = stop


@pytest.mark.parametrize("stop_after", [3, 4, 5])
def test_a_resumed_run_ends_bit_for_bit_where_the_uninterrupted_one_does(
    trainer_of, rows, tiny_llada, tmp_path, stop_after
):
    """12 rows in batches of 4: an epoch has 3 steps, so a stop falls inside or at the end of one."""
    data, replay = rows(12), rows(5, seed=4, labels=False)
    more = {"replay_weight": 0.3, "replay_batch_size": 2}

    def fresh(folder):
        return trainer_of(
            data, tiny_llada(vocab_size=24, seed=5), replay_rows=replay, **settings(tmp_path / folder, **more)
        )

    whole = fresh("whole")
    whole.train()
    cut = fresh("cut")
    interrupt_at(cut, stop_after)
    with pytest.raises(InterruptedRunError):
        cut.train()
    resumed = fresh("cut")
    resumed.train(resume_from_checkpoint=checkpoint_to_resume(str(tmp_path / "cut"), True))
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name

    def logged(folder):
        lines = [json.loads(line) for line in (tmp_path / folder / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in line.items() if "runtime" not in k and "per_second" not in k} for line in lines]

    losses = [[line for line in logged(folder) if "loss" in line] for folder in ("whole", "cut")]
    assert [line["step"] for line in losses[1]] == [1, 2, 3, 4, 5, 6]
    for one, two in zip(*losses):
        assert {k: v for k, v in one.items() if k != "num_tokens"} == {
            k: v for k, v in two.items() if k != "num_tokens"
        }


def test_in_python_too_another_run_is_refused_before_anything_is_computed(trainer_of, rows, tiny_llada, tmp_path):
    def fresh(count=12, seed=5, **more):
        model = tiny_llada(vocab_size=24, seed=seed)
        return trainer_of(rows(count), model, **settings(tmp_path / "run", **more))

    fresh().train()
    (tmp_path / "run" / "metrics.jsonl").rename(tmp_path / "metrics.jsonl")
    last = tmp_path / "run" / "checkpoint-4"
    for trainer, told in (
        (fresh(objective="bco"), "--objective kto -> bco"),
        (fresh(count=11), "other training rows (12 -> 11)"),
        (fresh(seed=6), "other start model's weights"),
        (fresh(gradient_accumulation_steps=2), "4 -> 8"),
    ):
        before = weights(trainer)
        with pytest.raises(UserError, match="is of another run") as refused:
            trainer.train(resume_from_checkpoint=str(last))
        assert told in str(refused.value)
        assert all(torch.equal(value, before[name]) for name, value in weights(trainer).items())
        assert not (tmp_path / "run" / "metrics.jsonl").exists()
    outcome = fresh().train(resume_from_checkpoint=str(last))
    assert outcome.global_step == 6


def test_a_trainer_goes_on_from_its_own_checkpoint(trainer_of, rows, tiny_llada, tmp_path):
    """The start is that of the first call, not the weights as they are now."""
    trainer = trainer_of(rows(12), tiny_llada(vocab_size=24, seed=5), **settings(tmp_path / "run"))
    first = trainer.train()
    ended = weights(trainer)
    again = trainer.train(resume_from_checkpoint=True)
    assert again.global_step == 6
    assert again.training_loss == pytest.approx(first.training_loss)
    assert all(torch.equal(value, ended[name]) for name, value in weights(trainer).items())


def test_an_objective_given_in_python_is_compared_as_it_is(trainer_of, rows, tiny_llada, tmp_path):
    def fresh(beta):
        objective = {"trainer_arguments": {"objective": KTO(beta=beta)}}
        return trainer_of(rows(12), tiny_llada(vocab_size=24, seed=5), **objective, **settings(tmp_path / "run"))

    fresh(0.2).train()
    with pytest.raises(UserError, match="another objective"):
        fresh(0.3).train(resume_from_checkpoint=True)
    fresh(0.2).train(resume_from_checkpoint=True)


def test_a_kill_while_saving_leaves_the_last_whole_checkpoint(trainer_of, rows, tiny_llada, tmp_path):
    trainer = trainer_of(rows(12), tiny_llada(vocab_size=24), **settings(tmp_path / "run"))
    original = trainer._save_rng_state

    def killed(folder):
        if trainer.state.global_step == 4:
            raise InterruptedRunError
        original(folder)

    trainer._save_rng_state = killed
    with pytest.raises(InterruptedRunError):
        trainer.train()
    assert [p.name for p in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-2"]
    assert checkpoint_to_resume(str(tmp_path / "run"), True).endswith("checkpoint-2")


def test_only_the_newest_checkpoints_are_kept_and_the_best_is_named_where_it_is(trainer_of, rows, tiny_llada, tmp_path):
    trainer = trainer_of(
        rows(12),
        tiny_llada(vocab_size=24),
        eval_rows=rows(4, seed=8),
        **settings(
            tmp_path / "run",
            save_total_limit=1,
            eval_strategy="steps",
            eval_steps=2,
            load_best_model_at_end=True,
            metric_for_best_model="eval_rewards/margins",
            greater_is_better=True,
        ),
    )
    trainer.train()
    kept = sorted(p.name for p in (tmp_path / "run").glob("checkpoint-*"))
    best = trainer.state.best_model_checkpoint
    assert best is not None
    assert best.split("/")[-1] in kept
    assert len(kept) <= 2
    assert ".saving" not in best
    state = json.loads((tmp_path / "run" / kept[-1] / "trainer_state.json").read_text())
    assert ".saving" not in state["best_model_checkpoint"]


def test_a_missing_checkpoint_is_an_error_that_names_the_flag(tmp_path):
    assert checkpoint_to_resume(str(tmp_path), None) is None
    with pytest.raises(UserError, match="--resume_from_checkpoint"):
        checkpoint_to_resume(str(tmp_path), True)
    with pytest.raises(UserError, match=r"trainer_state\.json"):
        checkpoint_to_resume(str(tmp_path), str(tmp_path))
