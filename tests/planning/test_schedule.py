"""Steps, micro-batches and kept graphs are those of training."""

from itertools import pairwise

import numpy as np
import pytest
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from unveil.draws import plan
from unveil.planning import Answers, Batching, Rows, largest_device_batch, play, steps_of


def answers_of(count: int, per_group: int = 1, seed: int = 0) -> Answers:
    rng = np.random.default_rng(seed)
    scored = rng.integers(1, 60, count)
    return Answers(scored + rng.integers(1, 80, count), scored, np.arange(count), np.arange(count) // per_group)


def rows_of(answers: Answers, num_draws: int = 4, design: str = "quadratic_tiling") -> Rows:
    return Rows.drawn(answers, lambda name, length: plan(0, name, 0, length, num_draws, design))


@pytest.mark.parametrize("rows", [1, 16, 17, 100])
@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("drop_last", [False, True])
def test_steps_are_those_that_the_trainer_takes(rows, accumulation, drop_last, tiny_llada, tmp_path):
    if drop_last and rows < 8:
        pytest.skip("nothing to train on")
    args = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, per_device_train_batch_size=8, num_train_epochs=1.5, report_to="none",
        gradient_accumulation_steps=accumulation, dataloader_drop_last=drop_last,
    )  # fmt: skip
    trainer = Trainer(tiny_llada(), args, train_dataset=Dataset.from_dict({"input_ids": [[5]] * rows}))
    *_, planned = trainer.set_initial_training_values(args, trainer.get_train_dataloader())[:7]
    steps, _ = steps_of(rows, 1.5, -1, Batching(8, accumulation, drop_last=drop_last))
    assert steps == planned


def test_a_step_of_all_rows_reads_each_once():
    answers = answers_of(40)
    rows = rows_of(answers)
    whole = play(answers, rows, Batching(40, tokens_per_batch=10**6, kept_tokens=10**6))
    assert whole.kept == pytest.approx((1, 1, 1))
    assert whole.live_tokens == whole.packed_tokens == rows.work.tokens == largest_device_batch(answers, rows, 40)
    assert play(answers, rows, Batching(40, tokens_per_batch=10**6)).kept == (0, 0, 0)


def test_live_tokens_never_exceed_the_budget_without_kept_graphs():
    answers = answers_of(200)
    rows = rows_of(answers)
    for budget in (150, 400, 1000):
        found = play(answers, rows, Batching(8, 4, tokens_per_batch=budget))
        assert found.live_tokens == budget  # batches are larger, so it is used up at worst
        assert found.longest_alone == 0


def test_kept_graphs_live_beside_the_batch_that_runs():
    answers = answers_of(200)
    rows = rows_of(answers)
    found = play(answers, rows, Batching(8, 4, tokens_per_batch=400, kept_tokens=400))
    assert 400 <= found.live_tokens <= 800
    assert 0 < found.kept.tokens < 400 / (8 * 4 * 4 * answers.tokens.min())


def test_rows_above_the_budget_run_alone():
    answers = answers_of(50)
    rows = rows_of(answers)
    longest = int(answers.tokens.max())
    found = play(answers, rows, Batching(50, tokens_per_batch=longest - 1))
    assert found.longest_alone == longest
    above = rows.tokens[rows.tokens >= longest].sum() / rows.tokens.sum()
    assert found.checkpointed.tokens == pytest.approx(above)
    assert play(answers, rows, Batching(50, tokens_per_batch=longest)).longest_alone == 0


def test_devices_wait_for_the_busiest():
    answers = answers_of(64)
    rows = rows_of(answers)
    assert play(answers, rows, Batching(8, devices=1)).balance == 1
    assert play(answers, rows, Batching(1, devices=8)).balance > play(answers, rows, Batching(8, devices=8)).balance > 1


def test_groups_stay_together():
    answers = answers_of(60, per_group=3)
    rows = rows_of(answers)
    assert answers.rows == 20
    per_group = np.bincount(answers.groups, np.bincount(rows.answers, rows.tokens))
    assert largest_device_batch(answers, rows, 1) == per_group.max()
    some = answers.some(30, seed=1)
    assert some.rows == 10
    assert np.array_equal(np.bincount(some.groups), [3] * 10)


@pytest.mark.parametrize("design", ["quadratic_tiling", "iid", "stratified", "coupled"])
def test_hidden_places_follow_the_law_of_the_design(design):
    """E l is (L + 1) / 2 of uniform sizes, (L + 1)/2 less empty sides of coupled ones; strata by their own integral."""
    length, draws, count = 40, 4, 4000
    answers = Answers(np.full(count, 50), np.full(count, length), np.arange(count), np.arange(count))
    rows = rows_of(answers, draws, design)
    per_answer = rows.hidden.sum() / count
    u = (np.arange(200_000) + 0.5) / 200_000
    if design == "coupled":
        expected = draws / 2 * length
    elif design == "quadratic_tiling":
        edges = (np.arange(draws + 1) / draws) ** 2
        strata = [low + (high - low) * u for low, high in pairwise(edges)]
        expected = sum(np.floor(part * length).mean() + 1 for part in strata)
    else:
        expected = draws * (length + 1) / 2
    assert per_answer == pytest.approx(expected, rel=0.01)
