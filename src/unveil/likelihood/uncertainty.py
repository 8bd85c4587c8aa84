"""How uncertain a surrogate is: a standard error beside every value, and how many degrees of freedom it rests on.

With q_g the value that group g of draws gives alone and s_g its share, the surrogate is `sum_g s_g q_g` and its squared
standard error is a quadratic form `q' A q`, whose matrix follows from the design, the number of groups and the length.

Independent units (`iid`, `mirrored`, `coupled`, `harmonic`, `importance`): A is that of sd / sqrt(n) over the n_t
groups of draws that share a mask size or a permutation (VRPO, arXiv 2505.19223, lemma 5: groups are independent, draws
within a group are not). Its square is unbiased. It has n_t - 1 degrees of freedom, less what a kurtosis of 1 above
normal takes away where sizes are uniform, for there single draws are skewed.

Strata (`stratified`, `quadratic`, `mirrored_stratified`, `quadratic_tiling`, `windows`, `systematic`, `quadrature`)
give one value per stratum, so no unbiased estimate exists. Each is compared with the straight line through its two
neighbours (second differences: Wolter, Introduction to Variance Estimation, 2007, section 8.2). That takes away what
strata differ by in their means, as long as the profile bends little. The square is scaled to one stratum as if the
variance fell like L / l, the law for which quadratic strata are the best (like its power 3/4 where strata are equal,
which covers better). Degrees of freedom are those of the form under the same law (Satterthwaite). What it cannot see:
the bias of `quadrature`; the offset that all sizes of `systematic` share.

Tiles (`quadratic_tiling` and `windows` of 24 draws or more, one mask per size): draws of a tile balance one another,
tiles know nothing of one another and are nearly alike. Their totals, each less its share of the surrogate, vary as
independent units do, about a straight line, for the first tiles reach a little further; two degrees of freedom less
than there are tiles. Of fewer than six tiles the strata tell, which do not see the balance: where tokens hardly look at
one another, the error is then too large.

Where the draws do not tell, the error of a single value is not known (`degrees_of_freedom` 0): of one group; of two
strata, whose means stand in the way; of fewer than 16 draws of `harmonic` and `importance`, whose rare large values are
mostly missing; and of draws that hide fewer than 25 tokens in all on average, for such draws repeat one another by
chance and agree without meaning anything. `standard_error` still gives what serves in means over many answers, and is
infinite for one group.

Fixed designs (`all_subsets`, `left_to_right`) and answers of one token have error 0: nothing is drawn.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from scipy.special import stdtrit

from unveil.draws import DESIGNS, Plan
from unveil.draws.sets import tiles_of

FEWEST_HIDDEN_TOKENS = 25
_FEWEST_TILES = 6
FEWEST_UNITS = 16
"""For what is skewed or biased with fewer: sizes of unequal chances, and combiners other than `ht`."""
_LEVEL = 0.95


def standard_error(draws_K: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Standard error, nats, of `sum_k shares_k draws_k`; infinite when the draws tell nothing, never NaN.

    Args:
        draws_K: per-draw values `(L / l) S(M)`, nats (or their policy-minus-reference differences).
        plan: the plan that they were drawn from.
    """
    if _exact(plan):
        return draws_K.new_tensor(0.0)
    if plan.design not in DESIGNS or plan.sizes_drawn == 1:
        return draws_K.new_tensor(math.inf)
    terms_G, shares_G = group_terms(draws_K, plan)
    if DESIGNS[plan.design].units == "independent":
        return terms_G.std() * math.sqrt(plan.sizes_drawn)
    tiles_G = _tiles_that_tell(plan)
    if tiles_G is not None:
        return _error_of_tiles(terms_G, shares_G, torch.from_numpy(tiles_G).to(draws_K.device))
    values_G = terms_G / shares_G
    centred_G = values_G - values_G.mean()  # a constant is not seen by the form, but by rounding
    form_GG = torch.from_numpy(_strata_of(plan).form_GG).to(draws_K)
    return (centred_G @ form_GG @ centred_G).clamp(min=0).sqrt()


def degrees_of_freedom(plan: Plan) -> float:
    """What the standard error of one value rests on: infinite where nothing is random, 0 where it is not known."""
    if _exact(plan):
        return math.inf
    design = DESIGNS.get(plan.design)
    if design is None or len(plan.positions) * (plan.length + 1) / 2 < FEWEST_HIDDEN_TOKENS:
        return 0.0
    if design.units == "independent":
        if design.random_shares:
            return plan.sizes_drawn - 1.0 if design.draws_per_unit == 2 or plan.sizes_drawn >= FEWEST_UNITS else 0.0
        return (plan.sizes_drawn - 1) / (1 + 0.5 * (plan.sizes_drawn - 1) / plan.sizes_drawn)
    tiles_G = _tiles_that_tell(plan)
    if tiles_G is not None:
        return float(tiles_G.max() + 1 - 2)
    return _strata_of(plan).degrees_of_freedom if plan.sizes_drawn > 2 else 0.0


def half_width(error: float, degrees: float) -> float:
    """Half the width of the 95 % interval, nats: the standard error times Student's quantile; infinite if not known."""
    if not math.isfinite(error) or degrees == 0:
        return math.inf
    return error * float(stdtrit(min(degrees, 1e9), 0.5 + _LEVEL / 2))


def group_terms(draws_K: torch.Tensor, plan: Plan) -> tuple[torch.Tensor, torch.Tensor]:
    """What each of the n_t groups adds to the surrogate (`share_k draws_k` summed), and its share, both `[G]`."""
    shares_K = torch.from_numpy(plan.shares).to(draws_K)
    groups_K = torch.from_numpy(plan.groups).to(draws_K.device)
    empty_G = draws_K.new_zeros(plan.sizes_drawn)
    return empty_G.index_add(0, groups_K, shares_K * draws_K), empty_G.index_add(0, groups_K, shares_K)


def _exact(plan: Plan) -> bool:
    """Nothing is drawn, or a draw hides the only token, which scores it exactly."""
    design = DESIGNS.get(plan.design)
    alone = len(plan.positions[0]) == 1 and bool(plan.weights[0] == plan.shares[0])
    return alone or (design is not None and design.units == "fixed")


def _tiles_that_tell(plan: Plan) -> np.ndarray | None:
    """The tile of each draw where tiles are independent (draws that share a size are not) and enough of them."""
    if DESIGNS[plan.design].independent_sets or len(plan.positions) != plan.sizes_drawn:
        return None
    found = tiles_of(plan.length, plan.sizes_drawn)
    return found if found is not None and found.max() + 1 >= _FEWEST_TILES else None


def _error_of_tiles(terms_G: torch.Tensor, shares_G: torch.Tensor, tiles_G: torch.Tensor) -> torch.Tensor:
    """That of a sum of independent totals about a straight line; a tile of more draws is held to its larger share."""
    number = int(tiles_G.max()) + 1
    residual_G = terms_G - shares_G * terms_G.sum()
    residual_T = terms_G.new_zeros(number).index_add(0, tiles_G, residual_G)
    place_T = torch.arange(number, dtype=residual_T.dtype, device=residual_T.device) - (number - 1) / 2
    residual_T = residual_T - (residual_T @ place_T) / (place_T @ place_T) * place_T
    return (residual_T.square().sum() * number / (number - 2)).sqrt()


class _Strata:
    """The quadratic form of second differences over G strata with shares s, and its degrees of freedom."""

    def __init__(self, shares_G: np.ndarray, length: int) -> None:
        edges = np.concatenate([[0.0], np.cumsum(shares_G)])
        ratio_G = (edges[1:] + edges[:-1]) / 2 + 0.5 / length  # mean l / L of a stratum
        variance_G = ratio_G ** -(0.75 if np.allclose(shares_G, shares_G[0]) else 1.0)
        contrasts_GG = second_differences(len(shares_G))
        scale_G = shares_G**2 * variance_G / (contrasts_GG**2 @ variance_G)
        self.form_GG = (contrasts_GG.T * scale_G) @ contrasts_GG
        product_GG = self.form_GG * variance_G
        self.degrees_of_freedom = float(np.trace(product_GG) ** 2 / np.trace(product_GG @ product_GG))


def second_differences(count: int) -> np.ndarray:
    """Row g: value g less the line through its neighbours (through the next two, at an end), `[G, G]`; of two values
    their difference."""
    contrasts_GG = np.eye(count)
    if count == 2:
        return contrasts_GG - contrasts_GG[::-1]
    inner = np.arange(1, count - 1)
    contrasts_GG[inner, inner - 1] = contrasts_GG[inner, inner + 1] = -0.5
    contrasts_GG[0, 1:3] = -2.0, 1.0
    contrasts_GG[-1, -3:-1] = 1.0, -2.0
    return contrasts_GG


def _strata_of(plan: Plan) -> _Strata:
    shares_G = np.bincount(plan.groups, weights=plan.shares)
    return _strata(tuple(shares_G.tolist()), plan.length)


@lru_cache(maxsize=1024)
def _strata(shares: tuple[float, ...], length: int) -> _Strata:
    return _Strata(np.array(shares), length)
