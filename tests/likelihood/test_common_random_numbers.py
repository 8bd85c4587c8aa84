"""Policy and reference scored on the same draws: the noise of the margin is that of their difference alone."""

import copy

import pytest
import torch
from design_laws import ANY_COUNT, iid_law
from table_predictor import exact_moments, perturbed, plan_of, random_predictor, set_values

from unveil.draws import plan
from unveil.likelihood import Response, score
from unveil.models import Denoiser

RESPONSES = [
    Response(7, range(10, 22), range(30, 45)),
    Response(3, (), range(50, 53), (0, 0)),
    Response(8, range(60, 72), range(99, 114)),
    Response(1, (5,), (9,)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("design", ANY_COUNT)
def test_margin_of_a_copy_is_exactly_zero(tiny_llada, dtype, design):
    policy = tiny_llada(dtype=dtype)
    plans = [plan(0, r.example_id, 0, r.length, 8, design) for r in RESPONSES]
    ours = score(Denoiser(policy), RESPONSES, plans, tokens_per_batch=100)
    theirs = score(Denoiser(copy.deepcopy(policy)), RESPONSES, plans, tokens_per_batch=100)
    assert ours.values.dtype == torch.float32
    assert (ours.values - theirs.values).tolist() == [0.0] * 4
    assert all(torch.equal(a, b) for a, b in zip(ours.per_draw, theirs.per_draw))
    other = score(Denoiser(tiny_llada(seed=1, dtype=dtype)), RESPONSES, plans, tokens_per_batch=100)
    assert (ours.values - other.values).abs().min() > 1e-3


def test_variance_of_the_margin_is_that_of_the_single_integrand():
    """(L / l) times the sum of log-ratios, over its number of draws; without sharing the two variances add up."""
    length, completion, draws = 4, (2, 0, 1, 1), 2
    reference = random_predictor(3, length, seed=3)
    policy = perturbed(reference, seed=4)
    both = [set_values(predictor, completion) for predictor in (policy, reference)]
    mean = square = 0.0
    for probability, single in iid_law(length, 1):
        hidden = tuple(single.positions[0].tolist())
        integrand = length / len(hidden) * (both[0][hidden] - both[1][hidden])
        mean, square = mean + probability * integrand, square + probability * integrand**2
    expected = (square - mean**2) / draws

    probabilities, plans = zip(*iid_law(length, draws))
    p, responses = torch.tensor(probabilities, dtype=torch.float64), [Response(0, (), completion)] * len(plans)
    margins = score(policy, responses, plans).values - score(reference, responses, plans).values
    shared = (p * (margins - (p * margins).sum()) ** 2).sum().item()
    assert shared == pytest.approx(expected, abs=1e-10)
    apart = sum(exact_moments(m, completion, iid_law(length, draws)).variance for m in (policy, reference))
    assert shared < apart / 5


def test_policy_and_reference_see_the_same_hidden_tokens(tiny_llada):
    """The plan, not the model, decides: two models are called with equal input, batch by batch."""
    calls = []

    class Recorded(Denoiser):
        def read_out_at(self, input_ids_1T, segment_lengths, index_N, read_out):
            calls.append((input_ids_1T.tolist(), list(segment_lengths), index_N.tolist()))
            return super().read_out_at(input_ids_1T, segment_lengths, index_N, read_out)

    plans = [plan_of([(0,)], r.length) for r in RESPONSES]
    score(Recorded(tiny_llada()), RESPONSES, plans, tokens_per_batch=30)
    score(Recorded(tiny_llada(seed=5, d_model=16)), RESPONSES, plans, tokens_per_batch=30)
    assert len(calls) == 6
    assert calls[:3] == calls[3:]
