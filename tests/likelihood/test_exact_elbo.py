"""The ELBO has three forms (sets, orders, Bernoulli masks) and two neighbours (likelihood, Hölder bound)."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from table_predictor import (
    MarkovChain,
    Subset,
    any_order_log_likelihood,
    elbo_by_subsets,
    holder_bound,
    random_predictor,
    set_values,
    token_values,
)

TABLES = [(1, 4, 0), (2, 4, 1), (3, 6, 2), (5, 3, 3), (6, 2, 4)]  # length, vocabulary, seed


def elbo_by_orders(tokens: dict[Subset, dict[int, float]], length: int) -> float:
    """Mean over all orders of the log-probability of revealing the tokens one by one."""
    total = 0.0
    for order in permutations(range(length)):
        total += sum(tokens[tuple(sorted(order[step:]))][place] for step, place in enumerate(order))
    return total / math.factorial(length)


def elbo_by_bernoulli_integral(sums: dict[Subset, float], length: int) -> float:
    """Integral over t of E[S(M)] / t when each place is hidden with probability t: a polynomial of degree L - 1."""
    nodes, node_weights = np.polynomial.legendre.leggauss(length)
    t, w = (nodes + 1) / 2, node_weights / 2
    return sum(
        float((w * t ** (len(hidden) - 1) * (1 - t) ** (length - len(hidden))).sum()) * value
        for hidden, value in sums.items()
    )


@pytest.mark.parametrize(("length", "vocab", "seed"), TABLES)
def test_row_sums_are_the_log_probabilities_of_the_table(length, vocab, seed):
    predictor = random_predictor(vocab, length, seed)
    completion = tuple(np.random.default_rng(seed).integers(vocab, size=length).tolist())
    for hidden, found in set_values(predictor, completion).items():
        canvas = [vocab if place in hidden else token for place, token in enumerate(completion)]
        state = sum(token * (vocab + 1) ** place for place, token in enumerate(canvas))
        log_p = torch.log_softmax(predictor.table[state], dim=-1)
        assert found == pytest.approx(sum(log_p[i, completion[i]].item() for i in hidden), abs=1e-12)


@pytest.mark.parametrize(("length", "vocab", "seed"), TABLES)
def test_subsets_orders_and_bernoulli_masks_give_one_elbo(length, vocab, seed):
    predictor = random_predictor(vocab, length, seed)
    completion = tuple(np.random.default_rng(seed).integers(vocab, size=length).tolist())
    sums, tokens = set_values(predictor, completion), token_values(predictor, completion)
    by_subsets = elbo_by_subsets(sums, length)
    assert elbo_by_orders(tokens, length) == pytest.approx(by_subsets, abs=1e-10)
    assert elbo_by_bernoulli_integral(sums, length) == pytest.approx(by_subsets, abs=1e-10)


def test_elbo_is_below_the_likelihood_and_the_likelihood_below_the_holder_bound():
    gaps = []
    for seed in range(400):
        length, vocab = 2 + seed % 3, 2 + seed % 2
        predictor = random_predictor(vocab, length, seed, spread=1 + seed % 4)
        completion = tuple(np.random.default_rng(seed).integers(vocab, size=length).tolist())
        tokens = token_values(predictor, completion)
        elbo = elbo_by_subsets({hidden: sum(values.values()) for hidden, values in tokens.items()}, length)
        likelihood, bound = any_order_log_likelihood(tokens, length), holder_bound(tokens, length)
        assert elbo <= likelihood + 1e-12
        assert likelihood <= bound + 1e-12
        gaps.append((likelihood - elbo, bound - likelihood))
    assert np.mean(gaps, axis=0).min() > 0.1  # the bounds were put to the test: conditionals are inconsistent


@pytest.mark.parametrize(("length", "vocab"), [(3, 4), (5, 3)])
def test_elbo_of_consistent_conditionals_is_the_likelihood(length, vocab):
    chain = MarkovChain(vocab, length, seed=5)
    for completion in list(chain.joint)[:: 1 + len(chain.joint) // 12]:
        tokens = token_values(chain.predictor, completion)
        truth = math.log(chain.joint[completion])
        assert any_order_log_likelihood(tokens, length) == pytest.approx(truth, abs=1e-10)
        assert elbo_by_subsets(set_values(chain.predictor, completion), length) == pytest.approx(truth, abs=1e-10)


@pytest.mark.parametrize(("length", "vocab", "seed"), TABLES)
def test_averaging_one_over_t_given_the_mask_size_gives_a_worse_estimator_than_fixing_the_size(length, vocab, seed):
    """E[1/t | l] = (L + 1) / l for Bernoulli masks; the averaged form has the same mean and a larger variance."""
    nodes, node_weights = np.polynomial.legendre.leggauss(length + 1)
    t, w = (nodes + 1) / 2, node_weights / 2
    predictor = random_predictor(vocab, length, seed)
    sums = set_values(predictor, (0,) * length)
    by_size = {size: [v for hidden, v in sums.items() if len(hidden) == size] for size in range(1, length + 1)}
    averaged, fixed = [], []  # first and second moments
    for size, values in by_size.items():
        likelihood_t = math.comb(length, size) * t**size * (1 - t) ** (length - size)
        law = (w * likelihood_t).sum()
        one_over_t = (w * likelihood_t / t).sum() / law
        assert law == pytest.approx(1 / (length + 1), abs=1e-12)
        assert one_over_t == pytest.approx((length + 1) / size, rel=1e-10)
        f = np.array(values)
        averaged.append((law * one_over_t * f.mean(), law * one_over_t**2 * (f**2).mean()))
        fixed.append((f.mean() / size, (length / size**2) * (f**2).mean()))
    (mean_averaged, square_averaged), (mean_fixed, square_fixed) = np.sum(averaged, axis=0), np.sum(fixed, axis=0)
    assert mean_averaged == pytest.approx(elbo_by_subsets(sums, length), abs=1e-10)
    assert mean_fixed == pytest.approx(mean_averaged, abs=1e-10)
    difference = sum(np.square(values).mean() / size**2 for size, values in by_size.items())
    assert square_averaged - square_fixed == pytest.approx(difference, rel=1e-9)


def test_every_token_has_weight_one_in_the_exact_elbo():
    """A predictor with log p = -c_i whatever is visible has B = -sum of c_i."""
    predictor = random_predictor(4, 5, seed=8)
    predictor.table = predictor.table[:1].expand_as(predictor.table)
    completion = (1, 0, 3, 2, 2)
    log_p = torch.log_softmax(predictor.table[0], dim=-1)
    expected = sum(log_p[place, token].item() for place, token in enumerate(completion))
    assert elbo_by_subsets(set_values(predictor, completion), 5) == pytest.approx(expected, abs=1e-12)
