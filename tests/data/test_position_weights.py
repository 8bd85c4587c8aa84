"""Weights of scored tokens, against the sums that the papers write."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unveil.data import ld_weights, span_weights, step_weights
from unveil.data.position_weights import tokens_of
from unveil.errors import UserError


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.floats(0, 1))
def test_length_desensitised_sums_are_the_shared_part_plus_alpha_times_the_rest(lengths, alpha):
    shared = min(lengths)
    for length, weights in zip(lengths, ld_weights(lengths, alpha)):
        parts = np.arange(1.0, length + 1)
        assert weights @ parts == pytest.approx(parts[:shared].sum() + alpha * parts[shared:].sum())


def test_alpha_one_changes_nothing_and_alpha_zero_ignores_the_surplus():
    assert [weights.tolist() for weights in ld_weights([2, 3], 1)] == [[1, 1], [1, 1, 1]]
    assert [weights.tolist() for weights in ld_weights([2, 3], 0)] == [[1, 1], [1, 1, 0]]


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_an_alpha_outside_zero_to_one_is_refused(alpha):
    with pytest.raises(UserError, match="must lie between 0 and 1"):
        ld_weights([1, 2], alpha)


def test_an_answer_without_tokens_has_no_weights():
    with pytest.raises(ValueError, match="at least one scored token"):
        ld_weights([3, 0], 0.5)


def test_unit_step_weights_are_no_weights_and_a_span_counts_its_own_tokens():
    assert step_weights([[0, 2], [3, 5]], [1, 1], 6).tolist() == [1] * 6
    assert step_weights([[0, 2], [3, 5]], [2, 0], 6).tolist() == [2, 2, 1, 0, 0, 1]
    assert span_weights([1, 3], 4).tolist() == [0, 1, 1, 0]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.data())
def test_parts_that_cover_a_text_cover_its_tokens_once(sizes, data):
    ends = np.cumsum(sizes).tolist()
    places = list(zip([0, *ends], ends))
    cuts = sorted(data.draw(st.sets(st.integers(1, ends[-1]), max_size=4)) | {ends[-1]})
    spans = list(zip([0, *cuts], cuts))
    kept = data.draw(st.integers(0, len(places)))
    ranges = tokens_of(places, spans, kept)
    covered = [token for start, end in ranges for token in range(start, end)]
    assert covered == list(range(kept))


def test_the_bytes_of_one_character_stay_together():
    assert tokens_of([(0, 1), (1, 2), (1, 2), (2, 3)], [[0, 1], [1, 2], [2, 3]], 4) == [[0, 1], [1, 3], [3, 4]]
