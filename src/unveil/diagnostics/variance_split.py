"""Where the variance of a surrogate comes from: mask sizes or masks, strata, and what a batch baseline leaves of it.

With f(M) = (L / l) S(M) of one draw, V_t = Var_l E[f | l] (across sizes) and V_y = E_l Var(f | l) (within a size). The
mean of n_t independent sizes with n_yt masks each varies by V_t / n_t + V_y / (n_t n_yt) (VRPO, arXiv 2505.19223,
lemma 5). All in nats squared; f may be a margin, or a projection of a gradient.
"""

from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """V_t across and V_y within mask sizes, nats squared, of a single draw."""

    across: float
    within: float

    def variance(self, sizes_drawn: int, masks_per_size: int = 1) -> float:
        """What n_t iid sizes with n_yt masks each would vary by."""
        return self.across / sizes_drawn + self.within / (sizes_drawn * masks_per_size)


def split_variance(draws_GY: np.ndarray) -> Split:
    """Unbiased analysis of variance of iid draws, `[n_t, n_yt]`, n_t and n_yt at least 2; V_t may come out negative.

    V_y is the mean square within groups, V_t = (mean square between groups - V_y) / n_yt. Average it over responses
    before reading anything into it.
    """
    draws_GY = np.asarray(draws_GY, dtype=np.float64)
    if draws_GY.ndim != 2 or min(draws_GY.shape) < 2:
        raise ValueError(f"draws of shape {draws_GY.shape}: at least 2 sizes of 2 masks each are needed")
    within = float(draws_GY.var(axis=1, ddof=1).mean())
    between = float(draws_GY.mean(axis=1).var(ddof=1))
    return Split(between - within / draws_GY.shape[1], within)


def split_by_size(values_by_size: list[np.ndarray]) -> Split:
    """Exact V_t and V_y under l uniform on 1..L from all values f(M) of each size (`all_subsets`)."""
    means = [np.mean(values) for values in values_by_size]
    return Split(float(np.var(means)), float(np.mean([np.var(values) for values in values_by_size])))


def stratum_variance(draws_RK: np.ndarray) -> np.ndarray:
    """Variance of each draw of a design over R repeated plans of one response, `[K]`: the K-th stratum's V.

    `sum_k shares_k^2 V_k` is the estimate's variance where sets are independent; shares proportional to sqrt(V_k)
    per unit width would be the best strata, so a V_k that falls like 1/l confirms `--strata_exponent 2`.
    """
    draws_RK = np.asarray(draws_RK, dtype=np.float64)
    if draws_RK.ndim != 2 or len(draws_RK) < 2:
        raise ValueError(f"draws of shape {draws_RK.shape}: at least 2 repeated plans are needed")
    return draws_RK.var(axis=0, ddof=1)


def best_size_law(mean_square_by_size: np.ndarray) -> np.ndarray:
    """P*(l) proportional to (1/l) sqrt(E[S^2 | l]), `[L]`: the law of independent sizes with the least variance.

    Args:
        mean_square_by_size: E[S(M)^2 | |M| = l] for l = 1..L, of the ELBO or of the margin.
    """
    law = np.sqrt(np.asarray(mean_square_by_size, dtype=np.float64)) / np.arange(1, len(mean_square_by_size) + 1)
    return law / law.sum()


def variance_of_size_law(law: np.ndarray, mean_square_by_size: np.ndarray, mean: float) -> float:
    """Variance of one draw with l ~ P and weight 1 / (l P(l)): `sum_l E[S^2 | l] / (l^2 P(l)) - B^2`."""
    sizes = np.arange(1, len(law) + 1)
    return float((np.asarray(mean_square_by_size) / (sizes**2 * np.asarray(law))).sum() - mean**2)


class Psi(NamedTuple):
    """`psi = (1/m) sum_i Var(r_i - mean_j r_j) = (m - 1) / m * (v - c)`, nats squared."""

    psi: float
    v: float
    """Mean variance of a margin."""
    c: float
    """Mean covariance of two different margins of the batch."""


def psi_of_replicates(margins_RM: np.ndarray) -> Psi:
    """Psi, v and c of a batch of m margins from R repeated plans, `[R, m]`; the identity holds exactly."""
    margins_RM = np.asarray(margins_RM, dtype=np.float64)
    if margins_RM.ndim != 2 or min(margins_RM.shape) < 2:
        raise ValueError(f"margins of shape {margins_RM.shape}: 2 replicates of 2 margins are needed")
    count = margins_RM.shape[1]
    v = float(margins_RM.var(axis=0, ddof=1).mean())
    baseline = float(margins_RM.mean(axis=1).var(ddof=1))
    c = (count * baseline - v) / (count - 1)
    return Psi((count - 1) / count * (v - c), v, c)


def psi_of_standard_errors(errors_M: np.ndarray) -> Psi:
    """Psi from the standard errors of one batch whose draws are independent between examples (c = 0): free in training.

    Infinite errors (a single draw) make it infinite.
    """
    errors_M = np.asarray(errors_M, dtype=np.float64)
    v = float(np.square(errors_M).mean())
    return Psi((len(errors_M) - 1) / len(errors_M) * v, v, 0.0)


class LossBounds(NamedTuple):
    """What noisy margins do at most to a KTO loss, `mean_i lambda_i (1 - sigmoid(s_i beta (r_i - b0)))`."""

    bias: float
    variance: float


def loss_bounds(psi: float, beta: float, weight: float = 1.0, independent: int | None = None) -> LossBounds:
    """Bias at most `min(w beta sqrt(Psi) / 4, w beta^2 Psi / (12 sqrt 3))`, variance at most `w^2 beta^2 Psi / 16`;
    with `independent` margins (their number m) also `w^2 beta^2 (m - 1) Psi / (4 m^2)` (Efron-Stein)."""
    bias = min(weight * beta * psi**0.5 / 4, weight * beta**2 * psi / (12 * 3**0.5))
    variance = weight**2 * beta**2 * psi / 16
    if independent is not None:
        variance = min(variance, weight**2 * beta**2 * (independent - 1) * psi / (4 * independent**2))
    return LossBounds(bias, variance)
