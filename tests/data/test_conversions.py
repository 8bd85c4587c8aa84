"""Conversions between shapes: what round trips keep, how many pairs there are, and that what is skipped is counted."""

import warnings

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from unveil.data import (
    graded_rows,
    graded_to_thumbs,
    list_rows,
    lists_to_liked,
    lists_to_pairs,
    lists_to_thumbs,
    pair_rows,
    pairs_to_thumbs,
    thumbs_to_lists,
    thumbs_to_pairs,
    unpaired_rows,
)
from unveil.errors import UserError, UserInputWarning

WORDS = st.sampled_from(["a", "b", "c", "d"])
PAIRS = st.lists(
    st.fixed_dictionaries({"prompt": st.sampled_from(["p", "q"]), "chosen": WORDS, "rejected": WORDS}).filter(
        lambda pair: pair["chosen"] != pair["rejected"]
    ),
    min_size=1,
    max_size=8,
)
SCORES = st.lists(st.integers(-2, 3), min_size=2, max_size=6)
quick = settings(max_examples=40, deadline=None)


def graded_lists(*scores: list) -> Dataset:
    """Lists p0, p1 ... with the answers y0, y1 ..., equal scores allowed."""
    rows = [
        {"prompt": f"p{i}", "completions": [f"y{k}" for k in range(len(one))], "scores": [float(s) for s in one]}
        for i, one in enumerate(scores)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserInputWarning)
        return list_rows(Dataset.from_list(rows), "f")


def thumbs_of(*rows: tuple[str, str, bool]) -> Dataset:
    given = [{"prompt": prompt, "completion": text, "label": label} for prompt, text, label in rows]
    return unpaired_rows(Dataset.from_list(given), "f", allow_one_label=True)


@quick
@given(PAIRS)
def test_pairs_to_thumbs_to_pairs_is_the_identity_also_where_prompts_repeat(pairs):
    rows = Dataset.from_list(pairs)
    groups = pair_rows(rows, "f")
    thumbs = pairs_to_thumbs(groups, "f")
    assert list(thumbs) == list(unpaired_rows(rows, "f"))
    assert list(thumbs_to_pairs(thumbs, "f")) == list(groups)


@quick
@given(st.lists(SCORES, min_size=1, max_size=4).filter(lambda lists: any(len(set(one)) > 1 for one in lists)))
def test_every_two_answers_of_different_score_make_one_pair(scores):
    lists = graded_lists(*scores)
    expected = {
        (1000 * row + i, 1000 * row + j)
        for row, one in enumerate(scores)
        for i in range(len(one))
        for j in range(len(one))
        if one[i] > one[j]
    }
    ties = sum(len(one) * (len(one) - 1) // 2 for one in scores) - len(expected)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pairs = lists_to_pairs(lists, "f", "all")
    assert [tuple(ids) for ids in pairs["response_ids"]] == sorted(expected)
    assert [str(one.message).startswith(f"f: {ties} ties in ") for one in caught] == [True] * bool(ties)
    assert set(map(tuple, pairs["relevance"])) == {(1.0, 0.0)}


@quick
@given(SCORES.filter(lambda one: len(set(one)) > 1))
@pytest.mark.filterwarnings("ignore::unveil.errors.UserInputWarning")
def test_the_other_pairings_are_parts_of_all_pairs_and_begin_with_the_best(scores):
    scores = [score + 10 for score in scores]  # graded: with 0 and 1 alone they would be thumbs
    lists = graded_lists(scores)
    every, rest, one = (lists_to_pairs(lists, "f", pairing) for pairing in ("all", "best_vs_rest", "best_worst"))
    ids = set(map(tuple, every["response_ids"]))
    best = scores.index(max(scores))
    assert {tuple(pair) for pair in rest["response_ids"]} == {(i, j) for i, j in ids if i == best}
    assert one["response_ids"][:] == [[best, scores.index(min(scores))]]
    assert one["gap"][:] == [max(every["gap"])] == [max(scores) - min(scores)]


def test_ties_are_skipped_in_the_same_way_every_time_and_counted_by_name():
    lists = graded_lists([2, 2, 1, 1], [3, 3])
    with pytest.warns(
        UserInputWarning, match=r"f: 1 ties in 1 of 2 lists make no pair \(example_id 1000\); they are le"
    ):
        assert lists_to_pairs(lists, "f", "best_worst")["response_ids"][:] == [[0, 2]]
    with pytest.warns(UserInputWarning, match=r"f: 2 ties in 2 of 2 lists make no pair \(example_id 0, 1000\)"):
        assert lists_to_pairs(lists, "f", "best_vs_rest")["response_ids"][:] == [[0, 2], [0, 3]]
    with pytest.raises(UserError, match=r"f: nothing is left to learn from: 1 ties in 1 of 1 lists"):
        lists_to_pairs(graded_lists([1, 1]), "f", "all")


def test_the_columns_of_candidates_and_prompts_go_into_their_pairs():
    row = {
        "prompt": "p", "completions": ["a", "b", "c"], "scores": [1, 5, 3], "score": [-1, -5, -3], "rank": [1, 3, 2],
        "weight": 0.5, "steps": [["a"], ["b"], ["c"]], "step_weights": [[1], [2], [3]],
    }  # fmt: skip
    pairs = lists_to_pairs(list_rows(Dataset.from_list([row]), "f"), "f", "best_vs_rest")
    assert pairs["completions"][:] == [["b", "a"], ["b", "c"]]
    assert pairs["score"][:] == [[-5.0, -1.0], [-5.0, -3.0]]
    assert pairs["rank"][:] == [[2, 1], [2, 1]]
    assert pairs["gap"][:] == [4.0, 2.0]
    assert pairs["weight"][:] == [0.5, 0.5]
    assert pairs["step_weights"][:] == [[[2.0], [1.0]], [[2.0], [3.0]]]
    assert pairs["example_id"][:] == [1, 1]


def test_pairs_of_thumbs_have_no_gap_because_thumbs_have_no_size():
    lists = thumbs_to_lists(thumbs_of(("p", "x", True), ("p", "y", False), ("p", "z", False)), "f")
    with pytest.warns(UserInputWarning, match="1 ties in 1 of 1 lists"):
        pairs = lists_to_pairs(lists, "f", "all")
    assert pairs.column_names == ["example_id", "prompt", "completions", "relevance", "response_ids"]
    assert pairs["response_ids"][:] == [[0, 1], [0, 2]]


def test_thumbs_without_a_partner_are_counted_by_name():
    thumbs = thumbs_of(("p", "x", False), ("q", "x", True), ("p", "y", True), ("p", "z", False))
    with pytest.warns(UserInputWarning, match=r"f: 2 of 4 thumbs have no partner .*\(example_id 1, 3\); they are left"):
        pairs = thumbs_to_pairs(thumbs, "f")
    assert pairs[0] == {
        "example_id": 2, "prompt": "p", "completions": ["y", "x"], "relevance": [1.0, 0.0], "response_ids": [2, 0],
    }  # fmt: skip


def test_thumbs_may_be_paired_as_lists_are():
    thumbs = thumbs_of(("p", "x", True), ("p", "y", False), ("p", "z", False), ("p", "w", True))
    with pytest.warns(UserInputWarning, match="2 ties in 1 of 1 lists"):
        assert len(thumbs_to_pairs(thumbs, "f", "all")) == 4
    with pytest.raises(UserError, match="--pairing zip: not a way to pair these data; use in_order, best_worst, all"):
        thumbs_to_pairs(thumbs, "f", "zip")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="--pairing in_order: not a way to pair these data; use best_worst, all, best"):
        lists_to_pairs(thumbs_to_lists(thumbs, "f"), "f", "in_order")


def test_thumbs_of_different_prompts_or_of_the_same_text_make_no_pair():
    with pytest.raises(UserError, match=r"f: no prompt has both a thumb up and a thumb down.*--objective kto"):
        thumbs_to_pairs(thumbs_of(("p", "x", True), ("q", "y", False)), "f")
    with pytest.raises(UserError, match="1 thumbs up have the text of their thumb down"):
        thumbs_to_pairs(thumbs_of(("p", "x", True), ("p", "x", False)), "f")
    with pytest.raises(UserError, match=r"f: no prompt has both .*2 prompts have one label only \(example_id 0, 1\)"):
        thumbs_to_lists(thumbs_of(("p", "x", True), ("q", "y", False)), "f")


@quick
@given(st.lists(SCORES, min_size=1, max_size=3), st.sampled_from([-0.5, 0.0, 1.5]))
@pytest.mark.filterwarnings("ignore::unveil.errors.UserInputWarning")
def test_a_threshold_makes_thumbs_with_the_ids_of_the_candidates(scores, threshold):
    flat = {1000 * row + k: s for row, one in enumerate(scores) for k, s in enumerate(one)}
    if all(score == threshold for score in flat.values()):
        return
    thumbs = lists_to_thumbs(graded_lists(*scores), "f", threshold)
    assert dict(zip(thumbs["example_id"], thumbs["label"])) == {
        name: score > threshold for name, score in flat.items() if score != threshold
    }


def test_a_score_at_the_threshold_says_neither_and_is_counted():
    rows = [{"prompt": "p", "completion": f"y{score}", "score": score} for score in (1, 3, 5)]
    graded = graded_rows(Dataset.from_list(rows), "f")
    with pytest.warns(UserInputWarning, match=r"f: 1 answers lie exactly at --threshold 3 \(example_id 1\)"):
        assert graded_to_thumbs(graded, "f", 3)["label"][:] == [False, True]
    with pytest.raises(UserError, match="--threshold nan: must be a finite number"):
        graded_to_thumbs(graded, "f", float("nan"))


def test_an_answer_of_several_pairs_is_one_thumb_and_one_that_lost_and_won_is_none():
    pairs = lists_to_pairs(graded_lists([3, 2, 1]), "f", "all")
    with pytest.warns(
        UserInputWarning, match=r"1 answers are chosen in one pair and rejected in another \(example_id 1\)"
    ):
        thumbs = pairs_to_thumbs(pairs, "f")
    assert dict(zip(thumbs["example_id"], thumbs["label"])) == {0: True, 2: False}


def test_items_of_one_answer_are_no_thumbs():
    row = {"prompt": "p", "completion": "a b", "spans": ["a", "b"], "relevance": [1, 0]}
    lists = list_rows(Dataset.from_list([row]), "f")
    with pytest.raises(UserError, match=r"f: the candidates are spans of one answer.*--objective irpo"):
        lists_to_thumbs(lists, "f", 0.5)


@quick
@given(st.lists(SCORES, min_size=1, max_size=3), st.sampled_from([-0.5, 0.0, 1.5]))
@pytest.mark.filterwarnings("ignore::unveil.errors.UserInputWarning")
def test_a_threshold_makes_liked_and_disliked_answers_of_the_lists_that_have_both(scores, threshold):
    expected = {}
    for row, one in enumerate(scores):
        kept = {1000 * row + k: float(s > threshold) for k, s in enumerate(one) if s != threshold}
        if len(set(kept.values())) == 2:
            expected |= kept
    if not expected:
        with pytest.raises(UserError, match="nothing is left to learn from"):
            lists_to_liked(graded_lists(*scores), "f", threshold)
        return
    found = lists_to_liked(graded_lists(*scores), "f", threshold)
    said = {name: v for row in found for name, v in zip(row["response_ids"], row["relevance"])}
    assert said == expected
    assert found["example_id"][:] == [ids[0] for ids in found["response_ids"]]


def test_what_is_left_out_around_a_threshold_is_counted_and_the_rest_keeps_its_columns():
    row = {"prompt": "p", "completions": ["a", "b", "c"], "scores": [1, 5, 3], "rank": [1, 3, 2], "weight": 0.5}
    lists = list_rows(Dataset.from_list([row, row | {"prompt": "q", "scores": [4, 5, 6]}]), "f")
    with pytest.warns(
        UserInputWarning,
        match=r"1 answers lie exactly at --threshold 3 \(example_id 2\) and 1 of 2 lists have no liked or no disliked",
    ):
        liked = lists_to_liked(lists, "f", 3)
    assert list(liked) == [
        {"example_id": 0, "prompt": "p", "completions": ["a", "b"], "relevance": [0.0, 1.0], "response_ids": [0, 1],
         "rank": [1, 2], "weight": 0.5}
    ]  # fmt: skip
