"""A row hides what its plan says inside the scored tokens, and nothing else."""

import numpy as np
import pytest
from design_laws import ANY_COUNT
from hypothesis import given
from hypothesis import strategies as st

from unveil.draws import plan
from unveil.likelihood import Response, build_rows

MASK = 1
# Every id, the mask's included: it may well stand in a text.
ids = st.lists(st.integers(0, 5), max_size=12)
responses = st.builds(Response, st.integers(0, 999), ids, st.lists(st.integers(0, 5), min_size=1, max_size=12), ids)


@given(st.lists(responses, min_size=1, max_size=4), st.integers(1, 5), st.sampled_from(ANY_COUNT))
def test_a_row_hides_the_planned_places_of_the_completion_and_nothing_else(batch, draws, design):
    plans = [plan(0, r.example_id, 0, r.length, draws, design) for r in batch]
    rows = build_rows(batch, plans, MASK)
    assert [(row.response, row.draw) for row in rows] == [(i, k) for i in range(len(batch)) for k in range(draws)]
    for row in rows:
        response, positions = batch[row.response], plans[row.response].positions[row.draw]
        start = len(response.prompt_ids)
        original = np.array([*response.prompt_ids, *response.completion_ids, *response.tail_ids])
        assert row.places.tolist() == (start + positions).tolist()
        assert row.places.min() >= start  # never the prompt
        assert row.places.max() < start + response.length  # never the tail
        assert row.targets.tolist() == original[row.places].tolist()
        assert (row.ids[row.places] == MASK).all()
        visible = np.delete(np.arange(len(original)), row.places)
        assert row.ids[visible].tolist() == original[visible].tolist()


def test_a_mask_token_in_the_text_is_an_ordinary_token():
    """Masks come from the plan: the same places are scored, and a true mask token is a target like any other."""
    drawn = plan(0, 4, 0, 5, 4)
    plain = Response(4, [7, 8], [3, 4, 5, 6, 3], [9])
    odd = Response(4, [MASK, 8], [3, MASK, MASK, 6, 3], [MASK])
    for expected, found in zip(build_rows([plain], [drawn], MASK), build_rows([odd], [drawn], MASK)):
        assert found.places.tolist() == expected.places.tolist()
        assert found.targets.tolist() == [odd.completion_ids[place - 2] for place in found.places]
        assert found.length == expected.length == 8


@pytest.mark.parametrize("planned", [4, 6])
def test_a_plan_for_another_length_is_refused(planned):
    """It would hide tail tokens, or never score the last ones."""
    response = Response(17, [1, 2], [3, 4, 5, 6, 7], [0, 0])
    for drawn in (plan(0, 17, 0, planned, 4), plan(0, 17, 0, planned, 4, "iid", masks_per_size=2)):
        with pytest.raises(ValueError, match=f"example 17: 5 scored tokens, but its plan was drawn for {planned}"):
            build_rows([response], [drawn], MASK)


def test_every_response_needs_its_own_plan():
    with pytest.raises(ValueError, match="zip"):
        build_rows([Response(0, (), (3,))], [], MASK)


def test_a_response_is_read_from_a_row_of_the_tokenised_data():
    row = {"example_id": 3, "prompt_ids": [1, 2], "completion_ids": [3, 4, 5], "tail_ids": [0], "label": True}
    assert Response.from_row(row) == Response(3, [1, 2], [3, 4, 5], [0])
    without_tail = {"example_id": 3, "prompt_ids": [], "completion_ids": [3], "tail_ids": None}
    assert Response.from_row(without_tail) == Response(3, [], [3])
    assert Response.from_row(row).length == 3
