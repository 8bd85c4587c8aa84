"""Krippendorff's alpha for nominal labels: agreement of any number of judges, with labels missing where they may.

    alpha = 1 - (n - 1) (n - sum_c o_cc) / (n^2 - sum_c n_c^2)

An item with m >= 2 labels adds 1 / (m - 1) to the coincidence o_ck for every ordered pair (c, k) of labels that two
judges gave it; n_c = sum_k o_ck, n = sum_c n_c (Krippendorff, "Computing Krippendorff's alpha-reliability", 2011). 1 is
full agreement, 0 chance. The interval is made as that of Cohen's kappa.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from unveil.errors import UserError
from unveil.judging.kappa import Agreement, agreement_of_tables


def krippendorff_alpha(
    labels: Sequence[Sequence[Hashable | None]],
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Agreement:
    """labels: for each judge one label per item, None where it gave none. `n` counts items with two labels or more.

    `observed` is the share of equal pairs of labels of an item. clusters: as in `cohen_kappa`.
    """
    if not labels or len({len(row) for row in labels}) != 1:
        raise UserError("alpha: every judge must have one label (or None) per item; correct the lists")
    names: dict[Hashable, int] = {}
    numbers = [[-1 if label is None else names.setdefault(label, len(names)) for label in row] for row in labels]
    counts = np.stack([(np.array(numbers) == name).sum(0) for name in range(len(names))] or [np.zeros(len(labels[0]))])
    counts = counts.T.astype(np.float64)  # [items, labels]
    given = counts.sum(1)
    kept = np.flatnonzero(given >= 2).tolist()
    counts, given = counts[kept], given[kept]
    ordered = counts[:, :, None] * counts[:, None, :] - np.eye(counts.shape[1]) * counts[:, :, None]
    coincidences = ordered / (given - 1)[:, None, None]
    units = None if clusters is None else [clusters[i] for i in kept]
    return agreement_of_tables(coincidences, units, alpha_of_coincidences, level)


def alpha_of_coincidences(tables: np.ndarray) -> np.ndarray:
    """Alpha of coincidence matrices [..., labels, labels]; NaN where a single label was used."""
    marginal = tables.sum(-1)
    n = marginal.sum(-1)
    unequal = n - np.trace(tables, axis1=-2, axis2=-1)
    expected = n**2 - (marginal**2).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(expected > 1e-9, 1 - (n - 1) * unequal / expected, np.nan)
