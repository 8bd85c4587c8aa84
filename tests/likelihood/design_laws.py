"""The law of every design, written down independently of `unveil.draws`: all its plans with their probabilities."""

import math
from collections.abc import Iterator
from itertools import combinations, pairwise, permutations, product

import numpy as np
from table_predictor import Subset, plan_of

from unveil.draws import Plan


def iid_law(length: int, sizes_drawn: int, masks_per_size: int = 1) -> Iterator[tuple[float, Plan]]:
    """n_t independent uniform sizes, n_yt independent uniform sets of each."""
    groups: list[tuple[float, tuple[Subset, ...]]] = []
    for size in range(1, length + 1):
        sets = list(combinations(range(length), size))
        probability = 1 / (length * len(sets) ** masks_per_size)
        groups += [(probability, chosen) for chosen in product(sets, repeat=masks_per_size)]
    for chosen in product(groups, repeat=sizes_drawn):
        hidden = [subset for _, sets in chosen for subset in sets]
        yield math.prod(p for p, _ in chosen), plan_of(hidden, length, sizes_drawn=sizes_drawn)


def strata(length: int, count: int, exponent: float = 2.0) -> list[tuple[float, dict[int, float]]]:
    """(width, {size: probability}) of each stratum of u."""
    edges = [(k / count) ** exponent for k in range(count + 1)]
    found = []
    for low, high in pairwise(edges):
        overlap = {size: min(high, size / length) - max(low, (size - 1) / length) for size in range(1, length + 1)}
        found.append((high - low, {size: o / (high - low) for size, o in overlap.items() if o > 1e-12}))
    return found


def tiling_law(
    length: int, sizes_drawn: int, masks_per_size: int = 1, exponent: float = 2.0
) -> Iterator[tuple[float, Plan]]:
    """One size per stratum; the sets are consecutive windows of one permutation of the places."""
    parts = strata(length, sizes_drawn, exponent)
    shares = np.repeat([width / masks_per_size for width, _ in parts], masks_per_size)
    for sizes in product(*(law for _, law in parts)):
        probability = math.prod(law[size] for size, (_, law) in zip(sizes, parts)) / math.factorial(length)
        for order in permutations(range(length)):
            hidden, start = [], 0
            for size in np.repeat(sizes, masks_per_size).tolist():
                hidden.append(tuple(order[(start + step) % length] for step in range(size)))
                start += size
            yield probability, plan_of(hidden, length, shares, sizes_drawn, "quadratic_tiling")
