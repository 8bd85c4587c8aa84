"""Other methods' surrogates: their rows, their combinations, and in what they differ from the ELBO."""

import math

import numpy as np
import pytest
from table_predictor import (
    MarkovChain,
    any_order_log_likelihood,
    elbo_by_subsets,
    holder_bound,
    log_p_of,
    plan_of,
    random_predictor,
    set_values,
    token_values,
)

from unveil.draws import plan
from unveil.errors import UserError
from unveil.likelihood.comparison_surrogates import (
    COMPARISONS,
    block_rows,
    coupled_rows,
    eubo,
    holder,
    linear,
    mean_field_rows,
    mixture,
    one_step_rows,
)

# Found by search over seeds: one nat below the log-likelihood of the random-order process.
COUNTER_EXAMPLE = random_predictor(3, 3, seed=14, spread=2.0), (0, 1, 1)


def exact_plan(length: int):
    return plan(0, 0, 0, length, 1, "all_subsets")


def test_eubo_of_power_one_can_be_below_the_likelihood():
    """The stored counter-example: what SPG calls an upper bound is none without its constant."""
    predictor, completion = COUNTER_EXAMPLE
    tokens, drawn = token_values(predictor, completion), exact_plan(3)
    found = eubo(log_p_of(tokens, drawn), drawn, 3, b=1.0).value
    assert found < any_order_log_likelihood(tokens, 3) - 1.0


def test_holder_bound_is_never_below_the_likelihood():
    below_with_power_one = 0
    for seed in range(200):
        length, vocab = 2 + seed % 3, 2 + seed % 2
        completion = tuple(np.random.default_rng(seed).integers(vocab, size=length).tolist())
        tokens = token_values(random_predictor(vocab, length, seed, spread=1 + seed % 4), completion)
        drawn = exact_plan(length)
        log_p, likelihood = log_p_of(tokens, drawn), any_order_log_likelihood(tokens, length)
        bound = holder(log_p, drawn, length).value
        assert bound == pytest.approx(holder_bound(tokens, length), abs=1e-10)
        assert bound >= likelihood - 1e-12
        below_with_power_one += eubo(log_p, drawn, length, 1.0).value < likelihood
    assert below_with_power_one > 20


def test_eubo_rises_with_its_power_from_the_elbo_to_the_maximum():
    """Power means: b -> 0 is the ELBO, b -> infinity the largest log-probability of each token."""
    tokens = token_values(random_predictor(3, 4, seed=5), (0, 2, 1, 1))
    drawn = exact_plan(4)
    log_p = log_p_of(tokens, drawn)
    values = [eubo(log_p, drawn, 4, b).value for b in (1e-6, 0.5, 1.0, 2.0, 8.0, 500.0)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(linear(log_p, drawn, 4).value, abs=1e-4)
    best = sum(max(t[place] for t in tokens.values() if place in t) for place in range(4))
    assert values[-1] == pytest.approx(best, abs=0.1)


@pytest.mark.parametrize("combine", [eubo, holder, mixture, linear])
@pytest.mark.parametrize("design", ["iid", "quadratic_tiling", "all_subsets"])
def test_token_weights_are_the_gradient(combine, design):
    drawn = plan(0, 7, 0, 6, 1 if design == "all_subsets" else 3, design)
    generator = np.random.default_rng(0)
    log_p = [-generator.exponential(2, size=len(hidden)) for hidden in drawn.positions]
    found = combine(log_p, drawn, 6)
    for k, j in ((0, 0), (len(log_p) - 1, -1), (1, 0)):
        moved = []
        for step in (1e-5, -1e-5):
            other = [part.copy() for part in log_p]
            other[k][j] += step
            moved.append(combine(other, drawn, 6).value)
        assert found.token_weights[k][j] == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-5, abs=1e-8)


def test_upper_bounds_are_stable_where_probabilities_underflow():
    drawn = plan_of([(0, 1), (0, 1, 2)], 3)
    log_p = [np.array([-2000.0, -3000.0]), np.array([-2001.0, -1e-9, -900.0])]
    for combine in (eubo, holder, mixture):
        found = combine(log_p, drawn, 3)
        assert math.isfinite(found.value)
        assert all(np.isfinite(weights).all() for weights in found.token_weights)
    impossible = eubo([np.array([-math.inf, -1.0]), np.array([-math.inf, -1.0, -1.0])], drawn, 3)
    assert impossible.value == -math.inf
    assert all(np.isfinite(weights).all() for weights in impossible.token_weights)


def test_tokens_that_no_draw_covers_are_dropped_and_the_others_stand_for_them():
    """SPG's rule: mean over covered tokens times L."""
    drawn = plan_of([(0,), (0, 1)], 4)
    log_p = [np.array([-1.0]), np.array([-2.0, -0.5])]
    e0 = 0.5 * 4 * math.exp(-1.5) + 0.5 * 2 * math.exp(-3.0)
    e1 = 0.5 * 2 * math.exp(-0.75)
    found = eubo(log_p, drawn, 4, b=1.5)
    assert found.value == pytest.approx(4 * (math.log(e0) + math.log(e1)) / 2 / 1.5, rel=1e-12)
    assert sum(weights.sum() for weights in found.token_weights) == pytest.approx(4.0)
    same = eubo([np.full(1, -1.0), np.full(2, -1.0)], drawn, 4, b=1.5, combiner="hajek")
    assert same.value == pytest.approx(-4.0)  # weights that sum to one leave a constant alone


@pytest.mark.parametrize(("b", "combiner"), [(0.0, "ht"), (-1.0, "ht"), (math.inf, "ht"), (1.0, "crossfit_difference")])
def test_powers_and_weights_without_a_logarithm_are_refused(b, combiner):
    drawn = plan(0, 0, 0, 5, 4)
    with pytest.raises(UserError, match="evidence upper bound"):
        eubo([np.zeros(len(p)) for p in drawn.positions], drawn, 5, b, combiner)


def test_mean_field_hides_the_answer_and_a_part_of_the_prompt():
    plans = [mean_field_rows(0, example, 0, 6, prompt_length=20) for example in range(400)]
    assert all(p.positions[0].tolist() == [0, 1, 2, 3, 4, 5] for p in plans)
    hidden = np.concatenate([p.also_hidden[0] for p in plans])
    assert hidden.min() == -20
    assert hidden.max() == -1
    assert len(hidden) / (400 * 20) == pytest.approx(0.15, abs=4 * math.sqrt(0.15 * 0.85 / 8000))
    tokens = token_values(random_predictor(3, 4, seed=5), (0, 2, 1, 1))
    drawn = mean_field_rows(0, 0, 0, 4)
    assert linear(log_p_of(tokens, drawn), drawn, 4).value == pytest.approx(sum(tokens[0, 1, 2, 3].values()), abs=1e-12)


def test_coupled_rows_score_every_token_once_beside_the_full_mask():
    for example in range(50):
        drawn = coupled_rows(0, example, 0, 7)
        assert drawn.positions[0].tolist() == list(range(7))
        assert np.sort(np.concatenate(drawn.positions[1:])).tolist() == list(range(7))
        if len(drawn.positions) == 3:
            assert sum(0.5 / weight for weight in drawn.weights[1:]) == pytest.approx(1.0)  # rho + (1 - rho)
        np.testing.assert_allclose(drawn.weights, drawn.shares * 7 / [len(p) for p in drawn.positions])


def test_the_clipped_coupled_value_is_no_estimate_of_the_elbo():
    """The exact discrete coupling is (test_designs.py); clipping rho and averaging with the mean field is not."""
    predictor, completion = random_predictor(3, 4, seed=4), (2, 0, 1, 1)
    tokens, values = token_values(predictor, completion), []
    for example in range(2000):
        drawn = coupled_rows(0, example, 0, 4)
        values.append(linear(log_p_of(tokens, drawn), drawn, 4).value)
    exact = elbo_by_subsets(set_values(predictor, completion), 4)
    assert abs(np.mean(values) - exact) > 6 * np.std(values) / math.sqrt(len(values))


def test_block_rows_show_what_is_before_the_block_and_hide_what_follows():
    starts = set()
    for example in range(100):
        drawn = block_rows(0, example, 0, 10, num_draws=2, block_length=4)
        for hidden, weight in zip(drawn.positions, drawn.weights):
            block = int(hidden[0]) // 4
            starts.add(block)
            assert (np.diff(hidden) > 0).all()
            assert set(range(min(4 * block + 4, 10), 10)) <= set(hidden.tolist())
            assert weight == pytest.approx(10 / (2 * len(hidden)))
    assert starts == {0, 1, 2}


def test_one_step_rows_score_what_one_step_reveals():
    seen = set()
    for example in range(100):
        drawn = one_step_rows(0, example, 0, 10, block_length=4, tokens_per_step=2)
        assert len(drawn.positions) == 3
        for k, (scored, besides) in enumerate(zip(drawn.positions, drawn.also_hidden)):
            end = min(4 * k + 4, 10)
            assert 1 <= len(scored) <= 2
            assert all(4 * k <= place < end for place in scored)
            assert not set(scored.tolist()) & set(besides.tolist())
            assert set(range(end, 10)) <= set(besides.tolist())
            seen.add((k, len(besides) - (10 - end)))
        assert drawn.weights.tolist() == [1.0] * 3
    assert seen == {(0, 2), (0, 0), (1, 2), (1, 0), (2, 0)}


def test_every_comparison_runs_from_rows_to_a_value_with_weights():
    tokens = token_values(random_predictor(3, 5, seed=5), (0, 2, 1, 1, 0))
    for name, method in COMPARISONS.items():
        drawn = method.rows(0, 1, 0, 5)
        again = method.rows(0, 1, 0, 5)
        assert all(np.array_equal(a, b) for a, b in zip(drawn.positions, again.positions)), name
        found = method.combine(log_p_of(tokens, drawn), drawn, 5)
        assert found.value < 0
        assert [len(w) for w in found.token_weights] == [len(p) for p in drawn.positions]
        assert method.summary


def test_an_estimate_of_the_holder_bound_is_no_bound():
    """With exact expectations it is; a logarithm of a mean of few draws is too small."""
    length, completion = 6, (0, 2, 1, 1, 0, 2)
    below = 0
    for seed in range(4):
        tokens = token_values(MarkovChain(3, length, seed).predictor, completion)
        truth = any_order_log_likelihood(tokens, length)
        whole = plan(0, 0, 0, length, 1, "all_subsets")
        assert holder(log_p_of(tokens, whole), whole, length).value >= truth
        drawn = [plan(0, example, 0, length, 2, "iid") for example in range(25)]
        below += sum(holder(log_p_of(tokens, one), one, length).value < truth for one in drawn)
    assert below > 10
