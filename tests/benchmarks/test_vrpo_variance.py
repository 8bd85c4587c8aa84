"""The cells of the variance table: what they draw, and that score and gradient are DPO's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import vrpo_variance
from benchmarks.vrpo_variance import APART, BETA, CELLS, EIGHT, FOUR, ONE_FOUR, TWO_TWO, checked, gradients, scores
from unveil.likelihood import Response, score
from unveil.models import Denoiser
from unveil.objectives import Feedback, Likelihoods, dpo, weights

PAIR = [Response(0, [5, 6], [7, 8, 9, 10, 11, 12]), Response(1, [5, 6], [20, 21, 22])]


@pytest.fixture
def models(tiny_llada, monkeypatch):
    """A policy and a base that differ, in double precision."""
    policy, base = (Denoiser(tiny_llada(seed=seed, dtype=torch.float64)) for seed in (0, 1))
    monkeypatch.setattr(vrpo_variance, "shipped_base", lambda: SimpleNamespace(denoiser=base))
    return policy, base


def test_cells_draw_the_sizes_and_masks_of_their_names():
    long = Response(3, [1], list(range(2, 30)))
    for cell in CELLS:
        plan = cell.plan_of(long, 0, 0)
        assert len(plan.positions) == cell.sizes * cell.masks
        assert plan.sizes_drawn == cell.sizes
    sizes = [len(part) for part in ONE_FOUR.plan_of(long, 0, 0).positions]
    assert len(set(sizes)) == 1
    first, last = [len(part) for part in TWO_TWO.plan_of(long, 0, 0).positions][1:3]
    assert first != last


def test_four_draws_are_the_first_of_eight():
    few, many = (cell.plan_of(PAIR[0], 2, 0).positions for cell in (FOUR, EIGHT))
    assert all(np.array_equal(a, b) for a, b in zip(few, many))


def test_shared_draws_make_the_score_of_an_unmoved_policy_exactly_zero(models):
    _, base = models
    assert not scores(FOUR, base, PAIR, 3).any()
    assert scores(APART, base, PAIR, 3).all()


def test_the_gradient_is_that_of_the_dpo_objective(models):
    policy, base = models
    (found,) = gradients(FOUR, policy, PAIR, 1)
    plans = [FOUR.plan_of(response, 0, 0) for response in PAIR]
    own, others = (score(model, PAIR, plans).values for model in (policy, base))
    feedback = Feedback(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    _, slopes = weights(dpo(BETA), Likelihoods(own[None], others[None]), feedback)
    step, parameters = 1e-4, [p for p in policy.model.parameters() if p.requires_grad]
    places = found.abs().topk(3).indices
    flat = torch.nn.utils.parameters_to_vector(parameters).detach()
    for place in places:
        sums = []
        for sign in (1, -1):
            moved = flat.clone()
            moved[place] += sign * step
            torch.nn.utils.vector_to_parameters(moved, parameters)
            sums.append(float((slopes[0] * score(policy, PAIR, plans).values).sum()))
        assert (sums[0] - sums[1]) / (2 * step) == pytest.approx(float(found[place]), rel=1e-5)
        torch.nn.utils.vector_to_parameters(flat, parameters)


def test_an_ordering_is_said_to_hold_only_beyond_its_interval():
    rng = np.random.default_rng(0)
    noise = {cell.name: 1 + 0.1 * rng.random(50) for cell in CELLS}
    values = {name: dict.fromkeys(("score", "loss", "gradient"), own) for name, own in noise.items()}
    values[FOUR.name] = {"score": np.full(50, 0.1), "loss": np.full(50, 9.0), "gradient": noise[TWO_TWO.name]}
    verdicts = {
        check["quantity"]: check["verdict"]
        for check in checked(values)
        if (check["less"], check["more"]) == (FOUR.name, TWO_TWO.name)
    }
    assert verdicts == {"score": "holds", "loss": "is reversed", "gradient": "is not shown"}
