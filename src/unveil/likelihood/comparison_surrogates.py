"""Surrogates of other methods, for comparison: rows to run, and how their token log-probabilities are combined.

The rows are a `Plan` (positions scored, positions hidden besides, weights); `build_rows` turns it into forward passes.
Values are nats per response, summed over its tokens, so that they stand where an ELBO stands. None of them has the ELBO
as its mean.

method           rows                                          combination
mean_field       1: answer all hidden, prompt thinned          sum of log p (d1, arXiv 2504.12216)
coupled_clipped  3: all hidden, a mask of rate rho, its rest   half of full + coupled (DiffuCoder, arXiv 2506.20639)
eubo, mixture    K: a random block thinned, later ones hidden  nonlinear (SPG, arXiv 2510.09541)
one_step         1 per block: its state at one sampled step    sum over newly revealed tokens (dTRPO, arXiv 2603.18806)

The formulas of SPG's rows and of dTRPO follow secondary descriptions; dTRPO runs all blocks in one forward of a model
with block attention, which a bidirectional model has not.

Nonlinear combinations return the value and, as token weights, its gradient with respect to each log p: the second pass
uses them as it uses the weights of `unveil.likelihood.combiners`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from unveil.draws import Plan
from unveil.draws.splitmix import POSITION_TAG, SIZE_TAG, draw_seed, example_seed, hashes, mix64, permutation
from unveil.errors import UserError
from unveil.likelihood.combiners import token_weights, value

_PROMPT_TAG = 2


class Combined(NamedTuple):
    """A surrogate in nats, and its gradient with respect to the log-probability of each scored token of each draw."""

    value: float
    token_weights: list[np.ndarray]


# -- combinations -----------------------------------------------------------------------------------------------------


def eubo(log_p: Sequence[np.ndarray], plan: Plan, length: int, b: float = 1.5, combiner: str = "ht") -> Combined:
    """Evidence upper bound of SPG: `(1/b) sum_i log E_R[p(y_i | R)^b]`, without its additive constant.

    The expectation over what is visible is estimated by `e_i = sum_k w_k[i] p_k[i]^b` over the draws that cover i,
    in logarithms throughout. Tokens that no draw covers are dropped, and the sum over the others is scaled by
    L / covered (a mean over covered tokens times L), as in SPG's code. Without the constant, a small b (1 certainly)
    does not bound the likelihood from above: see `holder`. The logarithm of a mean of few draws is too small.

    Args:
        log_p: log p(y_i | rest) of each draw's scored tokens, nats, aligned with `plan.positions`.
        plan: the draws.
        length: number of scored tokens L.
        b: power, above 0.
        combiner: `ht` (as published) or `hajek` (weights of a token sum to 1).
    """
    if not 0 < b < float("inf"):
        raise UserError(f"the power b of the evidence upper bound is {b}; it must be above 0")
    if combiner not in ("ht", "hajek"):
        raise UserError(f"--combiner {combiner}: an evidence upper bound takes logarithms of weights; use ht or hajek")
    places = np.concatenate(plan.positions)
    log_terms = np.log(np.concatenate(token_weights(plan, length, combiner))) + b * np.concatenate(log_p)
    largest = np.full(length, -np.inf)
    np.maximum.at(largest, places, log_terms)
    # A token that is impossible in every draw that covers it: -inf, with equal (and finite) gradient weights.
    shift = np.where(np.isfinite(largest), largest, 0.0)[places]
    scaled = np.where(np.isneginf(largest)[places], 1.0, np.exp(log_terms - shift))
    sums = np.bincount(places, weights=scaled, minlength=length)
    covered = sums > 0
    scale = length / np.count_nonzero(covered)
    total = scale / b * float((largest[covered] + np.log(sums[covered]))[np.isfinite(largest[covered])].sum())
    if np.isneginf(largest[covered]).any():
        total = -np.inf
    weights = scale * scaled / sums[places]
    cuts = np.cumsum([len(hidden) for hidden in plan.positions])[:-1]
    return Combined(total, np.split(weights, cuts))


def holder(log_p: Sequence[np.ndarray], plan: Plan, length: int, combiner: str = "ht") -> Combined:
    """Estimate `sum_i (1/L) log E_R[p(y_i | R)^L]`, nats, which is `eubo` with b = L.

    With exact expectations (`all_subsets`) it is an upper bound of the random-order log-likelihood (Hoelder's
    inequality). An estimate from draws is none, whatever their number: a logarithm of a mean of few draws is too small.
    On Markov chains of 12 tokens about a quarter of the estimates from 4 draws lie below log p.
    """
    return eubo(log_p, plan, length, float(length), combiner)


def mixture(log_p: Sequence[np.ndarray], plan: Plan, length: int, b: float = 1.5, upper_share: float = 0.5) -> Combined:
    """`upper_share * EUBO + (1 - upper_share) * ELBO` of the same draws, as SPG uses for answers to be avoided."""
    upper, lower = eubo(log_p, plan, length, b), token_weights(plan, length)
    mixed = [upper_share * u + (1 - upper_share) * w for u, w in zip(upper.token_weights, lower)]
    return Combined(upper_share * upper.value + (1 - upper_share) * value(lower, log_p), mixed)


def linear(log_p: Sequence[np.ndarray], plan: Plan, length: int) -> Combined:
    """The plan's own weights: `mean_field`, `coupled` and `one_step`."""
    weights = token_weights(plan, length)
    return Combined(value(weights, log_p), weights)


# -- rows to run ------------------------------------------------------------------------------------------------------


def mean_field_rows(
    seed: int, example_id: int, epoch: int, length: int, prompt_length: int = 0, prompt_rate: float = 0.15
) -> Plan:
    """d1: one forward pass with the whole answer hidden and each prompt token hidden with `prompt_rate`."""
    stream = hashes(draw_seed(example_seed(seed, example_id, epoch), 1, _PROMPT_TAG), prompt_length)
    thinned = np.flatnonzero(_unit(stream) < prompt_rate) - prompt_length
    return _rows([np.arange(length)], [1.0], length, "mean_field", [thinned])


def coupled_rows(seed: int, example_id: int, epoch: int, length: int, low: float = 0.2, high: float = 0.8) -> Plan:
    """DiffuCoder: the fully hidden answer, each token hidden with rho ~ U(low, high), and the complement.

    A token's value is the mean of its two log-probabilities, the second weighed by 1 / rho or 1 / (1 - rho). Biased:
    rho is clipped and half of the value is the mean field. An empty side costs no row.
    """
    base = example_seed(seed, example_id, epoch)
    rho = low + (high - low) * mix64(draw_seed(base, 1, SIZE_TAG)) / 2**64
    inside = _unit(hashes(draw_seed(base, 1, POSITION_TAG), length)) < rho
    sides = [(np.flatnonzero(inside), 0.5 / rho), (np.flatnonzero(~inside), 0.5 / (1 - rho))]
    kept = [(np.arange(length), 0.5), *(side for side in sides if len(side[0]))]
    return _rows([hidden for hidden, _ in kept], [weight for _, weight in kept], length, "coupled_clipped")


def block_rows(seed: int, example_id: int, epoch: int, length: int, num_draws: int = 2, block_length: int = 32) -> Plan:
    """SPG: per draw a random block with a random number of hidden tokens; earlier blocks shown, later ones hidden.

    All hidden tokens are scored; a draw of l hidden tokens weighs L / (l num_draws), the inverse of the masked share.
    """
    base = example_seed(seed, example_id, epoch)
    found = []
    for k in range(1, num_draws + 1):
        start, end = _random_block(base, k, length, block_length)
        size = 1 + (mix64(draw_seed(base, k, SIZE_TAG)) * (end - start) >> 64)
        inside = start + permutation(draw_seed(base, k, POSITION_TAG), end - start)[:size]
        found.append(np.concatenate([np.sort(inside), np.arange(end, length)]))
    return _rows(found, [length / (len(hidden) * num_draws) for hidden in found], length, "blocks")


def one_step_rows(
    seed: int, example_id: int, epoch: int, length: int, block_length: int = 32, tokens_per_step: int = 1
) -> Plan:
    """dTRPO-like: per block one row, the state before one sampled step of a random reveal order; the tokens that the
    step reveals are scored with weight 1, the block's later tokens and all later blocks are hidden besides."""
    base = example_seed(seed, example_id, epoch)
    scored, besides = [], []
    for k, start in enumerate(range(0, length, block_length), start=1):
        end = min(start + block_length, length)
        order = start + permutation(draw_seed(base, k, POSITION_TAG), end - start)
        steps = -(-(end - start) // tokens_per_step)
        first = tokens_per_step * (mix64(draw_seed(base, k, SIZE_TAG)) * steps >> 64)
        scored.append(np.sort(order[first : first + tokens_per_step]))
        besides.append(np.concatenate([np.sort(order[first + tokens_per_step :]), np.arange(end, length)]))
    return _rows(scored, [1.0] * len(scored), length, "one_step", besides)


class Comparison(NamedTuple):
    """`rows(seed, example_id, epoch, length, ...) -> Plan`, then `combine(log_p, plan, length, ...) -> Combined`."""

    rows: Callable[..., Plan]
    combine: Callable[..., Combined]
    summary: str


COMPARISONS = {
    "mean_field": Comparison(mean_field_rows, linear, "d1: one pass, the whole answer hidden"),
    "coupled_clipped": Comparison(coupled_rows, linear, "DiffuCoder: full mask and a clipped complementary pair"),
    "eubo": Comparison(block_rows, eubo, "SPG: evidence upper bound, block-wise masks"),
    "mixture": Comparison(block_rows, mixture, "SPG: half upper, half lower bound"),
    "one_step": Comparison(one_step_rows, linear, "dTRPO-like: one reveal step per block"),
}


def _random_block(base: int, draw: int, length: int, block_length: int) -> tuple[int, int]:
    blocks = -(-length // block_length)
    block = mix64(draw_seed(base, draw, _PROMPT_TAG)) * blocks >> 64
    return block * block_length, min((block + 1) * block_length, length)


def _unit(stream: np.ndarray) -> np.ndarray:
    """64-bit hashes as numbers of [0, 1)."""
    return (stream >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _rows(
    scored: Sequence[np.ndarray],
    weights: Sequence[float],
    length: int,
    name: str,
    besides: Sequence[np.ndarray] = (),
) -> Plan:
    """A plan with these weights; shares follow from weight = share L / l."""
    weight_K, count_K = np.array(weights), np.array([len(hidden) for hidden in scored])
    return Plan(tuple(scored), weight_K, weight_K * count_K / length, len(scored), name, tuple(besides))
