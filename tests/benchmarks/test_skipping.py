"""The variance that skipping rows adds is what repeated skipping shows."""

import json

import numpy as np
import pytest

from benchmarks import skipping
from unveil.training.row_skipping import keep_probabilities


def rows_of(weights, gradients, tokens, hidden):
    rows = skipping.Rows.__new__(skipping.Rows)
    rows.weight, rows.tokens, rows.hidden = weights, tokens, hidden
    rows.square = ((weights[:, None] * gradients) ** 2).sum(1)
    rows.noise = 2.0
    return rows


@pytest.mark.parametrize("rule", skipping.RULES)
def test_added_variance_and_cost_are_those_of_simulated_skipping(rule):
    rng = np.random.default_rng(0)
    weights, gradients = rng.normal(size=10), rng.normal(size=(10, 3))
    rows = rows_of(weights, gradients, rng.integers(5, 20, 10).astype(float), rng.integers(1, 5, 10).astype(float))
    added, cost = rows.skipped(rule, 0.5)
    keep = keep_probabilities(rows.importance(rule), rows.tokens, 0.5)
    kept = rng.random((200_000, 10)) < keep
    estimates = (kept / keep * weights) @ gradients
    assert estimates.mean(0) == pytest.approx(weights @ gradients, abs=0.05)
    assert estimates.var(0).sum() / 2.0 == pytest.approx(added, rel=0.03)
    assert (1 + 3 * (kept @ rows.tokens).mean() / rows.tokens.sum()) / 4 == pytest.approx(cost, rel=0.01)


def test_no_rule_beats_the_true_gradients():
    rng = np.random.default_rng(1)
    rows = rows_of(rng.normal(size=40), rng.normal(size=(40, 3)), np.full(40, 7.0), np.full(40, 3.0))
    added = {rule: rows.skipped(rule, 0.3)[0] for rule in skipping.RULES}
    assert min(added, key=added.__getitem__) == "best possible"


@pytest.mark.slow
def test_skipping_prints_its_figures(capsys):
    assert skipping.main(["--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1])["best"]["noise_times_cost"][0] > 0
    assert sum("--row_budget" in line for line in lines[:-1]) == len(skipping.BETAS) * len(skipping.BUDGETS)
