"""Input at the edge: one token, no token, no prompt, numbers that are none."""

import math

import pytest
import torch
from design_laws import ANY_COUNT
from table_predictor import plan_of, random_predictor, set_values
from torch.testing import assert_close

from unveil.draws import plan
from unveil.likelihood import Response, score
from unveil.models import Denoiser


@pytest.mark.parametrize("design", ANY_COUNT)
def test_a_one_token_answer_is_exact_with_one_draw(tiny_llada, design):
    model = tiny_llada(dtype=torch.float64)
    found = score(Denoiser(model), [Response(0, (9, 8, 7), (42,))], [plan(0, 0, 0, 1, 1, design)])
    with torch.no_grad():
        truth = model(input_ids=torch.tensor([[9, 8, 7, 1]])).logits[0, 3].log_softmax(-1)[42]
    assert_close(found.values[0], truth, rtol=1e-12, atol=0)
    assert found.standard_error.tolist() == [0.0]


def test_one_draw_of_a_longer_answer_is_a_number_of_unknown_error(tiny_llada):
    found = score(Denoiser(tiny_llada()), [Response(0, (9,), (42, 43))], [plan(0, 0, 0, 2, 1)])
    assert math.isfinite(found.values.item())
    assert found.standard_error.item() == math.inf


def test_an_answer_needs_no_prompt(tiny_llada):
    """P = 0: the answer is scored as it would be under the table of its own sets."""
    model = tiny_llada(dtype=torch.float64)
    found = score(Denoiser(model), [Response(0, (), (42, 43))], [plan_of([(0,), (1,), (0, 1)], 2)])
    with torch.no_grad():
        log_p = model(input_ids=torch.tensor([[1, 43], [42, 1], [1, 1]])).logits.log_softmax(-1)
    expected = [2 * log_p[0, 0, 42], 2 * log_p[1, 1, 43], log_p[2, 0, 42] + log_p[2, 1, 43]]
    assert_close(found.per_draw[0], torch.stack(expected), rtol=1e-12, atol=0)


def test_an_answer_without_tokens_is_an_error_that_names_it(tiny_llada):
    empty = Response(31, (9, 8), (), (0, 0))
    with pytest.raises(ValueError, match="example 31: a response of 0 tokens has no ELBO"):
        plan(0, empty.example_id, 0, empty.length, 4)
    with pytest.raises(ValueError, match="example 31: 0 scored tokens"):
        score(Denoiser(tiny_llada()), [empty], [plan(0, 31, 0, 1, 4)])


def test_nan_logits_spoil_only_the_rows_that_have_them():
    """A table with one NaN: the draw that shows that canvas is NaN, the others are what they were."""
    predictor, completion = random_predictor(3, 3, seed=0), (2, 0, 1)
    clean = set_values(predictor, completion)
    state = sum(token * 4**place for place, token in enumerate((3, 0, 3)))  # places 0 and 2 hidden
    predictor.table[state, 2, 1] = math.nan
    spoilt = set_values(predictor, completion)
    assert [hidden for hidden, value in spoilt.items() if math.isnan(value)] == [(0, 2)]
    assert all(spoilt[hidden] == value for hidden, value in clean.items() if hidden != (0, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_response_that_makes_the_model_nan_leaves_its_companions_alone(tiny_llada, dtype):
    """Same micro-batch, same length: attention runs over them as one batch, and NaN does not leak."""
    model = tiny_llada(dtype=dtype)
    responses = [Response(i, (10 + i, 20), (30, 31, 32 + i, 33)) for i in range(4)]
    plans = [plan(0, r.example_id, 0, r.length, 4) for r in responses]
    clean = score(Denoiser(model), responses, plans).values
    with torch.no_grad():
        model.get_input_embeddings().weight[12] = math.nan  # in the prompt of response 2 only
    found = score(Denoiser(model), responses, plans)
    assert found.values.isnan().tolist() == [False, False, True, False]
    assert found.standard_error.isnan().tolist() == [False, False, True, False]
    assert torch.equal(found.values[[0, 1, 3]], clean[[0, 1, 3]])
