"""The column `weight` in every form of data: kept, shared where rows are joined, left out where it is 0."""

import pytest
from datasets import Dataset

from unveil.data import to_shape, tokenize_responses, unpaired_rows
from unveil.errors import UserError, UserInputWarning

THUMBS = [
    {"prompt": "p", "completion": "a", "label": True, "weight": 3},
    {"prompt": "p", "completion": "b", "label": False, "weight": 1},
    {"prompt": "q", "completion": "c", "label": True, "weight": 2},
    {"prompt": "q", "completion": "d", "label": False, "weight": 2},
]
PAIRS = [
    {"prompt": "p", "chosen": "a", "rejected": "b", "weight": 0.5},
    {"prompt": "q", "chosen": "c", "rejected": "d", "weight": 2.0},
]
LISTS = [
    {"prompt": "p", "completions": ["a", "b", "c"], "scores": [5, 3, 1], "weight": 0.25},
    {"prompt": "q", "completions": ["d", "e"], "scores": [4, 1], "weight": 4.0},
]
GRADED = [
    {"prompt": "p", "completion": "a", "score": 1.0, "weight": 1.0},
    {"prompt": "p", "completion": "b", "score": 2.0, "weight": 3.0},
    {"prompt": "q", "completion": "c", "score": 1.0, "weight": 5.0},
    {"prompt": "q", "completion": "d", "score": 3.0, "weight": 5.0},
]


@pytest.mark.parametrize(
    ("rows", "wanted", "choice", "weights"),
    [
        (THUMBS, "unpaired", {}, [3, 1, 2, 2]),
        (THUMBS, "pairs", {"pairing": "in_order"}, [2, 2]),
        (THUMBS, "pairs", {"pairing": "all"}, [2, 2]),
        (THUMBS, "lists", {}, [2, 2]),
        (PAIRS, "unpaired", {}, [0.5, 0.5, 2, 2]),
        (PAIRS, "pairs", {}, [0.5, 2]),
        (PAIRS, "lists", {}, [0.5, 2]),
        (LISTS, "unpaired", {"threshold": 2.5}, [0.25] * 3 + [4, 4]),
        (LISTS, "pairs", {"pairing": "all"}, [0.25] * 3 + [4]),
        (LISTS, "lists", {}, [0.25, 4]),
        (GRADED, "unpaired", {"threshold": 1.5}, [1, 3, 5, 5]),
        (GRADED, "pairs", {}, [2, 5]),
        (GRADED, "lists", {}, [2, 5]),
    ],
)
def test_the_weight_of_a_row_goes_along_into_every_shape(rows, wanted, choice, weights):
    """What is made of several rows counts their mean."""
    assert to_shape(Dataset.from_list(rows), wanted, "f", **choice)["weight"][:] == weights


@pytest.mark.parametrize("rows", [THUMBS, PAIRS, LISTS, GRADED])
@pytest.mark.parametrize("wanted", ["unpaired", "pairs", "lists"])
def test_without_weights_there_is_no_such_column(rows, wanted):
    plain = [{name: value for name, value in row.items() if name != "weight"} for row in rows]
    choice = {"threshold": 2.5} if wanted == "unpaired" and "label" not in rows[0] and "chosen" not in rows[0] else {}
    if wanted == "pairs" and "chosen" not in rows[0]:
        choice = {"pairing": "all"}
    if rows is GRADED and wanted == "unpaired":
        choice = {"threshold": 1.5}
    assert "weight" not in to_shape(Dataset.from_list(plain), wanted, "f", **choice).column_names


@pytest.mark.parametrize(
    ("rows", "wanted", "choice"),
    [
        (THUMBS, "unpaired", {}),
        (THUMBS, "lists", {}),
        (THUMBS, "pairs", {"pairing": "in_order"}),
        (PAIRS, "unpaired", {}),
        (PAIRS, "pairs", {}),
        (LISTS, "lists", {}),
        (LISTS, "pairs", {"pairing": "all"}),
        (LISTS, "unpaired", {"threshold": 2.5}),
        (GRADED, "lists", {}),
        (GRADED, "unpaired", {"threshold": 1.5}),
    ],
)
def test_rows_of_weight_zero_are_as_if_they_were_absent_and_named(rows, wanted, choice):
    """Ids stay, so the rows that count keep their draws."""
    kept = rows[: len(rows) // 2]
    given = [*kept, *(row | {"weight": 0} for row in rows[len(rows) // 2 :])]
    with pytest.warns(UserInputWarning, match=r"f: \d of \d rows have the weight 0 \(example_id .*they are left out"):
        found = to_shape(Dataset.from_list(given), wanted, "f", **choice)
    assert list(found) == list(to_shape(Dataset.from_list(kept), wanted, "f", **choice))


def test_a_graded_answer_of_weight_zero_is_no_candidate():
    rows = [*GRADED[:2], GRADED[0] | {"completion": "z", "weight": 0}]
    with pytest.warns(UserInputWarning, match="1 of 3 rows have the weight 0"):
        assert to_shape(Dataset.from_list(rows), "lists", "f")["completions"][:] == [["a", "b"]]


def test_rows_that_all_count_nothing_are_refused():
    for rows, wanted in ((THUMBS, "unpaired"), (PAIRS, "pairs"), (GRADED, "lists")):
        with pytest.raises(UserError, match="f: every row has the weight 0, so that nothing is left to learn from"):
            to_shape(Dataset.from_list([row | {"weight": 0} for row in rows]), wanted, "f")


def test_weights_that_leave_one_label_are_refused():
    rows = [row | {"weight": float(row["label"])} for row in THUMBS]
    with (
        pytest.warns(UserInputWarning, match="2 of 4 rows have the weight 0"),
        pytest.raises(UserError, match=r"every label is true.*--allow_one_label"),
    ):
        to_shape(Dataset.from_list(rows), "unpaired", "f")


@pytest.mark.parametrize(("weight", "told"), [(-1.0, "weight is below 0"), (float("nan"), "weight is nan")])
@pytest.mark.parametrize(("rows", "wanted"), [(THUMBS, "unpaired"), (PAIRS, "unpaired"), (GRADED, "lists")])
def test_a_weight_that_is_none_is_refused_with_its_row(rows, wanted, weight, told):
    with pytest.raises(UserError, match=rf"{told} \(rows, from 0: 1\)"):
        to_shape(
            Dataset.from_list([row | {"weight": weight if i == 1 else 1.0} for i, row in enumerate(rows)]), wanted, "f"
        )


def test_a_column_of_that_name_without_numbers_is_told_and_counts_nothing():
    rows = [row | {"weight": "70 kg"} for row in THUMBS]
    with pytest.warns(UserInputWarning, match="f: the column weight holds string and no numbers"):
        assert "weight" not in unpaired_rows(Dataset.from_list(rows), "f").column_names


def test_weights_of_thumbs_survive_tokenising(toy_tokenizer):
    rows = unpaired_rows(Dataset.from_list(THUMBS), "f")
    tokens = tokenize_responses(rows, toy_tokenizer, max_length=32, mask_token_id=1, source="f")
    assert tokens["weight"][:] == [3.0, 1.0, 2.0, 2.0]
