"""A reference that follows the policy: copies, mixtures, moving averages, curricula, and runs that resume."""

import copy
import math

import numpy as np
import pytest
import torch
from one_pass import make_groups
from test_objective_state import InterruptedRunError, stop_before
from transformers import TrainerCallback

from unveil.errors import UserError
from unveil.training import add_adapters, checkpoint_to_resume

SMALL = {"d_model": 16, "n_heads": 2, "mlp_hidden_size": 24}
MOVING = {"objective": "dpo", "per_device_train_batch_size": 2, "learning_rate": 1e-2, "warmup_steps": 0,
          "lr_scheduler_type": "constant", "num_draws": 2}  # fmt: skip


def flat(model):
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


class Watch(TrainerCallback):
    """Policy and reference after every step, once the reference has moved."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.seen = [(flat(trainer.policy), flat(trainer.reference.model))]

    def on_step_end(self, args, state, control, **kwargs):
        self.seen.append((flat(self.trainer.policy), flat(self.trainer.reference.model)))


def watched(trainer):
    watch = Watch(trainer)
    trainer.add_callback(watch)
    trainer.train()
    return watch.seen


def logged(trainer, name):
    return [line[name] for line in trainer.state.log_history if name in line]


def test_a_hard_synchronisation_makes_the_next_margin_exactly_zero(trainer_of, tiny_llada):
    """Steps 3 and 5 follow a copy; steps 2, 4 and 6 do not."""
    trainer = trainer_of(
        make_groups(12), tiny_llada(vocab_size=24, **SMALL), sync_ref_model=True, ref_model_mixup_alpha=1.0,
        ref_model_sync_steps=2, **MOVING,
    )  # fmt: skip
    seen = watched(trainer)
    for step, (policy, reference) in enumerate(seen):
        assert torch.equal(policy, reference) == (step % 2 == 0), step
    margins = logged(trainer, "rewards/margins")
    assert [margin == 0 for margin in margins] == [True, False] * 3
    assert logged(trainer, "loss")[2] == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize(("alpha", "every"), [(0.6, 2), (0.1, 1)])
def test_a_soft_synchronisation_is_the_convex_combination(trainer_of, tiny_llada, alpha, every):
    """Every step: the exponential moving average of the weights."""
    model = tiny_llada(vocab_size=24, dtype=torch.float64, **SMALL)
    trainer = trainer_of(
        make_groups(8), model, sync_ref_model=True, ref_model_mixup_alpha=alpha, ref_model_sync_steps=every, **MOVING
    )
    expected = flat(model)
    for step, (policy, reference) in enumerate(watched(trainer)):
        if step and step % every == 0:
            expected = alpha * policy + (1 - alpha) * expected
        torch.testing.assert_close(reference, expected, rtol=1e-12, atol=1e-14)
    assert (reference - policy).norm() > 1e-3


def test_the_reference_stays_without_the_flag(trainer_of, tiny_llada):
    model = tiny_llada(vocab_size=24, **SMALL)
    before = flat(model)
    trainer = trainer_of(make_groups(4), model, **MOVING)
    assert all(torch.equal(reference, before) for _, reference in watched(trainer))
    assert trainer.sync is None


def test_a_resumed_run_with_a_moving_reference_ends_where_the_uninterrupted_one_does(trainer_of, tiny_llada, tmp_path):
    def fresh(folder):
        return trainer_of(
            make_groups(12), tiny_llada(vocab_size=24, **SMALL), sync_ref_model=True, ref_model_mixup_alpha=0.3,
            ref_model_sync_steps=1, save_strategy="steps", save_steps=2, output_dir=str(tmp_path / folder),
            **MOVING,
        )  # fmt: skip

    whole = fresh("whole")
    whole.train()
    cut = fresh("cut")
    stop_before(cut, 3)
    with pytest.raises(InterruptedRunError):
        cut.train()
    resumed = fresh("cut")
    resumed.train(resume_from_checkpoint=checkpoint_to_resume(str(tmp_path / "cut"), True))
    assert torch.equal(flat(resumed.policy), flat(whole.policy))
    assert torch.equal(flat(resumed.reference.model), flat(whole.reference.model))


def test_a_resume_from_another_folder_finds_the_reference_there(trainer_of, tiny_llada, tmp_path):
    """The argument of `train` says where, whatever the output folder is."""
    arguments = {"sync_ref_model": True, "ref_model_mixup_alpha": 0.3, "ref_model_sync_steps": 1,
                 "save_strategy": "steps", "save_steps": 2, **MOVING}  # fmt: skip
    first = trainer_of(
        make_groups(8), tiny_llada(vocab_size=24, **SMALL), output_dir=str(tmp_path / "one"), **arguments
    )
    first.train()
    other = trainer_of(
        make_groups(8), tiny_llada(vocab_size=24, **SMALL), output_dir=str(tmp_path / "two"), **arguments
    )
    other.train(resume_from_checkpoint=str(tmp_path / "one" / "checkpoint-2"))
    assert torch.equal(flat(other.reference.model), flat(first.reference.model))


def test_a_checkpoint_without_its_reference_is_refused(trainer_of, tiny_llada, tmp_path):
    arguments = {"save_strategy": "steps", "save_steps": 2, "output_dir": str(tmp_path / "run"), **MOVING}
    fixed = trainer_of(make_groups(8), tiny_llada(vocab_size=24, **SMALL), **arguments)
    fixed.train()
    moving = trainer_of(make_groups(8), tiny_llada(vocab_size=24, **SMALL), sync_ref_model=True, **arguments)
    with pytest.raises(UserError, match="another run: --sync_ref_model False -> True"):
        moving.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    moving.train()
    (tmp_path / "run" / "checkpoint-2" / "reference.safetensors").unlink()
    with pytest.raises(UserError, match=r"--resume_from_checkpoint .*reference\.safetensors is missing"):
        moving.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))


@pytest.mark.parametrize("flags", [{"sync_ref_model": True}, {"curriculum_stages": 2}])
def test_a_reference_that_cannot_move_is_refused(trainer_of, tiny_llada, flags):
    model = tiny_llada(vocab_size=24, **SMALL)
    with pytest.raises(UserError, match="--use_peft"):
        trainer_of(make_groups(4), add_adapters(copy.deepcopy(model), r=2), **MOVING, **flags)
    (name,) = flags
    with pytest.raises(UserError, match=f"--{name}: .*--precompute_ref_log_probs"):
        trainer_of(make_groups(4), model, precompute_ref_log_probs=True, **MOVING, **flags)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"sync_ref_model": True, "ref_model_mixup_alpha": 0.0}, "--ref_model_mixup_alpha"),
        ({"sync_ref_model": True, "ref_model_mixup_alpha": 1.5}, "--ref_model_mixup_alpha"),
        ({"sync_ref_model": True, "ref_model_sync_steps": 0}, "--ref_model_sync_steps"),
        ({"sync_ref_model": True, "curriculum_stages": 2}, "give one of them"),
        ({"curriculum_stages": 1}, "--curriculum_stages 1"),
        ({"curriculum_stages": 2, "max_steps": 3}, "--max_steps"),
        ({"curriculum_stages": 2, "num_train_epochs": 2}, "--num_train_epochs"),
        ({"curriculum_stages": 4, "per_device_train_batch_size": 3}, "fewer stages or smaller batches"),
    ],
)
def test_flags_that_make_no_sense_together_are_refused_by_name(trainer_of, flags, named):
    with pytest.raises(UserError, match=named):
        trainer_of(make_groups(8), **{**MOVING, **flags})


# -- curriculum -------------------------------------------------------------------------------------------------------


def test_a_curriculum_goes_from_easy_to_hard_and_starts_each_stage_at_its_reference(trainer_of, tiny_llada):
    """12 prompts in 3 stages of 4, batches of 2: steps 3 and 5 are the first of their stages."""
    generator = np.random.default_rng(0)
    data = [row | {"gap": float(gap)} for row, gap in zip(make_groups(12), generator.permutation(12))]
    trainer = trainer_of(data, tiny_llada(vocab_size=24, **SMALL), curriculum_stages=3, **MOVING)
    plain, taken = trainer.prepare_for_training, []
    trainer.prepare_for_training = lambda rows, epoch: taken.extend(r["gap"] for r in rows) or plain(rows, epoch)
    seen = watched(trainer)
    assert [sorted(taken[i : i + 4]) for i in (0, 4, 8)] == [[8, 9, 10, 11], [4, 5, 6, 7], [0, 1, 2, 3]]
    assert [torch.equal(policy, reference) for policy, reference in seen[1:]] == [
        False,
        True,
        False,
        True,
        False,
        False,
    ]
    losses = logged(trainer, "loss")
    assert [loss == pytest.approx(math.log(2), rel=1e-6) for loss in losses] == [True, False] * 3
