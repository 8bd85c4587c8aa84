"""Canonical log-probabilities: the same bits whatever else is scored; numbers move only with their version."""

import numpy as np
import pytest
import torch

from unveil.draws import plan
from unveil.likelihood import Response, build_rows, hidden_log_probs, micro_batches
from unveil.likelihood import canonical as canonical_module
from unveil.likelihood.canonical import canonical_batches, canonical_log_probs, canonical_row_sums
from unveil.likelihood.version import ESTIMATOR_VERSION
from unveil.models import Denoiser


def answers(count: int, longest: int = 40) -> list[Response]:
    generator = np.random.default_rng(3)
    lengths = generator.integers(2, longest, (count, 2))
    return [
        Response(i, generator.integers(4, 200, p).tolist(), generator.integers(4, 200, n).tolist())
        for i, (p, n) in enumerate(lengths)
    ]


def plans_of(responses, num_draws=4):
    return [plan(0, response.example_id, 0, response.length, num_draws) for response in responses]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_answer_has_the_same_bits_alone_and_among_others_in_any_order(tiny_llada, dtype):
    denoiser, responses = Denoiser(tiny_llada(dtype=dtype)), answers(24)
    together = canonical_row_sums(denoiser, responses, plans_of(responses)).view(24, 4)
    assert together.dtype == dtype
    for i in np.random.default_rng(0).permutation(24):
        assert torch.equal(canonical_row_sums(denoiser, [responses[i]], plans_of([responses[i]])), together[i])


def test_packing_across_answers_agrees_to_rounding(tiny_llada):
    denoiser, responses = Denoiser(tiny_llada(dtype=torch.float64)), answers(24)
    rows = build_rows(responses, plans_of(responses), denoiser.mask_token_id)
    alone = torch.stack([log_p.sum() for log_p in canonical_log_probs(denoiser, rows)])
    packed = torch.empty_like(alone)
    with torch.no_grad():
        for part in micro_batches(rows, 512):
            packed[part.order] = part.row_sums(hidden_log_probs(denoiser, part))
    torch.testing.assert_close(packed, alone, rtol=1e-12, atol=0)


def test_blocks_hold_rows_of_one_answer_within_the_bound(monkeypatch):
    monkeypatch.setattr(canonical_module, "CANONICAL_TOKENS", 100)
    responses = answers(6)
    rows = build_rows(responses, plans_of(responses, 8), 1)
    batches = canonical_batches(rows)
    assert [row for batch in batches for row in batch.order] == list(range(len(rows)))
    for batch in batches:
        assert len({rows[row].response for row in batch.order}) == 1
        assert batch.num_tokens <= 100 or len(batch.order) == 1
    assert len(batches) > len(responses)


def test_numbers_move_only_with_the_version_of_the_estimator(tiny_llada):
    """If this fails after a change that was meant to change draws or likelihoods, raise ESTIMATOR_VERSION and put the
    new numbers here; if it was not meant to, the change is wrong."""
    model = tiny_llada(dtype=torch.float64)
    with torch.no_grad():  # weights that no random generator made
        for size, parameter in enumerate(model.parameters()):
            places = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.copy_(0.3 * torch.sin(0.7 * places + size).view_as(parameter) + (parameter.dim() == 1))
    denoiser = Denoiser(model)
    responses = [Response(i, [5 + i, 9, 30], list(range(40, 45 + 4 * i))) for i in range(3)]
    found = {
        design: canonical_row_sums(
            denoiser, responses, [plan(5, r.example_id, 1, r.length, 2, design) for r in responses]
        ).tolist()
        for design in ("quadratic_tiling", "iid")
    }
    assert ESTIMATOR_VERSION == 2
    assert found["quadratic_tiling"] == pytest.approx(GOLDEN_TILING, rel=1e-9)
    assert found["iid"] == pytest.approx(GOLDEN_IID, rel=1e-9)


GOLDEN_TILING = [-6.0458059686, -11.6744765101, -16.7625527338, -35.8001577969, -5.2827251168, -64.0162754648]
GOLDEN_IID = [-6.0458059686, -17.6931952452, -35.7715727924, -35.8001577969, -26.4771874999, -16.0662240164]
