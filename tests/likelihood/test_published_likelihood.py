"""LLaDA's own likelihood (arXiv 2502.09992) on the same masks, and the law of its mask sizes."""

import importlib
import math
from collections import Counter

import numpy as np
import pytest
import torch
from table_predictor import plan_of

from unveil.draws import plan
from unveil.likelihood import Response, score
from unveil.models import Denoiser


@pytest.mark.parametrize("prompt_length", [0, 6])
def test_same_value_as_the_published_likelihood_on_the_same_masks(tiny_llada, prompt_length):
    """Average over draws of (summed cross-entropy over the masked tokens) * L / l, from full logits of a batch."""
    model = tiny_llada(dtype=torch.float64)
    length, mask_id = 7, 1
    ids = torch.randint(2, 260, (prompt_length + length,), generator=torch.Generator().manual_seed(0))
    hidden_sets = [(0, 3, 4, 6), (2,), (0, 1, 2, 3, 4, 5, 6), (5, 6), (0, 2, 4, 5, 6)]

    batch, total = ids.repeat(len(hidden_sets), 1), 0.0
    for row, hidden in enumerate(hidden_sets):
        batch[row, [prompt_length + place for place in hidden]] = mask_id
    with torch.no_grad():
        logits = model(input_ids=batch).logits
    for row, hidden in enumerate(hidden_sets):
        for place in hidden:
            at = prompt_length + place
            total += (logits[row, at].logsumexp(-1) - logits[row, at, ids[at]]).item() * length / len(hidden)
    published = -total / len(hidden_sets)

    response = Response(0, ids[:prompt_length].tolist(), ids[prompt_length:].tolist())
    found = score(Denoiser(model), [response], [plan_of(hidden_sets, length)])
    assert found.values.item() == pytest.approx(published, rel=1e-12)


def published_size_law(length: int, batch: int) -> list[float]:
    """P(l), l = 1..L: sizes k + j L / b rounded half to even and wrapped into 1..L, k uniform on 1..L."""
    counts = Counter(
        (round(first + draw * length / batch) - 1) % length + 1
        for first in range(1, length + 1)
        for draw in range(batch)
    )
    return [counts[size] / (length * batch) for size in range(1, length + 1)]


def our_size_law(length: int, draws: int, exponent: float, points: int, monkeypatch) -> np.ndarray:
    """Share of the draws of each size when the hash of every stratum runs over an even grid of 64-bit numbers."""
    shares, module = np.zeros(length), importlib.import_module("unveil.draws.sizes")
    for point in range(points):
        hashed = ((2 * point + 1) << 63) // points
        monkeypatch.setattr(module, "mix64", lambda _, hashed=hashed: hashed)
        drawn = plan(0, 0, 0, length, draws, strata_exponent=exponent)
        for positions, share in zip(drawn.positions, drawn.shares):
            shares[len(positions) - 1] += share / points
    return shares


@pytest.mark.parametrize(
    ("length", "batch", "worst"), [(7, 2, 0.5), (12, 8, 0.5), (20, 16, 0.25), (100, 16, 0.25), (64, 16, 0.0)]
)
def test_published_mask_sizes_are_not_uniform_when_rounding_meets_a_half(length, batch, worst):
    """Why values agree on given masks but not in the mean: round-half-even favours even sizes."""
    law = published_size_law(length, batch)
    assert sum(law) == pytest.approx(1.0)
    assert max(abs(p * length - 1) for p in law) == pytest.approx(worst, abs=1e-12)


@pytest.mark.parametrize(
    ("length", "draws", "exponent"),
    [(7, 2, 1), (12, 8, 1), (20, 16, 1), (100, 16, 1), (7, 2, 2), (5, 4, 2), (12, 4, 2)],
)
def test_our_mask_sizes_are_uniform(length, draws, exponent, monkeypatch):
    """Exactly so: the grid is fine enough for every size to end between two of its points in every stratum."""
    points = length if exponent == 1 else length * math.lcm(*range(1, 2 * draws, 2))
    law = our_size_law(length, draws, exponent, points, monkeypatch)
    assert law == pytest.approx(np.full(length, 1 / length), rel=1e-9)
