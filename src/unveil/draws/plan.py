"""The draw plan: which response positions are hidden in each draw, and what the draw weighs.

The ELBO of a response of L tokens is `B = E_u[(L / l) S(M)]`, with u uniform on [0, 1), l = floor(u L) + 1 and M a
uniform subset of l positions; S(M) sums log p(y_i | the unmasked rest, prompt) over M (LLaDA, arXiv 2502.09992,
equation 6; nats). A plan of K draws estimates it by `sum_k weights[k] * S(positions[k])`; the designs differ in how
the K sizes and sets are drawn (`unveil.draws.designs`). Two of them:

`iid`               sizes drawn independently, as published (VRPO arXiv 2505.19223, ELBO-KTO arXiv 2510.23658).
`quadratic_tiling`  draw k takes u from the stratum [(k/K)^p, ((k+1)/K)^p) and is weighted by the width of
                    that stratum (Neyman allocation for a variance like 1/l, p = 2); the sets of about four draws,
                    from small to large, are balanced so that together they hide every token equally often.
"""

from typing import NamedTuple

import numpy as np

from unveil.draws.designs import DESIGNS
from unveil.draws.sizes import SizeRequest
from unveil.draws.splitmix import example_seed
from unveil.errors import UserError

MOST_TOKENS_OF_ALL_SUBSETS = 12
STEEPEST_SIZE_LAW = 4.0
MOST_DRAWS = 65_536


class Plan(NamedTuple):
    """K draws for one response; `sum_k weights[k] * S(positions[k])` estimates its ELBO in nats.

    K is the number of draws asked for, less the empty sides of `coupled`; with `all_subsets` and `left_to_right` it
    follows from the length.
    """

    positions: tuple[np.ndarray, ...]
    """K sorted int64 arrays of hidden and scored positions, counted from the first scored token."""
    weights: np.ndarray
    """float64 `[K]`: share of the draw times L / l."""
    shares: np.ndarray
    """float64 `[K]`: probability that the draw stands for (1 / K when iid). They sum to 1; on average only with
    `coupled`, `harmonic` and `importance`."""
    sizes_drawn: int
    """n_t: the number of independent (or stratified) mask sizes, each with its group of masks."""
    design: str
    """A key of `DESIGNS`, or the name of a comparison surrogate."""
    also_hidden: tuple[np.ndarray, ...] = ()
    """K arrays of positions that a draw hides without scoring them (negative: prompt tokens); () hides no more."""
    group_sizes: tuple[int, ...] = ()
    """How many consecutive draws belong to each of the `sizes_drawn` groups; () when all are K / n_t."""

    @property
    def length(self) -> int:
        """Number of scored tokens L that the plan was drawn for."""
        return round(float(self.weights[0] / self.shares[0]) * len(self.positions[0]))

    @property
    def groups(self) -> np.ndarray:
        """int64 `[K]`: the group of each draw, from 0; draws of a group share their size (or are a pair)."""
        per_group = self.group_sizes or (len(self.positions) // self.sizes_drawn,) * self.sizes_drawn
        return np.arange(self.sizes_drawn).repeat(per_group)


def check_design(
    design: str,
    num_draws: int,
    masks_per_size: int,
    strata_exponent: float = 2.0,
    size_exponent: float = 0.5,
) -> None:
    """Refuse a design that cannot be drawn, naming the flags and what would serve."""
    if design not in DESIGNS:
        raise UserError(f"--draw_design {design}: unknown; choose one of {', '.join(DESIGNS)}")
    if num_draws < 1:
        raise UserError(f"--num_draws {num_draws}: at least 1 is needed")
    if num_draws > MOST_DRAWS:
        raise UserError(f"--num_draws {num_draws}: each is a forward pass of its own; at most {MOST_DRAWS} are drawn")
    unit = DESIGNS[design].draws_per_unit
    if unit == 0 and (num_draws != 1 or masks_per_size != 1):
        raise UserError(
            f"--draw_design {design}: the number of rows follows from the answer's length, so that --num_draws "
            f"{num_draws} --masks_per_size {masks_per_size} cannot be served; give --num_draws 1 --masks_per_size 1"
        )
    if unit == 2 and num_draws % 2:
        served = f"{num_draws - 1} or {num_draws + 1}" if num_draws > 1 else "2"
        raise UserError(
            f"--draw_design {design}: draws come in pairs, so that --num_draws {num_draws} cannot be served; "
            f"--num_draws {served} would be"
        )
    if masks_per_size < 1 or (unit and num_draws % (unit * masks_per_size)):
        divided, counted = ("the pairs of ", "pairs") if unit == 2 else ("", "masks")
        raise UserError(
            f"--masks_per_size {masks_per_size}: must divide {divided}--num_draws {num_draws}; "
            f"it is the number of {counted} that share one size"
        )
    if not 0 < strata_exponent < float("inf"):
        raise UserError(f"--strata_exponent {strata_exponent}: must be above 0; 1 gives equal strata")
    if not -STEEPEST_SIZE_LAW <= size_exponent <= STEEPEST_SIZE_LAW:
        raise UserError(
            f"--size_exponent {size_exponent}: must lie between {-STEEPEST_SIZE_LAW:g} and {STEEPEST_SIZE_LAW:g}; "
            "0 gives iid sizes, 1 harmonic ones"
        )


def plan(
    seed: int,
    example_id: int,
    epoch: int,
    length: int,
    num_draws: int,
    design: str = "quadratic_tiling",
    masks_per_size: int = 1,
    strata_exponent: float = 2.0,
    size_exponent: float = 0.5,
    size_id: int | None = None,
) -> Plan:
    """Draw plan of one example: a pure function of its arguments, the same on every device and world size.

    Args:
        seed: run seed (0 with `iid`, epoch 0 reproduces the published mask sizes).
        example_id: stable integer name of the example (its row number in the source).
        epoch: pass over the data; keep it at 0 to use the same draws in every epoch.
        length: number of scored response tokens L, at least 1.
        num_draws: K = n_t * n_yt draws, i.e. forward passes.
        design: a key of `DESIGNS`.
        masks_per_size: n_yt, the number of masks (of pairs, where draws come in pairs) that share a size.
        strata_exponent: p of `quadratic` and `quadratic_tiling`; 1 gives equal strata.
        size_exponent: a of `importance`, P(l) proportional to l^-a.
        size_id: name whose seed draws the sizes, by default `example_id`. Give the two answers of a pair one name
            and they share u, hence their mask ratios l = floor(u L) + 1; their sets stay independent.

    Raises:
        UserError: unknown design, counts that do not fit, or an answer too long for `all_subsets`.
        ValueError: `length` below 1 (a response without tokens has no ELBO).
    """
    check_design(design, num_draws, masks_per_size, strata_exponent, size_exponent)
    if length < 1:
        raise ValueError(f"example {example_id}: a response of {length} tokens has no ELBO")
    if design == "all_subsets" and length > MOST_TOKENS_OF_ALL_SUBSETS:
        raise UserError(
            f"example {example_id}: {length} scored tokens have too many subsets; --draw_design all_subsets serves at "
            f"most {MOST_TOKENS_OF_ALL_SUBSETS}"
        )
    drawn = DESIGNS[design]
    base = example_seed(seed, example_id, epoch)
    size_base = base if size_id is None else example_seed(seed, size_id, epoch)
    per_unit = max(drawn.draws_per_unit, 1)
    count = num_draws // (masks_per_size * per_unit)
    sizes, shares = drawn.sizes(
        SizeRequest(size_base, length, count, strata_exponent, size_exponent, shared=size_id is not None)
    )
    positions, also_hidden = drawn.sets(base, length, sizes.repeat(masks_per_size))
    per_size = masks_per_size * per_unit
    shares = (shares / per_size).repeat(per_size)
    hidden = np.array([len(part) for part in positions], dtype=np.int64)
    group_sizes: tuple[int, ...] = ()
    if not hidden.all():  # an empty side asks the model nothing
        group_sizes = tuple(np.count_nonzero(hidden.reshape(len(sizes), -1), axis=1).tolist())
        positions = tuple(part for part in positions if len(part))
        shares, hidden = shares[hidden > 0], hidden[hidden > 0]
    return Plan(positions, shares * length / hidden, shares, len(sizes), design, also_hidden, group_sizes)
