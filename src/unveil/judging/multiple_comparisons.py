"""Several tests at once: p-values adjusted so that looking often is not finding.

Holm (1979): the chance of any false finding stays below the level, whatever the dependence. Benjamini and Hochberg
(1995): the expected share of false findings among the findings does, for independent or positively dependent tests.
Compare an adjusted p-value with the level as if it were the only one.
"""

from collections.abc import Sequence

import numpy as np

from unveil.errors import UserError


def holm(p_values: Sequence[float] | np.ndarray) -> list[float]:
    """Step-down: p(k) becomes the largest of (m - j + 1) p(j) over j <= k, at most 1. In the order given."""
    p, order = _sorted(p_values)
    adjusted = np.maximum.accumulate(p * np.arange(len(p), 0, -1))
    return _restored(adjusted, order)


def benjamini_hochberg(p_values: Sequence[float] | np.ndarray) -> list[float]:
    """Step-up: p(k) becomes the smallest of m p(j) / j over j >= k, at most 1. In the order given."""
    p, order = _sorted(p_values)
    scaled = p * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.minimum.accumulate(scaled[::-1])[::-1]
    return _restored(adjusted, order)


def _sorted(p_values: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise UserError("multiple comparisons: p-values must be a list of numbers between 0 and 1; correct them")
    order = np.argsort(p, kind="stable")
    return p[order], order


def _restored(adjusted: np.ndarray, order: np.ndarray) -> list[float]:
    found = np.empty_like(adjusted)
    found[order] = np.minimum(adjusted, 1.0)
    return found.tolist()
