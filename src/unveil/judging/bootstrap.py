"""Intervals by resampling prompts with replacement (Efron 1979): whatever belongs to a prompt stays together.

`bootstrap_interval` takes any statistic of rows; `bootstrap_sums` takes statistics of sums over prompts (a table of
counts, a mean) and is fast, because equal prompts are drawn together from one multinomial distribution.
"""

from collections.abc import Callable

import numpy as np

from unveil.errors import UserError
from unveil.judging.win_rate import check_level


def bootstrap_interval(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], float] = np.mean,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of `statistic` over resampled rows, the same for the same seed.

    values: [N] or [N, columns], one row per prompt; whatever belongs to a prompt stays in its row, which keeps pairs
    together: `bootstrap_interval(scores, lambda rows: rows[:, 0].mean() - rows[:, 1].mean())`. Average several
    comparisons of one prompt with `cluster_means` first.
    """
    values = np.asarray(values)
    if values.ndim == 0 or len(values) == 0:
        raise UserError("bootstrap: no values; give at least one row")
    check_level(level)
    generator = np.random.default_rng(seed)
    drawn = [statistic(values[generator.integers(len(values), size=len(values))]) for _ in range(resamples)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_sums(
    parts: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile interval of a statistic of `parts.sum(0)`, over resampled prompts.

    parts: what each prompt adds to the sum, [N, ...]. statistic: sums [R, ...] -> values [R]; a NaN is a resample that
    leaves it undefined, and is left out. None: it is undefined on more than half of them.
    """
    check_level(level)
    parts = np.asarray(parts, dtype=np.float64)
    if parts.ndim == 0 or len(parts) == 0:
        raise UserError("bootstrap: no values; give at least one row")
    kinds, counts = np.unique(parts.reshape(len(parts), -1), axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(parts), counts / len(parts), size=resamples)
    values = np.asarray(statistic((drawn @ kinds).reshape(resamples, *parts.shape[1:])), dtype=np.float64)
    values = values[np.isfinite(values)]
    if 2 * len(values) < resamples:
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
