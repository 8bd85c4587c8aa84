"""Micro-batches hold every row once and whole, side by side with rows as long, within the token budget."""

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from unveil.likelihood import Row, micro_batches


@st.composite
def some_rows(draw) -> list[Row]:
    rows = []
    for number, length in enumerate(draw(st.lists(st.integers(1, 30), max_size=25))):
        places = np.array(sorted(draw(st.sets(st.integers(0, length - 1), min_size=1, max_size=5))))
        ids = np.arange(length) + 100 * number
        rows.append(Row(ids, places, ids[places] + 10_000, number, 0))
    return rows


@given(some_rows(), st.integers(1, 120))
def test_every_row_is_packed_once_and_whole(rows, budget):
    batches = micro_batches(rows, budget)
    assert sorted(number for packed in batches for number in packed.order) == list(range(len(rows)))
    for packed in batches:
        chosen = [rows[number] for number in packed.order]
        assert packed.segment_lengths == [row.length for row in chosen]
        segments = packed.input_ids_1T[0].split(packed.segment_lengths)
        places = packed.index_N.split(packed.hidden_counts)
        targets = packed.targets_N.split(packed.hidden_counts)
        start = 0
        for row, ids, index, target in zip(chosen, segments, places, targets, strict=True):
            assert ids.tolist() == row.ids.tolist()
            assert (index - start).tolist() == row.places.tolist()
            assert target.tolist() == row.targets.tolist()
            start += row.length
        assert packed.input_ids_1T.shape == (1, start)
        assert packed.index_N.dtype == packed.targets_N.dtype == packed.input_ids_1T.dtype == torch.int64


@given(some_rows(), st.integers(1, 120))
def test_budget_is_respected_and_used(rows, budget):
    """Only a row longer than the budget exceeds it, alone; a batch is closed when the next row does not fit."""
    batches = [packed.segment_lengths for packed in micro_batches(rows, budget)]
    assert all(sum(lengths) <= budget or len(lengths) == 1 for lengths in batches)
    assert all(sum(before) + after[0] > budget for before, after in pairwise(batches))


@given(some_rows(), st.integers(1, 120))
def test_rows_of_one_length_are_neighbours(rows, budget):
    """Longest first: attention runs over each stretch of equal lengths as one dense batch."""
    lengths = [length for packed in micro_batches(rows, budget) for length in packed.segment_lengths]
    assert lengths == sorted(lengths, reverse=True)


def test_no_rows_make_no_batch():
    assert micro_batches([], 100) == []
