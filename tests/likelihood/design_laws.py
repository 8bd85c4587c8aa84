"""The law of every design, written down independently of `unveil.draws`: all its plans with their probabilities."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise, permutations, product

import numpy as np
from table_predictor import Subset, plan_of

from unveil.draws import DESIGNS, Plan
from unveil.draws.sets import tiles

# The designs that serve any number of draws.
ANY_COUNT = tuple(name for name, design in DESIGNS.items() if design.draws_per_unit == 1)

SizeLaw = list[tuple[float, int, float]]
"""What one unit may draw: (probability, size, share)."""
Law = Iterator[tuple[float, Plan]]


def iid_law(length: int, sizes_drawn: int, masks_per_size: int = 1) -> Law:
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


def tiling_law(length: int, sizes_drawn: int, masks_per_size: int = 1, exponent: float = 2.0) -> Law:
    """One size per stratum; from four draws on, each of them hides what was hidden least often, ties at random."""
    count = sizes_drawn * masks_per_size
    assert count < 7, "the law of one tile"
    parts = strata(length, sizes_drawn, exponent)
    shares = np.repeat([width / masks_per_size for width, _ in parts], masks_per_size)
    for sizes in product(*(law for _, law in parts)):
        probability = math.prod(law[size] for size, (_, law) in zip(sizes, parts))
        for given_sizes, hidden in balanced_sets(np.repeat(sizes, masks_per_size).tolist(), length, count >= 4):
            yield probability * given_sizes, plan_of(hidden, length, shares, sizes_drawn, "quadratic_tiling")


def tile_laws(length: int, draws: int, exponent: float = 2.0) -> list[Law]:
    """The law of each tile of draws alone."""

    def law(mine: list[int]) -> Law:
        parts = [strata(length, draws, exponent)[k] for k in mine]
        shares = np.array([width for width, _ in parts])
        for sizes in product(*(sizes for _, sizes in parts)):
            probability = math.prod(law[size] for size, (_, law) in zip(sizes, parts))
            for given_sizes, hidden in balanced_sets(sizes, length, True):
                yield probability * given_sizes, plan_of(hidden, length, shares, len(mine), "quadratic_tiling")

    return [law(np.flatnonzero(tiles(draws) == tile).tolist()) for tile in np.unique(tiles(draws))]


def balanced_sets(
    sizes: Sequence[int], length: int, balanced: bool, hidden: tuple[Subset, ...] = ()
) -> Iterator[tuple[float, tuple[Subset, ...]]]:
    """Sets of these sizes with their probabilities, after `hidden`."""
    if len(hidden) == len(sizes):
        yield 1.0, hidden
        return
    counts = [sum(place in chosen for chosen in hidden) * balanced for place in range(length)]
    last = sorted(counts)[sizes[len(hidden)] - 1]
    sure = [place for place in range(length) if counts[place] < last]
    tied = [place for place in range(length) if counts[place] == last]
    choices = list(combinations(tied, sizes[len(hidden)] - len(sure)))
    for chosen in choices:
        for probability, found in balanced_sets(sizes, length, balanced, (*hidden, tuple(sorted((*sure, *chosen))))):
            yield probability / len(choices), found


def strata_units(length: int, count: int, exponent: float) -> list[SizeLaw]:
    """One size per stratum; the share is the stratum's width."""
    return [[(p, size, width) for size, p in law.items()] for width, law in strata(length, count, exponent)]


def power_units(length: int, count: int, exponent: float) -> list[SizeLaw]:
    """Independent sizes with P(l) ~ l^-a; the share makes up for what the law prefers."""
    total = sum(size**-exponent for size in range(1, length + 1))
    law = {size: size**-exponent / total for size in range(1, length + 1)}
    return [[(p, size, 1 / (count * length * p)) for size, p in law.items()]] * count


def node_units(length: int, count: int) -> list[SizeLaw]:
    """The sizes at the Gauss-Legendre nodes of [0, 1], with certainty."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return [[(1.0, math.floor((node + 1) / 2 * length) + 1, weight / 2)] for node, weight in zip(nodes, weights)]


def independent_law(length: int, units: Sequence[SizeLaw], design: str, masks_per_size: int = 1) -> Law:
    """Independent units, and an independent uniform set for every draw."""
    for drawn in product(*units):
        yield from _with_sets(length, drawn, design, masks_per_size)


def systematic_law(length: int, count: int) -> Law:
    """u_k = (k + v) / n: the sizes change together where some L (k + v) / n is a whole number."""
    cuts = {0.0, 1.0} | {size * count / length - k for size in range(length + 1) for k in range(count)}
    for low, high in pairwise(sorted(cut for cut in cuts if 0 <= cut <= 1)):
        if high - low > 1e-12:
            middle = (low + high) / 2
            sizes = [math.floor(length * (k + middle) / count) + 1 for k in range(count)]
            for probability, drawn in _with_sets(length, [(1.0, size, 1 / count) for size in sizes], "systematic"):
                yield (high - low) * probability, drawn


def mirrored_law(length: int, units: Sequence[SizeLaw], design: str) -> Law:
    """Of every permutation the first l and the last l."""
    orders = list(permutations(range(length)))
    for drawn in product(*units):
        probability = math.prod(p for p, _, _ in drawn) / len(orders) ** len(units)
        shares = [share / 2 for _, _, share in drawn for _ in range(2)]
        for chosen in product(orders, repeat=len(units)):
            hidden = [
                side for order, (_, size, _) in zip(chosen, drawn) for side in (order[:size], order[length - size :])
            ]
            yield probability, plan_of(hidden, length, shares, len(units), design)


def coupled_law(length: int, pairs: int) -> Law:
    """l uniform on 0..L, a uniform set of l places and its complement, weighing (L + 1) / l and (L + 1) / (L - l)."""
    choices = []
    for size in range(length + 1):
        sets = list(combinations(range(length), size))
        for chosen in sets:
            rest = tuple(place for place in range(length) if place not in chosen)
            choices.append((1 / ((length + 1) * len(sets)), tuple(side for side in (chosen, rest) if side)))
    for chosen in product(choices, repeat=pairs):
        hidden = [side for _, sides in chosen for side in sides]
        shares = np.full(len(hidden), (length + 1) / (2 * pairs * length))
        drawn = plan_of(hidden, length, shares, pairs, "coupled")
        yield math.prod(p for p, _ in chosen), drawn._replace(group_sizes=tuple(len(sides) for _, sides in chosen))


def _with_sets(length: int, drawn: Sequence[tuple[float, int, float]], design: str, masks_per_size: int = 1) -> Law:
    """All independent sets of these sizes."""
    sizes = [size for _, size, _ in drawn for _ in range(masks_per_size)]
    shares = [share / masks_per_size for _, _, share in drawn for _ in range(masks_per_size)]
    choices = [list(combinations(range(length), size)) for size in sizes]
    probability = math.prod(p for p, _, _ in drawn) / math.prod(len(sets) for sets in choices)
    for hidden in product(*choices):
        yield probability, plan_of(hidden, length, shares, len(drawn), design)
