"""Rows held out by prompt: no prompt on both sides, by seed and text alone; and what is said where a user split."""

import pytest
from datasets import Dataset

from unveil.data import shared_prompts, split_by_prompt
from unveil.errors import UserError

ROWS = Dataset.from_list([{"prompt": f"p{i % 20}", "completion": f"c{i}", "label": i % 2 == 0} for i in range(60)])


@pytest.mark.parametrize(("size", "prompts"), [(0.1, 2), (0.5, 10), (0.001, 1), (3, 3), (1, 1)])
def test_no_prompt_stands_on_both_sides_and_no_row_is_lost(size, prompts):
    training, held_out = split_by_prompt(ROWS, size, seed=1, source="f")
    assert len(set(held_out["prompt"])) == prompts
    assert not set(held_out["prompt"]) & set(training["prompt"])
    assert sorted(training["completion"][:] + held_out["completion"][:]) == sorted(ROWS["completion"][:])
    assert shared_prompts(training, held_out, "f") is None


def test_what_is_held_out_depends_on_the_seed_and_on_the_prompts_alone():
    def chosen(rows: Dataset, size: float = 0.3, seed: int = 1) -> set[str]:
        return set(split_by_prompt(rows, size, seed, "f")[1]["prompt"])

    assert chosen(ROWS) == chosen(ROWS.select(list(range(60))[::-1])) == chosen(ROWS.select(range(20)))
    assert chosen(ROWS, seed=2) != chosen(ROWS)
    assert chosen(ROWS, 0.1) < chosen(ROWS)


def test_conversations_and_texts_without_a_prompt_are_held_out_too():
    talk = [{"role": "user", "content": "hi"}]
    rows = Dataset.from_list([{"prompt": [{**talk[0], "content": f"hi {i}"}], "completion": "x"} for i in range(6)])
    assert len(split_by_prompt(rows, 2, 0, "f")[1]) == 2
    texts = Dataset.from_list([{"prompt": "", "completion": f"text {i % 5}"} for i in range(10)])
    training, held_out = split_by_prompt(texts, 0.2, 0, "f")
    assert not set(training["completion"]) & set(held_out["completion"])


@pytest.mark.parametrize("size", [0, -1, 1.5, float("nan"), float("inf"), 20, 25, 0.99])
def test_a_size_that_leaves_a_side_empty_is_refused(size):
    with pytest.raises(UserError, match="--eval_size") as caught:
        split_by_prompt(ROWS, size, 0, "f")
    assert "\n" not in str(caught.value)


def test_rows_of_one_prompt_cannot_be_held_out_by_prompt():
    with pytest.raises(UserError, match=r"24 rows of one prompt.*--dataset_train_split 'train\[:90%\]'"):
        split_by_prompt(Dataset.from_list([{"prompt": "film:", "completion": f"{i}"} for i in range(24)]), 0.1, 0, "f")


def test_shared_prompts_are_counted():
    said = shared_prompts(ROWS.select(range(30)), ROWS.select(range(25, 45)), "f")
    assert said is not None
    assert said.startswith(
        "f: 20 of 20 held-out rows have a prompt that training rows have too (5 with the same answer)"
    )
