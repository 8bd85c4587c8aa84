"""The draw designs by name: a size law, a set law, the number of draws they serve, and what is known of them."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from unveil.draws import sets, sizes
from unveil.draws.sets import Sets
from unveil.draws.sizes import SizeRequest, Sizes


class Design(NamedTuple):
    """How draws are made. A unit is what is drawn at once: one draw, or the two draws of a pair."""

    sizes: Callable[[SizeRequest], Sizes]
    sets: Callable[[int, int, np.ndarray], Sets]
    draws_per_unit: int
    """1 or 2; 0 when the number of rows follows from the length alone."""
    units: Literal["independent", "strata", "fixed"]
    """Independent and alike; one per stratum of the mask size; or nothing random at all."""
    unbiased: bool
    """Its mean is B, the ELBO, for any predictor."""
    summary: str
    independent_sets: bool = True
    """Given the sizes, the sets of different units are independent."""
    random_shares: bool = False
    """Shares are random and sum to 1 on average only."""


DESIGNS: dict[str, Design] = {
    "quadratic_tiling": Design(
        sizes.power_strata, sets.tiling, 1, "strata", True,
        "strata of the mask ratio [(k/n)^p, ((k+1)/n)^p), sets hide tokens equally often (default)",
        independent_sets=False,
    ),
    "iid": Design(sizes.iid, sets.independent, 1, "independent", True, "independent sizes and sets, as published"),
    "quadratic": Design(
        sizes.power_strata, sets.independent, 1, "strata", True, "the strata of quadratic_tiling, independent sets"
    ),
    "stratified": Design(
        sizes.equal_strata, sets.independent, 1, "strata", True, "one size per n-th part of the ratio, independent sets"
    ),
    "systematic": Design(
        sizes.systematic, sets.independent, 1, "strata", True, "equally spaced ratios with one random offset"
    ),
    "windows": Design(
        sizes.equal_strata, sets.tiling, 1, "strata", True, "equal strata, sets hide tokens equally often",
        independent_sets=False,
    ),
    "mirrored": Design(
        sizes.iid, sets.mirrored, 2, "independent", True, "pairs: first l and last l of one permutation"
    ),
    "mirrored_stratified": Design(
        sizes.equal_strata, sets.mirrored, 2, "strata", True, "mirrored pairs, one size per stratum"
    ),
    "coupled": Design(
        sizes.zero_to_all, sets.complementary, 2, "independent", True,
        "pairs: a set of 0..L tokens and its complement; an empty side costs no forward pass",
        random_shares=True,
    ),
    "harmonic": Design(
        sizes.harmonic, sets.independent, 1, "independent", True, "independent sizes with P(l) ~ 1/l",
        random_shares=True,
    ),
    "importance": Design(
        sizes.importance, sets.independent, 1, "independent", True,
        "independent sizes with P(l) ~ l^-a, a = --size_exponent",
        random_shares=True,
    ),
    "quadrature": Design(
        sizes.quadrature, sets.independent, 1, "strata", False,
        "fixed sizes at Gauss-Legendre nodes; biased by the quadrature error",
    ),
    "all_subsets": Design(
        sizes.every_subset, sets.every_subset, 0, "fixed", True,
        "every subset, 2^L - 1 rows: the exact ELBO of answers of at most 12 tokens",
    ),
    "left_to_right": Design(
        sizes.one_by_one, sets.left_to_right, 0, "fixed", False,
        "L rows: the exact log-likelihood of the left-to-right sampler, which is not the ELBO",
    ),
}  # fmt: skip


def nests(design: str) -> bool:
    """Whether the first draws of a plan are the plan of fewer draws (`iid` of 8 holds `iid` of 4).

    True of independent units that always cost the same rows; what was computed for more draws may then serve fewer.
    The positions agree; weights are those of the smaller number (they are proportional to 1 / num_draws).
    """
    found = DESIGNS[design]
    return found.units == "independent" and found.sets is not sets.complementary
