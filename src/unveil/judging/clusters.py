"""What belongs to one prompt is one unit of evidence: sums and means over the comparisons of each cluster."""

from collections.abc import Hashable, Sequence

import numpy as np

from unveil.errors import UserError


def cluster_sums(values: np.ndarray, clusters: Sequence[Hashable]) -> np.ndarray:
    """The sum of each cluster, in order of first appearance. values: [N] or [N, ...]; clusters: N labels."""
    if len(clusters) != len(values):
        raise UserError(f"clusters: {len(clusters)} labels for {len(values)} values; give one each")
    number: dict[Hashable, int] = {}
    member = np.array([number.setdefault(label, len(number)) for label in clusters], dtype=np.int64)
    sums = np.zeros((len(number), *values.shape[1:]))
    np.add.at(sums, member, values)
    return sums


def cluster_means(values: np.ndarray, clusters: Sequence[Hashable]) -> np.ndarray:
    """The mean of each cluster, in order of first appearance. values: [N] or [N, ...]; clusters: N labels."""
    sizes = cluster_sums(np.ones(len(values)), clusters)
    return cluster_sums(values, clusters) / sizes.reshape(-1, *[1] * (values.ndim - 1))
