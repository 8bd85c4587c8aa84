"""The win rate that A would have if its answers were as long as B's, after AlpacaEval 2 (Dubois et al. 2024).

    P(A wins pair i) = sigmoid(theta + phi x_i)      x_i = tanh(d_i / s)

d_i is the length of A's answer minus that of B's, s the standard deviation of all d. The length-controlled win rate is
sigmoid(theta): what the model says of a pair of equal lengths. AlpacaEval's third term, the difficulty of a prompt, is
left out: it is fitted over many models, and there are two here.

Fit: maximum of sum_i w_i [y_i log p_i + (1 - y_i) log(1 - p_i)] - phi^2 / (2 * 5^2). A tie has y = 1/2, that is, half
a win and half a loss. w_i is 1 over the number of comparisons of its prompt, so that prompts weigh alike. The weak
normal prior on phi (odds of e^5 are within a standard deviation) keeps it finite where lengths separate wins from
losses; theta has none.

Interval: normal, on the scale of the rate, with the sandwich variance over prompts: a tie has less variance than a
coin, and answers to one prompt are no independent evidence. As in `mean_interval`, z^2 imaginary prompts join the
sample first, half won and half lost, here spread over the lengths that were seen, and the quantile is that of the
plain rate: without any difference in length the rate and its interval are exactly those of `adjusted_win_rate`. The
prior counts as an observation: where A is always longer by much the same, theta and phi cannot be told apart, and the
interval says so by its width.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from unveil.errors import UserError
from unveil.judging.clusters import cluster_means
from unveil.judging.win_rate import adjusted_win_rate, mean_quantile, normal_quantile

_PRIOR_PRECISION = np.diag([0.0, 1 / 5.0**2])
_STEPS, _CLOSE = 100, 1e-10


@dataclass(frozen=True)
class LengthControlledWinRate:
    """Win rate of A at equal lengths with its interval at `level`.

    slope: phi, the log odds that a longer answer gains; above 0, length helps. mean_difference, deviation: of length A
    minus length B, in the units given. n: prompts.
    """

    rate: float
    low: float
    high: float
    slope: float
    mean_difference: float
    deviation: float
    n: int
    level: float = 0.95


def length_controlled_win_rate(
    outcomes: Sequence[float] | np.ndarray,
    lengths_a: Sequence[float] | np.ndarray,
    lengths_b: Sequence[float] | np.ndarray,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> LengthControlledWinRate:
    """Outcomes 1 (A wins), 1/2 (tie), 0 (B wins) and the lengths of both answers of each pair, [N] each."""
    plain = adjusted_win_rate(outcomes, clusters, level)  # also checks outcomes and clusters
    y = np.asarray(outcomes, dtype=np.float64)
    difference = np.asarray(lengths_a, dtype=np.float64) - np.asarray(lengths_b, dtype=np.float64)
    if difference.shape != y.shape or not np.isfinite(difference).all():
        raise UserError(
            f"length-controlled win rate: {len(y)} outcomes and length differences of shape {difference.shape}; "
            "give two finite lengths per outcome"
        )
    deviation = float(difference.std())
    x = np.tanh(difference / deviation) if deviation > 0 else np.sign(difference)
    if np.ptp(y) == 0:  # no length can explain what is always the same
        rate, low, high, slope = plain.rate, plain.low, plain.high, 0.0
    else:
        rate, low, high, slope = _controlled(y, x, clusters, level)
    return LengthControlledWinRate(rate, low, high, slope, float(difference.mean()), deviation, plain.n, level)


def _controlled(
    y: np.ndarray, x: np.ndarray, clusters: Sequence[Hashable] | None, level: float
) -> tuple[float, float, float, float]:
    """Rate, interval, slope."""
    labels = list(range(len(y))) if clusters is None else list(clusters)
    number: dict[Hashable, int] = {}
    member = np.array([number.setdefault(label, len(number)) for label in labels])
    weight = 1 / np.bincount(member)[member]
    design = np.column_stack([np.ones_like(x), x])
    theta, slope = _fit(y, design, weight)
    z = normal_quantile(level)
    extra = z**2 / len(number)
    beta = _fit((y + extra / 2) / (1 + extra), design, (1 + extra) * weight)
    p = _sigmoid(design @ beta)
    bread = np.linalg.inv((design * ((1 + extra) * weight * p * (1 - p))[:, None]).T @ design + _PRIOR_PRECISION)
    scores = np.zeros((len(number), 2))
    np.add.at(scores, member, (weight * (y - p))[:, None] * design)
    imaginary = (design * (extra * weight * ((1 - p) ** 2 + p**2) / 2)[:, None]).T @ design
    variance = bread @ (scores.T @ scores + imaginary + _PRIOR_PRECISION) @ bread
    centre = float(_sigmoid(beta[0]))
    quantile = mean_quantile(cluster_means(y, labels), level)
    half = quantile * centre * (1 - centre) * float(np.sqrt(variance[0, 0]))
    rate = float(_sigmoid(theta))
    return rate, max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half)), float(slope)


def _fit(y: np.ndarray, design: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(theta, phi) by Newton's method; a step that lowers the objective is halved."""
    beta = np.zeros(2)
    value = _objective(beta, y, design, weight)
    for _ in range(_STEPS):
        p = _sigmoid(design @ beta)
        slope = design.T @ (weight * (y - p)) - _PRIOR_PRECISION @ beta
        curvature = (design * (weight * p * (1 - p))[:, None]).T @ design + _PRIOR_PRECISION
        step = np.linalg.solve(curvature, slope)
        while (new := _objective(beta + step, y, design, weight)) < value - 1e-12 * abs(value):
            step = step / 2
        beta, value = beta + step, new
        if np.abs(step).max() < _CLOSE:
            break
    return beta


def _objective(beta: np.ndarray, y: np.ndarray, design: np.ndarray, weight: np.ndarray) -> float:
    logits = design @ beta
    return float(np.sum(weight * (y * logits - np.logaddexp(0, logits))) - beta @ _PRIOR_PRECISION @ beta / 2)


def _sigmoid(value: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * value))
