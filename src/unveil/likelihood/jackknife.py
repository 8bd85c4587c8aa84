"""Jackknife over draws: takes the first-order bias off a nonlinear function of a surrogate.

A loss f of the mean of G groups of draws, `rbar = mean_g v_g`, is off by `f''(r) Var(rbar) / 2` to first order. Its
jackknife `G f(rbar) - ((G - 1) / G) sum_g f(rbar_-g)` is not, and it is linear to differentiate: group j counts
`f'(rbar) - (1 / G) sum_{g != j} f'(rbar_-g)` in the second pass. Use where beta sd(r) is above 0.5; it costs variance.

Only groups that are independent and alike can stand in for one another: `iid`, `mirrored`, `coupled`, `harmonic`,
`importance`. A stratum left out leaves a hole.
"""

import numpy as np
import torch

from unveil.draws import DESIGNS, Plan
from unveil.errors import UserError
from unveil.likelihood.uncertainty import group_terms


def left_out_values(draws_K: torch.Tensor, plan: Plan) -> torch.Tensor:
    """`rbar_-g`, `[G]` nats: the surrogate (or margin) estimated without group g.

    Args:
        draws_K: per-draw values `(L / l) S(M)`, nats, or their policy-minus-reference differences.
        plan: the plan that they were drawn from.

    Raises:
        UserError: strata, or a single group.
    """
    _check(plan)
    terms_G, _ = group_terms(draws_K, plan)
    return (terms_G.sum() - terms_G) * (plan.sizes_drawn / (plan.sizes_drawn - 1))


def jackknife(full: torch.Tensor, left_out_G: torch.Tensor) -> torch.Tensor:
    """`G f(rbar) - ((G - 1) / G) sum_g f(rbar_-g)` from the values of f."""
    groups = len(left_out_G)
    return groups * full - (groups - 1) * left_out_G.mean()


def jackknife_draw_weights(slope: float, left_out_slopes_G: np.ndarray, plan: Plan) -> np.ndarray:
    """Weight of S(M_k) in the second pass, float64 `[K]`: `sum_k w_k grad S(M_k)` is the jackknife's gradient.

    Args:
        slope: f'(rbar).
        left_out_slopes_G: f'(rbar_-g), `[G]`.
        plan: the plan that the draws came from; with a linear f the weights are `slope * plan.weights`.
    """
    _check(plan)
    slopes_G = np.asarray(left_out_slopes_G, dtype=np.float64)
    per_group = plan.sizes_drawn * slope - (slopes_G.sum() - slopes_G)
    return plan.weights * per_group[plan.groups]


def _check(plan: Plan) -> None:
    alike = [name for name, design in DESIGNS.items() if design.units == "independent"]
    if plan.design not in alike:
        raise UserError(
            f"--draw_design {plan.design}: a jackknife leaves out one independent draw at a time, and these draws are "
            f"not alike; use one of {', '.join(alike)}"
        )
    if plan.sizes_drawn < 2:
        raise UserError(
            f"--num_draws {len(plan.positions)}: a jackknife needs at least two independent draws; raise it"
        )
