"""Degenerate input has a named behaviour: never a NaN in the weights, never silence (spec test 25)."""

import math

import pytest
import torch
from one_pass import make_groups

from unveil.errors import UserError, UserInputWarning


def test_a_nan_likelihood_stops_before_the_update_and_names_the_rows(trainer_of, rows, tiny_llada, tmp_path):
    data = rows(8)
    model = tiny_llada(vocab_size=24)
    poisoned = 23  # a token of row 5 alone
    data[5]["prompt_ids"] = [poisoned]
    trainer = trainer_of(data, model, per_device_train_batch_size=4, max_steps=4, train_sampling_strategy="sequential")
    with torch.no_grad():
        model.get_input_embeddings().weight[poisoned] = math.nan
    with pytest.raises(UserError, match=r"step 2: the likelihood of row 5 is not a finite number"):
        trainer.train()
    assert trainer.state.global_step == 1


def test_a_run_that_diverges_saves_the_last_good_state(trainer_of, rows, tiny_llada, tmp_path):
    data = rows(8)
    trainer = trainer_of(
        data, tiny_llada(vocab_size=24), per_device_train_batch_size=8, max_steps=3, num_train_epochs=3
    )
    plain = trainer._scored

    def broken(batch, epoch, number=0):
        records = plain(batch, epoch, number)
        if trainer.state.global_step == 2:
            return [record.__class__(**{**record.__dict__, "policy": math.nan}) for record in records]
        return records

    trainer._scored = broken
    with pytest.raises(UserError, match="checkpoint-2 holds the state before it"):
        trainer.train()
    assert (tmp_path / "run" / "checkpoint-2" / "model.safetensors").is_file()


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(trainer_of, rows, tiny_llada):
    model = tiny_llada(vocab_size=24)
    trainer = trainer_of(rows(4), model, per_device_train_batch_size=4, max_steps=1)
    before = [p.detach().clone() for p in model.parameters()]
    next(model.parameters()).register_hook(lambda grad: grad * math.nan)
    with pytest.raises(UserError, match="gradient is not a finite number"):
        trainer.train()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters()))


@pytest.mark.parametrize(("count", "size"), [(1, 4), (4, 1)])
def test_a_batch_of_one_is_refused_before_the_run(trainer_of, rows, tiny_llada, count, size):
    """Its margin is its own baseline."""
    trainer = trainer_of(rows(count), tiny_llada(vocab_size=24), per_device_train_batch_size=size)
    with pytest.raises(UserError, match="per_device_train_batch_size"):
        trainer.train()
    assert trainer.state.global_step == 0


@pytest.mark.parametrize(("cut", "steps"), [((4, 1), [4, 5]), ((2, 2), [4, 5]), ((1, 4), [4, 5]), ((8, 1), [9])])
def test_a_last_row_that_would_be_its_own_baseline_joins_the_step_before(trainer_of, rows, tiny_llada, cut, steps):
    size, accumulation = cut
    trainer = trainer_of(
        rows(9), tiny_llada(vocab_size=24), per_device_train_batch_size=size, gradient_accumulation_steps=accumulation,
    )  # fmt: skip
    taken, plain = [], trainer.weigh
    trainer.weigh = lambda batches: (taken.append(sum(len(b.responses) for b in batches)), plain(batches))
    with pytest.warns(UserInputWarning, match="of 9 rows one would be left for the last step"):
        trainer.train()
    assert taken == steps


def test_a_last_row_of_its_own_stays_where_no_baseline_is_a_mean(trainer_of, rows, tiny_llada):
    trainer = trainer_of(
        rows(5), tiny_llada(vocab_size=24), per_device_train_batch_size=4, baseline="zero", allow_one_label=True
    )
    trainer.train()
    assert trainer.state.global_step == 2


def test_a_batch_with_one_label_is_warned_about(trainer_of, rows, tiny_llada):
    data = [row | {"label": True} for row in rows(4)]
    trainer = trainer_of(data, tiny_llada(vocab_size=24), per_device_train_batch_size=4, max_steps=1)
    with pytest.warns(UserInputWarning, match="all 4 answers of the batch have the label True"):
        trainer.train()


def test_a_lasting_fall_of_both_classes_is_warned_about_once(trainer_of, rows, tiny_llada):
    trainer = trainer_of(rows(4), tiny_llada(vocab_size=24), per_device_train_batch_size=4)
    plain = trainer._scored(trainer.prepare(rows(4), 0), 0)
    falling = [record.__class__(**{**record.__dict__, "policy": record.reference - 3.0}) for record in plain]
    for _ in range(9):
        trainer.health.look(falling, 1, True)
    with pytest.warns(UserInputWarning, match="likelihood displacement"):
        trainer.health.look(falling, 1, True)
    for _ in range(25):
        trainer.health.look(falling, 1, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "--replay_weight (with --replay_dataset_name), --sft_weight or --baseline kl holds it up"),
        ({"baseline": "kl"}, "--replay_weight (with --replay_dataset_name) or --sft_weight holds it up"),
        ({"objective": "dpo"}, "--replay_weight (with --replay_dataset_name) or --sft_weight holds it up"),
        ({"objective": "vrpo"}, "--replay_dataset_name) or a larger weight of its SFT term (here 0.05) holds it up"),
        ({"replay_weight": 0.5}, "--sft_weight, --baseline kl or a --replay_weight above 0.5 holds it up"),
        ({"replay_weight": 0.5, "sft_weight": 0.1, "baseline": "zero"},
         "a --replay_weight above 0.5 or a larger weight of its SFT term (here 0.1) holds it up"),
    ],
)  # fmt: skip
def test_the_remedies_of_a_fall_are_those_that_the_run_does_not_use_yet_or_more_of_them(
    trainer_of, rows, tiny_llada, arguments, told
):
    data = make_groups(2) if arguments.get("objective") in ("dpo", "vrpo") else rows(4)
    replay = rows(2, labels=False) if "replay_weight" in arguments else None
    trainer = trainer_of(data, tiny_llada(vocab_size=24), replay_rows=replay, **arguments)
    plain = trainer._scored(trainer.prepare(data, 0), 0)
    falling = [record.__class__(**{**record.__dict__, "policy": record.reference - 3.0}) for record in plain]
    for _ in range(9):
        trainer.health.look(falling, 1, True)
    with pytest.warns(UserInputWarning) as caught:
        trainer.health.look(falling, 1, True)
    assert str(caught[0].message).endswith(told)


def test_dropout_left_on_is_noticed_by_the_second_pass(trainer_of, rows, tiny_llada):
    model = tiny_llada(vocab_size=24, residual_dropout=0.3)
    trainer = trainer_of(rows(4), model, per_device_train_batch_size=4, max_steps=1, disable_dropout=False)
    with pytest.raises(UserError, match="--disable_dropout"):
        trainer.train()


HALF = [{"bf16": True}, {"half_weights": True}]


@pytest.mark.parametrize("half", HALF, ids=["autocast", "weights"])
@pytest.mark.parametrize("dropout", [0.3, 0.05])
def test_dropout_left_on_is_noticed_in_half_precision_too(trainer_of, rows, tiny_llada, half, dropout):
    half = dict(half)
    dtype = torch.bfloat16 if half.pop("half_weights", False) else torch.float32
    model = tiny_llada(vocab_size=24, residual_dropout=dropout, dtype=dtype)
    trainer = trainer_of(rows(16), model, per_device_train_batch_size=16, max_steps=1, disable_dropout=False, **half)
    with pytest.raises(UserError, match=r"relative gap .*, above 0\.01\); keep --disable_dropout True"):
        trainer.train()


@pytest.mark.parametrize("half", [{}, *HALF], ids=["float32", "autocast", "weights"])
def test_a_second_pass_that_sees_other_rows_is_noticed_whatever_the_precision(trainer_of, rows, tiny_llada, half):
    """One prompt token of every packed part is another one than in pass 1."""
    half = dict(half)
    dtype = torch.bfloat16 if half.pop("half_weights", False) else torch.float32
    data = rows(16)
    trainer = trainer_of(
        data, tiny_llada(vocab_size=24, dtype=dtype), per_device_train_batch_size=16, max_steps=1, kept_tokens=0, **half
    )
    weigh = trainer.weigh

    def weigh_and_change(batches):
        weigh(batches)
        for packed in batches[0].packed:
            packed.input_ids_1T[packed.input_ids_1T == 1] = 7

    trainer.weigh = weigh_and_change
    with pytest.raises(UserError, match="the model computes something else in training than in evaluation"):
        trainer.train()


@pytest.mark.parametrize("half", HALF, ids=["autocast", "weights"])
def test_the_rounding_of_half_precision_is_within_its_tolerance(trainer_of, rows, tiny_llada, half):
    """Pass 2 of the float32 model against what pass 1 saw in half precision: more than two half passes differ by."""
    half = dict(half)
    dtype = torch.bfloat16 if half.pop("half_weights", False) else torch.float32
    data = rows(32)
    model = tiny_llada(vocab_size=24, dtype=dtype)
    trainer = trainer_of(
        data, model, per_device_train_batch_size=32, max_steps=1, kept_tokens=0, train_sampling_strategy="sequential",
        **half,
    )  # fmt: skip
    exact = trainer_of(data, tiny_llada(vocab_size=24), per_device_train_batch_size=32)
    weigh, true = trainer.weigh, exact._scored(exact.prepare(data, 0), 0)

    def weigh_and_replace(batches):
        weigh(batches)
        seen = batches[0].seen
        assert max(abs(float(b) - record.policy) for b, record in zip(seen, true)) > 0
        batches[0].seen = torch.tensor([record.policy for record in true], dtype=seen.dtype)

    trainer.weigh = weigh_and_replace
    trainer.train()
    assert 0 < trainer.state.log_history[0]["elbo/passes_gap"] < 1e-2


def test_dropout_is_switched_off_by_default(trainer_of, rows, tiny_llada):
    model = tiny_llada(vocab_size=24, residual_dropout=0.3)
    trainer_of(rows(4), model, per_device_train_batch_size=4, max_steps=1).train()


def test_replay_without_rows_names_the_flag(trainer_of, rows):
    with pytest.raises(UserError, match="--replay_dataset_name"):
        trainer_of(rows(4), replay_weight=0.5)
