"""Curry-DPO's order: easiest first, nothing lost, the same every time."""

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from unveil.data import curriculum, list_rows, lists_to_pairs, pair_rows, tokenize_groups
from unveil.errors import UserError

LISTS = [{"prompt": f"p{i}", "completions": ["a", "b", "c", "d"], "scores": [9 - i, 1, 2, 3]} for i in range(3)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=3, max_size=12).filter(lambda gaps: len(set(gaps)) > 1), st.integers(1, 3))
def test_gaps_never_increase_equal_gaps_keep_their_order_and_no_row_is_lost(gaps, stages):
    rows = Dataset.from_dict({"example_id": list(range(len(gaps))), "gap": [float(gap) for gap in gaps]})
    parts = curriculum(rows, stages=stages)
    ordered = [row for part in parts for row in part]
    assert len(parts) == stages
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [(row["gap"], row["example_id"]) for row in ordered] == sorted(
        zip(map(float, gaps), range(len(gaps))), key=lambda pair: (-pair[0], pair[1])
    )


def test_pairs_of_graded_lists_go_from_the_widest_gap_to_the_narrowest(bpe_tokenizer):
    pairs = lists_to_pairs(list_rows(Dataset.from_list(LISTS), "f"), "f", "best_vs_rest")
    gaps = [gap for part in curriculum(pairs) for gap in part["gap"]]
    assert gaps == sorted(pairs["gap"], reverse=True)
    tokenized = tokenize_groups(pairs, bpe_tokenizer, max_length=32, mask_token_id=1, source="f")
    assert [part["gap"][:] for part in curriculum(tokenized)] == [part["gap"][:] for part in curriculum(pairs)]


def test_pairs_that_the_scorer_orders_the_other_way_are_hardest():
    rows = [
        {"prompt": f"p{i}", "chosen": "x", "rejected": "y", "score": [score, 0.0]} for i, score in enumerate((-5, 1, 3))
    ]
    stages = curriculum(pair_rows(Dataset.from_list(rows), "f"))
    assert [part["example_id"][:] for part in stages] == [[4], [2], [0]]


def test_lists_are_ordered_by_the_range_of_their_relevance_or_by_a_column():
    lists = list_rows(Dataset.from_list([{**row, "weight": i} for i, row in enumerate(LISTS)]), "f")
    assert [part["example_id"][:] for part in curriculum(lists)] == [[0], [1000], [2000]]
    assert [part["example_id"][:] for part in curriculum(lists, by="weight")] == [[2000], [1000], [0]]


@pytest.mark.parametrize(
    ("by", "stages", "message"),
    [
        ("gap", 0, "--curriculum_stages 0: at least 1 is needed"),
        ("gap", 4, "--curriculum_stages 4: there are only 3 rows"),
        ("gap", 3, "curriculum by gap: is 1 in every row, so that there is no order.*score_chosen"),
        ("hardness", 3, "curriculum by hardness: there is no such column; use gap, or one of"),
        ("prompt", 3, "curriculum by prompt: the column does not hold one number per row"),
    ],
)
def test_an_order_that_does_not_exist_is_refused(by, stages, message):
    pairs = pair_rows(Dataset.from_list([{"prompt": f"p{i}", "chosen": "x", "rejected": "y"} for i in range(3)]), "f")
    with pytest.raises(UserError, match=message):
        curriculum(pairs, by, stages)


def test_a_gap_that_is_no_number_names_its_row():
    rows = Dataset.from_dict({"example_id": [4, 7], "gap": [1.0, float("nan")]})
    with pytest.raises(UserError, match=r"column 'gap': not a finite number \(example_id 7\)"):
        curriculum(rows, stages=1)
