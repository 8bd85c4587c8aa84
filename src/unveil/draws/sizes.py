"""Size laws: how many positions each draw hides, and the share of the ELBO that the draw stands for.

A law gives one size per unit (a unit is a draw, or the pair of a paired design) and the unit's share. Sizes are the
image of u, uniform on [0, 1): l = floor(u L) + 1, in integer arithmetic on 64-bit hashes, so that a size does not
depend on a device's rounding. Shares are what makes `sum_k share_k (L / l_k) S(M_k)` an estimate of B: they are fixed
and sum to 1 (iid, strata, quadrature), or random with expected sum 1 (harmonic, importance, coupled).
"""

import math
from functools import lru_cache
from itertools import chain, combinations
from typing import NamedTuple

import numpy as np

from unveil.draws.splitmix import SIZE_TAG, draw_seed, mix64

_EDGE_BITS = 32
_LAW_BITS = 48


class SizeRequest(NamedTuple):
    """What a size law is asked: `count` sizes for a response of `length` tokens."""

    base: int
    """Seed of the sizes (`example_seed`)."""
    length: int
    count: int
    strata_exponent: float = 2.0
    size_exponent: float = 0.5
    shared: bool = False
    """The seed is shared with another response: sizes must be monotone in u, whatever the lengths."""


Sizes = tuple[np.ndarray, np.ndarray]
"""Sizes, int64 `[count]`, and shares, float64 `[count]`."""


def iid(asked: SizeRequest) -> Sizes:
    """Sizes uniform on 1..L, drawn as published: the first n sizes do not depend on how many follow."""
    return 1 + _uniform(asked, asked.length), np.full(asked.count, 1.0 / asked.count)


def power_strata(asked: SizeRequest) -> Sizes:
    """One size per stratum [(k/n)^p, ((k+1)/n)^p) of u, weighted by its width: Neyman allocation for a variance like
    1/l when p = 2. In exact integer arithmetic, u = (edge_k 2^64 + width_k h) / 2^96."""
    unit = 1 << _EDGE_BITS
    edges = [round((k / asked.count) ** asked.strata_exponent * unit) for k in range(asked.count + 1)]
    sizes = []
    for low, high, hashed in zip(edges, edges[1:], _hashes(asked)):
        u = (low << 64) + (high - low) * hashed
        sizes.append(1 + ((asked.length * u) >> (64 + _EDGE_BITS)))
    return np.array(sizes, dtype=np.int64), np.diff(np.array(edges, dtype=np.float64)) / unit


def equal_strata(asked: SizeRequest) -> Sizes:
    """One size per n-th part of u."""
    return power_strata(asked._replace(strata_exponent=1.0))


def systematic(asked: SizeRequest) -> Sizes:
    """u_k = (k + v) / n with one v for all draws (LLaDA's evaluation, arXiv 2502.09992, without its rounding, which
    makes the marginal law of l up to 50 % wrong)."""
    v = mix64(draw_seed(asked.base, 0, SIZE_TAG))
    sizes = [1 + (asked.length * ((k << 64) + v) // asked.count >> 64) for k in range(asked.count)]
    return np.array(sizes, dtype=np.int64), np.full(asked.count, 1.0 / asked.count)


def quadrature(asked: SizeRequest) -> Sizes:
    """Gauss-Legendre nodes of u (GDPO, arXiv 2510.08554) with l = floor(u L) + 1 and the node's weight as share.

    Sizes are fixed, so the mean is that of n sizes only: biased."""
    nodes, shares = _legendre(asked.count)
    return np.floor(nodes * asked.length).astype(np.int64) + 1, shares.copy()


def importance(asked: SizeRequest) -> Sizes:
    """Independent sizes with P(l) proportional to l^-a; share 1 / (n L P(l))."""
    widths, edges = _power_law(asked.length, asked.size_exponent)
    total = int(edges[-1])
    places = np.searchsorted(edges, [(h * total) >> 64 for h in _hashes(asked)], side="right")
    probability = widths[places] / total
    return places.astype(np.int64) + 1, 1.0 / (asked.count * asked.length * probability)


def harmonic(asked: SizeRequest) -> Sizes:
    """P(l) = 1 / (l H_L) (I-MDCE, arXiv 2510.24088): every draw weighs H_L / n whatever its size."""
    return importance(asked._replace(size_exponent=1.0))


def zero_to_all(asked: SizeRequest) -> Sizes:
    """Sizes uniform on 0..L, for a set and its complement (ESPO, arXiv 2512.03759); a pair's share is (L + 1) / (n L),
    which is 1 / n on average because the empty side counts nothing."""
    sides = asked.length + 1
    return _uniform(asked, sides), np.full(asked.count, sides / (asked.count * asked.length))


def every_subset(asked: SizeRequest) -> Sizes:
    """The size of every non-empty subset, with share 1 / (L C(L, l)): B exactly, `sum_M S(M) / (l C(L, l))`."""
    sizes = np.array([len(subset) for subset in subsets(asked.length)], dtype=np.int64)
    return sizes, np.array([1.0 / (asked.length * math.comb(asked.length, int(size))) for size in sizes])


def one_by_one(asked: SizeRequest) -> Sizes:
    """L rows that score one token each."""
    return np.ones(asked.length, dtype=np.int64), np.full(asked.length, 1.0 / asked.length)


def subsets(length: int) -> list[tuple[int, ...]]:
    """Every non-empty subset of 0..L-1, small ones first."""
    return list(chain.from_iterable(combinations(range(length), size) for size in range(1, length + 1)))


def _uniform(asked: SizeRequest, choices: int) -> np.ndarray:
    """Integers uniform on 0..choices-1: the published remainder, or floor(u choices) where u is shared."""
    found = [(h * choices) >> 64 if asked.shared else h % choices for h in _hashes(asked)]
    return np.array(found, dtype=np.int64)


def _hashes(asked: SizeRequest) -> list[int]:
    """One 64-bit hash per unit; unit k's hash does not depend on `count`."""
    return [mix64(draw_seed(asked.base, k, SIZE_TAG)) for k in range(1, asked.count + 1)]


@lru_cache(maxsize=64)
def _legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (nodes + 1) / 2, weights / 2


@lru_cache(maxsize=1024)
def _power_law(length: int, exponent: float) -> tuple[np.ndarray, np.ndarray]:
    """Integer widths of the sizes 1..L and their running sum. Every size keeps a chance, and the shares are computed
    from these integers: rounding changes the law a little, the mean of the estimate not at all."""
    law = np.arange(1, length + 1, dtype=np.float64) ** -exponent
    widths = np.maximum(np.rint(law / law.sum() * (1 << _LAW_BITS)), 1).astype(np.int64)
    return widths, np.cumsum(widths)
