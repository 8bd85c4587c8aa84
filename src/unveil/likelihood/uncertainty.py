"""How uncertain a surrogate is: a standard error beside every value.

Independent units (`iid`, `mirrored`, `coupled`, `harmonic`, `importance`): the usual sd / sqrt(n) over the n_t groups
of draws that share a mask size or a permutation (VRPO, arXiv 2505.19223, lemma 5: groups are independent, draws
within a group are not). Its square is unbiased.

Strata (`stratified`, `quadratic`, `mirrored_stratified`, `quadratic_tiling`, `windows`, `systematic`, `quadrature`)
give one value per stratum, so no unbiased estimate exists; neighbouring strata are collapsed (Cochran, Sampling
Techniques, 1977, section 5A.12): the difference of two neighbours stands for the spread within each. It includes the
difference of their means, so the result errs on the large side. With equal, independent strata that is a theorem about
the mean of its square (and with quadratic ones where small masks vary most); on average only where strata depend on one
another: windows of one permutation and systematic sizes may move together. The bias of `quadrature` is no part of it.

Fixed designs (`all_subsets`, `left_to_right`) have none: nothing is drawn.
"""

import math

import torch

from unveil.draws import DESIGNS, Plan


def standard_error(draws_K: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Standard error, nats, of `sum_k shares_k draws_k`; NaN-free: infinite when the draws tell nothing.

    Args:
        draws_K: per-draw values `(L / l) S(M)`, nats (or their policy-minus-reference differences).
        plan: the plan that they were drawn from.
    """
    design = DESIGNS.get(plan.design)
    if _exact(plan) or (design and design.units == "fixed"):
        return draws_K.new_tensor(0.0)
    if design is None or plan.sizes_drawn == 1:
        return draws_K.new_tensor(math.inf)
    terms_G, shares_G = group_terms(draws_K, plan)
    if design.units == "independent":
        return terms_G.std() * math.sqrt(plan.sizes_drawn)
    return _collapsed_strata(terms_G / shares_G, shares_G)


def group_terms(draws_K: torch.Tensor, plan: Plan) -> tuple[torch.Tensor, torch.Tensor]:
    """What each of the n_t groups adds to the surrogate (`share_k draws_k` summed), and its share, both `[G]`."""
    shares_K = torch.from_numpy(plan.shares).to(draws_K)
    groups_K = torch.from_numpy(plan.groups).to(draws_K.device)
    empty_G = draws_K.new_zeros(plan.sizes_drawn)
    return empty_G.index_add(0, groups_K, shares_K * draws_K), empty_G.index_add(0, groups_K, shares_K)


def _exact(plan: Plan) -> bool:
    """A draw that hides the only token scores it exactly."""
    return len(plan.positions[0]) == 1 and bool(plan.weights[0] == plan.shares[0])


def _collapsed_strata(values_G: torch.Tensor, shares_G: torch.Tensor) -> torch.Tensor:
    """Spread of each stratum from the neighbour in its pair; an odd last stratum joins the pair before it."""
    groups = len(values_G)
    partner = torch.arange(groups) ^ 1
    if groups % 2:
        partner[-1] = groups - 2
    variance_G = (values_G - values_G[partner]).square() / 2
    return (shares_G.square() * variance_G).sum().sqrt()
