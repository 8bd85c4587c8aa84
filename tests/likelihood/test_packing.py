"""Micro-batches hold every row once and whole, side by side with rows as long, within the token budget."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unveil.likelihood import Row, micro_batches
from unveil.likelihood.packing import longest_row, split_by_tokens


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
    """Only a row longer than the budget exceeds it, alone; no two batches would fit into one."""
    sizes = sorted(packed.num_tokens for packed in micro_batches(rows, budget))
    assert all(packed.num_tokens <= budget or len(packed.order) == 1 for packed in micro_batches(rows, budget))
    assert len(sizes) < 2 or sizes[0] + sizes[1] > budget


@given(some_rows(), st.integers(1, 120))
def test_rows_of_one_length_are_neighbours(rows, budget):
    """Longest first, ties in order: attention runs over each stretch of equal lengths as one dense batch."""
    for packed in micro_batches(rows, budget):
        keys = [(-length, number) for length, number in zip(packed.segment_lengths, packed.order)]
        assert keys == sorted(keys)


@given(some_rows(), st.integers(1, 120))
def test_lengths_alone_decide_the_packing(rows, budget):
    """Policy and reference, and a second run, get the same shapes."""
    other = [replace(row, ids=row.ids + 1, response=0) for row in rows]
    assert [p.order for p in micro_batches(rows, budget)] == [p.order for p in micro_batches(other, budget)]


def test_a_hole_left_by_long_rows_is_filled_with_short_ones():
    lengths = [60, 60, 60, 40, 40, 30, 20, 20, 20]
    assert split_by_tokens(lengths, 100) == [[0, 3], [1, 4], [2, 5], [6, 7, 8]]


@given(some_rows())
def test_longest_row_is_the_smallest_budget_that_every_row_fits(rows):
    longest = longest_row(rows)
    assert all(packed.num_tokens <= longest for packed in micro_batches(rows, max(longest, 1)))
    assert longest in {0, *(row.length for row in rows)}


@given(some_rows(), st.integers(1, 120))
def test_numbers_of_tokens_go_into_the_stream_and_sums_come_back(rows, budget):
    per_row = [row.targets / 7 for row in rows]
    for packed in micro_batches(rows, budget):
        values_N = packed.in_stream(per_row)
        assert torch.equal(values_N, packed.targets_N.double() / 7)
        expected = torch.tensor([per_row[number].sum() for number in packed.order])
        torch.testing.assert_close(packed.row_sums(values_N), expected)


def test_numbers_for_other_tokens_are_refused():
    rows = [Row(np.arange(5), np.array([1, 3]), np.array([1, 3]), 0, 0)]
    [packed] = micro_batches(rows, 10)
    with pytest.raises(ValueError, match="another number of hidden tokens"):
        packed.in_stream([np.ones(3)])


def test_no_rows_make_no_batch():
    assert micro_batches([], 100) == []
