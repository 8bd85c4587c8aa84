"""Cohen's (1960) kappa: agreement of two judges beyond what their habits alone would give.

    kappa = (p_o - p_e) / (1 - p_e)

p_o is the share of items on which they give the same label, p_e the share that two judges with the same margins would
reach by chance. 1 is full agreement, 0 chance.

The interval is over prompts. Two imaginary prompts join the table, one on which the judges agree and one on which they
do not look at each other, with the margins that were observed; the standard error of the coefficient, linear in what
each prompt adds, then makes a symmetric interval for atanh(coefficient) with the quantile of Student's t.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from unveil.errors import UserError
from unveil.judging.clusters import cluster_sums
from unveil.judging.win_rate import check_level

_IMAGINARY = 2.0
_STEP = 1e-5  # of the derivative, in parts of the table


@dataclass(frozen=True)
class Agreement:
    """A coefficient of agreement with its interval at `level`.

    value is None when it is undefined: nothing was judged by two, or only one label was ever used. low, high: None
    when not known: there is only one prompt. observed: share of equal labels; n: items that count.
    """

    value: float | None
    low: float | None
    high: float | None
    observed: float | None
    n: int
    level: float = 0.95


def cohen_kappa(
    labels_a: Sequence[Hashable | None],
    labels_b: Sequence[Hashable | None],
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Agreement:
    """Agreement of two judges on the same items; an item that either left out (None) does not count.

    clusters: items with the same label are one unit of evidence; None = each by itself.
    """
    if len(labels_a) != len(labels_b):
        raise UserError(f"kappa: {len(labels_a)} and {len(labels_b)} labels; both judges must label the same items")
    kept = [i for i, pair in enumerate(zip(labels_a, labels_b)) if None not in pair]
    names: dict[Hashable, int] = {}
    a, b = ([names.setdefault(labels[i], len(names)) for i in kept] for labels in (labels_a, labels_b))
    tables = np.zeros((len(kept), len(names), len(names)))
    tables[np.arange(len(kept)), a, b] = 1
    units = None if clusters is None else [clusters[i] for i in kept]
    return agreement_of_tables(tables, units, kappa_of_tables, level)


def agreement_of_tables(
    tables: np.ndarray,
    clusters: Sequence[Hashable] | None,
    coefficient: Callable[[np.ndarray], np.ndarray],
    level: float,
) -> Agreement:
    """The coefficient of summed tables with its interval.

    tables: what each item adds to a table of labels against labels, [items, labels, labels], equal labels on the
    diagonal. clusters: one label per item, or None. coefficient: tables [R, labels, labels] -> values [R], NaN where
    undefined.
    """
    check_level(level)
    if len(tables) == 0:
        return Agreement(None, None, None, None, 0, level)
    parts = tables if clusters is None else cluster_sums(tables, clusters)
    total = parts.sum(0)
    value = float(coefficient(total[None])[0])
    known = len(parts) > 1 and np.isfinite(value)
    interval = interval_of_sum(parts, coefficient, level) if known else None
    return Agreement(
        value=value if np.isfinite(value) else None,
        low=min(value, interval[0]) if interval else None,
        high=max(value, interval[1]) if interval else None,
        observed=float(np.trace(total) / total.sum()),
        n=len(tables),
        level=level,
    )


def interval_of_sum(
    parts: np.ndarray, coefficient: Callable[[np.ndarray], np.ndarray], level: float
) -> tuple[float, float]:
    """The interval for a coefficient of the sum of `parts` [prompts, labels, labels], as the module describes it."""
    total, units = parts.sum(0), len(parts)
    mass = total.sum() / units  # of one prompt
    rows, columns = total.sum(1), total.sum(0)
    apart, together = np.outer(rows, columns) / total.sum(), np.diag((rows + columns) / 2)
    imaginary = _IMAGINARY / units * (apart + together) / 2
    joined = total + imaginary
    labels = len(total)
    cells = np.eye(labels * labels).reshape(-1, labels, labels)
    step = _STEP * joined.sum()
    slopes = (coefficient(joined + step * cells) - coefficient(joined - step * cells)) / (2 * step)
    moved = parts.reshape(units, -1) @ slopes
    variance = (moved**2).sum() + mass * (imaginary.ravel() * slopes**2).sum()
    centre = float(coefficient(joined[None])[0])
    half = float(stdtrit(units - 1, (1 + level) / 2)) * np.sqrt(variance) / (1 - centre**2)
    return float(np.tanh(np.arctanh(centre) - half)), float(np.tanh(np.arctanh(centre) + half))


def kappa_of_tables(tables: np.ndarray) -> np.ndarray:
    """Kappa of tables of counts [..., labels of A, labels of B]; NaN where both use a single label."""
    n = tables.sum((-2, -1))
    observed = np.trace(tables, axis1=-2, axis2=-1) / n
    chance = (tables.sum(-1) * tables.sum(-2)).sum(-1) / n**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance < 1, (observed - chance) / (1 - chance), np.nan)
