"""Set laws: which positions each draw hides, given its size. Every law makes each set uniform given its size."""

from typing import NamedTuple

import numpy as np

from unveil.draws.sizes import subsets
from unveil.draws.splitmix import POSITION_TAG, draw_seed, permutation


class Sets(NamedTuple):
    """Sorted int64 positions that each draw scores, and (per draw, where any) those it hides without scoring them."""

    positions: tuple[np.ndarray, ...]
    also_hidden: tuple[np.ndarray, ...] = ()


def independent(base: int, length: int, sizes: np.ndarray) -> Sets:
    """A fresh permutation per draw; its first l entries are the hidden set."""
    seeds = (draw_seed(base, k, POSITION_TAG) for k in range(1, len(sizes) + 1))
    return Sets(tuple(np.sort(permutation(seed, length)[:size]) for seed, size in zip(seeds, sizes)))


def tiling(base: int, length: int, sizes: np.ndarray) -> Sets:
    """Consecutive windows of one permutation, wrapping around: uniform given its size, and spread out."""
    order = permutation(draw_seed(base, 0, POSITION_TAG), length)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return Sets(tuple(np.sort(order[(start + np.arange(size)) % length]) for start, size in zip(starts, sizes)))


def mirrored(base: int, length: int, sizes: np.ndarray) -> Sets:
    """Two draws per size: the first l and the last l of one permutation (discrete MIRROR, arXiv 2511.18159)."""
    return Sets(_pairs(base, length, sizes, [length - size for size in sizes]))


def complementary(base: int, length: int, sizes: np.ndarray) -> Sets:
    """Two draws per size: a set and its complement; one of them is empty when l is 0 or L."""
    return Sets(_pairs(base, length, sizes, sizes))


def every_subset(base: int, length: int, sizes: np.ndarray) -> Sets:
    """All of them; nothing is random."""
    return Sets(tuple(np.array(subset, dtype=np.int64) for subset in subsets(length)))


def left_to_right(base: int, length: int, sizes: np.ndarray) -> Sets:
    """Row j scores token j and hides all that follow it."""
    order = np.arange(length)
    return Sets(tuple(order[j : j + 1] for j in order), tuple(order[j + 1 :] for j in order))


def _pairs(base: int, length: int, heads, tails) -> tuple[np.ndarray, ...]:
    """The first `heads[k]` entries and all from `tails[k]` on of the k-th permutation."""
    found = []
    for k, (head, tail) in enumerate(zip(heads, tails), start=1):
        order = permutation(draw_seed(base, k, POSITION_TAG), length)
        found += [np.sort(order[:head]), np.sort(order[tail:])]
    return tuple(found)
