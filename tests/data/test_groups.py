"""Pairs and lists: what is read from each shape, what is refused, and which ids the candidates get."""

import json

import pytest
from datasets import Dataset

from unveil.data import list_rows, load_rows, pair_rows, shape_of, unpaired_rows
from unveil.errors import UserError, UserInputWarning

USER = {"role": "user", "content": "What is the capital of France?"}
RIGHT = {"role": "assistant", "content": "Paris."}
WRONG = {"role": "assistant", "content": "Rome."}
PAIR = {"prompt": "p", "chosen": "good", "rejected": "bad"}
LIST = {"prompt": "p", "completions": ["a", "b", "c"], "scores": [0.5, 3, 1]}


def rows_of(*rows: dict) -> Dataset:
    return Dataset.from_list(list(rows))


def test_a_pair_is_a_group_of_two_with_the_ids_that_its_thumbs_have():
    rows = rows_of(PAIR, {**PAIR, "prompt": "q"})
    assert list(pair_rows(rows, "f")) == [
        {"example_id": 2 * i, "prompt": prompt, "completions": ["good", "bad"], "relevance": [1.0, 0.0],
         "response_ids": [2 * i, 2 * i + 1]}
        for i, prompt in enumerate("pq")
    ]  # fmt: skip
    thumbs = unpaired_rows(rows, "f")
    assert [one for row in pair_rows(rows, "f") for one in row["response_ids"]] == thumbs["example_id"][:]


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": [USER, RIGHT], "rejected": [USER, WRONG]},
        {"prompt": [USER], "chosen": [RIGHT], "rejected": [WRONG]},
        {"prompt": [USER], "completions": [[RIGHT], [WRONG]], "scores": [1.0, 0.0]},
        {"prompt": [USER], "completions": ["Paris.", "Rome."], "scores": [1, 0]},
    ],
)
def test_conversations_are_read_with_and_without_a_prompt(row):
    group = list_rows(rows_of(row), "f")[0]
    assert group["prompt"] == [USER]
    assert group["completions"] == ["Paris.", "Rome."]
    assert group["relevance"] == [1.0, 0.0]


def test_a_candidate_of_a_list_is_named_by_row_and_place():
    lists = list_rows(rows_of(LIST, {**LIST, "completions": ["x", "y"], "scores": [1, 2]}), "f")
    assert lists["response_ids"][:] == [[0, 1, 2], [1000, 1001]]
    assert lists["example_id"][:] == [0, 1000]
    assert lists["relevance"][:] == [[0.5, 3.0, 1.0], [1.0, 2.0]]


def test_own_example_ids_decide_and_survive_reordering():
    rows = rows_of({**LIST, "example_id": 7}, {**LIST, "prompt": "q", "example_id": 3})
    assert list_rows(rows, "f")["response_ids"][:] == [[7000, 7001, 7002], [3000, 3001, 3002]]
    again = list_rows(rows.select([1, 0]), "f")
    assert again["response_ids"][:] == [[3000, 3001, 3002], [7000, 7001, 7002]]


def test_an_example_id_too_large_for_its_candidates_gives_way_to_the_row_number():
    with pytest.warns(UserInputWarning, match=r"example_id is left alone .*ids must be below 9223372036854775"):
        assert list_rows(rows_of({**LIST, "example_id": 2**60}), "f")["response_ids"][:] == [[0, 1, 2]]
    assert list_rows(rows_of({**LIST, "example_id": 2**53}), "f")["example_id"][:] == [2**53 * 1000]


def test_graded_answers_are_put_together_by_prompt_and_keep_their_row_as_id():
    rows = rows_of(
        {"prompt": "p", "completion": "x", "score": 4},
        {"prompt": "alone", "completion": "x", "score": 3},
        {"prompt": "p", "completion": "y", "score": 1},
    )
    with pytest.warns(
        UserInputWarning, match=r"f: of 2 prompts 1 have one answer only \(example_id 1\); they are left"
    ):
        lists = list_rows(rows, "f")
    assert list(lists) == [
        {"example_id": 0, "prompt": "p", "completions": ["x", "y"], "relevance": [4.0, 1.0], "response_ids": [0, 2]}
    ]


def test_an_answer_graded_twice_counts_once_and_a_contradiction_leaves_its_prompt_out():
    def graded(prompt: str, completion: str, score: float) -> dict:
        return {"prompt": prompt, "completion": completion, "score": score}

    rows = rows_of(
        graded("p", "x", 4), graded("p", "x", 4), graded("p", "y", 1), graded("q", "x", 4), graded("q", "x", 1)
    )
    with pytest.warns(UserInputWarning, match=r"1 have the same text twice with another score \(example_id 3\)"):
        assert list_rows(rows, "f")["response_ids"][:] == [[0, 2]]


def test_graded_answers_to_different_prompts_are_no_lists():
    rows = rows_of(*[{"prompt": f"p{i}", "completion": "x", "score": i} for i in range(3)])
    with pytest.raises(UserError, match=r"f: no prompt has two answers .*3 have one answer only.*--objective kto"):
        list_rows(rows, "f")


def test_thumbs_become_lists_where_a_prompt_has_both_labels():
    rows = rows_of(
        {"prompt": "p", "completion": "x", "label": False},
        {"prompt": "q", "completion": "x", "label": True},
        {"prompt": "p", "completion": "y", "label": True},
        {"prompt": "p", "completion": "z", "label": False},
    )
    with pytest.warns(UserInputWarning, match=r"f: 1 prompts have one label only \(example_id 1\)"):
        lists = list_rows(rows, "f")
    assert lists[0] == {
        "example_id": 0, "prompt": "p", "completions": ["x", "y", "z"], "relevance": [0.0, 1.0, 0.0],
        "response_ids": [0, 2, 3],
    }  # fmt: skip


def test_the_items_of_a_ranked_answer_share_its_text_and_its_id():
    text = "1. Alien 2. Solaris 3. Stalker"
    row = {"prompt": "Films?", "completion": text, "spans": ["Alien", "Solaris", "Stalker"], "relevance": [0, 2, 1]}
    group = list_rows(rows_of(row, {**row, "prompt": "More?"}), "f")[1]
    assert group["completions"] == [text] * 3
    assert group["response_ids"] == [1, 1, 1]
    assert group["rank"] == [1, 2, 3]
    assert [text[start:end] for start, end in group["spans"]] == row["spans"]
    assert list_rows(rows_of({**row, "rank": [2, 1, 3]}), "f")[0]["rank"] == [2, 1, 3]


def test_optional_columns_are_carried_and_steps_become_characters():
    row = {
        **LIST, "score": [0.1, -7, 2], "rank": [3, 1, 2], "weight": 0.5, "completions": ["a b", "b", "c c"],
        "steps": [["a", "b"], ["b"], ["c", "c"]], "step_weights": [[1, 2], [0.5], [1, 1]],
    }  # fmt: skip
    group = list_rows(rows_of(row), "f")[0]
    assert group["steps"] == [[[0, 1], [2, 3]], [[0, 1]], [[0, 1], [2, 3]]]
    assert (group["score"], group["rank"], group["weight"]) == ([0.1, -7.0, 2.0], [3, 1, 2], 0.5)
    assert list_rows(rows_of({**row, "steps": group["steps"]}), "f")[0] == group


def test_the_scores_of_a_pair_may_stand_in_two_columns():
    pair = pair_rows(rows_of({**PAIR, "score_chosen": 9, "score_rejected": 3.5, "margin": 2}), "f")[0]
    assert pair["score"] == [9.0, 3.5]
    assert pair["margin"] == 2.0
    assert pair["relevance"] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"completions": ["a", "b"]}, "scores holds 3 for 2 candidates"),
        ({"completions": ["a"], "scores": [1.0]}, "completions holds 1, and a comparison needs two"),
        ({"completions": []}, "completions holds 0"),
        ({"completions": None}, "completions is not a list but NoneType"),
        ({"completions": ["a", " ", "c"]}, "completion 1 is empty"),
        ({"completions": ["a", "b", "a"]}, "completions 0 and 2 are the same text with different scores"),
        ({"scores": None}, "scores is missing"),
        ({"scores": [1.0, None, 2.0]}, "scores: candidate 1 is missing"),
        ({"scores": [1.0, 2.0, float("nan")]}, "scores: candidate 2 is nan"),
        ({"scores": [float("-inf"), 2.0, 1.0]}, "scores: candidate 0 is -inf"),
        ({"prompt": ""}, "the prompt is empty"),
        ({"rank": [1, 2, 2]}, "rank is not a permutation of 1 to 3"),
        ({"rank": [0, 1, 2]}, "rank is not a permutation of 1 to 3"),
        ({"rank": [1, 2]}, "rank holds 2 for 3 candidates"),
        ({"score": [1.0, 2.0]}, "score holds 2 for 3 candidates"),
        ({"score": [1.0, float("inf"), 2.0]}, "score: candidate 1 is inf"),
        ({"weight": -1.0}, "weight is below 0"),
        ({"weight": float("nan")}, "weight is nan"),
        ({"steps": [[[0, 1]], [[0, 2]], [[0, 1]]]}, r"steps of candidate 1: \[0, 2\] lies outside the text of 1 char"),
        ({"steps": [[[0, 1]], [[0, 1], [0, 1]], [[0, 1]]]}, r"\[0, 1\] begins before the part ahead of it ends"),
        ({"steps": [[[1, 1]], [[0, 1]], [[0, 1]]]}, r"steps of candidate 0: \[1, 1\] lies outside"),
        ({"steps": [["a"], ["b"], ["c", "c"]]}, "steps of candidate 2: part 1 is not in the text after part 0"),
        ({"steps": [[], [[0, 1]], [[0, 1]]]}, "steps of candidate 0 is not a list of texts"),
        ({"steps": [["a"], ["b"], ["c"]], "step_weights": [[1.0], [1.0, 2.0], [1.0]]}, "holds 2 for 1 steps"),
        ({"step_weights": [[1.0], [1.0], [1.0]]}, "step_weights is there without steps"),
    ],
)  # fmt: skip
def test_a_list_that_cannot_be_used_names_row_reason_and_remedy(change, reason):
    with pytest.raises(UserError, match=rf"f: 1 of 1 rows cannot be used: .*{reason}.*\(rows, from 0: 0\); .*--on_bad"):
        list_rows(rows_of({**LIST, **change}), "f")


def test_lists_that_cannot_be_used_are_left_out_if_asked_and_the_others_keep_their_ids():
    rows = rows_of(LIST, {**LIST, "scores": [1, 2]}, LIST)
    with pytest.warns(UserInputWarning, match=r"f: 1 of 3 rows cannot be used: scores holds 2 .*from 0: 1\)"):
        assert list_rows(rows, "f", on_bad_rows="drop")["example_id"][:] == [0, 2000]


@pytest.mark.parametrize("score", ["good", True, [1, "2"]])
def test_a_score_that_is_not_a_number_names_file_and_row(write_rows, score):
    value = score if isinstance(score, list) else [score, 2]
    path = write_rows([{"prompt": "p", "completions": ["a", "b"], "scores": [1, 2]},
                       {"prompt": "p", "completions": ["a", "b"], "scores": value}])  # fmt: skip
    with pytest.raises(UserError, match=rf"{path}, row 1 \(counted from 0\): column 'scores' holds"):
        load_rows(path)
    path = write_rows([{"prompt": "p", "completions": ["a", "b"], "scores": [str(one) for one in value]}])
    with pytest.raises(UserError, match=r"scores: candidate 0 is '.*', not a number \(rows, from 0: 0\)"):
        list_rows(load_rows(path), "f")


def test_a_boolean_is_no_score():
    with pytest.raises(UserError, match="scores: candidate 0 is True, not a number"):
        list_rows(rows_of({**LIST, "scores": [True, False, True]}), "f")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rejected": "good"}, "chosen and rejected are the same text"),
        ({"rejected": ""}, "the rejected completion is empty"),
        ({"chosen": None}, "the chosen completion is empty"),
    ],
)
def test_a_pair_that_says_nothing_is_refused_or_left_out(change, reason):
    rows = rows_of(PAIR, {**PAIR, **change})
    with pytest.raises(UserError, match=rf"f: 1 of 2 rows cannot be used: {reason} \(rows, from 0: 1\)"):
        pair_rows(rows, "f")
    with pytest.warns(UserInputWarning, match="they are left out"):
        assert pair_rows(rows, "f", on_bad_rows="drop")["response_ids"][:] == [[0, 1]]


def test_spans_outside_the_answer_or_fewer_than_two_are_refused():
    row = {"prompt": "p", "completion": "Alien, Solaris", "spans": ["Alien", "Dune"], "relevance": [1, 0]}
    with pytest.raises(UserError, match="spans: part 1 is not in the text after part 0"):
        list_rows(rows_of(row), "f")
    with pytest.raises(UserError, match=r"spans: \[7, 99\] lies outside the text of 14 characters"):
        list_rows(rows_of({**row, "spans": [[0, 5], [7, 99]]}), "f")
    with pytest.raises(UserError, match="spans holds one item"):
        list_rows(rows_of({**row, "spans": ["Alien"], "relevance": [1]}), "f")
    with pytest.raises(UserError, match="relevance holds 2 for 3 spans"):
        list_rows(rows_of({**row, "spans": ["A", "l", "S"]}), "f")


def test_lists_without_any_difference_are_kept_and_counted():
    with pytest.warns(UserInputWarning, match=r"f: all scores are equal in 1 of 2 lists \(row 1\)"):
        assert len(list_rows(rows_of(LIST, {**LIST, "scores": [2, 2, 2]}), "f")) == 2


def test_lists_of_two_are_pairs_with_the_better_one_first():
    rows = rows_of({"prompt": "p", "completions": ["worse", "better"], "scores": [1, 3]})
    pair = pair_rows(rows, "f")[0]
    assert pair["completions"] == ["better", "worse"]
    assert pair["response_ids"] == [1, 0]
    assert (pair["gap"], pair["score"]) == (2.0, [3.0, 1.0])


def test_longer_lists_are_no_pairs_and_the_ways_to_pair_them_are_told():
    with pytest.raises(UserError, match=r"f: 1 of 1 lists have more than two.*--pairing best_worst, all or best_vs_r"):
        pair_rows(rows_of(LIST), "f")


def test_groups_that_were_saved_are_read_back_as_they_were(tmp_path):
    pairs = pair_rows(rows_of({**PAIR, "score_chosen": 2.0, "score_rejected": 1.0}, {**PAIR, "prompt": "q",
                      "score_chosen": 0.0, "score_rejected": 1.0}), "f")  # fmt: skip
    lists = list_rows(rows_of(LIST, {**LIST, "prompt": "q"}), "f")
    for rows, read in ((pairs, pair_rows), (lists, list_rows)):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert list(read(load_rows(path), "f")) == list(rows)


def test_one_id_for_two_answers_is_refused():
    rows = rows_of({**LIST, "response_ids": [0, 1, 2]}, {**LIST, "response_ids": [2, 1, 3]})
    with pytest.raises(UserError, match=r"f: response_ids names two different answers by one id \(rows 1, counted"):
        list_rows(rows, "f")
    with pytest.raises(UserError, match="response_ids are not integers of at least 0"):
        list_rows(rows_of({**LIST, "response_ids": [-1, 1, 2]}), "f")


def test_two_columns_that_both_say_what_is_better_are_refused():
    with pytest.raises(UserError, match=r"f: there are both scores and relevance.*--column_map scores=score"):
        list_rows(rows_of({**LIST, "relevance": [1, 2, 3]}), "f")


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        (PAIR, "pairs"),
        ({"chosen": "a b", "rejected": "a c"}, "pairs"),
        (LIST, "lists"),
        ({"prompt": "p", "completion": "c", "label": True, "score": 2}, "unpaired"),
        ({"prompt": "p", "completion": "c", "score": 2}, "graded"),
        ({"prompt": "p", "completion": "c", "spans": ["c"], "relevance": [1]}, "spans"),
    ],
)
def test_the_columns_say_the_shape(row, shape):
    assert shape_of(rows_of(row)) == shape


def test_columns_of_no_shape_are_listed_with_what_is_missing():
    with pytest.raises(UserError, match=r"f: no column 'score.*the columns are 'prompt', 'completions'.*--column_map"):
        shape_of(rows_of({"prompt": "p", "completions": ["a", "b"]}), "f")
