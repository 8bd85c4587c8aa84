"""How uncertain a surrogate is: a standard error beside every value.

`iid` draws: the usual sd / sqrt(n), over the n_t groups of draws that share a mask size (VRPO, arXiv 2505.19223,
lemma 5: groups are independent, draws within a group are not).

Stratified draws give one value per stratum, so no unbiased estimate exists; neighbouring strata are collapsed
(Cochran, Sampling Techniques, 1977, section 5A.12): the difference of two neighbours stands for the spread within
each. It includes the difference of their means, so the result errs on the large side on average. That is no theorem
for an arbitrary predictor: windows of one permutation may move together.
"""

import math

import torch

from unveil.draws import Plan


def standard_error(draws_K: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Standard error, nats, of `sum_k shares_k draws_k`; NaN-free: infinite when one draw tells nothing.

    Args:
        draws_K: per-draw values `(L / l) S(M)`, nats (or their policy-minus-reference differences).
        plan: the plan that they were drawn from.
    """
    groups = plan.sizes_drawn
    if _exact(plan) or groups == 1:
        return draws_K.new_tensor(0.0 if _exact(plan) else math.inf)
    values_G = draws_K.view(groups, -1).mean(dim=1)
    shares_G = torch.from_numpy(plan.shares).to(draws_K.dtype).view(groups, -1).sum(dim=1)
    if plan.design == "iid":
        return values_G.std() / math.sqrt(groups)
    return _collapsed_strata(values_G, shares_G)


def _exact(plan: Plan) -> bool:
    """A draw that hides the only token scores it exactly."""
    return len(plan.positions[0]) == 1 and plan.weights[0] == plan.shares[0]


def _collapsed_strata(values_G: torch.Tensor, shares_G: torch.Tensor) -> torch.Tensor:
    """Spread of each stratum from the neighbour in its pair; an odd last stratum joins the pair before it."""
    groups = len(values_G)
    partner = torch.arange(groups) ^ 1
    if groups % 2:
        partner[-1] = groups - 2
    variance_G = (values_G - values_G[partner]).square() / 2
    return (shares_G.square() * variance_G).sum().sqrt()
