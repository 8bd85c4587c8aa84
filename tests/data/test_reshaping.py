"""Data for an objective: converted where nothing is lost, else refused with the conversion that would serve."""

import pytest
from datasets import Dataset

from unveil.data import list_rows, pair_rows, to_shape, unpaired_rows
from unveil.errors import UserError, UserInputWarning

THUMBS = [
    {"prompt": "p", "completion": "x", "label": True},
    {"prompt": "p", "completion": "y", "label": False},
]
PAIRS = [{"prompt": "p", "chosen": "x", "rejected": "y"}]
LISTS = [{"prompt": "p", "completions": ["x", "y", "z"], "scores": [3, 1, 2]}]
GRADED = [{"prompt": "p", "completion": text, "score": score} for text, score in zip("xyz", (3, 1, 2))]
SPANS = [{"prompt": "p", "completion": "x y", "spans": ["x", "y"], "relevance": [1, 0]}]


def rows(data: list[dict]) -> Dataset:
    return Dataset.from_list(data)


@pytest.mark.parametrize(
    ("data", "wanted", "read"),
    [
        (THUMBS, "unpaired", unpaired_rows),
        (PAIRS, "unpaired", unpaired_rows),
        (PAIRS, "pairs", pair_rows),
        (PAIRS, "lists", pair_rows),
        (THUMBS, "lists", list_rows),
        (LISTS, "lists", list_rows),
        (GRADED, "lists", list_rows),
        (SPANS, "lists", list_rows),
    ],
)
def test_what_loses_nothing_is_done_without_asking(data, wanted, read):
    assert list(to_shape(rows(data), wanted, "f")) == list(read(rows(data), "f"))


@pytest.mark.parametrize(
    ("data", "wanted", "option", "ids"),
    [
        (THUMBS, "pairs", {"pairing": "in_order"}, [[0, 1]]),
        (LISTS, "pairs", {"pairing": "best_worst"}, [[0, 1]]),
        (GRADED, "pairs", {"pairing": "best_vs_rest"}, [[0, 1], [0, 2]]),
        (LISTS, "pairs", {"pairing": "all"}, [[0, 1], [0, 2], [2, 1]]),
        (LISTS, "unpaired", {"threshold": 1.5}, [0, 1, 2]),
        (GRADED, "unpaired", {"threshold": 2.5}, [0, 1, 2]),
    ],
)
def test_what_only_the_user_can_choose_is_done_when_chosen(data, wanted, option, ids):
    result = to_shape(rows(data), wanted, "f", **option)
    assert result["example_id" if wanted == "unpaired" else "response_ids"][:] == ids


APART = [THUMBS[0], {**THUMBS[1], "prompt": "q"}]
NONE_HAS_BOTH = "no prompt has both a thumb up and a thumb down.*--objective kto"


@pytest.mark.parametrize(
    ("data", "wanted", "message"),
    [
        (
            THUMBS,
            "pairs",
            r"train.jsonl: holds thumbs \(prompt, completion, label\), but --objective dpo needs pairs; "
            r"1 can be made: --pairing in_order joins .*--pairing all",
        ),
        (
            LISTS,
            "pairs",
            r"holds lists \(prompt, completions, scores\), but --objective dpo needs pairs; --pairing best",
        ),
        (GRADED, "pairs", "holds graded answers .*needs pairs; --pairing best_worst joins"),
        (LISTS, "unpaired", r"needs thumbs; --threshold NUMBER .*the scores go from 1 to 3\)"),
        (GRADED, "unpaired", "needs thumbs; --threshold NUMBER"),
        (SPANS, "unpaired", "holds ranked spans .*needs thumbs; .*--objective irpo"),
        (APART, "pairs", NONE_HAS_BOTH),
        (APART, "lists", NONE_HAS_BOTH),
    ],
)
def test_a_mismatch_says_what_the_data_hold_what_is_needed_and_which_conversion_serves(data, wanted, message):
    with pytest.raises(UserError, match=message):
        to_shape(rows(data), wanted, "train.jsonl", objective="dpo")


@pytest.mark.parametrize(
    ("data", "wanted", "option"),
    [
        (PAIRS, "pairs", {"pairing": "all"}),
        (LISTS, "lists", {"pairing": "all"}),
        (THUMBS, "unpaired", {"threshold": 1.0}),
        (LISTS, "pairs", {"pairing": "all", "threshold": 1.0}),
    ],
)
def test_a_choice_without_effect_is_refused(data, wanted, option):
    with pytest.raises(UserError, match=r"f: --(pairing all|threshold 1.0): has no effect where .*; leave it out"):
        to_shape(rows(data), wanted, "f", **option)


def test_lists_of_zeros_and_ones_are_thumbs_already():
    binary = [{**LISTS[0], "scores": [1, 0, 1]}]
    assert to_shape(rows(binary), "unpaired", "f")["label"][:] == [True, False, True]
    saved = Dataset.from_list(list(pair_rows(rows(PAIRS), "f")))
    assert list(to_shape(saved, "unpaired", "f")) == list(unpaired_rows(rows(PAIRS), "f"))
    assert list(to_shape(saved, "pairs", "f")) == list(saved)


def test_a_threshold_that_leaves_one_label_is_refused_unless_allowed():
    with pytest.raises(UserError, match="every label is true"):
        to_shape(rows(LISTS), "unpaired", "f", threshold=0.5)
    assert len(to_shape(rows(LISTS), "unpaired", "f", threshold=0.5, allow_one_label=True)) == 3


def test_column_names_and_bad_rows_are_handled_as_elsewhere():
    data = [{"q": "p", "chosen": "x", "rejected": "y"}, {"q": "p", "chosen": "x", "rejected": "x"}]
    with pytest.warns(UserInputWarning, match="1 of 2 rows cannot be used: chosen and rejected are the same text"):
        pairs = to_shape(rows(data), "pairs", "f", column_map={"q": "prompt"}, on_bad_rows="drop")
    assert pairs["response_ids"][:] == [[0, 1]]
    with pytest.raises(ValueError, match="wanted is 'triples'"):
        to_shape(rows(PAIRS), "triples", "f")
