"""Combiners: how much each scored token of each draw counts, `value = sum_k sum_{i in M_k} w_k[i] log p(y_i | rest)`.

All are linear in the log-probabilities, so the same weights serve value and gradient, policy and reference. With
W_k = share_k L / l_k the weight of a draw (`Plan.weights`) and c_i = sum_k W_k 1[i in M_k] that of a token (E c_i = 1):

`ht`                   Horvitz-Thompson, w_k[i] = W_k: the plain estimator. Unbiased wherever the design is.
`hajek`                w_k[i] = W_k / c_i: self-normalised token by token, every covered token weighs exactly 1. Bias of
                       order 1 / n. A token that no draw covers counts 0 (`uncovered` says how many): use designs that
                       cover, or enough draws.
`crossfit_difference`  The groups of draws are dealt into halves A and B; each half's excess weight is taken off at the
                       price that the other half puts on the token (the mean of its log p there, 0 if it has none):
                       `sum_k W_k S(M_k) - sum_i (c_i^A - E c_i^A) mean_i^B - sum_i (c_i^B - E c_i^B) mean_i^A`,
                       which is B_A - sum_i (c_i^A - 1) mean_i^B and its mirror image, averaged. Unbiased where the
                       halves' sets are independent: every design except those that balance their sets (`windows`,
                       `quadratic_tiling`), where a token covered by A is less likely covered by B; its mean is then off
                       by `-sum_i Cov(c_i^A, mean_i^B) - sum_i Cov(c_i^B, mean_i^A)`.

Position weights (LD-DPO and its kin) multiply the token weights.
"""

from collections.abc import Sequence

import numpy as np

from unveil.draws import DESIGNS, Plan
from unveil.errors import UserError
from unveil.likelihood.uncertainty import FEWEST_UNITS

COMBINERS = {
    "ht": "every token of a draw weighs L / l times the draw's share; unbiased (default)",
    "hajek": "every covered token weighs 1 in all; less variance, bias of order 1 / num_draws",
    "crossfit_difference": "excess weight priced by the other half of the draws; unbiased unless sets tile",
}

FEWEST_TOKENS = 4
"""Of an answer, for the error of another combiner than `ht` to be known."""


def check_combiner(combiner: str, design: str, num_draws: int, masks_per_size: int = 1) -> None:
    """Refuse a combiner that the design cannot serve, naming the flags."""
    if combiner not in COMBINERS:
        raise UserError(f"--combiner {combiner}: unknown; choose one of {', '.join(COMBINERS)}")
    if combiner != "crossfit_difference":
        return
    if DESIGNS[design].units == "fixed":
        raise UserError(f"--combiner {combiner}: --draw_design {design} draws nothing at random; use --combiner ht")
    per_size = masks_per_size * DESIGNS[design].draws_per_unit
    if num_draws < 2 * per_size:
        raise UserError(
            f"--combiner {combiner}: two mask sizes are needed, and --num_draws {num_draws} of --draw_design {design} "
            f"draws one; --num_draws {2 * per_size} would serve"
        )


def is_unbiased(design: str, combiner: str = "ht") -> bool:
    """Whether the mean of the design with this combiner is the ELBO, for any predictor and any number of draws."""
    known = DESIGNS[design]
    if known.units == "fixed" or combiner == "ht":
        return known.unbiased
    return known.unbiased and combiner == "crossfit_difference" and known.independent_sets


def token_weights(
    plan: Plan,
    length: int,
    combiner: str = "ht",
    position_weights: Sequence[float] | np.ndarray | None = None,
) -> list[np.ndarray]:
    """Weight of every scored token of every draw.

    Args:
        plan: the draws.
        length: number of scored tokens L that the plan was drawn for.
        combiner: a key of `COMBINERS`.
        position_weights: `[L]`, a weight per scored token; None weighs all 1.

    Returns:
        One float64 array per draw, aligned with `plan.positions[k]`.

    Raises:
        UserError: unknown combiner, or `crossfit_difference` of a single group of draws.
        ValueError: `position_weights` of another length.
    """
    if combiner == "ht":
        weights = [np.full(len(hidden), weight) for hidden, weight in zip(plan.positions, plan.weights)]
    elif combiner == "hajek":
        total = _total_weight(plan, length, range(len(plan.positions)))
        weights = [weight / total[hidden] for hidden, weight in zip(plan.positions, plan.weights)]
    elif combiner == "crossfit_difference":
        weights = _crossfit(plan, length)
    else:
        raise UserError(f"--combiner {combiner}: unknown; choose one of {', '.join(COMBINERS)}")
    if position_weights is None:
        return weights
    by_place = np.asarray(position_weights, dtype=np.float64)
    if by_place.shape != (length,):
        raise ValueError(f"{by_place.size} position weights for a response of {length} scored tokens")
    return [weight * by_place[hidden] for weight, hidden in zip(weights, plan.positions)]


def value(weights: Sequence[np.ndarray], log_p: Sequence[np.ndarray]) -> float:
    """`sum_k sum_i w_k[i] log p_k[i]`, nats; both aligned with the plan's positions."""
    return float(sum(np.dot(weight, tokens) for weight, tokens in zip(weights, log_p, strict=True)))


def error_draws(plan: Plan, length: int, combiner: str, log_p: Sequence[np.ndarray]) -> np.ndarray | None:
    """Per-draw values `[K]` whose spread is that of the combined value, for `standard_error`: only what the combiner
    leaves of a draw is noise (linearisation; Saerndal, Swensson, Wretman, Model Assisted Survey Sampling, 1992, 5.5).

    `hajek` leaves log p less the token's mean, `(x_k[i] - m_i) / (1 - w_k[i])`: the mean without this draw, as in a
    jackknife. `crossfit_difference` leaves log p less the token's mean in the other half.

    Args:
        log_p: log p(y_i | rest) of each draw's scored tokens, nats (or differences), aligned with `plan.positions`.

    Returns:
        None where it is not known: fewer than 16 groups, of which the corrections are as noisy as what they correct; 2
        or 3 tokens, of which draws repeat one another; or a token of which nothing is left because one draw alone (one
        half alone) covers it.
    """
    if combiner == "ht":
        return np.array([w * x.sum() for w, x in zip(plan.weights / plan.shares, log_p)])
    if plan.sizes_drawn < FEWEST_UNITS or 1 < length < FEWEST_TOKENS:
        return None
    if combiner == "hajek":
        weights = token_weights(plan, length, combiner)
        if coverage(plan, length).min() < 2:
            return None
        mean = np.bincount(
            np.concatenate(plan.positions), weights=np.concatenate([w * x for w, x in zip(weights, log_p)])
        )
        left = [w / (1 - w) * (x - mean[hidden]) for w, x, hidden in zip(weights, log_p, plan.positions)]
        return np.array([part.sum() for part in left]) / plan.shares
    half_of_draw = plan.groups % 2
    found = np.empty(len(plan.positions))
    for half in (0, 1):
        other = np.flatnonzero(half_of_draw != half).tolist()
        places = np.concatenate([plan.positions[k] for k in other])
        count = np.bincount(places, minlength=length)
        if count.min() == 0:
            return None
        mean = np.bincount(places, weights=np.concatenate([log_p[k] for k in other]), minlength=length) / count
        for k in np.flatnonzero(half_of_draw == half).tolist():
            found[k] = plan.weights[k] / plan.shares[k] * (log_p[k] - mean[plan.positions[k]]).sum()
    return found


def uncovered(plan: Plan, length: int) -> int:
    """How many scored tokens no draw covers."""
    return int(np.count_nonzero(coverage(plan, length) == 0))


def coverage(plan: Plan, length: int) -> np.ndarray:
    """How many draws cover each scored token, int64 `[L]`."""
    return np.bincount(np.concatenate(plan.positions), minlength=length)


def _total_weight(plan: Plan, length: int, draws: Sequence[int]) -> np.ndarray:
    """c_i over some of the draws, `[L]`."""
    total = np.zeros(length)
    for k in draws:
        total[plan.positions[k]] += plan.weights[k]
    return total


def _crossfit(plan: Plan, length: int) -> list[np.ndarray]:
    """Groups alternate between the halves, so that each holds strata from end to end."""
    if plan.sizes_drawn < 2:
        raise UserError(
            f"--combiner crossfit_difference: two mask sizes are needed, and this plan of --draw_design {plan.design} "
            "has one; raise --num_draws"
        )
    half_of_draw = plan.groups % 2
    halves = [np.flatnonzero(half_of_draw == half).tolist() for half in (0, 1)]
    weights: list[np.ndarray] = [np.empty(0)] * len(plan.positions)
    for mine, other in (halves, halves[::-1]):
        excess = _total_weight(plan, length, other) - _expected_weight(plan, other, mine)
        count = np.bincount(np.concatenate([plan.positions[k] for k in mine]), minlength=length)
        for k in mine:
            hidden = plan.positions[k]
            weights[k] = plan.weights[k] - excess[hidden] / count[hidden]
    return weights


def _expected_weight(plan: Plan, draws: Sequence[int], rest: Sequence[int]) -> float:
    """E c_i over half of the draws: their share of the ELBO."""
    design = DESIGNS.get(plan.design)
    if design and design.random_shares:
        groups = plan.groups
        mine = len(set(groups[draws].tolist()))
        return mine / (mine + len(set(groups[rest].tolist())))
    return float(plan.shares[draws].sum())
