"""Columns that happen to have one of our names: left alone unless the run reads them, and no message is a flood."""

import json
import warnings

import pytest
from datasets import Dataset

from unveil.data import list_rows, load_rows, pair_rows, to_shape, unpaired_rows
from unveil.errors import UserError, UserInputWarning

PAIRS = [{"prompt": f"p{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(4)]
LISTS = [{"prompt": f"p{i}", "completions": ["a", "b"], "scores": [1, 2]} for i in range(4)]
OURS = ("score", "rank", "steps", "step_weights", "spans", "gap", "margin", "weight", "score_chosen", "response_ids")


def with_column(rows: list[dict], name: str, *values) -> Dataset:
    return Dataset.from_list([{**row, name: values[i % len(values)]} for i, row in enumerate(rows)])


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("values", [("large",), (None,), ({"a": 1},), (["x", "y"],), (True, False)])
@pytest.mark.parametrize("rows", [PAIRS, LISTS])
def test_a_column_that_cannot_be_ours_is_left_alone(name, values, rows):
    read = pair_rows if rows is PAIRS else list_rows
    if name == "spans" and values == (["x", "y"],) and rows is LISTS:
        return  # texts, one per answer: that is what spans are
    given = with_column(rows, name, *values)
    with warnings.catch_warnings(record=True, action="always") as said:
        plain, other = read(Dataset.from_list(rows), "f"), read(given, "f")
    assert list(plain) == list(other)
    assert all(len(str(one.message)) < 300 for one in said)


@pytest.mark.parametrize("name", ["score", "rank", "steps", "step_weights", "gap"])
def test_what_an_objective_does_not_read_is_left_alone_without_a_word(name):
    for values in ((0.7, 0.2), (3, 1), ([[0, 1]], [[0, 2]]), ("x",)):
        rows = to_shape(with_column(PAIRS, name, *values), "pairs", "f", reads=())
        assert rows.column_names == ["example_id", "prompt", "completions", "relevance", "response_ids"]
    with pytest.raises(UserError, match=r"score is 0\.7, not a list"):
        to_shape(with_column(PAIRS, "score", 0.7), "pairs", "f", reads=("score",))


def test_weight_and_margin_are_read_where_they_are_numbers():
    given = with_column(PAIRS, "weight", 0.5).add_column("margin", [1.0] * 4)  # pyright: ignore[reportCallIssue]
    rows = to_shape(given, "pairs", "f", reads=())
    assert (rows["weight"][:], rows["margin"][:]) == ([0.5] * 4, [1.0] * 4)


def test_messages_stay_short_whatever_is_in_the_file():
    rows = Dataset.from_list([{**PAIRS[0], "chosen": f"good {i}", "score": i * 0.37} for i in range(3000)])
    with pytest.raises(UserError) as caught:
        to_shape(rows, "pairs", "f", reads=("score",))
    assert len(str(caught.value)) < 400
    assert "3000 of 3000 rows cannot be used: score is 0.0, not a list, and the like" in str(caught.value)
    labels = [{"prompt": "p", "completion": "c", "label": "x" * 10_000 + str(i)} for i in range(50)]
    with pytest.raises(UserError) as caught:
        unpaired_rows(Dataset.from_list(labels), "f")
    assert len(str(caught.value)) < 500
    wide = Dataset.from_list([{f"a{i}" * 20: 1 for i in range(500)}])
    with pytest.raises(UserError) as caught:
        unpaired_rows(wide, "f")
    assert len(str(caught.value)) < 1200


def test_a_pair_is_scored_by_two_columns_beside_a_score_of_the_user():
    given = with_column(PAIRS, "score", 0.7)
    given = given.add_column("score_chosen", [2.0] * 4).add_column("score_rejected", [1.0] * 4)  # pyright: ignore
    assert to_shape(given, "pairs", "f", reads=("score",))["score"][:] == [[2.0, 1.0]] * 4


@pytest.mark.filterwarnings("default::unveil.errors.UserInputWarning")
def test_a_table_of_very_many_columns_keeps_those_that_are_read(tmp_path):
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c", **{f"c{i}": i for i in range(20_000)}}] * 2
    (tmp_path / "wide.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.warns(UserInputWarning, match="20003 columns are more than 1000; those that unveil reads are kept"):
        assert load_rows(tmp_path / "wide.jsonl").column_names == ["prompt", "chosen", "rejected"]
