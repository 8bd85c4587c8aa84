"""Groups to tokens: the same tokens as single responses, kept or left out whole, with weights on the right tokens."""

from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset

from unveil.data import (
    describe_group,
    group_balance,
    list_rows,
    pair_rows,
    tokenize_groups,
    tokenize_responses,
    unpaired_rows,
)
from unveil.data.encoding import encode_with_places
from unveil.errors import UserError, UserInputWarning

MASK = 1
USER = {"role": "user", "content": "What is the capital of France?"}


def pairs_of(*pairs: tuple[str, str], prompt="Tell me a short story.") -> Dataset:
    return Dataset.from_list([{"prompt": prompt, "chosen": one, "rejected": other} for one, other in pairs])


def tokenize(groups: Dataset, tokenizer, **options) -> Dataset:
    return tokenize_groups(groups, tokenizer, **{"max_length": 64, "mask_token_id": MASK, "source": "f", **options})


@pytest.mark.parametrize("rule", ["one_eos", "none", "visible_tail", "scored_tail"])
@pytest.mark.parametrize("prompt", ["Tell me.", [USER]])
def test_a_pair_has_the_tokens_and_ids_of_its_two_thumbs(bpe_tokenizer, rule, prompt):
    rows = pairs_of(("The sea.", "No."), ("Paris is wide.", "The river runs"), prompt=prompt)
    options = {"max_length": 48, "mask_token_id": MASK, "source": "f", "end_of_answer": rule}
    thumbs = tokenize_responses(unpaired_rows(rows, "f"), bpe_tokenizer, **options)
    groups = tokenize_groups(pair_rows(rows, "f"), bpe_tokenizer, **options)
    singles = [{name: value for name, value in row.items() if name != "label"} for row in thumbs]
    assert [response for row in groups for response in row["responses"]] == singles
    assert groups["relevance"][:] == [[1.0, 0.0]] * 2
    assert groups.column_names == ["example_id", "responses", "relevance"]


def test_a_group_with_a_bad_member_is_refused_or_left_out_whole_and_named_by_that_member(bpe_tokenizer):
    rows = [
        {"prompt": "p", "completions": ["fine", "good", "bad"], "scores": [1, 2, 3]},
        {"prompt": "p", "completions": ["fine", "<mask>", "bad"], "scores": [1, 2, 3]},
        {"prompt": "p", "completions": ["fine", "good", "<eos>"], "scores": [1, 2, 3]},
    ]
    groups = list_rows(Dataset.from_list(rows), "f")
    message = r"f: 2 of 3 rows cannot be used: the completion contains the mask token in its text \(example_id 1001\), "
    message += r"the completion has no tokens \(example_id 2002\)"
    with pytest.raises(UserError, match=message):
        tokenize(groups, bpe_tokenizer)
    with pytest.warns(UserInputWarning, match=message):
        kept = tokenize(groups, bpe_tokenizer, on_bad_rows="drop")
    assert kept["example_id"][:] == [0]
    assert len(kept[0]["responses"]) == 3


def test_the_number_of_rows_read_at_a_time_changes_nothing(bpe_tokenizer, monkeypatch):
    rows = pairs_of(("a", "b"), ("The sea.", "<mask>"), ("c", "d"), ("Paris", "Rome"), ("x", "y"))
    results = []
    for batch in (1000, 2, 1):
        monkeypatch.setattr("unveil.data.encoding.BATCH", batch)
        with pytest.warns(UserInputWarning, match=r"1 of 5 rows .*\(example_id 3\)"):
            results.append(list(tokenize(pair_rows(rows, "f"), bpe_tokenizer, on_bad_rows="drop")))
    assert [row["example_id"] for row in results[0]] == [0, 4, 6, 8]
    assert results[0] == results[1] == results[2]


def test_a_prompt_without_room_names_its_group(bpe_tokenizer):
    groups = pair_rows(pairs_of(("a", "b"), prompt="The sea " * 40), "f")
    with pytest.raises(UserError, match=r"no room for an answer within --max_length 64 \(example_id 0\)"):
        tokenize(groups, bpe_tokenizer)


def test_answers_that_are_the_same_once_cut_are_refused(bpe_tokenizer):
    start = "The river runs to the sea and the sea is wide. " * 4
    groups = pair_rows(pairs_of((start + "yes", start + "no")), "f")
    with pytest.raises(
        UserError, match=r"the same tokens as another one of its prompt \(example_id 1\); raise --max_l"
    ):
        tokenize(groups, bpe_tokenizer, max_length=24)


def test_cut_answers_are_counted_by_name(bpe_tokenizer):
    groups = pair_rows(pairs_of(("The sea " * 30, "no")), "f")
    with pytest.warns(
        UserInputWarning, match=r"f: 1 of 2 answers .* do not fit into --max_length 32.*\(example_id 0\)"
    ):
        row = tokenize(groups, bpe_tokenizer, max_length=32)[0]
    assert [response["truncated"] for response in row["responses"]] == [True, False]


def test_optional_columns_go_along(bpe_tokenizer):
    row = {
        "prompt": "p",
        "chosen": "x",
        "rejected": "y",
        "score": [2.0, 1.0],
        "margin": 0.5,
        "weight": 2,
        "rank": [2, 1],
    }
    tokenized = tokenize(pair_rows(Dataset.from_list([row]), "f"), bpe_tokenizer)[0]
    assert {name: tokenized[name] for name in ("score", "margin", "weight", "rank")} == {
        "score": [2.0, 1.0], "margin": 0.5, "weight": 2.0, "rank": [2, 1],
    }  # fmt: skip


def test_step_weights_lie_on_the_tokens_of_their_step(bpe_tokenizer):
    steps = [["The river", "runs to the sea"], ["The capital ", "of Fränce."]]
    texts = ["The river runs to the sea", "The capital of Fränce."]
    row = {"prompt": "p", "completions": texts, "scores": [1, 0], "steps": steps, "step_weights": [[2, 3], [5, 7]]}
    tokenized = tokenize(list_rows(Dataset.from_list([row]), "f"), bpe_tokenizer)[0]
    for place, (first, second) in enumerate(row["step_weights"]):
        ids = np.array(tokenized["responses"][place]["completion_ids"])
        weights = np.array(tokenized["position_weights"][place])
        assert len(weights) == len(ids)
        assert set(weights[:-1]) == {float(first), float(second)}
        assert weights[-1] == 1.0  # the EOS belongs to no step
        assert bpe_tokenizer.decode(ids[weights == first]).strip() == steps[place][0].strip()
        assert bpe_tokenizer.decode(ids[weights == second]).strip() == steps[place][1].strip()
        (start, end), _ = tokenized["steps"][place]
        assert weights[start:end].tolist() == [first] * (end - start)


def test_steps_without_weights_only_say_which_tokens_they_are(bpe_tokenizer):
    row = {"prompt": "p", "completions": ["The sea.", "No."], "scores": [1, 0], "steps": [["The sea."], ["No."]]}
    tokenized = tokenize(list_rows(Dataset.from_list([row]), "f"), bpe_tokenizer)[0]
    assert "position_weights" not in tokenized
    lengths = [len(response["completion_ids"]) - 1 for response in tokenized["responses"]]
    assert tokenized["steps"] == [[[0, length]] for length in lengths]


def test_the_items_of_an_answer_share_its_tokens_and_count_only_their_own(bpe_tokenizer):
    text, items = "1. The river 2. Paris 3. the sea", ["The river", "Paris", "the sea"]
    row = {"prompt": "p", "completion": text, "spans": items, "relevance": [0, 2, 1]}
    tokenized = tokenize(list_rows(Dataset.from_list([row]), "f"), bpe_tokenizer)[0]
    first = tokenized["responses"][0]
    assert tokenized["responses"] == [first] * 3
    for item, weights in zip(items, np.array(tokenized["position_weights"])):
        assert set(weights) == {0.0, 1.0}
        assert bpe_tokenizer.decode(np.array(first["completion_ids"])[weights > 0]).strip() == item


def test_an_item_behind_the_cut_makes_its_answer_unusable(bpe_tokenizer):
    text = "Paris " + "the sea " * 30 + "Rome"
    row = {"prompt": "p", "completion": text, "spans": ["Paris", "Rome"], "relevance": [0, 2]}
    with pytest.raises(UserError, match=r"an item of spans has no token, or lies behind the cut .*\(example_id 0\)"):
        tokenize(list_rows(Dataset.from_list([row]), "f"), bpe_tokenizer, max_length=16)


def test_a_tokenizer_that_does_not_tell_places_is_refused_where_they_are_needed():
    slow = SimpleNamespace(is_fast=False)
    with pytest.raises(UserError, match=r"f: steps and spans need to know which characters.*use its fast version"):
        encode_with_places(slow, ["x"], "f")  # pyright: ignore[reportArgumentType]


def test_data_that_are_no_groups_are_refused(bpe_tokenizer):
    with pytest.raises(UserError, match=r"f: no column response_ids, .*make groups with unveil.data.pair_rows"):
        tokenize(pairs_of(("a", "b")), bpe_tokenizer)


def test_a_group_is_shown_with_its_prompt_once(bpe_tokenizer):
    row = {"prompt": "Tell me.", "completions": ["a", "b", "c"], "scores": [1, 2, 3], "rank": [3, 2, 1]}
    text = describe_group(tokenize(list_rows(Dataset.from_list([row]), "f"), bpe_tokenizer)[0], bpe_tokenizer, limit=2)
    assert text.count("Tell me.") == 1
    assert "example_id 1 (relevance 2, rank 2)" in text
    assert text.endswith("and 1 more")


def test_balance_counts_prompts_candidates_comparisons_and_ties(bpe_tokenizer):
    rows = [
        {"prompt": "p", "completions": ["The sea.", "No.", "x"], "scores": [2, 1, 1]},
        {"prompt": "q", "completions": ["The sea.", "No."], "scores": [0, 1]},
    ]
    groups = list_rows(Dataset.from_list(rows), "f")
    assert group_balance(groups).describe() == "2 lists of 2 to 3 candidates (5 in all), 3 comparisons, 1 ties"
    tokenized = tokenize(groups, bpe_tokenizer, end_of_answer="none")
    lengths = [[len(one["completion_ids"]) for one in row["responses"]] for row in tokenized]
    balance = group_balance(tokenized)
    assert balance.mean_length_best == (lengths[0][0] + lengths[1][1]) / 2
    assert balance.mean_length_others == (lengths[0][1] + lengths[0][2] + lengths[1][0]) / 3
    assert group_balance(pair_rows(pairs_of(("a", "b")), "f")).describe() == "1 pairs"
    with pytest.raises(UserError, match="no groups"):
        group_balance(Dataset.from_dict({"label": [True]}))
