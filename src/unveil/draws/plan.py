"""The draw plan: which response positions are hidden in each draw, and what the draw weighs.

The ELBO of a response of L tokens is `B = E_u[(L / l) S(M)]`, with u uniform on [0, 1), l = floor(u L) + 1 and M a
uniform subset of l positions; S(M) sums log p(y_i | the unmasked rest, prompt) over M (LLaDA, arXiv 2502.09992,
equation 6; nats). A plan of K draws estimates it without bias by `sum_k weights[k] * S(positions[k])`.

`iid`               sizes drawn independently, as published (VRPO arXiv 2505.19223, ELBO-KTO arXiv 2510.23658).
`quadratic_tiling`  draw k takes u from the stratum [(k/K)^p, ((k+1)/K)^p) and is weighted by the width of
                    that stratum (Neyman allocation for a variance like 1/l, p = 2); the K sets are consecutive
                    windows of one permutation, so together they tile the response.
"""

from typing import NamedTuple

import numpy as np

from unveil.draws.splitmix import POSITION_TAG, SIZE_TAG, draw_seed, example_seed, mix64, permutation
from unveil.errors import UserError

DESIGNS = ("quadratic_tiling", "iid")

_EDGE_BITS = 32


class Plan(NamedTuple):
    """K draws for one response; `sum_k weights[k] * S(positions[k])` estimates its ELBO in nats."""

    positions: tuple[np.ndarray, ...]
    """K sorted int64 arrays of hidden positions, counted from the first scored token."""
    weights: np.ndarray
    """float64 `[K]`: share of the draw times L / l."""
    shares: np.ndarray
    """float64 `[K]`, summing to 1: probability that the draw stands for (1 / K when iid)."""
    sizes_drawn: int
    """n_t: the number of independent (or stratified) mask sizes; K / n_t masks share each size."""
    design: str
    """One of `DESIGNS`."""


def check_design(design: str, num_draws: int, masks_per_size: int, strata_exponent: float = 2.0) -> None:
    """Refuse a design that cannot be drawn, naming the flag."""
    if design not in DESIGNS:
        raise UserError(f"--draw_design {design}: unknown; choose one of {', '.join(DESIGNS)}")
    if num_draws < 1:
        raise UserError(f"--num_draws {num_draws}: at least 1 is needed")
    if masks_per_size < 1 or num_draws % masks_per_size:
        raise UserError(
            f"--masks_per_size {masks_per_size}: must divide --num_draws {num_draws}; "
            "it is the number of masks that share one size"
        )
    if not 0 < strata_exponent < float("inf"):
        raise UserError(f"--strata_exponent {strata_exponent}: must be above 0; 1 gives equal strata")


def plan(
    seed: int,
    example_id: int,
    epoch: int,
    length: int,
    num_draws: int,
    design: str = "quadratic_tiling",
    masks_per_size: int = 1,
    strata_exponent: float = 2.0,
) -> Plan:
    """Draw plan of one example: a pure function of its arguments, the same on every device and world size.

    Args:
        seed: run seed (0 with `iid`, epoch 0 reproduces the published mask sizes).
        example_id: stable integer name of the example (its row number in the source).
        epoch: pass over the data; keep it at 0 to use the same draws in every epoch.
        length: number of scored response tokens L, at least 1.
        num_draws: K = n_t * n_yt draws, i.e. forward passes.
        design: `iid` or `quadratic_tiling`.
        masks_per_size: n_yt, the number of masks that share a size; divides `num_draws`.
        strata_exponent: p of `quadratic_tiling`; 1 gives equal strata.

    Raises:
        UserError: unknown design, or counts that do not fit.
        ValueError: `length` below 1 (a response without tokens has no ELBO).
    """
    check_design(design, num_draws, masks_per_size, strata_exponent)
    if length < 1:
        raise ValueError(f"example {example_id}: a response of {length} tokens has no ELBO")
    base = example_seed(seed, example_id, epoch)
    num_sizes = num_draws // masks_per_size
    if design == "iid":
        sizes, shares = _iid_sizes(base, length, num_sizes)
    else:
        sizes, shares = _stratified_sizes(base, length, num_sizes, strata_exponent)
    sizes, shares = sizes.repeat(masks_per_size), (shares / masks_per_size).repeat(masks_per_size)
    draw_sets = _independent_sets if design == "iid" else _tiling_sets
    positions = draw_sets(base, length, sizes)
    return Plan(positions, shares * length / sizes, shares, num_sizes, design)


def _iid_sizes(base: int, length: int, num_sizes: int) -> tuple[np.ndarray, np.ndarray]:
    """Sizes uniform on 1..L, drawn as published: the first n sizes do not depend on how many follow."""
    sizes = [1 + mix64(draw_seed(base, k, SIZE_TAG)) % length for k in range(1, num_sizes + 1)]
    return np.array(sizes, dtype=np.int64), np.full(num_sizes, 1.0 / num_sizes)


def _stratified_sizes(base: int, length: int, num_sizes: int, exponent: float) -> tuple[np.ndarray, np.ndarray]:
    """One size per stratum of u, in exact integer arithmetic: u = (edge_k 2^64 + width_k h) / 2^96."""
    unit = 1 << _EDGE_BITS
    edges = [round((k / num_sizes) ** exponent * unit) for k in range(num_sizes + 1)]
    sizes = []
    for k in range(num_sizes):
        hashed = mix64(draw_seed(base, k + 1, SIZE_TAG))
        u = (edges[k] << 64) + (edges[k + 1] - edges[k]) * hashed
        sizes.append(1 + ((length * u) >> (64 + _EDGE_BITS)))
    return np.array(sizes, dtype=np.int64), np.diff(np.array(edges, dtype=np.float64)) / unit


def _independent_sets(base: int, length: int, sizes: np.ndarray) -> tuple[np.ndarray, ...]:
    """A fresh permutation per draw; its first l entries are the hidden set."""
    seeds = (draw_seed(base, k, POSITION_TAG) for k in range(1, len(sizes) + 1))
    return tuple(np.sort(permutation(seed, length)[:size]) for seed, size in zip(seeds, sizes))


def _tiling_sets(base: int, length: int, sizes: np.ndarray) -> tuple[np.ndarray, ...]:
    """Consecutive windows of one permutation, wrapping around: uniform given its size, and spread out."""
    order = permutation(draw_seed(base, 0, POSITION_TAG), length)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return tuple(np.sort(order[(start + np.arange(size)) % length]) for start, size in zip(starts, sizes))
